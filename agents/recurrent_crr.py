"""CRR with memories, for tasks whose observations hide the state.

CRR's policy and critics, which read the output of a memory over the observations and actions so far:

    m_t  = memory(o_1, 0, o_2, a_1, ..., o_t, a_t-1),   one for the policy, one for the critics
    pi(a | m_t),   Q(m_t, a)

Wang et al., 2020, https://arxiv.org/abs/2006.15134; the authors' agent is recurrent in all its
experiments.

Differences from the authors' code: the memory comes first and the layers of CRR follow, in theirs the
LSTM follows the residual layers; the critic's memory reads past actions and not the one that it
evaluates, so that all samples of a step share it; stretches begin with an empty memory.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents.crr import CRR, CRRConfig
from rlbench.backbones.encoders import Observations
from rlbench.backbones.memories import Memory, acting_memory
from rlbench.backbones.optim import Adam, polyak
from rlbench.backbones.ranges import TWO, Range
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, State
from rlbench.seeding import derive, initialising


@dataclass(frozen=True, kw_only=True)
class RecurrentCRRConfig(CRRConfig):
    """Settings of CRR with memories: those of CRR and its own."""

    memory_size: int = 128
    """Output size of each memory (authors' code: 1024)."""
    batch_size: int = 16
    """Stretches of trajectories in one update."""
    memory: str = "lstm"
    """Name of the memory, with options after a colon if it has any; `rlbench list` shows all."""
    sequence_length: int = 32
    """Steps of a stretch."""
    ranges: ClassVar[Mapping[str, Range]] = {**CRRConfig.ranges, "sequence_length": TWO}


class RecurrentCRR(CRR):
    """CRR whose policy and critics each read a memory."""

    Config: ClassVar[type] = RecurrentCRRConfig
    consumes = Trajectories
    config: RecurrentCRRConfig

    def _make_networks(self, see: Callable[[], Observations]) -> None:
        """Memories of observations and last actions, and CRR's networks on their outputs."""
        config = self.config
        super()._make_networks(lambda: config.memory_size)
        # Seeded separately; nothing has been drawn from the generator yet, so it still has the agent's seed.
        with initialising(derive(self.generator.initial_seed(), "memories")):
            self.policy_memory, self.critic_memory = (
                acting_memory(config.memory, see(), config.memory_size, more=self.form.size)
                for _ in range(2)
            )
        self.target_policy_memory = copy.deepcopy(self.policy_memory).requires_grad_(False)
        self.target_critic_memory = copy.deepcopy(self.critic_memory).requires_grad_(False)
        self.policy_optimizer = Adam(
            [*self.policy.parameters(), *self.policy_memory.parameters()], config.learning_rate
        )
        self.critic_optimizer = Adam(
            [*self.critic.parameters(), *self.critic_memory.parameters()], config.learning_rate
        )

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """An action chosen by `act_mode`; a sample of the policy if `explore`. The state holds both memories."""
        (policy_in, policy_state), (critic_in, critic_state) = self._step(obs, state)
        mode = "sample" if explore else self.config.act_mode
        action = self._choose(policy_in, critic_in, mode, self._acting_draw(len(obs), mode))
        state = _joined(self.form.to_unit(action), policy_state, critic_state)
        return Action(action, state=state)

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """See `CRR.scores`."""
        (policy_in, _), (critic_in, _) = self._step(obs, state)
        return self._readout(policy_in, critic_in)

    def _step(self, obs: Tensor, state: State | None) -> list[tuple[Tensor, State]]:
        """What each memory returns, and its state after the step: the policy's, then the critic's."""
        if state is None:
            state = self._initial_state(len(obs))
        seen, last = self.normaliser(obs), state["action"]
        return [
            memory.step(memory.read(seen, last), _part(state, name))
            for name, memory in (("policy", self.policy_memory), ("critic", self.critic_memory))
        ]

    # A function of one observation cannot use a memory.
    decide = Agent.decide
    acting_value = Agent.acting_value

    def phase(self) -> None:
        """None: the number of known targets differs between batches."""

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:  # type: ignore[override]
        """One update of critics, policy, their memories and targets."""
        batch = experience
        action = self.form.to_unit(batch.action)
        over = torch.maximum(batch.terminated, batch.truncated)
        # The memory after a time limit is not in the data, nor that after the last step.
        known = batch.truncated[:-1] == 0
        reset = torch.cat([torch.ones_like(over[:1]), over[:-1]])
        before = torch.cat([torch.zeros_like(action[:1]), action[:-1]])
        obs, last = self.normaliser(batch.obs), before * (1 - reset)[..., None]

        def unroll(memory: Memory) -> Tensor:
            start = memory.initial_state(reset.shape[1], self.device)
            return memory.unroll(memory.read(obs, last), start, reset)[0]

        with torch.no_grad():
            slow = self.config.target_actions == "target-policy"
            next_policy = unroll(self.target_policy_memory if slow else self.policy_memory)
            next_critic = unroll(self.target_critic_memory)
            target = self._target(
                batch.reward[:-1][known],
                batch.terminated[:-1][known],
                next_policy[1:][known],
                next_critic[1:][known],
            )
        # A small batch may contain time limits only; the critics have nothing to learn from it.
        metrics: dict[str, Tensor] = {}
        if len(target):
            metrics = self._update_critic(
                unroll(self.critic_memory)[:-1][known], action[:-1][known], target
            )
        with torch.no_grad():
            critic_in = unroll(self.critic_memory).flatten(0, 1)
        policy_in = unroll(self.policy_memory).flatten(0, 1)
        metrics |= self._update_policy(policy_in, critic_in, action.flatten(0, 1))
        self._update_targets()
        return metrics

    def _move_targets(self, rate: float) -> None:
        super()._move_targets(rate)
        polyak(self.target_policy_memory, self.policy_memory, rate)
        polyak(self.target_critic_memory, self.critic_memory, rate)

    def _initial_state(self, batch: int) -> State:
        return _joined(
            torch.zeros(batch, self.form.size, device=self.device),
            self.policy_memory.initial_state(batch, self.device),
            self.critic_memory.initial_state(batch, self.device),
        )


def _joined(action: Tensor, policy: State, critic: State) -> State:
    """One flat state of the last action and both memories."""
    return {
        "action": action,
        **{f"policy {name}": x for name, x in policy.items()},
        **{f"critic {name}": x for name, x in critic.items()},
    }


def _part(state: State, owner: str) -> State:
    """The state of one memory."""
    return {
        name.removeprefix(f"{owner} "): x for name, x in state.items() if name.startswith(owner)
    }
