"""Code shared by all agents of Stable-Baselines3."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import gymnasium as gym
import torch
from gymnasium import Space
from torch import Tensor, nn

from rlbench.errors import Diverged, UserError
from rlbench.interface import Agent

try:
    import stable_baselines3  # noqa: F401  (all else in it may be loaded already)
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.logger import Logger
except ModuleNotFoundError as error:
    raise UserError(
        f"the agents of stable-baselines3 need the package {error.name}; install it with "
        "pip install 'rlbench[sb3]'"
    ) from None


Activation = Literal["ELU", "GELU", "LeakyReLU", "ReLU", "Sigmoid", "SiLU", "Tanh"]
"""Activations by their names in PyTorch."""


def policy_options(config: Any) -> dict[str, Any]:
    """Arguments of SB3's policies (`policy_kwargs`) that determine their layers, from the settings of an agent."""
    return {"net_arch": list(config.hidden), "activation_fn": getattr(nn, config.activation)}


class Spaces(gym.Env[Any, Any]):
    """An environment that only provides the spaces, as SB3 requires; it is never stepped."""

    def __init__(self, observations: Space[Any], actions: Space[Any]) -> None:
        """Stores the spaces as SB3 should see them."""
        self.observation_space = observations
        self.action_space = actions


@contextmanager
def in_place_of_global(generator: torch.Generator) -> Iterator[None]:
    """Makes PyTorch's global generator, from which SB3 draws, continue from the state of `generator`.

    Afterwards the global generator is restored, and `generator` has advanced.
    """
    device = generator.device
    if device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.cuda.set_rng_state(generator.get_state(), device)
            yield
            generator.set_state(torch.cuda.get_rng_state(device))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(generator.get_state())
            yield
            generator.set_state(torch.get_rng_state())


@contextmanager
def naming_divergence(policy: nn.Module) -> Iterator[None]:
    """Converts the errors that SB3's distributions raise on nan or infinity to `Diverged`.

    Raises:
        Diverged: An output of the policy is not finite.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        finite = all(bool(weight.isfinite().all()) for weight in policy.parameters())
        if finite and not str(error).startswith("Expected parameter"):
            raise
        raise Diverged("an output of the agent's policy became nan or infinite") from error


class SB3Agent(Agent):
    """Base class of the agents: an algorithm of SB3, its counter and its metrics.

    The algorithm keeps no state of its own: its networks and optimisers are attributes of the agent
    too, so that `rlbench.state` finds them, and the agent sets its counter before each update.
    """

    METRICS: ClassVar[dict[str, str]]
    """Maps SB3's names of the metrics to ours."""
    explores = True

    def _adopt(self, algorithm: BaseAlgorithm) -> None:
        algorithm.set_logger(Logger(None, []))
        self._algorithm = algorithm
        self.policy = algorithm.policy
        self.updates = 0
        # Kept, because some updates of SB3 leave a metric out.
        self.metrics = torch.zeros(len(self.METRICS))

    def _train(self, *arguments: Any) -> dict[str, Tensor]:
        """SB3's `train`, with the agent's random numbers and counter; its metrics."""
        algorithm: Any = self._algorithm
        algorithm._n_updates = self.updates
        with in_place_of_global(self.generator), naming_divergence(self.policy):
            algorithm.train(*arguments)
        self.updates = algorithm._n_updates
        logged = algorithm.logger.name_to_value
        before = zip(self.METRICS, self.metrics.tolist(), strict=True)
        self.metrics = torch.tensor([float(logged.get(name, value)) for name, value in before])
        return dict(zip(self.METRICS.values(), self.metrics.unbind(), strict=True))
