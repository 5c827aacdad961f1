"""Code shared by the models of multi-agent episodes: settings, network, predictions and updates."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import Space
from torch import Tensor

from rlbench.backbones.layers._relational import Prediction, Relational, Shape
from rlbench.backbones.layers.graph import Reducer
from rlbench.backbones.layers.noise import randn
from rlbench.backbones.layers.relational import NETWORKS, make_relational
from rlbench.backbones.layers.relational_baselines import type_divergence
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Model


@dataclass(frozen=True, kw_only=True)
class RelationalConfig:
    """Settings of a model of multi-agent episodes."""

    network: str = "rfm"
    """The network: rfm, its ablations rfm-ff (no memory), rfm-norel (no edges), rfm-noaa (no edges between agents),
    or its baselines mlp-lstm, vain, nri."""
    reducer: Reducer = "sum"
    """How the messages that arrive at a node are combined. Means do not grow with the number of nodes, which suits
    tasks with other numbers of agents. Only for the networks whose names begin with rfm."""
    learning_rate: float = 1e-3
    """Initial step size of Adam."""
    final_learning_rate: float = 1e-4
    """Final step size; the step size falls along half a cosine."""
    decay_updates: int | None = None
    """Updates until the final step size is reached; by default the whole run. In Python, None keeps the step size
    constant."""
    divergence_weight: float = 1.0
    """Weight of the KL divergence of the inferred edge types from uniform ones, in nats, averaged over edges; only for
    nri."""
    batch_size: int = 64
    """Episodes in one update."""
    max_grad_norm: float = 5.0
    """Largest gradient norm; larger gradients are scaled down to it."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)
        if self.network not in NETWORKS:
            raise UserError(f"network is {self.network!r}; give one of {', '.join(NETWORKS)}")


class RelationalModel(Model):
    """A model that reads recorded episodes and makes a prediction for each agent at each step.

    A subclass sets `outputs` and `context`, and implements `losses` and `measure`.
    """

    Config: ClassVar[type] = RelationalConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 2_000, "data_size": 10_000, "eval_every": 500, "checkpoint_every": 500, "log_every": 50,
    }  # fmt: skip
    outputs: ClassVar[int]
    """Number of outputs for each agent."""
    context: ClassVar[int] = 0
    """1 if the network also reads the fraction of the episode that has passed, else 0."""
    config: RelationalConfig
    network: Relational

    def build(self) -> None:
        """The network and its optimiser."""
        config = self.config
        nodes, features, agents = sizes(self.spec)
        shape = Shape(agents, nodes - agents, features, self.outputs, self.context)
        graphs = config.network.startswith("rfm")
        options = {"reducer": config.reducer} if graphs else {}
        self.network = make_relational(config.network, shape, **options)
        self.optimizer = Adam(self.network.parameters(), config.learning_rate)
        self.updates = 0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The step size falls over the whole run; updates use 32 episodes if these are long."""
        long = {"batch_size": 32} if "stag-hunt" in task else {}
        return {"decay_updates": updates, **long}

    def predict(self, examples: Examples, noise: torch.Generator | None = None) -> Prediction:
        """Predictions for all agents at all steps, [T, B, A, outputs].

        Args:
            examples: Episodes, see `rlbench.envs.examples.episodes`; they may have other numbers of agents and items.
            noise: Generator of the noise of networks that sample edge types; without it they use probabilities.
        """
        nodes = examples["obs"].transpose(0, 1)
        steps, batch = nodes.shape[:2]
        options: dict[str, Any] = {"agents": examples["action"].shape[-1]}
        if self.context:
            passed = torch.arange(steps, device=nodes.device) / steps
            options["context"] = passed[:, None, None].expand(steps, batch, 1)
        shape = getattr(self.network, "noise_shape", None)
        if noise is not None and shape is not None:
            options["noise"] = randn((steps, batch, *shape), noise)
        prediction: Prediction = self.network(nodes, nodes.new_zeros(steps, batch), **options)
        return prediction

    @abstractmethod
    def losses(self, out: Tensor, examples: Examples) -> Tensor:
        """The loss of each step and agent, [T, B, A]."""

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        """One gradient step on the mean loss over agents and steps."""
        config = self.config
        if config.decay_updates is not None:
            progress = min(1.0, self.updates / config.decay_updates)
            low, high = config.final_learning_rate, config.learning_rate
            rate = low + (high - low) * (1 + math.cos(math.pi * progress)) / 2
            self.optimizer.learning_rate.fill_(rate)
        self.updates += 1
        prediction = self.predict(experience, self.generator)
        loss = alive_mean(self.losses(prediction.out, experience), experience["alive"])
        metrics = {"loss": loss.detach()}
        if "types" in prediction.edges:
            divergence = type_divergence(prediction.edges["types"]).mean()
            loss = loss + config.divergence_weight * divergence
            metrics["divergence"] = divergence.detach()
        gradient_step(self.optimizer, loss, config.max_grad_norm)
        return metrics


def sizes(spec: Mapping[str, Space[Any]]) -> tuple[int, int, int]:
    """Numbers of nodes, of features of a node, and of agents in recorded episodes.

    Raises:
        UserError: The examples are not recorded episodes.
    """
    shapes = {name: space.shape or () for name, space in spec.items()}
    needed = {"obs": 3, "action": 2, "reward": 2, "alive": 1}
    if any(len(shapes.get(name, ())) != ranks for name, ranks in needed.items()):
        raise UserError(
            f"the examples have the columns {', '.join(f'{k} {list(v)}' for k, v in shapes.items())}; this model needs "
            "recorded episodes with obs [T, N, D], action [T, A], reward [T, A] and alive [T], such as episodes-coin"
        )
    _, nodes, features = shapes["obs"]
    return nodes, features, shapes["action"][1]


def alive_mean(values: Tensor, alive: Tensor) -> Tensor:
    """Mean over agents and over steps of episodes, a scalar.

    Args:
        values: [T, B, A].
        alive: 1 for steps of the episode, [B, T].
    """
    kept = alive.T.to(values.dtype)
    return (values.mean(-1) * kept).sum() / kept.sum()


def alive_means(values: Tensor, alive: Tensor) -> Tensor:
    """As `alive_mean`, but for each episode, [B]."""
    kept = alive.T.to(values.dtype)
    return (values.mean(-1) * kept).sum(0) / kept.sum(0)
