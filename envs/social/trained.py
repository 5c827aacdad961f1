"""Trained policies for data and as partners: agents that were trained together; each game has a pool of several runs.

    Trained("stag-hunt-4p")                         draws each agent's policy from the pool in each episode
    Trained("stag-hunt-4p", [[0], [0], [1], [2]])   agents 0 and 1 play policy 0, agent 2 policy 1, agent 3 policy 2

A policy is a network with tanh layers that maps `views.vectors` to the logits of the actions, which are sampled. All random
numbers come from the seed of the episode, as in `scripted`. The card next to the weights, `policies/<game>.json`, has the
commands that trained the policies and their returns; `rlbench.offline_data.recording.social_policies` makes both.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from rlbench.envs.social import chance
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.views import vectors
from rlbench.errors import UserError

Array = NDArray[Any]
Layers = Sequence[tuple[Array, Array]]
"""Weights [in, out] and biases [out] of each layer."""

POLICIES = Path(__file__).parent / "policies"


class Trained:
    """The trained policies of a game, called like `Scripted`."""

    def __init__(
        self,
        name: str,
        among: Sequence[Sequence[int]] | None = None,
        folder: Path = POLICIES,
    ) -> None:
        """Loads the pool of a game.

        Args:
            name: A name in `rlbench.envs.social.names.GAMES` that has a pool, see `names`.
            among: For each agent, the numbers of the policies from which its policy is drawn in each episode; None for the
                whole pool.
            folder: Where the weights are.

        Raises:
            UserError: The game has no pool, or `among` does not fit.
        """
        if name not in names(folder):
            raise UserError(
                f"no policies were trained for {name!r}; expected one of {', '.join(names(folder))}"
            )
        self.name, self.game = name, GAMES[name]
        self.pool = pool(name, folder)
        """The layers of each policy."""
        every = range(len(self.pool))
        chosen = [every] * self.game.agents if among is None else among
        if len(chosen) != self.game.agents or not all(x and {*x} <= {*every} for x in chosen):
            raise UserError(
                f"among is {among}, expected one or more numbers from 0 to {every[-1]} for each of the "
                f"{self.game.agents} agents of {name}"
            )
        self._among = [np.array(numbers) for numbers in chosen]

    def __call__(self, game: GridGame) -> Array:
        """Actions of all agents, int64 [E, A]."""
        mine, given = self.game, game.game
        if (mine.kind, mine.agents, mine.side, mine.items) != (
            given.kind, given.agents, given.side, given.items,
        ):  # fmt: skip
            raise UserError(f"the policies of {self.name} do not play {given}")
        playing = self.playing(game)
        seen = vectors(game, range(game.agents))
        drawn = chance.uniform(game.key, game.steps, chance.SAMPLED, game.agents)
        actions = np.empty_like(playing)
        for number, layers in enumerate(self.pool):
            rows = playing == number
            actions[rows] = sample(logits(layers, seen[rows]), drawn[rows])
        return actions + given.first_action

    def playing(self, game: GridGame) -> Array:
        """The number of the policy that each agent plays in the current episode, int64 [E, A]."""
        drawn = chance.uniform(game.key, 0 * game.steps, chance.POLICIES, game.agents)
        picked = [
            among[(u * len(among)).astype(np.int64)]
            for among, u in zip(self._among, drawn.T, strict=True)
        ]
        return np.stack(picked, -1)


def names(folder: Path = POLICIES) -> list[str]:
    """Games that have trained policies."""
    return sorted(file.stem for file in folder.glob("*.safetensors"))


def card(name: str) -> dict[str, Any]:
    """How the policies of a game were trained, and their returns."""
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def pool(name: str, folder: Path = POLICIES) -> list[Layers]:
    """The policies of a game, from tensors `<policy>/<layer>/weight` and `.../bias`.

    In float64, because in float32 rounding, which depends on the batch size, would in rare cases change an action.
    """
    weights = load_file(folder / f"{name}.safetensors")
    tensors = {key: x.astype(np.float64) for key, x in weights.items()}
    found: list[Layers] = []
    while f"{len(found)}/0/weight" in tensors:
        layers: list[tuple[Array, Array]] = []
        while (key := f"{len(found)}/{len(layers)}") + "/weight" in tensors:
            layers.append((tensors[f"{key}/weight"], tensors[f"{key}/bias"]))
        found.append(layers)
    return found


def logits(layers: Layers, seen: Array) -> Array:
    """Logits of the actions, [R, 5], for observations [R, D]; all layers but the last use tanh."""
    x = seen
    for weight, bias in layers[:-1]:
        x = np.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    result: Array = x @ weight + bias
    return result


def sample(logits: Array, drawn: Array) -> Array:
    """Actions, int64 [R], from logits [R, 5] and uniform numbers [R], by inverse transform sampling."""
    below = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1)
    result: Array = (below <= drawn[:, None] * below[:, -1:]).sum(-1)
    return result
