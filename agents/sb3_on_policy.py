"""PPO and A2C of Stable-Baselines3, under the suite's interface.

The library's rollout buffer computes advantages and its `train` does every update, on the trajectories
that `learn` receives. Settings have the suite's names and the library's defaults.

Raffin et al., 2021, https://jmlr.org/papers/v22/20-1364.html

Images go through SB3's `CnnPolicy`; smaller ones, such as MiniGrid's views, go through its `MlpPolicy`
as vectors of raw numbers.

Differences from the library: as in `rlbench.agents.sb3`; `hidden` layers also follow the layers for images.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlbench.backbones.ranges import POSITIVE, Range, check
from rlbench.backbones.spaces import ActionBox, discrete_size, unbounded, vector_size
from rlbench.errors import UserError
from rlbench.experience import Trajectories
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
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
# isort: on


@dataclass(frozen=True, kw_only=True)
class SB3PPOConfig:
    """Settings of SB3's PPO."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes of policy and value network (SB3: net_arch)."""
    activation: Activation = "Tanh"
    """Activation of the hidden layers (SB3: activation_fn)."""
    envs: int = 1
    """Number of environments in parallel (SB3: n_envs)."""
    rollout_steps: int = 2_048
    """Steps in each environment before each update (SB3: n_steps)."""
    epochs: int = 10
    """Passes over these steps in one update (SB3: n_epochs)."""
    batch_size: int = 64
    """Steps in one gradient step."""
    discount: float = 0.99
    """Discount of future reward (SB3: gamma)."""
    learning_rate: float = 3e-4
    """Adam step size."""
    gae_lambda: float = 0.95
    """Weight of long over short advantages."""
    clip_range: float = 0.2
    """How far the probability of an action may move from 1 times the old one."""
    value_clip_range: float | None = None
    """How far a value may move from the old one; None: no limit (SB3: clip_range_vf)."""
    normalise_advantage: bool = True
    """Whether the advantages of each gradient step get mean 0 and deviation 1."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy (SB3: ent_coef)."""
    value_coefficient: float = 0.5
    """Weight of the loss of the values (SB3: vf_coef)."""
    max_grad_norm: float = 0.5
    """Largest gradient norm; larger gradients are scaled down to it."""
    target_kl: float | None = None
    """KL divergence; an update stops once the policy has moved 1.5 times this far. None: no stop."""
    ranges: ClassVar[Mapping[str, Range]] = {"value_clip_range": POSITIVE}

    def __post_init__(self) -> None:
        """Refuses values outside their ranges, and rollouts from which SB3 cannot learn."""
        check(self)
        check_steps(self.envs * self.rollout_steps, self.batch_size, self.normalise_advantage)


@dataclass(frozen=True, kw_only=True)
class SB3A2CConfig:
    """Settings of SB3's A2C."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden layer sizes of policy and value network (SB3: net_arch)."""
    activation: Activation = "Tanh"
    """Activation of the hidden layers (SB3: activation_fn)."""
    envs: int = 1
    """Number of environments in parallel (SB3: n_envs)."""
    rollout_steps: int = 5
    """Steps in each environment before each update (SB3: n_steps)."""
    discount: float = 0.99
    """Discount of future reward (SB3: gamma)."""
    learning_rate: float = 7e-4
    """Step size of RMSprop or Adam."""
    gae_lambda: float = 1.0
    """Weight of long over short advantages."""
    normalise_advantage: bool = False
    """Whether the advantages of each update get mean 0 and deviation 1."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy (SB3: ent_coef)."""
    value_coefficient: float = 0.5
    """Weight of the loss of the values (SB3: vf_coef)."""
    max_grad_norm: float = 0.5
    """Largest gradient norm; larger gradients are scaled down to it."""
    rms_prop: bool = True
    """RMSprop as in the paper, else Adam (SB3: use_rms_prop)."""
    rms_prop_epsilon: float = 1e-5
    """Keeps RMSprop from dividing by zero (SB3: rms_prop_eps)."""

    def __post_init__(self) -> None:
        """Refuses values outside their ranges, and rollouts from which SB3 cannot learn."""
        check(self)
        check_steps(
            self.envs * self.rollout_steps, self.envs * self.rollout_steps, self.normalise_advantage
        )


