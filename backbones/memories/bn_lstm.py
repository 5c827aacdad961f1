"""LSTM with recurrent batch normalisation.

    (f, i, o, g) = BN(W_h h; gamma_h) + BN(W_x x; gamma_x) + b
    c = sigmoid(f) c + sigmoid(i) tanh(g)
    h = sigmoid(o) tanh(BN(c; gamma_c, beta_c))

Each time step t, counted from the start of an episode, has statistics of its own, because activations differ most in the
first steps. A step beyond the longest sequence so far uses the statistics of the last step that has any. gamma is
shared by all steps and begins at 0.1: with 1, according to the authors, the tanh saturates and gradients vanish.

In training the batch is normalised with its own statistics, in evaluation with their running averages. An agent uses the averages in
both, as in its encoders (`acting_memory`): it acts on a few environments, which are not at the same t. Learning
passes then update the averages after they have used them.

Cooijmans et al., 2017, https://arxiv.org/abs/1603.09025; weights and the rate of the averages as in the authors' code,
https://github.com/cooijmanstim/recurrent-batch-normalization.

Differences from that code: h and c begin at 0 and not at learned values; the averages of a step begin as plain means over the
first 100 updates. In their code, noise on the first h prevents gradients from exploding at pixels that are the same in all
images; here it is the option `noise`, off by default, which only affects training with the statistics of the batch.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.layers.step_norm import StepNorm
from rlbench.backbones.memories._base import Memory, forget
from rlbench.backbones.ranges import NOT_NEGATIVE, SHARE, SIZE, within
from rlbench.interface import State


class BNLSTM(Memory):
    """One layer of batch-normalised long short-term memory."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        gain: float = 0.1,
        steps: int = 256,
        noise: float = 0.0,
        rate: float = 0.01,
    ) -> None:
        """From inputs of length `in_size` to outputs of length `size`, H.

        Args:
            in_size: Length of the inputs.
            size: Number of units.
            gain: Initial gamma.
            steps: Time steps with statistics of their own.
            noise: Standard deviation of the noise on the first h, in training with the statistics of the batch.
            rate: Rate of the running averages (0.01 in the authors' code); short training needs a larger one.

        Raises:
            UserError: An option is out of range.
        """
        super().__init__()
        within("bn-lstm", SIZE, steps=steps)
        within("bn-lstm", NOT_NEGATIVE, gain=gain, noise=noise)
        within("bn-lstm", SHARE, rate=rate)
        self.size, self.steps, self.noise = size, steps, noise
        self.inputs = nn.Linear(in_size, 4 * size, bias=False)
        self.slow = nn.Linear(size, 4 * size, bias=False)
        self.bias = nn.Parameter(torch.zeros(4 * size))
        self.input_norm = StepNorm(4 * size, gain, steps, rate)
        self.slow_norm = StepNorm(4 * size, gain, steps, rate)
        self.cell_norm = StepNorm(size, gain, steps, rate, shift=True)
        with torch.no_grad():
            nn.init.orthogonal_(self.inputs.weight)
            gates = self.slow.weight.view(4, size, size)
            for gate in gates[:3]:
                nn.init.orthogonal_(gate)
            gates[3].copy_(torch.eye(size))
            self.bias[:size] = 1.0  # Of the forget gate.

    def initial_state(self, batch: int, device: torch.device) -> State:
        """See `Memory`; `time` is the number of steps since the episode began."""
        shapes = {"hidden": (self.size,), "cell": (self.size,), "time": ()}
        return {name: torch.zeros(batch, *shape, device=device) for name, shape in shapes.items()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory`."""
        out, state = self.unroll(x[None], state, torch.zeros_like(state["time"])[None])
        return out[0], state

    def unroll(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """See `Memory`; in training the running averages are updated at the end."""
        norms = (self.input_norm, self.slow_norm, self.cell_norm)
        noisy = self.noise > 0 and not self.slow_norm.running
        outputs, seen = [], []
        for now, fresh in zip(self.inputs(x), reset, strict=True):
            state = forget(state, fresh)
            hidden, cell, begun = state["hidden"], state["cell"], state["time"]
            if noisy and self.training:
                hidden = hidden + self.noise * torch.randn_like(hidden) * (begun == 0)[:, None]
            time, slow = begun.long().clamp(max=self.steps - 1), self.slow(hidden)
            gates = self.slow_norm(slow, time) + self.input_norm(now, time) + self.bias
            f, i, o, g = gates.chunk(4, dim=-1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * self.cell_norm(cell, time).tanh()
            state = {"hidden": hidden, "cell": cell, "time": begun + 1}
            outputs.append(hidden)
            seen.append((now, slow, cell, time))
        if self.training and torch.is_grad_enabled():
            *layers, times = (torch.cat(column) for column in zip(*seen, strict=True))
            for norm, layer in zip(norms, layers, strict=True):
                norm.update(layer, times)
        return torch.stack(outputs), state
