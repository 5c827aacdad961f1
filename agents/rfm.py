"""A2C with an on-board relational forward model.

In a multi-agent environment it helps to know what the other agents will do next. This agent has a network that predicts the
next action of each other agent from all that it has observed in the episode; the predictions are inputs of its policy. The
network is trained while the agent plays, because after each step every agent observes the actions of the others.

Agents and items are the nodes of a graph; agent j is the first node. In each step t

    p_i, h_t = RFM(nodes_t, h_{t-1})      for each other agent i: logits of its action, from the episode so far
    q_i = softmax(p_i)
    a_j ~ pi(a | [o_t, q_1, ..., q_{A-1}])

where o_t is a vector of the same nodes relative to agent j (`egocentric`). Both parts learn from each rollout:

    RFM:    minimise the mean of -log q_i(a_i)          supervised by the actions of the others, never by its own
    A2C:    -A log pi(a_j | o, q) and the other terms of its loss, with q as in the rollout; no gradient reaches RFM

The model's state h is carried from step to step and reset at the end of an episode. An update unrolls the model over the
whole rollout of each environment, starting from its state at the beginning of the rollout, where the gradient is cut off
(truncated backpropagation through time).

The setting `predictor` replaces the model: by one of its ablations, by another network, by nothing (A2C on the same
observations), by constants (so that the policy has as many inputs), or by the actions that the others are about to take,
which shows how much perfect predictions would help. `rlbench watch` draws the predictions in the film of a run.

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044. Only the abstract and introduction of the paper were available to us.
They report that agents with an on-board relational forward model learn faster than agents without one. The form of the inputs, all sizes and
all settings are our choice. The model itself is in `rlbench.backbones.layers.relational`, the update of the policy in `a2c.py`.

Known differences from the paper: the games and their sizes are ours, and partners may be scripted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from gymnasium import Space
from torch import Tensor

from rlbench.agents._on_policy import led_out
from rlbench.agents.a2c import A2C, A2CConfig
from rlbench.backbones.layers._relational import Relational, Shape
from rlbench.backbones.layers.relational import NETWORKS, make_relational
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.spaces import unbounded
from rlbench.checks import same_shape
from rlbench.entities import ACTIONS, GOALS, Entities, Layout
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Learn, State

Predictor = Literal[
    "rfm", "rfm-ff", "rfm-norel", "rfm-noaa", "mlp-lstm", "vain", "uniform", "oracle", "none"
]


@dataclass(frozen=True, kw_only=True)
class RFMConfig(A2CConfig):
    """Settings of A2C with a relational forward model: the settings of A2C with other defaults, and the settings of the predictor."""

    predictor: Predictor = "rfm"
    """What predicts the others' actions. rfm: the relational forward model; rfm-ff: without memory; rfm-norel: without
    edges; rfm-noaa: without edges between agents; mlp-lstm, vain: baseline networks; uniform: constants; oracle:
    their true actions in this step; none: nothing, so plain A2C."""
    predictor_updates: int = 1
    """Gradient steps on the predictor per update, each on the whole rollout."""
    predictor_learning_rate: float = 1e-3
    """Adam step size of the predictor."""
    predictor_max_grad_norm: float = 5.0
    """Largest gradient norm of the predictor; larger gradients are scaled down to it."""
    hidden: tuple[int, ...] = (128, 64)
    envs: int = 32
    # A whole episode of Stag Hunt. With shorter rollouts, updates would alternate between early steps, where partners
    # are hard to predict, and late ones, and the logged accuracy would alternate too.
    rollout_steps: int = 32
    discount: float = 0.97
    learning_rate: float = 2e-3
    entropy_coefficient: float = 0.01

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and an encoder."""
        super().__post_init__()
        if self.encoder is not None or self.freeze:
            raise UserError(
                f"encoder is {self.encoder} and freeze is {self.freeze}, but rfm reads a graph; leave both out"
            )


