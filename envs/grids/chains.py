"""Delayed chains: the first of two actions decides the reward at the end of the episode, many steps later.

The length and the correct first action are drawn for each world. Later actions have no effect. The states are the start
and, for each of the two first actions, every later step. With distractors, the observation is a vector of bits, of
which all but two are noise.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, appendix A.3. The correct action stays the same in all
episodes of a world, because nothing at the start of an episode would reveal it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlbench.envs.grids.worlds import Worlds


@dataclass(frozen=True)
class Chain:
    """A distribution of chains."""

    lengths: tuple[int, int]
    """Smallest and largest number of steps of an episode."""
    noisy: bool = False
    """Whether the steps between the first and the last give random rewards of -1 or 1."""
    distractors: int = 0
    """Number of random bits in the observation; if it is 0, observations are state indices."""


CHAINS = {
    "short": Chain((5, 30)),
    "long": Chain((5, 50)),
    "noisy": Chain((5, 30), noisy=True),
    "noisy-long": Chain((5, 50), noisy=True),
    "distractor": Chain((5, 30), distractors=20),
}
"""The paper's chains."""


class ChainWorlds(Worlds):
    """W workers in each of N chains.

    State 0 is the start; state 1 + a L + t - 1 is step t after the first action a, where L is the largest length.
    With distractors, observations are float [N, W, 2 + distractors]. The first two bits are whether action 0 is correct
    and whether the correct action was taken; the other bits are drawn at each step.
    """

    def __init__(
        self, chain: Chain, worlds: int, workers: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Draws `worlds` chains (N) with `workers` workers each (W).

        Args:
            chain: Distribution of the chains.
            worlds: Number of chains.
            workers: Number of workers in each chain.
            seed: Decides the chains and all random events.
            device: Device of all tensors.
        """
        self.chain, self.actions, self.shape = chain, 2, (worlds, workers)
        if chain.distractors:
            self.obs_size = 2 + chain.distractors
        else:
            self.states = 1 + 2 * chain.lengths[1]
        self.draws = 1 + chain.distractors
        self.generator = torch.Generator(device).manual_seed(seed)
        self.length, self.right = self._draw(worlds)
        self.side = torch.zeros(self.shape, dtype=torch.int64, device=device)
        """First action of each episode."""
        self.steps = torch.zeros_like(self.side)
        self.noise = torch.zeros((*self.shape, chain.distractors), device=device)
        self.restart()

    def renew(self, rows: Tensor, copies: int = 1) -> None:
        """See `Worlds`."""
        length, right = (x.repeat(copies, 1) for x in self._draw(len(rows) // copies))
        self.length = self.length.index_copy(0, rows, length)
        self.right = self.right.index_copy(0, rows, right)
        self.begin(self._workers_of(rows), self.chance(1)[0])

    def obs(self) -> Tensor:
        """State indices, int64 [N, W], or vectors, float [N, W, D]."""
        if self.chain.distractors:
            known = (self.right == 0).expand(self.shape)
            done_right = (self.side == self.right) & (self.steps > 0)
            return torch.cat([torch.stack([known, done_right], -1).float(), self.noise], -1)
        later = self.side * self.chain.lengths[1] + self.steps
        return torch.where(self.steps > 0, later, 0)

    def advance(self, action: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Worlds`."""
        first = self.steps == 0
        self.side = torch.where(first, action, self.side)
        self.steps = self.steps + 1
        terminated = self.steps == self.length
        reward = torch.where(self.side == self.right, 1.0, -1.0) * terminated
        if self.chain.noisy:
            sign = torch.where(chance[..., 0] < 0.5, -1.0, 1.0)
            reward = torch.where(first | terminated, reward, sign)
        self._distract(torch.ones_like(first), chance)
        return reward, terminated, torch.zeros_like(terminated)

    def begin(self, over: Tensor, chance: Tensor) -> None:
        """See `Worlds`."""
        self.steps = self.steps.masked_fill(over, 0)
        # Uses the next binary digit of the random numbers that drew the bits of the previous step.
        self._distract(over, chance * 2 % 1)

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Lengths and correct actions of `count` chains, int64 [count, 1] each."""
        low, high = self.chain.lengths
        bounds = ((low, high + 1), (0, 2))
        length, right = (
            torch.randint(*x, (count, 1), generator=self.generator, device=self.device)
            for x in bounds
        )
        return length, right

    def _distract(self, over: Tensor, chance: Tensor) -> None:
        """Draws new random bits for the workers in `over`, bool [N, W]."""
        if self.chain.distractors:
            self.noise = torch.where(over[..., None], (chance[..., 1:] < 0.5).float(), self.noise)
