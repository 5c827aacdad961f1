"""Batch normalisation of sequences, with statistics for each time step; see `memories.bn_lstm`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


class StepNorm(nn.Module):
    """Batch normalisation with statistics of its own for each time step."""

    mean: Tensor
    variance: Tensor
    count: Tensor
    weight: Tensor

    def __init__(
        self, size: int, gain: float, steps: int, rate: float = 0.01, *, shift: bool = False
    ) -> None:
        """For vectors of length `size`, C.

        Args:
            size: C.
            gain: Initial weight.
            steps: Time steps with statistics of their own.
            rate: Rate of the running averages; the first batches count equally, until the share of each is below this.
            shift: Whether there is a bias.
        """
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.full((size,), gain))
        self.bias = nn.Parameter(torch.zeros(size)) if shift else None
        self.running = False
        """Whether training also uses the running averages; see `use_running_statistics`."""
        self.register_buffer("mean", torch.zeros(steps, size))
        self.register_buffer("variance", torch.ones(steps, size))
        self.register_buffer("count", torch.zeros(steps))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Normalised vectors [B, C], at time steps int64 [B]."""
        if self.running or not self.training:
            # The last step with statistics stands for later ones.
            last = ((self.count > 0).sum() - 1).clamp(min=0)
            mean, variance = (
                F.embedding(torch.minimum(time, last), table)
                for table in (self.mean, self.variance)
            )
        else:
            found = moments(x, time, len(self.count))
            mean, variance = (F.embedding(time, table) for table in found[:2])
        x = (x - mean) * (variance + EPSILON).rsqrt() * self.weight
        return x if self.bias is None else x + self.bias

    @torch.no_grad()
    def update(self, x: Tensor, time: Tensor) -> None:
        """Moves the running averages of the time steps int64 [B] that occur, towards the batch [B, C]."""
        mean, variance, count = moments(x, time, len(self.count))
        self.count += (count > 0).float()
        rate = (1 / self.count.clamp(min=1)).clamp(min=self.rate) * (count > 0)
        self.mean.lerp_(mean, rate[:, None])
        self.variance.lerp_(variance, rate[:, None])


def moments(x: Tensor, time: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance [steps, C] of vectors [B, C] at each time step int64 [B], and their number [steps]."""
    at = F.one_hot(time, steps).to(x.dtype)
    count = at.sum(0)
    share = at / count.clamp(min=1)
    mean = share.T @ x
    return mean, share.T @ (x - F.embedding(time, mean)).square(), count