def check_steps(rollout: int, minibatch: int, normalise: bool) -> None:
    """Refuses rollouts and minibatches of one step.

    Args:
        rollout: Steps of a rollout in all environments.
        minibatch: Steps of one gradient step.
        normalise: Whether advantages are normalised.

    Raises:
        UserError: A single step would be normalised, or a rollout has a single step.
    """
    if rollout < 2 or (normalise and minibatch < 2):
        raise UserError(
            f"a rollout has {rollout} steps and a gradient step {minibatch}; Stable-Baselines3 needs 2 or "
            "more of each, so give a larger rollout_steps or batch_size"
        )


SMALLEST_IMAGE = 36
"""Smallest height and width of images that SB3's convolutions accept."""


def seen_space(space: spaces.Space[Any]) -> spaces.Box:
    """Observations as SB3's policies take them: images with their channels first, else vectors.

    Raises:
        UserError: The observations are neither vectors nor images.
    """
    if not isinstance(space, spaces.Box) or not is_image_space(space):
        return unbounded(vector_size(space))
    if sorted(space.shape)[1] < SMALLEST_IMAGE:
        return unbounded(math.prod(space.shape))
    shape = space.shape
    if not is_image_space_channels_first(space):
        shape = shape[-1], *shape[:-1]
    return spaces.Box(0, 255, shape, np.uint8)


@contextmanager
def numpy_seeded_by(generator: torch.Generator) -> Iterator[None]:
    """Seeds NumPy's global generator, which shuffles SB3's rollouts, and restores it afterwards."""
    seed = torch.randint(2**31, (), generator=generator, device=generator.device)
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(seed))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def fill(algorithm: OnPolicyAlgorithm, rollout: Trajectories) -> None:
    """Puts a rollout into the buffer of an algorithm, and computes its advantages.

    Args:
        algorithm: Its buffer takes the shape of the rollout.
        rollout: With observations in the form of `seen_space`, and the extras that `act` returned.
    """
    buffer, extras = algorithm.rollout_buffer, rollout.extras
    reward, ended = rollout.reward.clone(), (rollout.terminated + rollout.truncated).clamp(max=1)
    with torch.no_grad():
        cut = (rollout.truncated > 0) & (rollout.terminated == 0)
        # One by one, as in the library, because some processors round products of a batch otherwise.
        for step, env in cut.nonzero().tolist():
            value = algorithm.policy.predict_values(rollout.final_obs[step, env][None])
            reward[step, env] += algorithm.gamma * value.item()
        last_value = algorithm.policy.predict_values(rollout.final_obs[-1])
    buffer.buffer_size, buffer.n_envs = reward.shape
    buffer.reset()
    buffer.observations[:] = rollout.obs.cpu().numpy()
    buffer.actions[:] = extras["sample"].cpu().numpy().reshape(buffer.actions.shape)
    buffer.rewards[:] = reward.cpu().numpy()
    # The first row is never read: what came before the rollout is not part of it.
    buffer.episode_starts[1:] = ended[:-1].cpu().numpy()
    buffer.values[:] = extras["value"].cpu().numpy()
    buffer.log_probs[:] = extras["log_prob"].cpu().numpy()
    buffer.full = True
    buffer.compute_returns_and_advantage(last_value, ended[-1].cpu().numpy())


def on_policy_options(agent: Agent) -> dict[str, Any]:
    """Arguments of the constructors of SB3's on-policy algorithms that are the same for all.

    Raises:
        UserError: The action space is neither Discrete nor a bounded Box of one dimension.
    """
    config, space = agent.config, agent.spec.action_space
    if isinstance(space, spaces.Discrete):
        discrete_size(space)
    else:
        ActionBox.of(space, agent.device)
    observations = seen_space(agent.spec.observation_space)
    return {
        "policy": "MlpPolicy" if len(observations.shape) == 1 else "CnnPolicy",
        "env": Spaces(observations, space), "device": agent.device,
        "learning_rate": config.learning_rate, "gamma": agent.discount,
        "gae_lambda": config.gae_lambda, "normalize_advantage": config.normalise_advantage,
        "n_steps": config.rollout_steps * config.envs, "ent_coef": config.entropy_coefficient,
        "vf_coef": config.value_coefficient, "max_grad_norm": config.max_grad_norm,
        "policy_kwargs": policy_options(config),
    }  # fmt: skip


