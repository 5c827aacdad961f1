"""The same search for the best step size for every network of a paper."""

from collections.abc import Iterable, Mapping
from typing import Any

from rlbench.benchmarks.tables.paper import Method
from rlbench.benchmarks.tables.results import Results


def name(network: str, step_size: float) -> str:
    """The name of a network with a step size, as a method."""
    return f"{network}, {step_size:g}"


def methods(
    learner: str,
    networks: Mapping[str, Mapping[str, Any]],
    step_sizes: Iterable[float],
    **method: Any,
) -> tuple[Method, ...]:
    """A method for every network and step size.

    Args:
        learner: As in `rlbench list`.
        networks: Settings of each network without the step size.
        step_sizes: Values of the setting `learning_rate`.
        **method: Fields that all methods share, such as `pretrained`.
    """
    sizes = tuple(step_sizes)
    return tuple(
        Method(name(network, size), learner, {**settings, "learning_rate": size}, **method)
        for network, settings in networks.items()
        for size in sizes
    )


def best(
    results: Results,
    network: str,
    step_sizes: Iterable[float],
    task: str,
    measure: str = "accuracy",
    *,
    lowest: bool = False,
) -> str:
    """The method whose step size gives a network the highest mean of a measure over seeds, or the lowest one.

    Raises:
        Missing: One of them has not been run.
    """
    found = {
        name(network, size): float(results.means(name(network, size), task, measure).mean())
        for size in step_sizes
    }
    if lowest:
        return min(found, key=lambda method: found[method])
    return max(found, key=lambda method: found[method])
