"""Which edges of a relational forward model are active before agents take items? Norms of edge activations around events.

The norm ||e'_k|| of an edge activation is standardised over the test episodes among edges of the same kind: from items of one
type to agents, or between agents. Curves are means around an event, from six steps before it to one step after it; events in
the first six steps of an episode are left out.

    captured     the edge from an item to the agent that takes it
    others       edges to the same agent from other available items of the type that nobody takes in these steps
    usual        control: the mean over edges of the same kind, in the same step of an episode and at the same distance, from
                 available items that nobody takes in the next six steps. Without this control, a curve might only show
                 that the agent comes closer, or that activations grow with time
    joint        edges between two agents that take an item together, in both directions
    solo         edges from the other agents to an agent that takes an item alone
    joint, usual and solo, usual
                 controls: means over edges between agents, in the same step and at the same distance, whose receiver takes
                 nothing together with another agent in the next six steps

The rise before an event is the mean of the steps -3 to -1 minus the mean of the steps -6 and -5. The analysis also compares
directions: if two agents take an item together, the edge from the agent that arrived first to the agent that arrived later,
minus the reverse edge, in the steps -3 to -1.

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044, read the norms of edge activations; the controls are ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from rlbench.backbones.analyses._base import Analysis, Array, Findings, Line, Panel, bootstrap
from rlbench.backbones.analyses._events import LATE, WINDOW, Episodes, Sums, rise, usual
from rlbench.errors import UserError
from rlbench.experience import Examples

AT_ONCE = 100
"""Episodes in one forward pass, which limits the memory for activations."""
AGENTS = "agents"
"""Kind of the edges between agents."""


@dataclass(frozen=True, kw_only=True)
class EdgeNormsConfig:
    """Settings of the analysis of edges."""

    layer: Literal["encoder", "core", "decoder"] = "core"
    """The block of the network whose edge activations are analysed."""


class EdgeNorms(Analysis):
    """Norms of edge activations around events."""

    Config: ClassVar[type] = EdgeNormsConfig
    runs = ("a run of rfm-predictor",)
    config: EdgeNormsConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (model,), (given,) = learners, examples.values()
        episodes = Episodes.of(given)
        norms, senders, receivers = edge_norms(model, given, self.config.layer)
        edge = np.full((episodes.agents, episodes.distance.shape[-1]), -1)
        for index, (sender, receiver) in enumerate(zip(senders, receivers, strict=True)):
            if receiver < episodes.agents:
                edge[receiver, sender] = index
        found: dict[str, Sums] = {}
        for kind, name, values, rows in curves(norms, edge, episodes):
            found[f"{kind}: {name}"] = Sums.of(values, rows, len(episodes.obs))
            if name not in (OTHERS, DIRECTION):
                found[f"{kind}: rise, {name}"] = Sums.of(rise(values), rows, len(episodes.obs))
        return findings(found)


CAPTURED, OTHERS, USUAL = "captured", "others", "usual"
JOINT, SOLO = "joint", "solo"
DIRECTION = "from the first to the later agent, less the reverse"


def edge_norms(model: Any, examples: Examples, layer: str) -> tuple[Array, Array, Array]:
    """Norms of edge activations, [N, T, E], and the senders and receivers of the edges, [E] each.

    Raises:
        UserError: The network has no such edges.
    """
    parts = []
    for first in range(0, len(examples), AT_ONCE):
        activations = model.predict(examples.take(slice(first, first + AT_ONCE))).edges
        if layer not in activations:
            raise UserError(
                f"the network {model.config.network} has no edges in a layer {layer!r}; give a run with --network rfm"
            )
        parts.append(activations[layer].norm(dim=-1).transpose(0, 1).cpu().numpy())
    links = model.network.links
    norms = np.concatenate(parts)
    if not norms.shape[-1]:
        raise UserError(
            f"the network {model.config.network} has no edges; give a run with --network rfm"
        )
    return norms, links.senders.cpu().numpy(), links.receivers.cpu().numpy()


def standardised(norms: Array, alive: Array) -> Array:
    """Norms [N, T, ...] minus their mean, divided by their standard deviation, over the steps of episodes."""
    known = norms[alive]
    deviation = known.std()
    scaled: Array = (norms - known.mean()) / (deviation if deviation > 0 else 1.0)
    return scaled


def curves(
    norms: Array, edge: Array, episodes: Episodes
) -> Iterator[tuple[str, str, Array, Array]]:
    """Kind, name, values around M events, [M, 8] or [M], and the example of each event, int64 [M].

    Args:
        norms: Norms of edge activations, [N, T, E].
        edge: Index of the edge from each node to each agent, -1 for none, int64 [A, V].
        episodes: The episodes.
    """
    agents = episodes.agents
    for kind in np.unique(episodes.types):
        items = np.flatnonzero(episodes.types == kind)
        if (edge[:, agents + items] < 0).any():
            continue
        signal = standardised(norms[..., edge[:, agents + items]], episodes.alive)
        for name, values, rows in item_curves(signal, items, episodes):
            yield f"items of type {kind}", name, values, rows
    pairs = edge[:, :agents]
    if agents > 1 and (pairs[~np.eye(agents, dtype=bool)] >= 0).all():
        signal = norms[..., pairs]
        apart = ~np.eye(agents, dtype=bool)
        signal[..., apart] = standardised(signal[..., apart], episodes.alive)
        for name, values, rows in agent_curves(signal, episodes):
            yield AGENTS, name, values, rows


def item_curves(
    signal: Array, items: Array, episodes: Episodes
) -> Iterator[tuple[str, Array, Array]]:
    """Curves of edges from items of one type: name, values and example of each event, see `curves`.

    Args:
        signal: Edges from each of the items to each agent, [N, T, A, I].
        items: Numbers of the items, int64 [I].
        episodes: The episodes.
    """
    taken, available = episodes.taken[..., items], episodes.available[..., items]
    distance = episodes.distance[..., episodes.agents + items]
    gone: Array = np.asarray(taken.any(2))
    example, step, agent, item = episodes.events(taken)
    yield CAPTURED, episodes.around(signal, example, step, agent, item), example

    steps = (step[:, None] + WINDOW).clip(0, taken.shape[1] - 1)
    left = available[example, step] & ~gone[example[:, None], steps].any(1)
    others = np.stack([
        episodes.around(signal, example, step, agent, np.full_like(item, other)) for other in range(len(items))
    ], -1)  # fmt: skip
    total, count = (others * left[:, None]).sum(-1), left.sum(-1)[:, None]
    yield OTHERS, np.where(count > 0, total / count.clip(min=1), np.nan), example

    free = available & ~episodes.soon(gone) & episodes.alive[..., None]
    expected = usual(signal, distance, np.broadcast_to(free[:, :, None], signal.shape))
    yield USUAL, _before(episodes.around(expected, example, step, agent, item)), example


def agent_curves(signal: Array, episodes: Episodes) -> Iterator[tuple[str, Array, Array]]:
    """Curves of edges between agents, see `curves`; `signal` is [N, T, A, A] with the receiver first."""
    agents, taken = episodes.agents, episodes.taken
    distance = episodes.distance[..., :agents]
    together: Array = (taken.sum(2) > 1)[:, :, None] & taken
    other = ~np.eye(agents, dtype=bool)
    apart = ~episodes.soon(np.asarray(together.any(-1))) & episodes.alive[..., None]
    expected = usual(signal, distance, apart[..., None] & other)
    # Ordered pairs of receiver and sender that take one item in one step.
    example, step, receiver, sender, item = episodes.events(
        together[:, :, :, None] & together[:, :, None] & other[..., None]
    )
    yield JOINT, episodes.around(signal, example, step, receiver, sender), example
    around = episodes.around(expected, example, step, receiver, sender)
    yield f"{JOINT}, {USUAL}", _before(around), example

    alone = (taken & (taken.sum(2) == 1)[:, :, None]).any(-1) & ~together.any(-1)
    rows, at, agent, others = episodes.events(alone[..., None] & other)
    yield SOLO, episodes.around(signal, rows, at, agent, others), rows
    yield f"{SOLO}, {USUAL}", _before(episodes.around(expected, rows, at, agent, others)), rows

    waited = stays(episodes.distance[..., agents:] == 0)
    first = waited[example, step, sender, item] > waited[example, step, receiver, item]
    example, step, receiver, sender = (x[first] for x in (example, step, receiver, sender))
    less = episodes.around(signal, example, step, receiver, sender) - episodes.around(
        signal, example, step, sender, receiver
    )
    yield DIRECTION, less[:, LATE].mean(1), example


def stays(there: Array) -> Array:
    """Number of consecutive true steps up to each step, int64 [N, T, ...], of bool [N, T, ...]."""
    count = np.zeros(there.shape, np.int64)
    run = np.zeros_like(count[:, 0])
    for step in range(there.shape[1]):
        run = (run + 1) * there[:, step]
        count[:, step] = run
    return count


def _before(values: Array) -> Array:
    """Values [M, 8] with NaN after the event, when the item is no longer there."""
    return np.where(WINDOW <= 0, values, np.nan)


def findings(found: Mapping[str, Sums]) -> Findings:
    """Means with intervals: curves as panels, single values as numbers."""
    numbers: dict[str, float] = {}
    columns: dict[str, Array] = {}
    panels: dict[str, list[Line]] = {}
    for name, (sums, counts) in found.items():
        columns |= {f"{name}, sums": sums, f"{name}, counts": counts}
        value, low, high = bootstrap(sums, counts)
        kind, _, rest = name.partition(": ")
        if sums.ndim == 1:
            numbers |= {
                name: float(value),
                f"{name}, low": float(low),
                f"{name}, high": float(high),
            }
        elif np.isfinite(value).any():
            panels.setdefault(kind, []).append(Line(rest, WINDOW.tolist(), value, low, high))
    shown = [Panel(kind, "steps from the event", lines) for kind, lines in panels.items()]
    return Findings(numbers, shown, columns)
