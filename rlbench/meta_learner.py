"""The interface of learners that learn how agents should learn."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlbench.errors import UserError
from rlbench.experience import Lifetimes, LifetimesSpec
from rlbench.interface import Learner
from rlbench.seeding import derive


class MetaLearner(Learner):
    """A learner that learns how agents should learn, and is scored by their rewards.

    A subclass also implements `measure`.
    """

    consumes = Lifetimes
    measured = "lifetimes"

    spec: LifetimesSpec

    def __init__(
        self, config: Any, spec: LifetimesSpec, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """See `Learner`; `spec` describes the lifetimes of `learn`.

        `measure` draws from `measure_generator`, so that measuring does not affect learning.
        """
        self.measure_generator = torch.Generator(device).manual_seed(derive(seed, "measure"))
        super().__init__(config, spec, seed=seed, device=device)

    @abstractmethod
    def measure(self, lifetimes: Lifetimes) -> Mapping[str, Tensor]:
        """Measures each of N lifetimes, [N, ...] each, in worlds that training does not use."""

    @property
    def transfers(self) -> bool:
        """Whether evaluations also measure it in the lifetimes of the task's unseen tasks."""
        return True

    def export(self, folder: Path, origin: Mapping[str, Any]) -> list[Path]:
        """Writes what was learned to a folder, for use in other runs.

        Args:
            folder: Where to write; it need not exist.
            origin: How it was made and what it scored, in plain values.

        Returns:
            The paths of the files.

        Raises:
            UserError: The meta-learner has nothing to export.
        """
        raise UserError(
            f"{type(self).__name__} cannot be exported; give it a method `export` (see MetaLearner)"
        )
