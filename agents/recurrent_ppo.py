"""PPO with a memory, for tasks whose observations hide the state.

Policy and value read what an LSTM made of the observations so far:

    m_t = LSTM(o_1, ..., o_t),   pi(a | m_t),   V(m_t)

An update unrolls the memory over whole columns of a rollout, one column for each environment, from the
state in which the environment began it; the gradient ends there (truncated backpropagation through
time). At an episode's end the memory forgets.

Schulman et al., 2017, https://arxiv.org/abs/1707.06347, section 3; the memory as in Mnih et al., 2016,
https://arxiv.org/abs/1602.01783, section 5.1

Differences from the papers: states at the beginning of a rollout are those of acting, and are not
computed anew after each gradient step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents.ppo import PPO, Minibatch, PPOConfig
from rlbench.backbones.heads.actor_critic import RecurrentActorCritic
from rlbench.backbones.layers.noise import randn
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, State


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOConfig(PPOConfig):
    """Settings of PPO with a memory: those of PPO and its own."""

    hidden: tuple[int, ...] = ()
    memory_size: int = 64
    """Length of what the memory gives."""
    envs: int = 8
    rollout_steps: int = 128
    batch_size: int | None = 256
    """Steps in one gradient step, rounded down to whole columns of a rollout, at least one."""
    epochs: int = 4
    learning_rate: float = 1e-3

    @property
    def minibatch_size(self) -> int:
        """Environment steps in one gradient step; the last of a pass may have fewer."""
        return max(1, super().minibatch_size // self.rollout_steps) * self.rollout_steps


@dataclass(frozen=True)
class Columns(Minibatch):
    """Columns of a rollout in order: all of `Minibatch`, but [T, B]."""

    reset: Tensor
    """1.0 where an episode begins after the first step, [T, B]."""
    state: State
    """The memory's state before the first step, [B, ...]."""


class RecurrentPPO(PPO):
    """PPO whose policy and value read an LSTM."""

    Config: ClassVar[type] = RecurrentPPOConfig
    config: RecurrentPPOConfig
    network: RecurrentActorCritic

    def _make_network(self) -> RecurrentActorCritic:
        config = self.config
        return RecurrentActorCritic(
            self.spec.observation_space, self._head, config.encoder, config.hidden,
            config.memory_size,
        )  # fmt: skip

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """A sample of the policy if `explore`, else its mode; the state is the memory's."""
        if state is None:
            state = self.network.memory.initial_state(len(obs), self.device)
        features, after = self.network.remember(self.normaliser(obs), state)
        params = self.network.policy(features)
        if not explore:
            return Action(self._to_env(self.network.head.mode(params)), state=after)
        sample = self.network.head.draw(params, randn(params.shape, self.act_generator))
        before = {f"before {name}": x for name, x in state.items()}
        return Action(self._to_env(sample), {"sample": sample, **before}, after)

    # A function of one observation cannot act by a memory.
    decide = Agent.decide

    def phase(self) -> None:
        """None: a program of an unrolled memory takes longer to compile than it saves."""

    def gradient_step(self, batch: Columns) -> Mapping[str, Tensor]:  # type: ignore[override]
        """One step down the loss of some columns."""
        features = self.network.unroll(batch.obs, batch.state, batch.reset)
        flat = {f.name: getattr(batch, f.name).flatten(0, 1) for f in fields(Minibatch)}
        return super().gradient_step(replace(Minibatch(**flat), obs=features.flatten(0, 1)))

    def _flat(self, rollout: Trajectories) -> dict[str, Tensor]:
        """The columns of a `Minibatch` and what `Columns` adds, [T, V, ...]."""
        flat, shape = super()._flat(rollout), rollout.reward.shape
        over = torch.maximum(rollout.terminated, rollout.truncated)
        reset = torch.cat([torch.zeros_like(over[:1]), over[:-1]])
        return {name: x.unflatten(0, shape) for name, x in flat.items()} | {
            "reset": reset, **_before(rollout, slice(0, 1)),
        }  # fmt: skip

    def _minibatches(self, batch: dict[str, Tensor]) -> Iterator[Columns]:
        """All columns once, in a new order."""
        steps, count = batch["reset"].shape
        size = max(1, (self.config.batch_size or steps * count) // steps)
        names = [f.name for f in fields(Columns) if f.name != "state"]
        order = torch.randperm(count, generator=self.generator, device=self.device)
        for columns in order.split(size):
            picked = {name: x[:, columns] for name, x in batch.items()}
            state = {name: x[0] for name, x in picked.items() if name not in names}
            yield Columns(**{name: picked[name] for name in names}, state=state)

    def _evaluate(
        self, rollout: Trajectories, obs: Tensor, sample: Tensor
    ) -> tuple[Tensor, Tensor]:
        # All steps at once, from the memory states that were stored while acting.
        before = {name: x.flatten(0, 1) for name, x in _before(rollout).items()}
        return super()._evaluate(rollout, self.network.remember(obs, before)[0], sample)

    def _value_after(self, rollout: Trajectories, steps: Tensor) -> Tensor:
        obs, final_obs = (self.normaliser(x[steps]) for x in (rollout.obs, rollout.final_obs))
        _, after = self.network.remember(obs, _before(rollout, steps))
        return self.network.value(self.network.remember(final_obs, after)[0])


def _before(rollout: Trajectories, steps: Tensor | slice = slice(None)) -> State:
    """States of the memory before some of the steps, as `act` kept them."""
    return {
        name.removeprefix("before "): x[steps]
        for name, x in rollout.extras.items()
        if name.startswith("before ")
    }