def egocentric(nodes: Tensor, layout: Layout) -> Tensor:
    """The nodes as a vector relative to the observing agent, [..., 2 + 7 (A - 1) + 3 S], with goals 3 more.

    It consists of the agent's own row and column; for each other agent its relative row and column and its last action; for each
    type the items by distance, each with its relative row and column and whether it can be taken; and the agent's own goal. It
    equals `rlbench.envs.social.views.vectors`.

    Args:
        nodes: Features of the nodes, the observing agent first, [..., N, D].
        layout: Positions of the features.
    """
    own, apart = nodes[..., 0, layout.place], nodes[..., layout.place]
    apart = apart - own[..., None, :]
    others = slice(1, layout.agents)
    last = nodes[..., others, layout.last_action]
    parts = [own, torch.cat([apart[..., others, :], last], dim=-1).flatten(-2)]
    # Distances are multiples of 1 / (H - 1) up to rounding errors, which must not decide between equal distances.
    far = (1024 * apart.abs().sum(-1)).round()
    items = torch.cat([apart, nodes[..., layout.available, None]], dim=-1)
    first = layout.agents
    for count in layout.items:
        of_type = slice(first, first + count)
        # Items at equal distances are ordered by number.
        order = (count * far[..., of_type] + torch.arange(count, device=far.device)).argsort(dim=-1)
        order = order[..., None].expand(*far.shape[:-1], -1, 3)
        parts.append(items[..., of_type, :].gather(-2, order).flatten(-2))
        first += count
    if layout.goals:
        parts.append(nodes[..., 0, layout.goal])
    return torch.cat(parts, dim=-1)


def egocentric_size(layout: Layout) -> int:
    """Length of the vector of `egocentric`."""
    own = 2 + (GOALS if layout.goals else 0)
    return own + (2 + ACTIONS) * (layout.agents - 1) + 3 * sum(layout.items)


