"""Populations: batches of many small agents, as tables or as networks.

Each method is a pure function of the agents' parameters, so that a meta-gradient can pass through several updates.
Observations are state indices, int64 [..., N, W], for tables, and vectors, [..., N, W, D], for networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

VECTOR_TASKS = ("grid-rand-", "chain-distractor")
"""Prefixes of the names of grids and chains whose observations are vectors, not state indices."""
Part = Literal["policy", "prediction", "value"]
"""What an agent computes from an observation."""
Rates = Mapping[Part, Tensor]
"""Step size of each part of each agent, [N]."""


class Population(Protocol):
    """N agents with a policy and predictions, or N critics with a value."""

    def outputs(self, part: Part, obs: Tensor) -> Tensor:
        """Outputs of one part, [..., N, W, X]."""

    def moved(
        self, obs: Tensor, slopes: Mapping[Part, Tensor], rates: Rates, max_norm: float
    ) -> "Population":
        """The agents after one gradient step.

        Args:
            obs: Observations of a rollout, [T, N, W, ...].
            slopes: Gradient of each part's loss with respect to its outputs, [T, N, W, X]; the loss of an agent is
                the mean over its T W steps.
            rates: Step sizes.
            max_norm: The gradient of each part of each agent is scaled down to this norm if it is larger.
        """

    def valued(self, obs: Tensor, target: Tensor, rate: float) -> "Population":
        """Critics whose values have moved towards targets [T, N, W].

        Tables move the value of a visited state by the share `rate` of its distance to its mean target; networks
        take a step of Adam, of size `rate`, down half the squared error.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes, [N, ...] each, by name."""

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Population":
        """A copy with other values for `tensors`."""


def detached(population: Population) -> Population:
    """The same agents, detached from the graph."""
    return population.with_tensors({k: x.detach() for k, x in population.tensors().items()})


def replaced(population: Population, mask: Tensor, other: Population) -> Population:
    """A population in which the agents where `mask`, bool [N], is True are replaced by those of `other`."""
    theirs = other.tensors()
    return population.with_tensors(
        {
            name: torch.where(mask.view(-1, *(1,) * (x.dim() - 1)), theirs[name], x)
            for name, x in population.tensors().items()
        }
    )


@dataclass(frozen=True)
class Tables:
    """Tabular agents, which share nothing between states, so that gradient descent has a closed form."""

    entries: Mapping[Part, Tensor]
    """Outputs of each part in each state, [N, S, X]."""

    @classmethod
    def new(
        cls,
        count: int,
        states: int,
        sizes: Mapping[Part, int],
        spread: float,
        generator: torch.Generator,
    ) -> "Tables":
        """N agents with outputs of 0, except for predictions, which are normal with standard deviation `spread`."""
        made = {}
        for part, size in sizes.items():
            shape = (count, states, size)
            made[part] = torch.zeros(shape, device=generator.device)
            if part == "prediction":
                made[part].normal_(0.0, spread, generator=generator)
        return cls(made)

    def outputs(self, part: Part, obs: Tensor) -> Tensor:
        """See `Population`."""
        table = self.entries[part]
        found = table.flatten(0, 1).index_select(0, _rows(obs, table.shape[1]))
        return found.view(*obs.shape, table.shape[2])

    def moved(
        self, obs: Tensor, slopes: Mapping[Part, Tensor], rates: Rates, max_norm: float
    ) -> "Tables":
        """See `Population`."""
        steps = obs.shape[0] * obs.shape[2]
        new = dict(self.entries)
        for part, slope in slopes.items():
            table = self.entries[part]
            rows = _rows(obs, table.shape[1])
            flat = torch.zeros_like(table).flatten(0, 1)
            gradient = flat.index_add(0, rows, slope.flatten(0, 2) / steps).view_as(table)
            scale = rates[part] * _shrink([gradient], max_norm)
            new[part] = torch.addcmul(table, gradient, scale[:, None, None], value=-1)
        return Tables(new)

    def valued(self, obs: Tensor, target: Tensor, rate: float) -> "Tables":
        """See `Population`."""
        table = self.entries["value"].squeeze(-1)
        rows = _rows(obs, table.shape[1])
        flat = torch.zeros_like(table).flatten()
        total = flat.index_add(0, rows, target.flatten())
        visits = flat.index_add(0, rows, torch.ones_like(target).flatten())
        mean = (total / visits.clamp(min=1)).view_as(table)
        moved = torch.where(visits.view_as(table) > 0, table.lerp(mean, rate), table)
        return Tables({**self.entries, "value": moved[..., None]})

    def tensors(self) -> dict[str, Tensor]:
        """See `Population`."""
        return {str(part): x for part, x in self.entries.items()}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Tables":
        """See `Population`."""
        return Tables({part: tensors[part] for part in self.entries})


def _rows(obs: Tensor, states: int) -> Tensor:
    """Rows of states [..., N, W] in tables [N * S, ...], int64 [M]."""
    first = torch.arange(obs.shape[-2], device=obs.device) * states
    return (obs + first[:, None]).flatten()


def _shrink(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """Factor that scales the norm of each agent's gradient down to at most `max_norm`, [N]; gradients are [N, ...]."""
    if max_norm == float("inf"):
        return torch.ones_like(gradients[0].flatten(1)[:, 0])
    squares = sum(x.square().flatten(1).sum(1) for x in gradients)
    # The square root has an infinite gradient at 0; a rule that changes nothing must not make the meta-gradient NaN.
    norm = (torch.as_tensor(squares) + 1e-16).sqrt()
    return (max_norm / norm).clamp(max=1.0)


