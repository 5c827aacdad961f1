"""Learned policy gradient (LPG): an agent whose update rule was itself learned.

A policy pi and predictions y, a vector without a predefined meaning, learn from targets that the update rule, an LSTM,
computes from each rollout:

    pi^_t, y^_t = rule(r, d, gamma, pi(a | s), y(s), y(s'))         from the last step of a rollout to the first
    minimise    E[ -log pi(a | s) pi^  +  alpha_y KL(y(s) || y^) ]  with pi^ and y^ constant

There is no value function, no return and no advantage: what to predict, and how the policy learns from it, is encoded
in the rule's weights. They were meta-trained on small grids (`lpg-meta`) and do not change here.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, section 3

Differences from the paper: policy and predictions have separate networks (Jackson et al., 2023, release); rewards
are divided by the running standard deviation of discounted returns by default, because the rules were meta-trained on
rewards between -1 and 1; rollouts are longer (see `rollout_steps`); an episode that is truncated by a time limit counts
as terminated, as in meta-training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rlbench.agents._lifetimes import chosen, sample
from rlbench.agents._observing import ObservingConfig
from rlbench.agents._populations import VECTOR_TASKS
from rlbench.agents._rule import entropy, load_rule, located, prediction_loss
from rlbench.backbones.encoders import Encoded, Observations
from rlbench.backbones.encoders._base import encoded, size_of
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.layers.mlp import Network
from rlbench.backbones.layers.normalise import RewardScaler
from rlbench.backbones.optim import SGD, Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionChoices, action_form
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, State


@dataclass(frozen=True, kw_only=True)
class LPGConfig(ObservingConfig):
    """Settings of LPG."""

    rule: str = "lpg-small"
    """The update rule: the name of one that comes with the package (`rlbench list`), or a file or run folder of one
    that lpg-meta trained."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes of policy and predictions. If empty, both are one linear layer without bias, which on one-hot
    observations is a table."""
    envs: int = 16
    """Number of environments in parallel."""
    rollout_steps: int = 100
    """Steps in each environment before each update (paper: 20). A rule that was meta-trained on rollouts of 20
    steps works better on longer ones, which show more of the consequences of an action."""
    discount: float = 0.99
    """Discount that the rule reads as an input (paper: gamma)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser: Adam, or plain gradient descent, as for the tables of meta-training."""
    policy_rate: float = 1e-3
    """Step size of the policy (paper: alpha)."""
    prediction_rate: float = 1e-3
    """Step size of the predictions."""
    prediction_weight: float = 0.5
    """Weight of the prediction loss (paper: alpha_y)."""
    prediction_spread: float = 1.0
    """Initial standard deviation of the weights of the predictions, if `hidden` is empty."""
    max_norm: float = 0.5
    """Largest gradient norm, for the policy and the predictions separately."""
    scale_rewards: bool = True
    """Whether rewards are divided by the running standard deviation of discounted returns."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and completes the path of the rule."""
        check(self)
        object.__setattr__(self, "rule", located(self.rule))


class LPG(Agent):
    """An agent with discrete actions that learns by a learned update rule."""

    Config: ClassVar[type] = LPGConfig
    consumes = Trajectories
    explores = True
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 100, "log_every": 10, "checkpoint_every": 100,
    }  # fmt: skip
    config: LPGConfig

    def build(self) -> None:
        """The rule, and networks of policy and predictions with an optimiser each."""
        config, spec = self.config, self.spec
        form = action_form(spec.action_space, self.device)
        if not isinstance(form, ActionChoices):
            raise UserError(
                f"the action space is {spec.action_space}; lpg needs a Discrete space, so choose another "
                "agent, such as ppo, or wrap the environment"
            )
        self.form = form
        self.rule = load_rule(config.rule).requires_grad_(False)
        see, size = partial(config.observations, spec), self.rule.prediction_out.out_features
        self.policy = network(see(), config.hidden, form.size, 0.0)
        self.prediction = network(see(), config.hidden, size, config.prediction_spread)
        self.scaler = RewardScaler(config.envs, enabled=config.scale_rewards)
        make = Adam if config.optimizer == "adam" else SGD
        self.policy_optimizer = make(self.policy.parameters(), config.policy_rate)
        self.prediction_optimizer = make(self.prediction.parameters(), config.prediction_rate)

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """On grids and chains whose observations are states, agents are tables with the step sizes of meta-training."""
        if not task.startswith(("grid-", "chain-")) or task.startswith(VECTOR_TASKS):
            return {}
        return {
            "hidden": (), "rollout_steps": 20, "optimizer": "sgd", "policy_rate": 40.0, "prediction_rate": 40.0,
            "scale_rewards": False,
        }  # fmt: skip

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        return Action(sample(self.policy(obs), self.act_generator) + self.form.start)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely action."""
        return self.form.from_unit(self.scores(obs))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the actions."""
        logits: Tensor = self.policy(obs)
        return logits

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """One application of the rule to a rollout."""
        kind = self.rule.kind
        action = experience.action - self.form.start
        logits, y = self.policy(experience.obs), self.prediction(experience.obs)
        log_prob = chosen(logits.log_softmax(-1), action)
        with torch.no_grad():
            target, y_target = self.rule(
                self.scaler(experience, self.discount),
                torch.maximum(experience.terminated, experience.truncated),
                self.discount, log_prob.exp(), y, self.prediction(experience.final_obs),
            )  # fmt: skip
        max_norm = self.config.max_norm
        pi_loss = gradient_step(self.policy_optimizer, -(log_prob * target).mean(), max_norm)
        distance = prediction_loss(y, y_target, kind).mean()
        y_loss = gradient_step(
            self.prediction_optimizer, self.config.prediction_weight * distance, max_norm
        )
        return {
            "policy_loss": pi_loss,
            "prediction_loss": y_loss,
            "policy_target": target.square().mean(),
            "entropy": entropy(logits.detach()).mean(),
            "prediction_entropy": entropy(y.detach(), kind).mean(),
        }


def network(
    observations: Observations, hidden: tuple[int, ...], out_size: int, spread: float
) -> Network | Encoded:
    """A network from observations to logits; without hidden layers, a linear map of standard deviation `spread`."""
    if hidden:
        return mlp(observations, hidden, out_size)
    table = nn.Linear(size_of(observations), out_size, bias=False)
    nn.init.normal_(table.weight, std=spread)
    return encoded(observations, Network(table))