class SB3OnPolicy(SB3Agent):
    """Code shared by PPO and A2C: acting, and reading a rollout."""

    consumes = Trajectories

    def _adopt_on_policy(self, algorithm: OnPolicyAlgorithm) -> None:
        self._adopt(algorithm)
        self._on_policy = algorithm
        self.optimizer = algorithm.policy.optimizer
        self._bounds: tuple[Tensor, Tensor] | None = None
        space = self.spec.action_space
        if isinstance(space, spaces.Box):
            low, high = (torch.as_tensor(x, device=self.device) for x in (space.low, space.high))
            self._bounds = low, high

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy."""
        with in_place_of_global(self.act_generator), naming_divergence(self.policy):
            sample, value, log_prob = self._on_policy.policy(self._seen(obs))
        extras = {"sample": sample, "value": value.flatten(), "log_prob": log_prob}
        return Action(self._clip(sample), extras)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely action."""
        output = self.scores(obs)
        return output.argmax(dim=1) if self._bounds is None else self._clip(output)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits, or means."""
        policy = self._on_policy.policy
        features = policy.extract_features(self._seen(obs), policy.pi_features_extractor)
        assert isinstance(features, Tensor)
        output: Tensor = policy.action_net(policy.mlp_extractor.forward_actor(features))
        return output

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """One update from one rollout."""
        obs, final_obs = self._seen(experience.obs), self._seen(experience.final_obs)
        fill(self._on_policy, replace(experience, obs=obs, final_obs=final_obs))
        with numpy_seeded_by(self.generator):
            return self._train()

    def _seen(self, obs: Tensor) -> Tensor:
        """Observations of the task, [..., D] or [..., H, W, C], in the form of `seen_space`."""
        given = self.spec.observation_space.shape or ()
        shape = self._on_policy.observation_space.shape or ()
        if len(given) > len(shape):
            return obs.flatten(-len(given))
        return obs if given == shape else obs.movedim(-1, -3)

    def _clip(self, action: Tensor) -> Tensor:
        """Actions inside the action space, as SB3 passes them to the environment."""
        return action if self._bounds is None else action.clamp(*self._bounds)


class SB3PPO(SB3OnPolicy):
    """Proximal policy optimisation of Stable-Baselines3."""

    Config: ClassVar[type] = SB3PPOConfig
    config: SB3PPOConfig
    METRICS: ClassVar[dict[str, str]] = {
        "train/policy_gradient_loss": "policy_loss",
        "train/value_loss": "value_loss",
        "train/entropy_loss": "entropy_loss",
        "train/approx_kl": "kl",
        "train/clip_fraction": "clip_fraction",
    }

    def build(self) -> None:
        """The algorithm of Stable-Baselines3."""
        config, options = self.config, on_policy_options(self)
        ppo = PPO(
            **options,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            clip_range=config.clip_range,
            clip_range_vf=config.value_clip_range,
            target_kl=config.target_kl,
        )
        self._adopt_on_policy(ppo)


class SB3A2C(SB3OnPolicy):
    """Advantage actor-critic of Stable-Baselines3."""

    Config: ClassVar[type] = SB3A2CConfig
    config: SB3A2CConfig
    METRICS: ClassVar[dict[str, str]] = {
        "train/policy_loss": "policy_loss",
        "train/value_loss": "value_loss",
        "train/entropy_loss": "entropy_loss",
    }

    def build(self) -> None:
        """The algorithm of Stable-Baselines3."""
        config, options = self.config, on_policy_options(self)
        a2c = A2C(**options, use_rms_prop=config.rms_prop, rms_prop_eps=config.rms_prop_epsilon)
        self._adopt_on_policy(a2c)
