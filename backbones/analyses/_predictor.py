"""A learner as analyses see it: numbers that depend on observations and can be differentiated."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from rlbench.errors import UserError
from rlbench.interface import Agent, Learner, State


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

    def check_differentiable(self, obs: Tensor) -> None:
        """Refuses a learner whose scores cannot be differentiated with respect to observations.

        Args:
            obs: Observations, [B, ...].

        Raises:
            UserError: The observations are not numbers, or the learner reads them as whole numbers.
        """
        name = type(self.learner).__name__
        with torch.enable_grad():
            x = self.scaled(obs[:2]).requires_grad_()
            try:
                scores = self.scores(x)
            except (RuntimeError, TypeError, IndexError) as error:
                # For example an embedding of tokens, which takes no floating-point numbers.
                raise UserError(
                    f"{name} cannot read observations as floating-point numbers ({error}); give a run that reads images or vectors"
                ) from error
        if not scores.requires_grad:
            raise UserError(
                f"the answer of {name} has no gradient with respect to its observations, which it reads as whole numbers; give a run "
                "that reads images or vectors"
            )

    def layers(self, x: Tensor) -> Mapping[str, Tensor]:
        """Outputs of the parts of the learner's networks that have weights or are activations, [B, D] each, in the order of their use.

        Parts that the answer does not use are left out, as are those used more than once and those whose output has another number of rows.

        Args:
            x: Scaled observations, [B, ...].
        """
        found: dict[str, list[Tensor]] = {}
        handles = []

        def keep(name: str, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() >= 2 and len(out) == len(x):
                found.setdefault(name, []).append(out.flatten(1))

        for part, network in vars(self.learner).items():
            if not isinstance(network, nn.Module):
                continue
            for inner, module in network.named_modules():
                if next(module.children(), None) is None:
                    name = f"{part}.{inner}" if inner else part
                    handles.append(
                        module.register_forward_hook(lambda _, __, out, name=name: keep(name, out))
                    )
        try:
            self.scores(x)
        finally:
            for handle in handles:
                handle.remove()
        return {name: outs[0] for name, outs in found.items() if len(outs) == 1}
