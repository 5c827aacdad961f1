"""PPO with a memory, for tasks whose observations hide the state.

Policy and value read the output of a memory, by default an LSTM, over the observations so far:

    m_t = memory(o_1, ..., o_t),   pi(a | m_t),   V(m_t)

An update unrolls the memory over whole columns of a rollout, one column for each environment, from the
state in which the environment began it; the gradient ends there (truncated backpropagation through
time). At the end of an episode the memory is reset.

Schulman et al., 2017, https://arxiv.org/abs/1707.06347, section 3; the memory as in Mnih et al., 2016,
https://arxiv.org/abs/1602.01783, section 5.1

Differences from the papers: the states at the beginning of a rollout are the states from acting, and are
not recomputed after each gradient step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.agents._on_policy import (
    PROBES,
    Minibatch,
    OnPolicyAgent,
    judge,
    led_out,
    make_head,
    ppo_loss,
    to_env,
    whole_batch,
)
from rlbench.agents.ppo import PPOConfig
from rlbench.backbones.heads.actor_critic import RecurrentActorCritic
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.optim import gradient_step
from rlbench.experience import Trajectories, columns_of, with_columns
from rlbench.interface import Action, State


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOConfig(PPOConfig):
    """Settings of PPO with a memory: those of PPO and its own."""

    hidden: tuple[int, ...] = ()
    memory: str = "lstm"
    """Name of the memory, with options after a colon if it has any; `rlbench list` shows all."""
    memory_size: int = 64
    """Output size of the memory."""
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

    def __len__(self) -> int:
        """Number of columns, B."""
        return self.target.shape[1]

    def rows(self, steps: int) -> int:
        """The number of columns that `take` needs for `steps` steps, rounded down, but at least one."""
        return max(1, steps // len(self.target))

    def take(self, rows: Tensor) -> "Columns":
        """Some of the columns: int64 [M], to M columns."""
        picked = {name: x[:, rows] for name, x in vars(self).items() if name != "state"}
        return Columns(**picked, state={name: x[rows] for name, x in self.state.items()})


class RecurrentPPO(OnPolicyAgent):
    """PPO whose policy and value read a memory."""

    Config: ClassVar[type] = RecurrentPPOConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 500, "eval_every": 25, "log_every": 1, "checkpoint_every": 25,
    }  # fmt: skip
    config: RecurrentPPOConfig
    network: RecurrentActorCritic

    def make_network(self) -> RecurrentActorCritic:
        """Policy and value on one memory."""
        config = self.config
        return RecurrentActorCritic(
            self.spec.observation_space, partial(make_head, self.form), config.encoder,
            config.hidden, config.memory, config.memory_size, frozen=config.freeze,
        )  # fmt: skip

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """A sample of the policy if `explore`, else its mode; the state is the state of the memory."""
        params, after = self._step(obs, state)
        if not explore:
            return Action(to_env(self.form, self.network.head.mode(params)), state=after)
        sample = self.network.head.draw(params, randn(params.shape, self.act_generator))
        return Action(to_env(self.form, sample), {"sample": sample}, after)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits, or means in units of half the range."""
        return self._step(obs, state)[0]

    def _step(self, obs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Parameters of the policy, [B, A], and the state of the memory after the step."""
        if state is None:
            state = self.network.memory.initial_state(len(obs), self.device)
        features, after = self.network.remember(self.normaliser(obs), state)
        return self.network.policy(features), after

    def phase(self) -> None:
        """None: compiling an unrolled memory takes longer than it saves."""

    def gradient_step(self, batch: Columns) -> Mapping[str, Tensor]:
        """One step down the loss of some columns, over which the memory is unrolled."""
        features, _ = self.network.unroll(batch.obs, batch.state, batch.reset)
        steps = replace(batch, obs=features).flat()
        loss, metrics = ppo_loss(self.config, self.network, steps, self.clip_range)
        gradient_step(self.optimizer, loss, self.config.max_grad_norm)
        return metrics

    @torch.no_grad()
    def _batch(self, rollout: Trajectories) -> Columns:
        """All columns of a rollout, evaluated with the policy that acted."""
        features, final = self._remembered(rollout)
        log_prob, value = judge(self.network, features, rollout)
        obs = self.normaliser(rollout.obs)
        seen = replace(rollout, obs=obs, reward=self.scaler(rollout, self.discount))
        mixing, after = self.config.gae_lambda, self.network.value(final)
        batch = whole_batch(seen, log_prob, value, after, self.discount, mixing)
        return Columns(**vars(batch), reset=_reset(rollout), state=self._start(rollout))

    @torch.no_grad()
    def _log_prob(self, rollout: Trajectories) -> Tensor:
        """Log-probabilities of the samples of some columns under the current policy, about `PROBES` steps, [T, V]."""
        stride = max(1, rollout.reward.numel() // PROBES)
        state = {name: x[::stride] for name, x in self._start(rollout).items()}
        extras = {name: x[:, ::stride] for name, x in rollout.extras.items()}
        columns = {name: x[:, ::stride] for name, x in columns_of(rollout).items()}
        probed: Trajectories = with_columns(replace(rollout, extras=extras), columns)
        obs = self.normaliser(probed.obs)
        features, _ = self.network.unroll(obs, state, _reset(probed))
        return judge(self.network, features, probed)[0]

    def _remembered(self, rollout: Trajectories) -> tuple[Tensor, Tensor]:
        """Output of the memory at each step [T, V, H], and after the final observations of the steps of `led_out`, [N, H].

        The state before a step is computed again from the first one, because it may be too large to be stored with every step.
        """
        obs, final_obs = self.normaliser(rollout.obs), self.normaliser(rollout.final_obs)
        reset, led, state = _reset(rollout), led_out(rollout), self._start(rollout)
        features, finals, begin = [], [], 0
        for step in led.any(1).nonzero().flatten().tolist():
            steps = slice(begin, step + 1)
            part, state = self.network.unroll(obs[steps], state, reset[steps])
            after = {name: x[led[step]] for name, x in state.items()}
            features.append(part)
            finals.append(self.network.remember(final_obs[step][led[step]], after)[0])
            begin = step + 1
        return torch.cat(features), torch.cat(finals)

    def _start(self, rollout: Trajectories) -> State:
        """The memory's state before the first step, [V, ...]."""
        if rollout.state is not None:
            return dict(rollout.state)
        return self.network.memory.initial_state(rollout.reward.shape[1], self.device)


def _reset(rollout: Trajectories) -> Tensor:
    """1.0 where an episode begins after the first step, [T, V]; the first step continues from the state in the rollout."""
    over = torch.maximum(rollout.terminated, rollout.truncated)
    return torch.cat([torch.zeros_like(over[:1]), over[:-1]])
