"""A learner as analyses see it: numbers that depend on observations and can be differentiated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Agent, Learner, State

LAYERS = (
    "linear", "addmm", "conv1d", "conv2d", "conv_transpose2d", "embedding", "batch_norm", "layer_norm", "group_norm", "max_pool2d", "avg_pool2d",
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh",
    "softplus", "lstm_cell", "gru_cell",
)  # fmt: skip
"""Functions of PyTorch whose outputs are layers."""


@dataclass(frozen=True)
class Predictor:
    """The answers of an agent or a model for scaled observations."""

    learner: Learner

    @cached_property
    def space(self) -> Space[Any]:
        """Space of one observation."""
        learner: Any = self.learner
        if isinstance(learner, Agent):
            return learner.spec.observation_space
        found: Space[Any] = learner.spec["obs"]
        return found

    @property
    def discrete(self) -> bool:
        """Whether the answer is a class or a discrete action, the one with the largest score."""
        return self.learner.chooses

    @property
    def images(self) -> bool:
        """Whether observations are images of bytes."""
        return self.space.dtype == np.uint8 and len(self.space.shape or ()) == 3

    @property
    def scale(self) -> float:
        """What observations are divided by: 255 for bytes, so that values are from 0 to 1."""
        return 255.0 if self.space.dtype == np.uint8 else 1.0

    def scaled(self, obs: Tensor) -> Tensor:
        """Observations [B, ...] as floating-point numbers in the unit of `scores`."""
        return obs.float() / self.scale

    def scores(self, x: Tensor, state: State | None = None) -> Tensor:
        """The learner's scores, [B, K].

        Args:
            x: Scaled observations, [B, ...].
            state: Recurrent state before the step; None if there is none.
        """
        return self.learner.scores(x * self.scale, state).flatten(1)

    def classes(self, examples: Examples) -> Tensor:
        """The class of each example, int64 [N].

        Raises:
            UserError: The learner does not classify single observations.
        """
        learner: Any = self.learner
        name = type(learner).__name__
        if not self.discrete:
            raise UserError(f"{name} does not classify; give a run of a classifier")
        found = examples[getattr(learner.config, "label", "label")]
        if found.dim() > 1:
            raise UserError(
                f"the examples of {name} are sets of observations; give a run of a classifier of single ones"
            )
        return found

    def check_numeric(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Refuses a learner that cannot read observations as floating-point numbers.

        Args:
            obs: Observations, [B, ...].

        Returns:
            The first two observations, scaled, and their scores.

        Raises:
            UserError: The learner cannot read them as floating-point numbers.
        """
        with torch.enable_grad():
            x = self.scaled(obs[:2]).requires_grad_()
            try:
                return x, self.scores(x)
            except (RuntimeError, TypeError, IndexError) as error:
                # For example an embedding of tokens, which takes no floating-point numbers.
                raise UserError(
                    f"{type(self.learner).__name__} cannot read observations as floating-point numbers ({error}); give a run that reads images or vectors"
                ) from error

    def check_differentiable(self, obs: Tensor) -> None:
        """Refuses a learner whose scores cannot be differentiated with respect to observations.

        Args:
            obs: Observations, [B, ...].

        Raises:
            UserError: There is no such gradient, or `check_numeric` refuses the learner.
        """
        x, scores = self.check_numeric(obs)
        gradient = None
        if scores.requires_grad:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(scores.sum(), x, allow_unused=True)
        if gradient is None:
            raise UserError(
                f"the answer of {type(self.learner).__name__} has no gradient with respect to its observations, which it reads as whole numbers, codes or detected "
                "objects; give a run that reads images or vectors directly"
            )

    def layers(self, obs: Tensor, state: State | None = None) -> Mapping[str, Tensor]:
        """Outputs of the layers and activations on the way to the scores, [B, D] each, in the order of their use.

        Args:
            obs: Observations, not scaled, [B, ...].
            state: Recurrent states before the steps; None if there are none.
        """
        recorded = Outputs(len(obs))
        with torch.no_grad(), recorded:
            self.learner.scores(obs, state)
        return recorded.found


class Outputs(TorchFunctionMode):
    """Records the outputs of `LAYERS` that have a row for each of B observations, as "1 linear", "2 relu", ...

    All calls are counted, so that a layer has the same name for each B.
    """

    def __init__(self, rows: int) -> None:
        """`rows`: B."""
        super().__init__()
        self.found: dict[str, Tensor] = {}
        self._rows, self._calls = rows, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        """Calls a function, and keeps what it returns."""
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").rstrip("_")
        if name in LAYERS:
            self._calls += 1
            # An LSTM returns its output, which others read, and its cell.
            z = out[0] if name == "lstm_cell" else out
            if isinstance(z, Tensor) and z.dim() > 1 and len(z) == self._rows:
                # A copy, because the next function may work in place.
                self.found[f"{self._calls} {name}"] = z.flatten(1).clone()
        return out