@dataclass(frozen=True)
class Networks:
    """Agents with a ReLU network for each part, trained by Adam or plain gradient descent."""

    weights: Mapping[str, Tensor]
    """`PART.LAYER.weight` [N, in, out] and `PART.LAYER.bias` [N, 1, out]; biases are optional."""
    moments: Mapping[str, Tensor]
    """Adam's first and second moments of each weight's gradient, and the number of steps, [N]; empty without Adam."""

    @classmethod
    def new(
        cls,
        count: int,
        obs_size: int,
        hidden: Sequence[int],
        sizes: Mapping[Part, int],
        generator: torch.Generator,
        *,
        adam: bool = True,
    ) -> "Networks":
        """`count` agents (N) whose weights are initialised as in PyTorch's linear layers."""
        weights = {}
        for part, size in sizes.items():
            for layer, (fan_in, out) in enumerate(pairwise((obs_size, *hidden, size))):
                bound = fan_in**-0.5
                for name, rows in (("weight", fan_in), ("bias", 1)):
                    x = torch.empty((count, rows, out), device=generator.device)
                    weights[f"{part}.{layer}.{name}"] = x.uniform_(
                        -bound, bound, generator=generator
                    )
        moments = {}
        if adam:
            moments = {
                f"{kind}.{k}": torch.zeros_like(x)
                for kind in ("mean", "square")
                for k, x in weights.items()
            }
            moments["steps"] = torch.zeros(count, device=generator.device)
        return cls(weights, moments)

    def outputs(self, part: Part, obs: Tensor) -> Tensor:
        """See `Population`."""
        return _network(self.weights, part, obs)

    def moved(
        self, obs: Tensor, slopes: Mapping[Part, Tensor], rates: Rates, max_norm: float
    ) -> "Networks":
        """See `Population`."""
        steps = obs.shape[0] * obs.shape[2]
        # If gradients are enabled, as for a meta-gradient, the gradients below keep their graph.
        differentiable = torch.is_grad_enabled()
        new, moments = dict(self.weights), dict(self.moments)
        for part, slope in slopes.items():
            names = [name for name in self.weights if name.startswith(f"{part}.")]
            with torch.enable_grad():
                leaves = {
                    k: self.weights[k]
                    if self.weights[k].requires_grad
                    else self.weights[k].detach().requires_grad_()
                    for k in names
                }
                out = _network(leaves, part, obs)
            gradients = torch.autograd.grad(
                out, list(leaves.values()), slope / steps, create_graph=differentiable
            )
            shrink = _shrink(gradients, max_norm)
            for name, gradient in zip(names, gradients, strict=True):
                scaled = gradient * shrink[:, None, None]
                change, kept = self._change(name, scaled)
                new[name] = self.weights[name] - rates[part][:, None, None] * change
                moments |= kept
        if moments:
            moments["steps"] = moments["steps"] + 1
        return Networks(new, moments)

    def valued(self, obs: Tensor, target: Tensor, rate: float) -> "Networks":
        """See `Population`."""
        slope = self.outputs("value", obs) - target[..., None]
        rates = torch.full((obs.shape[1],), rate, device=obs.device)
        return self.moved(obs, {"value": slope}, {"value": rates}, float("inf"))

    def _change(self, name: str, gradient: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Update direction of one weight, and its new moments."""
        if not self.moments:
            return gradient, {}
        mean = self.moments[f"mean.{name}"].lerp(gradient, 0.1)
        square = self.moments[f"square.{name}"].lerp(gradient.square(), 0.001)
        steps = (self.moments["steps"] + 1)[:, None, None]
        change = (mean / (1 - 0.9**steps)) / ((square / (1 - 0.999**steps) + 1e-16).sqrt() + 1e-8)
        # Detached: the meta-gradient passes through the last gradient, not through all earlier ones.
        return change, {f"mean.{name}": mean.detach(), f"square.{name}": square.detach()}

    def tensors(self) -> dict[str, Tensor]:
        """See `Population`."""
        return {**self.weights, **self.moments}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Networks":
        """See `Population`."""
        return Networks(
            {k: tensors[k] for k in self.weights}, {k: tensors[k] for k in self.moments}
        )


def _network(weights: Mapping[str, Tensor], part: Part, obs: Tensor) -> Tensor:
    """Outputs of one part, [..., N, W, X], of vectors [..., N, W, D]."""
    x = obs.movedim(-3, 0)
    leading = x.shape[:-1]
    x = x.flatten(1, -2)
    layers = sum(name.startswith(f"{part}.") and name.endswith(".weight") for name in weights)
    for layer in range(layers):
        if layer:
            x = F.relu(x)
        x = torch.bmm(x, weights[f"{part}.{layer}.weight"])
        if (bias := weights.get(f"{part}.{layer}.bias")) is not None:
            x = x + bias
    return x.view(*leading, x.shape[-1]).movedim(0, -3)
