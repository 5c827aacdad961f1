"""Fast weights: a recurrent layer with a second matrix that is written while it runs.

    A(t) = lambda A(t-1) + eta h(t) h(t)^T
    h_0 = f(LN(W h(t) + C x(t)))
    h_{s+1} = f(LN(W h(t) + C x(t) + A(t) h_s)),   s = 0, ..., S - 1
    h(t+1) = h_S

A stores the last hidden vectors, and A h_s is a sum of them, weighted by how similar they are to h_s:

    A(t) h_s = eta sum_tau lambda^(t-tau) h(tau) (h(tau) . h_s)

which is attention to the past without a softmax. One step uses the matrix, whose size does not grow; a sequence of T steps
uses the sum, which needs no matrix at each step. Both are equal.

Ba et al., 2016, https://arxiv.org/abs/1610.06258. f is ReLU. The initial W is a multiple of the identity, as in
https://github.com/jiamings/fast-weights, whose layer normalisation averages over the batch; here it averages over the units,
as in the paper.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.memories._base import Memory, forget
from rlbench.backbones.ranges import COUNT, NOT_NEGATIVE, SHARE, within
from rlbench.interface import State


class FastWeights(Memory):
    """One layer of ReLU units with slow and fast weights."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        inner: int = 1,
        decay: float = 0.95,
        rate: float = 0.5,
        identity: float = 0.05,
    ) -> None:
        """From inputs of length `in_size` to outputs of length `size`, H.

        Args:
            in_size: Length of the inputs.
            size: Number of units.
            inner: Steps of the inner loop, S.
            decay: lambda.
            rate: eta.
            identity: The initial W is the identity times this.

        Raises:
            UserError: An option is out of range.
        """
        super().__init__()
        within("fast-weights", COUNT, inner=inner)
        within("fast-weights", SHARE, decay=decay)
        within("fast-weights", NOT_NEGATIVE, rate=rate, identity=identity)
        self.size, self.inner, self.decay, self.rate = size, inner, decay, rate
        self.slow = nn.Linear(size, size, bias=False)
        self.inputs = nn.Linear(in_size, size)
        self.norm = nn.LayerNorm(size)
        with torch.no_grad():
            self.slow.weight.copy_(identity * torch.eye(size))

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`."""
        return {
            "hidden": torch.zeros(batch, self.size, device=device),
            "fast": torch.zeros(batch, self.size, self.size, device=device),
        }

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`; with the matrix A."""
        last = state["hidden"]
        fast = self.decay * state["fast"] + self.rate * last[:, :, None] * last[:, None]
        slow = self.slow(last) + self.inputs(x)
        hidden = self.norm(slow).relu()
        for _ in range(self.inner):
            recalled = (fast @ hidden[..., None])[..., 0]
            hidden = self.norm(slow + recalled).relu()
        return hidden, {"hidden": hidden, "fast": fast}

    def unroll(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """See `Memory`; with the sum over the past, and the matrix from before the first step."""
        inputs, last = self.inputs(x), state["hidden"]
        outputs: list[Tensor] = []
        past: list[Tensor] = []
        # Weight of each hidden vector of the past, [B] each, and of the matrix before the first step.
        weights: list[Tensor] = []
        kept = torch.ones_like(reset[0])
        for now, fresh in zip(inputs, reset, strict=True):
            alive = (fresh <= 0).to(x.dtype)
            last = forget({"hidden": last}, fresh)["hidden"]
            kept, weights = kept * alive * self.decay, [w * alive * self.decay for w in weights]
            past.append(last)
            weights.append(torch.full_like(kept, self.rate))
            every, weight = torch.stack(past, dim=1), torch.stack(weights, dim=1)
            slow = self.slow(last) + now
            hidden = self.norm(slow).relu()
            for _ in range(self.inner):
                similarity = (every @ hidden[..., None])[..., 0] * weight
                recalled = (similarity[:, None] @ every)[:, 0]
                recalled = recalled + kept[:, None] * (state["fast"] @ hidden[..., None])[..., 0]
                hidden = self.norm(slow + recalled).relu()
            last = hidden
            outputs.append(hidden)
        fast = torch.einsum("btj,bt,btk->bjk", every, weight, every)
        fast = fast + kept[:, None, None] * state["fast"]
        return torch.stack(outputs), {"hidden": last, "fast": fast}