def prediction_loss(logits: Tensor, moves: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, between predictions and the actions that were taken.

    >>> logits = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> round(float(prediction_loss(logits, torch.eye(2))), 4)  # log 2
    0.6931

    Args:
        logits: [..., 5].
        moves: One-hot actions, [..., 5].
    """
    same_shape(logits, moves)
    return -(moves * logits.log_softmax(-1)).sum(-1).mean()


def prediction_accuracy(q: Tensor, moves: Tensor) -> Tensor:
    """Fraction of actions that were predicted as the most likely ones; `q` and `moves` are [..., 5]."""
    same_shape(q, moves)
    return (q.argmax(-1) == moves.argmax(-1)).float().mean()


class RFM(A2C):
    """A2C whose policy also reads predictions of the other agents' next actions."""

    Config: ClassVar[type] = RFMConfig
    run: ClassVar[Mapping[str, Any]] = {
        "updates": 1_000, "eval_every": 50, "log_every": 10, "checkpoint_every": 50,
    }  # fmt: skip
    config: RFMConfig
    predictor: Relational | None = None

    @classmethod
    def view(cls, settings: RFMConfig) -> str:
        """`graph`, or for the oracle `oracle`, which also shows the others' next actions."""
        return "oracle" if settings.predictor == "oracle" else "graph"

    def build(self) -> None:
        """The networks of A2C; the predictor and its optimiser."""
        space, kind = self.spec.observation_space, self.config.predictor
        if not isinstance(space, Entities) or space.layout.oracle != (kind == "oracle"):
            raise UserError(
                f"the observation space is {space}; rfm with the predictor {kind} needs the nodes of a multi-agent "
                f"game (rlbench.entities.Entities) in the view {self.view(self.config)}; give a game such as stag-hunt"
            )
        self.layout = space.layout
        super().build()
        if kind in NETWORKS:
            layout = self.layout
            entities = layout.nodes - layout.agents
            shape = Shape(layout.agents, entities, layout.features, ACTIONS)
            self.predictor = make_relational(kind, shape)
            rate = self.config.predictor_learning_rate
            self.predictor_optimizer = Adam(self.predictor.parameters(), rate)

    @property
    def read_space(self) -> Space[Any]:
        """The egocentric vector and the predictions."""
        width = 0 if self.config.predictor == "none" else ACTIONS
        return unbounded(egocentric_size(self.layout) + width * (self.layout.agents - 1))

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """Predicts, then acts on the nodes [B, N, D] and the predictions, q [B, A - 1, 5].

        The state is the predictor's. `learn` receives the state before the step, in extras with the prefix "before ".
        """
        before = self._fresh(len(obs)) if state is None else state
        q, after = self._predict(obs, before)
        read = self._read(obs, q)
        if not explore:
            return Action(super().decide(read), {"q": q}, after)
        chosen = self.explore(read)
        kept = {f"before {name}": x for name, x in before.items()}
        return Action(chosen.action, {**chosen.extras, "q": q, **kept}, after)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The most likely action for nodes [B, N, D], if the predictor is not a network."""
        if self.predictor is not None:
            raise UserError(
                f"rfm with the predictor {self.config.predictor} cannot be exported, because exports do "
                "not support its network; export a run with --predictor none, uniform or oracle"
            )
        return super().decide(self._read(obs, self._predict(obs, {})[0]))

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the actions for nodes [B, N, D]."""
        q, _ = self._predict(obs, state or self._fresh(len(obs)))
        return self._params(self._read(obs, q))

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """One update of the policy on its inputs in the rollout, and the updates of the predictor."""
        read = self._read(rollout.obs, rollout.extras["q"])
        seen = replace(rollout, obs=read, final_obs=self._read_after(rollout, read))
        metrics = super()._learn(step, seen)
        if self.config.predictor == "none":
            return metrics
        moves, q = self._moves(rollout), rollout.extras["q"]
        self._fit(rollout, moves)
        return {
            **metrics,
            "predictor_loss": prediction_loss(q.clamp(min=1e-30).log(), moves),
            "predictor_accuracy": prediction_accuracy(q, moves),
        }

    def _fit(self, rollout: Trajectories, moves: Tensor) -> None:
        """Updates the predictor on a whole rollout; `moves` [T, V, A - 1, 5] are its targets."""
        if self.predictor is None:
            return
        over = torch.maximum(rollout.terminated, rollout.truncated)
        reset = torch.cat([torch.zeros_like(over[:1]), over[:-1]])
        state = _before(rollout, 0)
        for _ in range(self.config.predictor_updates):
            logits = self.predictor(rollout.obs, reset, state).out[:, :, 1:]
            loss = prediction_loss(logits, moves)
            gradient_step(self.predictor_optimizer, loss, self.config.predictor_max_grad_norm)

    def _moves(self, rollout: Trajectories) -> Tensor:
        """Actions of the other agents, which are observed after the step; one-hot, [T, V, A - 1, 5]."""
        return rollout.final_obs[..., 1 : self.layout.agents, self.layout.last_action]

    def _predict(self, obs: Tensor, state: State) -> tuple[Tensor, State]:
        """Probabilities of the others' next actions, [B, A - 1, 5], and the predictor's state after the step.

        Args:
            obs: Nodes, [B, N, D].
            state: State of the predictor; zeros if an episode begins.
        """
        kind, others = self.config.predictor, slice(1, self.layout.agents)
        if self.predictor is not None:
            no_reset = obs.new_zeros(obs.shape[0])
            out, after, _ = self.predictor.step(obs, no_reset, state)
            return out[:, others].softmax(-1), after
        if kind == "oracle":
            return obs[:, others, self.layout.next_action], state
        width = 0 if kind == "none" else ACTIONS
        return obs.new_full((obs.shape[0], self.layout.agents - 1, width), 1 / ACTIONS), state

    def _read(self, obs: Tensor, q: Tensor) -> Tensor:
        """Input of policy and value, [..., X], from nodes [..., N, D] and predictions [..., A - 1, 5]."""
        return torch.cat([egocentric(obs, self.layout), q.flatten(-2)], dim=-1)

    @torch.no_grad()
    def _read_after(self, rollout: Trajectories, read: Tensor) -> Tensor:
        """Input of the value after the steps that `led_out` marks, zeros after all others, [T, V, X]."""
        last, after = led_out(rollout), torch.zeros_like(read)
        _, state = self._predict(rollout.obs[last], _before(rollout, last))
        final = rollout.final_obs[last]
        after[last] = self._read(final, self._predict(final, state)[0])
        return after

    def _fresh(self, rows: int) -> State:
        """The predictor's state at the beginning of `rows` episodes; empty if it has no memory."""
        if self.predictor is None:
            return {}
        links, agents = self.predictor.links, self.layout.agents
        like = next(self.predictor.parameters())
        return self.predictor.initial_state(rows, agents, links, like)


def _before(rollout: Trajectories, steps: Tensor | int) -> State:
    """States of the predictor before some of the steps, as `act` stored them."""
    prefix = "before "
    return {
        name.removeprefix(prefix): x[steps]
        for name, x in rollout.extras.items()
        if name.startswith(prefix)
    }
