"""Code shared by agents that search for a sequence of tokens, such as an architecture.

An episode chooses one sequence, and only its last step has a reward. One update learns from one episode in each
environment, so with B environments each update evaluates B sequences.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent
from rlbench.tokens import OneHotTokens, TokenNumbers


class Sequences:
    """Sequences in the order in which they were tried; a part of an agent's state that grows."""

    def __init__(self, length: int) -> None:
        """No sequences yet, of this length L."""
        self._parts = [torch.zeros(0, length, dtype=torch.int64)]

    def append(self, tokens: Tensor) -> None:
        """Adds sequences [B, L]."""
        self._parts.append(tokens.cpu())

    @property
    def tokens(self) -> Tensor:
        """All sequences, int64 [N, L]."""
        return torch.cat(self._parts)

    def state_dict(self) -> dict[str, Any]:
        """See `Stateful`."""
        return {"tokens": self.tokens}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stateful`."""
        self._parts = [state["tokens"].cpu().clone()]


class SearchAgent(Agent):
    """An agent that learns from whole episodes, and remembers all sequences and the best one."""

    consumes = Trajectories
    explores = True
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 15, "eval_every": 0, "eval_episodes": 1, "log_every": 1, "checkpoint_every": 1,
    }  # fmt: skip

    def build(self) -> None:
        """Reads the numbers of choices from the space of the observations.

        Raises:
            UserError: The observations are not tokens.
        """
        space = self.spec.observation_space
        if not isinstance(space, OneHotTokens | TokenNumbers):
            raise UserError(
                f"the observation space is {space}, but this agent needs the tokens of a search, as ArchSearchEnv "
                "of rlbench.envs.architectures.search returns them; choose another agent, such as ppo, or such a task"
            )
        self.space = space
        self.choices = torch.tensor(space.choices, device=self.device)
        self.sequences = Sequences(len(space.choices))
        self.best = torch.zeros_like(self.choices)
        self.best_reward = torch.zeros((), device=self.device)
        self.updates = 0

    @property
    def rollout_steps(self) -> int:
        """One episode: the number of tokens, L."""
        return len(self.choices)

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """One update from one episode in each environment."""
        tokens, reward = experience.action.T, experience.reward.sum(0)
        self.sequences.append(tokens)
        top = reward.argmax()
        if self.updates == 0 or reward[top] > self.best_reward:
            self.best, self.best_reward = tokens[top].clone(), reward[top].clone()
        metrics = self.update(tokens, reward)
        self.updates += 1
        return {
            "mean_reward": reward.mean(),
            "best_reward": self.best_reward.clone(),
            **metrics,
        }

    @abstractmethod
    def update(self, tokens: Tensor, reward: Tensor) -> Mapping[str, Tensor]:
        """Learns from sequences and their rewards.

        Args:
            tokens: Sequences, int64 [B, L].
            reward: Their rewards, [B].
        """

    def read(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens chosen so far, int64 [B, L], and the number of the next one, int64 [B].

        Tokens that are not chosen yet are -1. After the last token, its own number is returned.
        """
        tokens = self.space.decode(obs)
        return tokens, (tokens >= 0).sum(1).clamp(max=len(self.choices) - 1)


class Proposer(SearchAgent):
    """A searcher without a policy: it proposes B whole sequences, and learns from their rewards.

    Environment b chooses the tokens of sequence b. Without exploration the agent chooses the best sequence so far.
    """

    def build(self) -> None:
        """The first sequences are random."""
        super().build()
        self.proposals = self.random(self.config.envs)

    def explore(self, obs: Tensor) -> Action:
        """The next token of each proposal."""
        rows = torch.arange(len(obs), device=self.device) % len(self.proposals)
        return Action(self.proposals[rows, self.read(obs)[1]])

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The next token of the best sequence so far."""
        return self.best[self.read(obs)[1]]

    def update(self, tokens: Tensor, reward: Tensor) -> Mapping[str, Tensor]:
        """Learns from the rewards of the proposals, and makes the next ones."""
        self.judge(tokens, reward)
        self.proposals = self.propose()
        return {}

    def random(self, count: int) -> Tensor:
        """Uniformly random sequences, int64 [count, L]."""
        return self.draw(self.choices.expand(count, -1))

    def draw(self, below: Tensor) -> Tensor:
        """Uniformly random whole numbers from 0 to `below` - 1, int64 and of its shape."""
        share = torch.rand(below.shape, generator=self.generator, device=self.device)
        return (share * below).long()

    @abstractmethod
    def judge(self, tokens: Tensor, reward: Tensor) -> None:
        """Learns from the rewards [B] of sequences, int64 [B, L]."""

    @abstractmethod
    def propose(self) -> Tensor:
        """The next sequences to evaluate, int64 [B, L]."""
