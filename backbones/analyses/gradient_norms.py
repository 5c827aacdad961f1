"""How the gradient of the loss changes on its way back through a recurrent network, with recurrent batch normalisation.

    h_t = tanh(BN(W_h h_{t-1}; gamma) + BN(W_x x_t; gamma) + b),   ratio = |dL/dh_1| / |dL/dh_T|

For each initial gamma an untrained network with an orthogonal W_h reads the test sequences of the run; L is the
cross-entropy of a linear layer after the last step. A ratio far from 1 means that the gradient vanishes or explodes over the
sequence. The paper shows that it vanishes with gamma = 1 and not with 0.1, because normalised inputs with a variance of 1
saturate the tanh.

The trained memory of the run is shown as well, with the gradients of its hidden state h_t, which is its output.

Cooijmans et al., 2017, https://arxiv.org/abs/1603.09025, section 4 and figure 1a
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.analyses._base import Analysis, Array, Findings, Line, Panel
from rlbench.backbones.layers.step_norm import StepNorm
from rlbench.backbones.ranges import NOT_NEGATIVE
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.seeding import initialising

Step = Callable[[Tensor, Any, int], tuple[Tensor, Any]]
"""One step: an input [B, D], the state and the number of the step, to the output h [B, H] and the new state."""


@dataclass(frozen=True, kw_only=True)
class GradientNormsConfig:
    """Settings of the analysis of gradients."""

    gains: tuple[float, ...] = (0.1, 0.3, 0.5, 1.0)
    """Initial values of gamma."""
    units: int = 100
    """Units of the untrained networks."""
    rows: int = 64
    """Test sequences that are read."""
    noise: float = 0.1
    """Standard deviation of the untrained networks' first h, as in the authors' code: if all sequences begin alike, h would not vary
    in the batch, and BN would divide by nearly 0."""
    networks: int = 3
    """Untrained networks for each gamma, with weights from different seeds."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if min(self.units, self.rows) < 2 or self.networks < 1:
            raise UserError(
                f"units, rows and networks are {self.units}, {self.rows} and {self.networks}; give at least 2, 2 and 1"
            )
        if not self.gains or not all(map(NOT_NEGATIVE.holds, (*self.gains, self.noise))):
            raise UserError(
                f"gains is {self.gains} and noise is {self.noise}; give one gain or more, each {NOT_NEGATIVE.words}"
            )


class TanhRNN(nn.Module):
    """The untrained network."""

    def __init__(self, inputs: int, units: int, steps: int, gain: float) -> None:
        """For sequences [steps, B, inputs]."""
        super().__init__()
        self.slow = nn.Linear(units, units, bias=False)
        self.inputs = nn.Linear(inputs, units, bias=False)
        nn.init.orthogonal_(self.slow.weight)
        self.slow_norm, self.input_norm = (StepNorm(units, gain, steps) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(units))
        self.units = units

    def step(self, x: Tensor, hidden: Tensor, at: int) -> tuple[Tensor, Tensor]:
        """See `Step`; the state is h."""
        time = torch.full((len(x),), at, device=x.device)
        total = self.slow_norm(self.slow(hidden), time) + self.input_norm(self.inputs(x), time)
        hidden = (total + self.bias).tanh()
        return hidden, hidden


@torch.enable_grad()
def norms(step: Step, x: Tensor, state: Any, loss: Callable[[Tensor], Tensor]) -> Array:
    """Norms |dL/dh_t| over the whole batch, [T].

    Args:
        step: The network.
        x: Inputs, [T, B, D].
        state: State before the first step.
        loss: From the last output [B, H] to a scalar.
    """
    outputs = []
    for at, now in enumerate(x):
        out, state = step(now, state, at)
        outputs.append(out)
    gradients = torch.autograd.grad(loss(outputs[-1]), outputs)
    return np.array([float(gradient.norm()) for gradient in gradients])


def untrained(gain: float, seed: int) -> str:
    """The name of an untrained network in the results."""
    return f"gamma {gain:g}, network {seed}"


class GradientNorms(Analysis):
    """Norms of the gradient by time step."""

    Config: ClassVar[type] = GradientNormsConfig
    runs = (
        "a run of sequence-classifier with a memory, on sequences of vectors such as digits-pixels",
    )
    config: GradientNormsConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,), (given,) = learners, examples.values()
        memory = getattr(getattr(model, "encoder", None), "memory", None)
        if memory is None or given["obs"].dim() != 3:
            raise UserError(
                f"{type(model).__name__} has no memory, or its examples are not sequences of vectors; give {self.runs[0]}"
            )
        config = self.config
        rows = given.take(slice(0, config.rows))
        x, label = rows["obs"].float().transpose(0, 1), rows["label"]
        steps, batch, inputs = x.shape
        found = {}
        for gain in config.gains:
            for seed in range(config.networks):
                with initialising(seed):
                    network = TanhRNN(inputs, config.units, steps, gain).to(x.device)
                    head = nn.Linear(config.units, int(label.max()) + 1).to(x.device)
                    hidden = config.noise * torch.randn(batch, config.units).to(x.device)
                found[untrained(gain, seed)] = norms(
                    network.step, x, hidden,
                    lambda h, head=head: F.cross_entropy(head(h), label),  # type: ignore[misc]
                )  # fmt: skip
        memory.train()

        def step(now: Tensor, state: Any, at: int) -> tuple[Tensor, Any]:
            out, after = memory.step(now, state)
            hidden = after.get("hidden")
            if hidden is None or not torch.equal(out, hidden):
                raise UserError(
                    f"the output of {type(memory).__name__} is not its hidden state; give a run with the memory lstm, gru, "
                    "bn-lstm or fast-weights"
                )
            return hidden, after

        found["trained memory"] = norms(
            step, model.encoder.layers(x), memory.initial_state(batch, x.device),
            lambda h: F.cross_entropy(model.head(h), label),
        )  # fmt: skip
        numbers = {
            f"{name}: log10 ratio": float(np.log10(x[0] / x[-1])) for name, x in found.items()
        }
        places = list(range(1, steps + 1))
        lines = [Line(name, places, *[np.log10(x)] * 3) for name, x in found.items()]
        panel = Panel("log10 of the gradient's norm", "time step", lines)
        return Findings(numbers, [panel], {name: x[None] for name, x in found.items()})
