"""Meta-training of LPG's update rule by truncated meta-gradients.

Many agents learn in parallel. Each is updated K times by the rule; then the return of the resulting agents is
increased by gradient ascent on the rule's parameters eta, through these updates:

    J(eta) = E[ log pi_K(a | s) A ]  +  b_0 H(pi)  +  b_1 H(y)  -  b_2 E[ pi^2 ]  -  b_3 E[ ||y^||^2 ]

where pi_K is the policy after the K updates, A is the advantage in a new rollout of pi_K, normalised for each agent,
and entropies and norms are means over the K updates. The agents continue to learn after each meta-update; when the
lifetime of an agent ends, a new agent replaces it in a new world.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, algorithm 1 and section 3.3; coefficients and step sizes of the
agents: Jackson et al., 2023, https://arxiv.org/abs/2310.02782, release

Differences from the paper: as in Jackson et al., advantages come from GAE with a value function for each agent instead
of returns. Unlike in Jackson et al.'s release, the predictions that the rule reads are not detached: only through them
can the targets of the predictions affect later policies.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlbench.agents._bandit import Bandit, combination
from rlbench.agents._evolution import changed_rules, draw_noise, slopes
from rlbench.agents._lifetimes import (
    Read,
    Steps,
    chosen,
    judged,
    normalised,
    regularisers,
    targets,
    updated,
)
from rlbench.agents._lives import a2c_update, act, final_reward, live
from rlbench.agents._populations import (
    VECTOR_TASKS,
    Networks,
    Part,
    Population,
    Tables,
    detached,
    replaced,
)
from rlbench.agents._probe import DISCOUNTS, exact_values, read_values, settled
from rlbench.agents._rule import Kind, Rule, load_rule, located, same_form, save_rule
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import DECAYING, Range, check
from rlbench.errors import UserError
from rlbench.experience import Lifetimes, LifetimesSpec, Trajectories
from rlbench.interface import Learn
from rlbench.measures import Measure
from rlbench.meta_learner import MetaLearner


@dataclass(frozen=True, kw_only=True)
class LPGMetaConfig:
    """Settings of the meta-training."""

    lifetimes: int = 64
    """Number of agents that learn in parallel (paper: 960)."""
    workers: int = 16
    """Number of environments of each agent (paper: 64)."""
    rollout_steps: int = 20
    """Steps in each environment before each update of an agent (paper: 20)."""
    agent_updates: int = 5
    """Number of updates of an agent that the meta-gradient passes through (paper: K = 5)."""
    hidden: int = 64
    """Units of the rule's LSTM (paper: 256)."""
    prediction_size: int = 8
    """Length of an agent's predictions (paper: m = 30)."""
    prediction: Kind = "kl"
    """Kind of predictions: categorical with a KL divergence (kl), or numbers from 0 to 1 with a squared error (mse)."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    policy_rate: float = 40.0
    """Step size of an agent's policy, with plain gradient descent for tables and Adam for networks (paper: alpha)."""
    prediction_rate: float = 40.0
    """Step size of an agent's predictions."""
    prediction_weight: float = 0.5
    """Weight of the prediction loss of an agent (paper: alpha_y)."""
    agent_hidden: tuple[int, ...] = (32,)
    """Hidden layer sizes of agents if observations are vectors; for state indices, agents are tables."""
    prediction_spread: float = 1.0
    """Standard deviation of the logits of a tabular agent's predictions at the start of its lifetime."""
    agent_max_norm: float = 0.5
    """Largest gradient norm, for an agent's policy and its predictions separately."""
    learning_rate: float = 1e-3
    """Initial Adam step size of the rule (paper: 1e-4)."""
    final_learning_rate: float = 1e-4
    """Final Adam step size of the rule; the decay is exponential."""
    decay_updates: int | None = None
    """Number of updates over which the step size of the rule decays; in `rlbench run`, by default all updates of the
    run. If it is None, the step size is constant."""
    max_norm: float = 1.0
    """Largest norm of the meta-gradient."""
    policy_entropy: float = 0.05
    """Weight of the policies' entropy (paper: beta_0)."""
    prediction_entropy: float = 0.001
    """Weight of the predictions' entropy (paper: beta_1)."""
    policy_penalty: float = 0.005
    """Weight of the squared policy targets (paper: beta_2)."""
    prediction_penalty: float = 0.001
    """Weight of the squared norm of the prediction targets (paper: beta_3)."""
    detach_predictions: bool = False
    """Whether to detach the predictions that the rule reads; the prediction targets then stay meaningless."""
    gae_lambda: float = 0.95
    """Weight of long over short advantages."""
    critic_rate: float = 0.1
    """Share of the distance to its mean target by which the value of a visited state moves after each rollout; for
    networks, the Adam step size of the values."""
    a2c_rates: tuple[float, ...] = (40.0,)
    """Policy step sizes of the A2C baseline in evaluations; the settings with the highest mean reward are used."""
    a2c_entropies: tuple[float, ...] = (0.01,)
    """Entropy weights of the A2C baseline; each is tried with each step size."""
    method: Literal["gradient", "evolution"] = "gradient"
    """How the rule is trained: by the meta-gradient, or by evolution strategies over whole lifetimes."""
    evolution_noise: float = 0.1
    """Standard deviation of the perturbations of the rule in evolution strategies (paper: sigma)."""
    bandit: bool = False
    """Whether a bandit chooses the step sizes and the prediction weight of each agent from `bandit_rates` and
    `bandit_weights`."""
    bandit_rates: tuple[float, ...] = (20.0, 40.0, 80.0)
    """Step sizes, of both policy and predictions, that the bandit chooses from."""
    bandit_weights: tuple[float, ...] = (0.1, 0.5, 1.0)
    """Prediction weights that the bandit chooses from."""
    probe: bool = False
    """Whether evaluations also measure how well values can be read from the predictions; use 200 lifetimes or more in
    each evaluation."""
    rule: str | None = None
    """Initial rule: the name of a shipped one, or a file or run folder of another one. It must have the same `hidden`,
    `prediction_size` and `prediction`. By default, the rule is new."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "learning_rate": DECAYING,
        "final_learning_rate": DECAYING,
    }

    def __post_init__(self) -> None:
        """Refuses settings that are out of range or incompatible with evolution; completes the path of the rule."""
        check(self)
        if self.rule is not None:
            object.__setattr__(self, "rule", located(self.rule))
        if self.method == "evolution" and self.bandit:
            raise UserError(
                "bandit is True, but evolution compares pairs of agents with the same settings; leave out "
                "either bandit or method"
            )
        if self.method == "evolution" and self.lifetimes % 2:
            raise UserError(
                f"lifetimes is {self.lifetimes}, but evolution pairs them; give an even number"
            )


class LPGMeta(MetaLearner):
    """Meta-training of LPG's rule."""

    Config: ClassVar[type] = LPGMetaConfig
    measures = (
        Measure("reward", "per step"), Measure("a2c", "per step"), Measure("random", "per step")
    )  # fmt: skip
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "eval_every": 500, "eval_episodes": 64, "checkpoint_every": 100, "log_every": 10,
    }  # fmt: skip
    config: LPGMetaConfig

    def build(self) -> None:
        """The rule with its optimiser, and the first agents."""
        config = self.config
        if config.probe and not self.spec.valued:
            raise UserError(
                "probe is True, but it needs exact values, which are known only for grids whose observations "
                "are states; leave probe out or give a task such as grid-levels-small"
            )
        self.rule = Rule(config.prediction_size, config.hidden, config.prediction)
        if config.rule is not None:
            self.rule = same_form(load_rule(config.rule), self.rule, config.rule)
        self.optimizer = Adam(self.rule.parameters(), config.learning_rate)
        self.population = self._begin(self.spec, self.generator)
        self.bandit = Bandit(len(config.bandit_rates) * len(config.bandit_weights), self.device)
        self.arm = self.bandit.draw(config.lifetimes, self.generator)
        self.earned = torch.zeros(config.lifetimes, device=self.device)
        self.episodes = torch.zeros(config.lifetimes, device=self.device)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The rule's step size decays over the whole run, and agents that are networks take small Adam steps."""
        rates = dict.fromkeys(("policy_rate", "prediction_rate", "critic_rate"), 1e-3)
        others = rates | {"a2c_rates": (1e-3,)} if task.startswith(VECTOR_TASKS) else {}
        return {"decay_updates": updates, **others}

    def learn(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """One step of the rule."""
        return self._learn(self._ascend, lifetimes)

    def phase(self) -> int | None:
        """See `Learner`; evolution has no compiled form."""
        return 0 if self.config.method == "gradient" else None

    def compiled(self, compiler: Callable[[Learn], Learn]) -> Learn:
        """See `Learner`; new agents are outside the compiled part."""
        return partial(self._learn, compiler(self._ascend))

    def _learn(self, ascend: Learn, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """New agents for lifetimes that are over, and one step of the rule, by `ascend` or by evolution."""
        self._decay()
        self.updates += 1
        if self.config.method == "evolution":
            return self._evolve(lifetimes)
        begun = lifetimes.begun
        if begun.any():
            new = self._begin(lifetimes.spec, self.generator)
            self.population = replaced(self.population, begun, new)
            self._choose(begun)
        return ascend(lifetimes)

    def _ascend(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """One meta-gradient step: K updates of each agent, and a new rollout of the resulting agents."""
        config, kind = self.config, self.rule.kind
        agents = self.population
        steps = self._chosen_steps(lifetimes.spec)
        terms = []
        for _ in range(config.agent_updates):
            rollout = act(lifetimes, agents, config.rollout_steps, self.generator)
            pi, y = targets(
                self.rule, agents, rollout, config.discount, detach=config.detach_predictions
            )
            agents = updated(agents, rollout, pi, y, kind, steps)
            agents, _ = self._judged(agents, rollout)
            self.earned += rollout.reward.sum((0, 2))
            self.episodes += rollout.terminated.sum((0, 2))
            terms.append(regularisers(agents, rollout, pi, y, kind))
        rollout = act(lifetimes, agents, config.rollout_steps, self.generator)
        agents, advantage = self._judged(agents, rollout)
        log_prob = chosen(agents.outputs("policy", rollout.obs).log_softmax(-1), rollout.action)
        gain = (log_prob * normalised(advantage)).mean()
        means = {name: torch.stack([x[name] for x in terms]).mean() for name in terms[0]}
        loss = -gain - sum(self._weights()[name] * x for name, x in means.items())
        loss = gradient_step(self.optimizer, loss, config.max_norm)
        self.population = detached(agents)
        metrics = {name: x.detach() for name, x in means.items()}
        return {"loss": loss, "reward": rollout.reward.mean(), **metrics}

    @torch.no_grad()
    def _evolve(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """One generation: the two opposite perturbations in a pair share a world, and each pair has a different one."""
        config, scale = self.config, self.config.evolution_noise
        lifetimes.redraw(copies=2)
        noise = draw_noise(self.rule, config.lifetimes // 2, self.generator)
        by_rules = partial(
            self._taught, changed_rules(self.rule, noise, scale), self._steps(lifetimes.spec)
        )
        start = self._begin(lifetimes.spec, self.generator)
        agents, _ = live(lifetimes, start, by_rules, config.rollout_steps, self.generator)
        first, second = final_reward(lifetimes, agents, self.generator).chunk(2)
        self.optimizer.step(slopes(noise, first, second, scale))
        reward = (first + second).mean() / 2
        return {"reward": reward, "difference": (first - second).abs().mean()}

    def _taught(
        self, read: Read, steps: Steps, agents: Population, rollout: Trajectories
    ) -> Population:
        """Agents after one update by a rule, without a meta-gradient."""
        pi, y = targets(read, agents, rollout, self.config.discount)
        return updated(agents, rollout, pi, y, self.rule.kind, steps)

    def _choose(self, begun: Tensor) -> None:
        """Records the returns of agents whose lifetimes are over, and draws settings for new agents, bool [N]."""
        if self.config.bandit:
            over = begun & (self.episodes > 0)
            self.bandit.record(self.arm[over], self.earned[over] / self.episodes[over])
            drawn = self.bandit.draw(len(begun), self.generator)
            self.arm = torch.where(begun, drawn, self.arm)
        for x in (self.earned, self.episodes):
            x.masked_fill_(begun, 0.0)

    def _weights(self) -> dict[str, float]:
        """Weights of the regularisers (paper: beta_0, beta_1, -beta_2, -beta_3)."""
        config = self.config
        return {
            "policy_entropy": config.policy_entropy,
            "prediction_entropy": config.prediction_entropy,
            "policy_target": -config.policy_penalty,
            "prediction_norm": -config.prediction_penalty,
        }

    def _decay(self) -> None:
        """Sets the step size of the rule."""
        config = self.config
        if config.decay_updates is not None:
            share = min(1.0, self.updates / config.decay_updates)
            ratio = config.final_learning_rate / config.learning_rate
            self.optimizer.learning_rate.fill_(config.learning_rate * ratio**share)

    def _begin(self, spec: LifetimesSpec, generator: torch.Generator) -> Population:
        """Agents and critics at the start of their lifetimes."""
        config = self.config
        sizes: dict[Part, int] = {
            "policy": spec.actions, "prediction": self.rule.prediction_out.out_features, "value": 1,
        }  # fmt: skip
        count = spec.shape[0]
        if spec.states is None:
            assert spec.obs_size is not None
            return Networks.new(count, spec.obs_size, config.agent_hidden, sizes, generator)
        return Tables.new(count, spec.states, sizes, config.prediction_spread, generator)

    def _steps(self, spec: LifetimesSpec) -> Steps:
        """Step sizes of the agents."""
        config, one = self.config, torch.ones(spec.shape[0], device=self.device)
        rates: dict[Part, Tensor] = {
            "policy": config.policy_rate * one, "prediction": config.prediction_rate * one,
        }  # fmt: skip
        return Steps(rates, config.prediction_weight * one, config.agent_max_norm)

    def _chosen_steps(self, spec: LifetimesSpec) -> Steps:
        """Step sizes of the agents in training, which the bandit may have chosen."""
        config = self.config
        if not config.bandit:
            return self._steps(spec)
        rate, weight = combination(self.arm, config.bandit_rates, config.bandit_weights)
        return Steps({"policy": rate, "prediction": rate}, weight, config.agent_max_norm)

    @torch.no_grad()
    def _judged(self, agents: Population, rollout: Trajectories) -> tuple[Population, Tensor]:
        """The population with updated critics, and the advantages of a rollout by the previous critics, [T, N, W]."""
        config = self.config
        advantage, target = judged(agents, rollout, config.discount, config.gae_lambda)
        return agents.valued(rollout.obs, target, config.critic_rate), advantage

    @property
    def transfers(self) -> bool:
        """A probe takes long, and one kind of world is enough for it."""
        return not self.config.probe

    def export(self, folder: Path, origin: Mapping[str, Any]) -> list[Path]:
        """See `MetaLearner`: rule.safetensors for `rlbench run lpg --rule`, and its card."""
        return save_rule(self.rule, folder / "rule.safetensors", origin)

    def state_dict(self) -> dict[str, Any]:
        """See `Learner`; it also has the current agents."""
        return super().state_dict() | {"population": self.population.tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Learner`."""
        rest = {name: x for name, x in state.items() if name != "population"}
        super().load_state_dict(rest)
        self.population = self.population.with_tensors(state["population"])

    @torch.no_grad()
    def measure(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """Reward per step of the final policies of whole lifetimes, [N] each.

        `reward` is for agents that learn by the rule, `a2c` for agents that learn by A2C with the best of its settings,
        and `random` for random actions. `curve` and `a2c_curve` are the rewards per step in each tenth of the
        lifetimes, [N, 10].
        """
        config, generator = self.config, self.measure_generator
        by_rule = partial(self._taught, self.rule, self._steps(lifetimes.spec))
        new = partial(self._begin, lifetimes.spec, generator)
        columns = {"random": final_reward(lifetimes, new(), generator)}
        agents, columns["curve"] = live(lifetimes, new(), by_rule, config.rollout_steps, generator)
        columns["reward"] = final_reward(lifetimes, agents, generator)
        if config.probe:
            columns |= self._probe(lifetimes, agents)
        found = []
        for rate, bonus in itertools.product(config.a2c_rates, config.a2c_entropies):
            by_a2c = partial(
                a2c_update, discount=config.discount, mixing=config.gae_lambda,
                rate=rate, entropy=bonus, critic_rate=config.critic_rate, max_norm=config.agent_max_norm,
            )  # fmt: skip
            agents, curve = live(lifetimes, new(), by_a2c, config.rollout_steps, generator)
            found.append((final_reward(lifetimes, agents, generator), curve))
        columns["a2c"], columns["a2c_curve"] = max(found, key=lambda x: float(x[0].mean()))
        return columns

    def _probe(self, lifetimes: Lifetimes, agents: Population) -> dict[str, Tensor]:
        """Errors of values at `DISCOUNTS` that are read from predictions and from TD(lambda) values, [N, G] each."""
        config, generator = self.config, self.measure_generator
        resting, visits = settled(
            self.rule, lifetimes, agents, config.discount, config.gae_lambda, config.critic_rate,
            config.rollout_steps, self._steps(lifetimes.spec), generator,
        )  # fmt: skip
        exact, tables = exact_values(lifetimes, resting, DISCOUNTS), resting.tensors()
        logits = tables["prediction"]
        y = logits.softmax(-1) if self.rule.kind == "kl" else logits.sigmoid()
        return {
            "predictions_error": read_values(y, exact, visits, generator),
            "values_error": read_values(tables["value"], exact, visits, generator),
        }
