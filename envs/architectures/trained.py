"""An evaluator that trains every architecture and measures its latency on this computer.

A batch is evaluated in two phases, because a child that trains next to a measurement would falsify it:

    1. children without a stored accuracy are trained, in parallel processes, and each result is stored at once
    2. latencies that are not stored yet are measured one after the other

A search that is stopped or killed therefore never trains a finished child again. Accuracies are stored for an architecture,
the images, the settings of the training and the seed; latencies for an architecture, the size of its output and the device.
Two sequences of tokens that describe the same network, also of different spaces, share a result.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from rlbench.architecture import Architecture, live
from rlbench.envs.architectures import store
from rlbench.envs.architectures.children import (
    Child,
    ChildSettings,
    ChildTask,
    child_network,
    image_shape,
    open_task,
    train_child,
)
from rlbench.envs.architectures.evaluate import Evaluation, Tokens
from rlbench.envs.architectures.latency import Device, Latency, latency_of
from rlbench.envs.architectures.space import Space
from rlbench.envs.examples import Source
from rlbench.workers import Submit, workers


class TrainedEvaluator:
    """Trains and measures the architectures of one space on the images of one source."""

    def __init__(
        self,
        space: Space,
        source: Source,
        name: str,
        *,
        settings: ChildSettings | None = None,
        batch: int = 1,
        seed: int = 0,
        jobs: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Prepares everything; nothing is drawn, trained or measured yet.

        Args:
            space: The architectures.
            source: Labelled images.
            name: Name of the source in errors.
            settings: How children are trained; by default as in `ChildSettings`.
            batch: Images in one pass when latencies are measured.
            seed: Decides the weights of each child and the order of its images.
            jobs: Number of processes; by default one for each processor.
            folder: Where results are stored; by default in the user's cache.

        Raises:
            UserError: The source has no labelled images.
        """
        self.space, self.source, self.name = space, source, name
        self.settings, self.seed = settings or ChildSettings(balanced=source.balanced), seed
        self.device = Device.here(batch, image_shape(source, name))
        self._jobs = jobs or os.cpu_count() or 1
        self.folder = folder or store.default_folder()
        """Where results are stored."""
        self._pool: AbstractContextManager[Submit] | None = None
        self._submit: Submit | None = None

    @cached_property
    def task(self) -> ChildTask:
        """What the children learn; drawn on first use."""
        return open_task(self.source, self.name, self.settings)

    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        """See `Evaluator`."""
        return self.evaluate_networks(
            [network_of(self.space, self.space.canonical(x)) for x in batch]
        )

    def evaluate_networks(self, networks: Sequence[Architecture]) -> list[Evaluation]:
        """The result for each architecture, which may be outside the space, in order."""
        children, trained = self._children(dict.fromkeys(networks))
        latencies = self.latencies(networks)
        found = []
        for network in networks:
            child = children[network]
            found.append(
                Evaluation(
                    accuracy=child.accuracy,
                    test_accuracy=child.test_accuracy,
                    latency_ms=latencies[network].latency_ms,
                    parameters=child.parameters,
                    multiply_adds=child.multiply_adds,
                    seconds=child.seconds,
                    status=child.status,
                    cached=network not in trained,
                )
            )
            trained.discard(network)  # It is in the cache when it occurs again.
        return found

    def latencies(self, networks: Iterable[Architecture]) -> dict[Architecture, Latency]:
        """The latency of each architecture, measured if it is not stored."""
        found: dict[Architecture, Latency] = {}
        missing = []
        for network in dict.fromkeys(networks):
            stored = _stored(Latency, self._latencies, self._latency_key(network))
            if stored is None:
                missing.append(network)
            else:
                found[network] = stored
        if missing:
            with store.machine(alone=True):
                for network in missing:
                    found[network] = self._measured(network)
        return found

    def close(self) -> None:
        """Ends the processes; the next batch begins new ones."""
        self._end(None)

    def _children(
        self, networks: Iterable[Architecture]
    ) -> tuple[dict[Architecture, Child], set[Architecture]]:
        """The child of each architecture, and those that had to be trained."""
        keys = {network: self._child_key(network) for network in networks}
        found = {network: _stored(Child, self._accuracies, key) for network, key in keys.items()}
        missing = {network: key for network, key in keys.items() if found[network] is None}
        if missing:
            with store.machine(alone=False):
                found |= self._trained(missing)
        return {network: child for network, child in found.items() if child}, set(missing)

    def _trained(
        self, missing: Mapping[Architecture, Mapping[str, Any]]
    ) -> dict[Architecture, Child]:
        common = self.task, self.settings, self.seed, self._accuracies
        if self._jobs == 1 or len(missing) == 1:
            with workers(1) as submit:
                return {
                    network: submit(train_and_store, network, *common, key).result()
                    for network, key in missing.items()
                }
        try:
            submit = self._begin()
            futures = {
                network: submit(train_and_store, network, *common, key)
                for network, key in missing.items()
            }
            return {network: future.result() for network, future in futures.items()}
        except BaseException as error:
            self._end(error)
            raise

    def _begin(self) -> Submit:
        """The function that runs a call in one of the processes, which are started at the first batch."""
        if self._submit is None:
            self._pool = workers(self._jobs)
            self._submit = self._pool.__enter__()
        return self._submit

    def _end(self, error: BaseException | None) -> None:
        """Ends the processes as the end of a `with` does.

        Raises:
            UserError: A process died.
        """
        pool, self._pool, self._submit = self._pool, None, None
        if pool is None:
            return
        if error is not None and not isinstance(error, Exception):
            # Whatever stopped the search also stops its children.
            error = KeyboardInterrupt()
        pool.__exit__(type(error) if error else None, error, sys.exc_info()[2])

    @property
    def _accuracies(self) -> Path:
        return self.folder / "accuracy"

    @property
    def _latencies(self) -> Path:
        return self.folder / "latency"

    def _child_key(self, network: Architecture) -> dict[str, Any]:
        return {
            "architecture": network.to_json(), "images": self.task.digest,
            "settings": dataclasses.asdict(self.settings), "seed": self.seed,
        }  # fmt: skip

    def _latency_key(self, network: Architecture) -> dict[str, Any]:
        return {
            "architecture": network.to_json(),
            "classes": self.classes,
            "device": self.device.key(),
        }

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.source.fields["label"].n)  # type: ignore[attr-defined]

    def _measured(self, network: Architecture) -> Latency:
        made = child_network(network, self.device.shape, self.classes, self.seed)
        found = latency_of(made, self.device)
        store.write(self._latencies, self._latency_key(network), dataclasses.asdict(found))
        return found


def network_of(space: Space, tokens: Tokens) -> Architecture:
    """The architecture of canonical tokens as a key of results: of no space, and without dead skips."""
    return dataclasses.replace(live(space.decode(tokens)), space="")


def train_and_store(
    network: Architecture,
    task: ChildTask,
    settings: ChildSettings,
    seed: int,
    folder: Path,
    key: Mapping[str, Any],
) -> Child:
    """Trains a child and stores the result; runs in a worker process, so that nothing is lost if the others end."""
    child = train_child(network, task, settings, seed)
    store.write(folder, key, dataclasses.asdict(child))
    return child


def _stored(kind: type[Any], folder: Path, key: Mapping[str, Any]) -> Any:
    """A stored dataclass; None if it is missing or damaged."""
    try:
        return kind(**store.read(folder, key) or {})
    except TypeError:
        return None
