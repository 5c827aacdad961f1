"""SAC, TD3 and DQN of Stable-Baselines3, under the suite's interface.

The library's `train` does every update, on the batch that `learn` receives instead of one from its
replay buffer; the library's policies act. Settings have the suite's names and the library's defaults.

Raffin et al., 2021, https://jmlr.org/papers/v22/20-1364.html

Differences from the library:
- its bookkeeping (environments, replay buffer, logging, saving) is replaced by the suite's;
- it draws from the agent's generators instead of the global ones;
- only a true end stops the bootstrap, as with the library's default `handle_timeout_termination`;
- DQN counts its target and exploration in updates, and draws separately for each environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.backbones.layers.noise import randn
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox, discrete_size, unbounded, vector_size
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, State

# isort: off
# First, because it raises a clear error if Stable-Baselines3 is missing.
from rlbench.agents._sb3 import (
    Activation,
    SB3Agent,
    Spaces,
    in_place_of_global,
    naming_divergence,
    policy_options,
)
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
# isort: on


@dataclass(frozen=True, kw_only=True)
class SB3SACConfig:
    """Settings of SB3's SAC."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of policy and critics (SB3: net_arch)."""
    activation: Activation = "ReLU"
    """Activation of the hidden layers (SB3: activation_fn)."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (SB3: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size of policy, critics and temperature."""
    target_rate: float = 0.005
    """How far the target critics move after each update (SB3: tau)."""
    temperature: Literal["learned", "fixed"] = "learned"
    """Whether the weight of the entropy is learned (SB3: ent_coef auto or a number)."""
    initial_temperature: float = 1.0
    """Weight of the entropy at the start, or throughout if it is fixed."""
    target_entropy_scale: float = 1.0
    """Target entropy is minus this times the number of action dimensions (SB3: auto is 1)."""
    random_steps: int = 100
    """Online: environment steps with uniform actions before the first update."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps (SB3: buffer_size)."""

    def __post_init__(self) -> None:
        """Refuses values outside their ranges."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class SB3TD3Config:
    """Settings of SB3's TD3."""

    hidden: tuple[int, ...] = (400, 300)
    """Hidden layer sizes of policy and critics (SB3: net_arch)."""
    activation: Activation = "ReLU"
    """Activation of the hidden layers (SB3: activation_fn)."""
    critics: int = 2
    """Number of critics, whose smallest estimate is used in the target (SB3: n_critics); DDPG has 1."""
    batch_size: int = 256
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (SB3: gamma)."""
    learning_rate: float = 1e-3
    """Adam step size of policy and critics."""
    target_rate: float = 0.005
    """How far target networks move after each update of the policy (SB3: tau)."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target's action (SB3: target_policy_noise)."""
    target_noise_clip: float = 0.5
    """Bound of that noise."""
    policy_every: int = 2
    """Number of critic updates per policy update (SB3: policy_delay)."""
    exploration_noise: float = 0.0
    """Standard deviation of the noise on actions that explore, in units of half the action space
    (SB3: action_noise, none by default; its examples use 0.1)."""
    random_steps: int = 100
    """Online: environment steps with uniform actions before the first update."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps (SB3: buffer_size)."""

    def __post_init__(self) -> None:
        """Refuses values outside their ranges."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class SB3DQNConfig:
    """Settings of SB3's DQN."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes of the Q network (SB3: net_arch)."""
    activation: Activation = "ReLU"
    """Activation of the hidden layers (SB3: activation_fn)."""
    batch_size: int = 32
    """Transitions in one update."""
    discount: float = 0.99
    """Discount of future reward (SB3: gamma)."""
    learning_rate: float = 1e-4
    """Adam step size."""
    target_rate: float = 1.0
    """How far the target network moves each time (SB3: tau)."""
    target_every: int = 2_500
    """Updates between moves of the target network (SB3: 10,000 environment steps)."""
    max_grad_norm: float = 10.0
    """Largest gradient norm; larger gradients are scaled down to it."""
    exploration_start: float = 1.0
    """Share of uniform actions at the start (SB3: exploration_initial_eps)."""
    exploration_end: float = 0.05
    """Share of uniform actions at the end (SB3: exploration_final_eps)."""
    exploration_updates: int = 10_000
    """Updates over which that share falls; by default a tenth of the run, as in SB3."""
    steps_per_update: int = 4
    """Online: environment steps per update (SB3: train_freq)."""
    random_steps: int = 100
    """Online: environment steps with uniform actions before the first update."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps (SB3: buffer_size)."""

    def __post_init__(self) -> None:
        """Refuses values outside their ranges."""
        check(self)


class Given(ReplayBuffer):
    """A replay buffer that always returns the batch it was given last."""

    batch: ReplayBufferSamples

    def give(self, batch: Transitions, action: Tensor) -> None:
        """Stores transitions, with their actions [B, A] in the form of SB3's networks."""
        columns = (batch.terminated[:, None], batch.reward[:, None])
        self.batch = ReplayBufferSamples(batch.obs, action, batch.next_obs, *columns)

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """The batch."""
        return self.batch


def off_policy_options(agent: Agent) -> dict[str, Any]:
    """Arguments of the constructors of SB3's off-policy algorithms that are the same for all."""
    config = agent.config
    observations = unbounded(vector_size(agent.spec.observation_space))
    actions = agent.spec.action_space
    if isinstance(actions, Box):
        actions = ActionBox.of(actions, agent.device).space  # Without dimensions that are fixed.
    return {
        "policy": "MlpPolicy", "env": Spaces(observations, actions),
        "device": agent.device,
        "learning_rate": config.learning_rate, "gamma": agent.discount, "tau": config.target_rate,
        "policy_kwargs": policy_options(config),
        "replay_buffer_class": Given, "buffer_size": 1,
    }  # fmt: skip


