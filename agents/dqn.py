"""Deep Q-network (DQN).

Q-learning for discrete actions with a network Q, from a replay buffer; targets come from a target network Q', a copy of Q that is
renewed every C updates:

    y  = r + discount * Q'(s', a'),   a' = argmax_a Q(s', a)    (double; the original DQN: argmax_a Q'(s', a))
    Q  : minimise  mean w Huber(y - Q(s, a))
    act: argmax_a Q(s, a), but with probability epsilon, which falls linearly, a uniformly random action

Mnih et al., 2015, https://www.nature.com/articles/nature14236, algorithm 1; double Q-learning: van Hasselt et
al., 2016, https://arxiv.org/abs/1509.06461; duelling networks: Wang et al., 2016,
https://arxiv.org/abs/1511.06581

With n-step returns (Hessel et al., 2018, https://arxiv.org/abs/1710.02298) the discounted sum of the next n rewards
replaces r, and discount^n replaces the discount. With prioritised replay (Schaul et al., 2016,
https://arxiv.org/abs/1511.05952, proportional) transition i is drawn with the probability

    P(i) = p_i / sum_k p_k,   p_i = (|y - Q(s, a)| + floor)^alpha,   w_i = (N P(i))^-beta / max_j w_j

where beta rises linearly to 1; a transition that has not been drawn yet has the largest p so far.

Differences from the papers: Adam in place of RMSProp; the error is clipped as in the first paper and the norm of the
gradient as in the paper on duelling networks; w_i is divided by the largest weight of the batch; n-step returns have fewer
steps at the end of an episode, at a time limit and for the newest steps. Double Q-learning, the duelling network and the settings of
exploration, priorities, buffer and clipping are the defaults of OpenAI's Baselines (deepq); batch size, step size
and target period were chosen on CartPole-v1.
"""

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium.spaces import Discrete
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.agents._values import td_target
from rlbench.backbones.heads.action_values import action_values
from rlbench.backbones.optim import Adam, gradient_step, polyak
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionChoices
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, State


@dataclass(frozen=True, kw_only=True)
class DQNConfig(ObservingConfig):
    """Settings of DQN."""

    hidden: tuple[int, ...] = (128, 128)
    """Hidden layer sizes, after the encoder if there is one."""
    double: bool = True
    """Whether the network itself chooses the action that the target network evaluates; otherwise the target network does both."""
    duelling: bool = True
    """Whether the value of the observation and the advantages of the actions have a last hidden layer each."""
    n_step: int = 1
    """Online: number of rewards before the value in a target (Rainbow: 3)."""
    batch_size: int = 64
    """Transitions in one update (paper: 32)."""
    discount: float = 0.99
    """Discount of future reward (paper: gamma)."""
    learning_rate: float = 1e-3
    """Adam step size."""
    error_clip: float | None = 1.0
    """Size of the error beyond which the loss is linear and not quadratic (Huber; paper: 1); None: always quadratic."""
    max_grad_norm: float | None = 10.0
    """Largest gradient norm; larger gradients are scaled down to it. None: no limit."""
    target_every: int = 200
    """Updates after which the target network is renewed (paper: C = 10,000)."""
    exploration_start: float = 1.0
    """Share of uniform actions at the start (paper: epsilon)."""
    exploration_end: float = 0.02
    """Share of uniform actions at the end (paper: 0.1)."""
    exploration_updates: int = 10_000
    """Updates over which the share of uniform actions falls; by default a tenth of the run."""
    prioritised: bool = False
    """Online: whether transitions with large errors are drawn more often."""
    priority_exponent: float = 0.6
    """Exponent of the errors in the priorities (paper: alpha); 0: uniform draws."""
    priority_floor: float = 1e-6
    """Added to the size of an error in its priority (paper: epsilon)."""
    correction: float = 0.4
    """Initial exponent of the importance weights, which correct for the priorities (paper: beta_0); it rises to 1."""
    correction_updates: int = 100_000
    """Updates over which the exponent of the importance weights rises; by default the whole run."""
    steps_per_update: int = 1
    """Online: environment steps per update (paper: 4)."""
    random_steps: int = 1_000
    """Online: environment steps before the first update, with uniform actions unless --pretrained gives it a policy."""
    replay_size: int = 50_000
    """Online: transitions that the replay buffer keeps (paper: 1,000,000)."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def huber_loss(value: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Half the squared errors, [B]; linear beyond an error of `clip`."""
    same_shape(value, target)
    if clip is None:
        return F.mse_loss(value, target, reduction="none") / 2
    return F.huber_loss(value, target, reduction="none", delta=clip)


