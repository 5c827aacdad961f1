"""Fast weights: a recurrent layer with a second matrix that is written while it runs.

    A(t) = lambda A(t-1) + eta h(t) h(t)^T
    h_0 = f(LN(W h(t) + C x(t)))
    h_{s+1} = f(LN(W h(t) + C x(t) + A(t) h_s)),   s = 0, ..., S - 1
    h(t+1) = h_S

A stores the last hidden vectors, and A h_s is a sum of them, weighted by how similar they are to h_s:

    A(t) h_s = eta sum_tau lambda^(t-tau) h(tau) (h(tau) . h_s)

which is attention to the past without a softmax. One step uses the matrix, whose size does not grow; a sequence
uses the sum over a few steps at a time, so that training stores one matrix every few steps and not at each step. Both give the same outputs.

Ba et al., 2016, https://arxiv.org/abs/1610.06258. f is ReLU. The initial W is a multiple of the identity, as in
https://github.com/jiamings/fast-weights, whose layer normalisation averages over the batch; here it averages over the units,
as in the paper.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.memories._base import Memory, forget
from rlbench.backbones.ranges import NOT_NEGATIVE, SHARE, SIZE, within
from rlbench.interface import State

PIECE = 16
"""Steps over which the sum is used in a sequence, before it is added to the matrix: a sum over the whole sequence
would need time quadratic in its length."""


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
        within("fast-weights", SIZE, inner=inner)
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
        """See `Memory`; the sum over the steps of a piece, and the matrix from before the piece."""
        outputs = []
        for inputs, resets in zip(
            self.inputs(x).split(PIECE), reset.to(x.dtype).split(PIECE), strict=True
        ):
            part, state = self._piece(inputs, state, resets)
            outputs += part
        return torch.stack(outputs), state

    def _piece(self, inputs: Tensor, state: State, reset: Tensor) -> tuple[list[Tensor], State]:
        """Outputs [B, H] of each of a few steps, from C x [T, B, H], and the state after them."""
        # Weight of each hidden vector tau at each step t, [T, B, tau], and of the matrix, [T, B, 1].
        step = torch.arange(len(reset), device=reset.device)
        age = (step[:, None] - step)[:, None]
        episode = (reset > 0).cumsum(0)
        same = (episode[:, :, None] == episode.T) & (age >= 0)
        weight = self.rate * self.decay ** age.clamp(min=0).to(inputs.dtype) * same
        kept = self.decay ** (step[:, None, None] + 1).to(inputs.dtype) * (episode == 0)[..., None]
        last, past, outputs = state["hidden"], [], []
        for t, now in enumerate(inputs):
            last = forget({"hidden": last}, reset[t])["hidden"]
            past.append(last)
            every = torch.stack(past, dim=1)
            slow = self.slow(last) + now
            last = self.norm(slow).relu()
            for _ in range(self.inner):
                similar = (every @ last[..., None])[..., 0] * weight[t, :, : t + 1]
                recalled = (similar[:, None] @ every)[:, 0]
                recalled = recalled + kept[t] * (state["fast"] @ last[..., None])[..., 0]
                last = self.norm(slow + recalled).relu()
            outputs.append(last)
        fast = (every * weight[-1][..., None]).transpose(1, 2) @ every
        return outputs, {"hidden": last, "fast": fast + kept[-1][..., None] * state["fast"]}