class SB3SAC(SB3Agent):
    """Soft actor-critic of Stable-Baselines3."""

    Config: ClassVar[type] = SB3SACConfig
    consumes = Transitions
    config: SB3SACConfig
    METRICS: ClassVar[dict[str, str]] = {
        "train/critic_loss": "critic_loss",
        "train/actor_loss": "policy_loss",
        "train/ent_coef": "temperature",
    }

    def build(self) -> None:
        """The algorithm of Stable-Baselines3, whose networks and optimisers become attributes."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        learned = config.temperature == "learned"
        start = config.initial_temperature
        self._sac = SAC(
            **off_policy_options(self),
            ent_coef=f"auto_{start!r}" if learned else start,
            target_entropy=-config.target_entropy_scale * len(self.box.half),
        )
        self._adopt(self._sac)
        self.policy_optimizer = self._sac.actor.optimizer
        self.critic_optimizer = self._sac.critic.optimizer
        if learned:
            self.log_temperature = self._sac.log_ent_coef
            self.temperature_optimizer = self._sac.ent_coef_optimizer

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        with in_place_of_global(self.act_generator), naming_divergence(self.policy):
            return Action(self.box.from_unit(self._sac.actor(obs)))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The tanh of the mean."""
        mean, _, _ = self._sac.actor.get_action_dist_params(obs)
        return self.box.from_unit(mean.tanh())

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of temperature, critics, policy and target critics."""
        buffer = self._sac.replay_buffer
        assert isinstance(buffer, Given)
        buffer.give(experience, self.box.to_unit(experience.action))
        return self._train(1)


class SB3TD3(SB3Agent):
    """Twin delayed deterministic policy gradient of Stable-Baselines3."""

    Config: ClassVar[type] = SB3TD3Config
    consumes = Transitions
    config: SB3TD3Config
    METRICS: ClassVar[dict[str, str]] = {
        "train/critic_loss": "critic_loss",
        "train/actor_loss": "policy_loss",
    }

    def build(self) -> None:
        """The algorithm of Stable-Baselines3, whose networks and optimisers become attributes."""
        config, spec = self.config, self.spec
        self.box = ActionBox.of(spec.action_space, self.device)
        options = off_policy_options(self)
        options["policy_kwargs"]["n_critics"] = config.critics
        self._td3 = TD3(
            **options,
            policy_delay=config.policy_every,
            target_policy_noise=config.target_noise,
            target_noise_clip=config.target_noise_clip,
        )
        self._adopt(self._td3)
        self.policy_optimizer = self._td3.actor.optimizer
        self.critic_optimizer = self._td3.critic.optimizer

    def explore(self, obs: Tensor) -> Action:
        """The action of the policy with Gaussian noise."""
        action = self._td3.actor(obs)
        noise = self.config.exploration_noise * randn(action.shape, self.act_generator)
        return Action(self.box.from_unit((action + noise).clamp(-1, 1)))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action of the policy."""
        action: Tensor = self._td3.actor(obs)
        return self.box.from_unit(action)

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One update of the critics and, every `policy_every` updates, of policy and targets."""
        buffer = self._td3.replay_buffer
        assert isinstance(buffer, Given)
        buffer.give(experience, self.box.to_unit(experience.action))
        return self._train(1)


class SB3DQN(SB3Agent):
    """Deep Q-network of Stable-Baselines3."""

    Config: ClassVar[type] = SB3DQNConfig
    consumes = Transitions
    config: SB3DQNConfig
    METRICS: ClassVar[dict[str, str]] = {"train/loss": "critic_loss"}

    def build(self) -> None:
        """The algorithm of Stable-Baselines3, whose networks and optimisers become attributes."""
        config, spec = self.config, self.spec
        self.actions = discrete_size(spec.action_space)
        self._dqn = DQN(**off_policy_options(self), max_grad_norm=config.max_grad_norm)
        self._adopt(self._dqn)
        self.optimizer = self._dqn.policy.optimizer

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """Exploration over a tenth of the run."""
        return {"exploration_updates": max(updates // 10, 1)}

    @property
    def exploration(self) -> float:
        """Share of uniform actions now."""
        config = self.config
        passed = min(self.updates / config.exploration_updates, 1.0)
        return config.exploration_start + passed * (
            config.exploration_end - config.exploration_start
        )

    def explore(self, obs: Tensor) -> Action:
        """The action of the highest value, or sometimes a uniformly random one."""
        action = self.decide(obs)
        drawing: Any = {"generator": self.act_generator, "device": self.device}
        uniform = torch.randint(self.actions, action.shape, **drawing)
        return Action(
            torch.where(torch.rand(action.shape, **drawing) < self.exploration, uniform, action)
        )

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action of the highest value."""
        return self.scores(obs).argmax(dim=1)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Values of the actions."""
        value: Tensor = self._dqn.q_net(obs)
        return value

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """Moves the target network if it is due, then updates the Q network."""
        if (self.updates + 1) % self.config.target_every == 0:
            online, target = self._dqn.q_net, self._dqn.q_net_target
            polyak_update(online.parameters(), target.parameters(), self.config.target_rate)
        buffer = self._dqn.replay_buffer
        assert isinstance(buffer, Given)
        buffer.give(experience, experience.action[:, None])
        return self._train(1)