def importance_weight(frequency: Tensor, exponent: float | Tensor) -> Tensor:
    """(N P)^-beta, divided by the largest, from the frequencies N P of the draws, [B].

    >>> importance_weight(torch.tensor([0.25, 1.0, 4.0]), 0.5)
    tensor([1.0000, 0.5000, 0.2500])
    """
    weight = frequency**-exponent
    return weight / weight.max()


class DQN(Agent):
    """DQN for vectors, and for images and grids through an encoder."""

    Config: ClassVar[type] = DQNConfig
    consumes = Transitions
    explores = True
    unlearned = ("priority",)
    config: DQNConfig

    def build(self) -> None:
        """The network, its optimiser and the target network."""
        config, spec = self.config, self.spec
        if not isinstance(spec.action_space, Discrete):
            raise UserError(
                f"the action space is {spec.action_space}, but this agent needs a Discrete space; give a task with "
                "one, such as CartPole-v1, or an agent with continuous actions, such as sac"
            )
        # Only data sets have a range of returns, and their transitions are single steps, drawn uniformly.
        if spec.return_range is not None and (config.n_step > 1 or config.prioritised):
            name, value = ("n_step", 1) if config.n_step > 1 else ("prioritised", False)
            raise UserError(
                f"{name} is {getattr(config, name)}, but the agent learns from a data set, and only replay buffers "
                f"support this; set it to {value}, or give --data none"
            )
        self.choices = ActionChoices(int(spec.action_space.n), int(spec.action_space.start))
        self.critic = action_values(
            config.observations(spec), self.choices.size, config.hidden, duelling=config.duelling
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizer = Adam(self.critic.parameters(), config.learning_rate)
        self.updates = 0
        if config.prioritised:
            self.priority = torch.ones(config.batch_size, device=self.device)

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Exploration falls over a tenth of the run, and the correction rises over the whole run."""
        return {
            "exploration_updates": max(updates // 10, 1),
            "correction_updates": max(updates, 1),
        }

    def _between(self, start: float, end: float, updates: int) -> Tensor:
        """A number that moves linearly from `start` to `end` over the first updates, as it is now."""
        passed = (self.optimizer.steps / updates).clamp(max=1.0)
        return start + passed * (end - start)

    @property
    def exploration(self) -> Tensor:
        """Share of uniform actions now."""
        config = self.config
        return self._between(
            config.exploration_start, config.exploration_end, config.exploration_updates
        )

    def explore(self, obs: Tensor) -> Action:
        """The action with the highest value, or sometimes a uniformly random one."""
        start, count = self.choices.start, (len(obs),)
        drawing: Any = {"generator": self.act_generator, "device": self.device}
        uniform = torch.randint(start, start + self.choices.size, count, **drawing)
        explores = torch.rand(count, **drawing) < self.exploration
        if bool(explores.all()):  # Saves the network, which takes most of the time of such a step.
            return Action(uniform)
        return Action(torch.where(explores, uniform, self.decide(obs)))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action with the highest value."""
        return self.choices.from_unit(self.scores(obs))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Values of the actions, Q(s, .)."""
        values: Tensor = self.critic(obs)
        return values

    def phase(self) -> Hashable:
        """Whether the next update renews the target network."""
        return self._copies(self.updates + 1)

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of the network and, every `target_every` updates, of the target network."""
        config, exploration = self.config, self.exploration
        target, weight = self._target(experience), self._weight(experience)
        value = (self.critic(experience.obs) * self.choices.to_unit(experience.action)).sum(-1)
        losses = huber_loss(value, target, config.error_clip)
        loss = gradient_step(self.optimizer, (weight * losses).mean(), config.max_grad_norm)
        error = (target - value.detach()).abs()
        if self.priority is not None:
            self.priority.copy_((error + config.priority_floor) ** config.priority_exponent)
        self.updates += 1
        if self._copies(self.updates):
            polyak(self.target_critic, self.critic, 1.0)
        return {
            "critic_loss": loss,
            "q_target": target.mean(),
            "q_data": value.detach().mean(),
            "error": error.mean(),
            "weight_mean": weight.mean(),
            "exploration": exploration,
        }

    def _copies(self, update: int) -> bool:
        return update % self.config.target_every == 0

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """Targets y, [B]."""
        slow = self.target_critic(batch.next_obs)
        judge = self.critic(batch.next_obs) if self.config.double else slow
        next_value = slow.gather(1, judge.argmax(1, keepdim=True))[:, 0]
        discount = self.discount if batch.discount is None else batch.discount
        return td_target(batch.reward, batch.terminated, next_value, discount)

    def _weight(self, batch: Transitions) -> Tensor:
        """Weight of each transition in the loss, [B]."""
        if batch.frequency is None:
            return torch.ones_like(batch.reward)
        config = self.config
        exponent = self._between(config.correction, 1.0, config.correction_updates)
        return importance_weight(batch.frequency, exponent)
