"""The search for an architecture as a task: an episode chooses one architecture, token by token.

    observation   the tokens chosen so far (`rlbench.tokens`)
    action        the next token; an invalid number is replaced by a uniformly drawn valid one
    reward        0 before the last token, then the reward of the architecture (`objective.py`)
    end           termination after the last token; there is no time limit and no discount

Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 3: the sample-evaluate-update loop of MnasNet.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.architecture import scaled
from rlbench.envs.architectures.evaluate import (
    Evaluation,
    Evaluator,
    NetworkEvaluator,
    Space,
    Tokens,
)
from rlbench.envs.architectures.found import Found, look_up
from rlbench.envs.architectures.objective import UNKNOWN_LATENCY, Objective, hypervolume
from rlbench.envs.resets import episodes_to_begin
from rlbench.errors import UserError
from rlbench.tokens import OneHotTokens, TokenNumbers

Array = NDArray[Any]

Observations = Literal["one-hot", "tokens"]
"""How the tokens so far are observed: `OneHotTokens` or `TokenNumbers`."""
_SPACES: dict[str, type[OneHotTokens] | type[TokenNumbers]] = {
    "one-hot": OneHotTokens,
    "tokens": TokenNumbers,
}


class ArchSearchVector(VectorEnv[Array, Array, Array]):
    """Searches in parallel: all architectures that are completed in one step are evaluated by one call.

    `reset` and `step` behave as in `SyncVectorEnv(..., autoreset_mode=AutoresetMode.DISABLED)`, except for
    `info["metrics"]`.
    """

    def __init__(
        self,
        space: Space,
        evaluator: Evaluator,
        objective: Objective,
        count: int,
        observations: Observations = "one-hot",
    ) -> None:
        """`count` searches, V.

        Args:
            space: The architectures.
            evaluator: Evaluates them.
            objective: Their reward.
            count: Number of searches.
            observations: See `Observations`.

        Raises:
            UserError: There are no such observations.
        """
        if observations not in _SPACES:
            raise UserError(f"observations is {observations!r}; give one of {', '.join(_SPACES)}")
        self.num_envs = count
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}
        self._space, self._evaluator, self._objective = space, evaluator, objective
        self._seen = _SPACES[observations](space.choices)
        self.single_observation_space = self._seen
        self.single_action_space = Discrete(max(space.choices))
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._valid = np.arange(max(space.choices)) < np.array(space.choices)[:, None]
        """Whether a token may have a value, [L, N]."""
        self._tokens = np.full((count, len(space.choices)), -1)
        self._drawers = [np.random.default_rng(0)] * count
        """Replace invalid actions, one for each search."""

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the processes in which architectures are trained."""
        if isinstance(self._evaluator, NetworkEvaluator):
            self._evaluator.close()

    def action_masks(self) -> Array:
        """The valid next tokens of each search, bool [V, N]; after the last token, the valid last tokens."""
        places = (self._tokens >= 0).sum(axis=1)
        valid: Array = self._valid[places.clip(max=len(self._valid) - 1)]
        return valid

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes.

        Args:
            seed: Decides only which tokens replace invalid actions. One for each search, or the first of V
                consecutive ones; None draws.
            options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

        Returns:
            Observations of all searches, [V, D], and the `action_mask` of those that began.
        """
        mask, chosen = episodes_to_begin(self, seed, options)
        info: dict[str, Any] = {}
        for v, drawn in zip(np.flatnonzero(mask).tolist(), chosen, strict=True):
            self._drawers[v] = np.random.default_rng(drawn)
            self._tokens[v] = -1
            info = self._add_info(info, {"action_mask": self._valid[0]}, v)
        return self._seen.encode(self._tokens), info

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Chooses one token in each search; the actions have shape [V].

        Returns:
            As in Gymnasium. The info has `resampled`, whether an action was invalid and replaced, and `action_mask`,
            the valid next tokens. After the last token it has instead `tokens` and `architecture` (JSON) and the
            values of `Evaluation`; failed ones as `Objective.usable` returns them. `metrics`, if architectures were
            evaluated, has numbers about all of them: means, the share above the target latency, the share that was
            cached, the hypervolume of their front up to 4 times the target latency, and this target.

        Raises:
            ValueError: An episode is over and was not reset.
        """
        places = (self._tokens >= 0).sum(axis=1)
        last = len(self._valid) - 1
        if (places > last).any():
            raise ValueError(f"search {int(places.argmax())} is over; reset it first")
        terminated = places == last
        infos: list[dict[str, Any]] = []
        for v, (place, action) in enumerate(zip(places.tolist(), actions.tolist(), strict=True)):
            choices = self._space.choices[place]
            resampled = not 0 <= action < choices
            token = int(self._drawers[v].integers(choices)) if resampled else action
            self._tokens[v, place] = token
            infos.append({"resampled": resampled})
            if place < last:
                infos[v]["action_mask"] = self._valid[place + 1]
        reward, metrics = np.zeros(self.num_envs), {}
        if terminated.any():
            rows = np.flatnonzero(terminated).tolist()
            batch = [tuple(self._tokens[v].tolist()) for v in rows]
            found = self._evaluator.evaluate(batch)
            for v, tokens, evaluation in zip(rows, batch, found, strict=True):
                infos[v] |= self._described(tokens, evaluation)
                reward[v] = self._objective.reward(infos[v]["accuracy"], infos[v]["latency_ms"])
            metrics["metrics"] = self._metrics([infos[v] for v in rows])
        info: dict[str, Any] = {}
        for v, one in enumerate(infos):
            info = self._add_info(info, one, v)
        over = np.zeros(self.num_envs, bool)
        return self._seen.encode(self._tokens), reward, terminated, over, info | metrics

    def look_up(self, tokens: Array) -> Found:
        """All that is known about architectures, int64 [N, L]; those that were not evaluated before are."""
        return look_up(self._space, self._evaluator, self._objective, tokens)

    def look_up_scaled(self, tokens: Tokens, widths: Sequence[float]) -> list[Evaluation]:
        """An architecture with other numbers of filters, by width multiplier; see `rlbench.architecture.scaled`.

        Raises:
            UserError: The search only looks results up, so it cannot evaluate architectures outside its space.
        """
        if not isinstance(self._evaluator, NetworkEvaluator):
            raise UserError(
                "the results of this search were measured before, and none of other widths; give a search that trains, "
                "such as archsearch-digits-shift"
            )
        whole = self._space.decode(self._space.canonical(tokens))
        return self._evaluator.evaluate_networks([scaled(whole, width) for width in widths])

    def _described(self, tokens: Tokens, found: Evaluation) -> dict[str, Any]:
        """The info of an evaluated architecture."""
        accuracy, latency = self._objective.usable(found)
        architecture = json.dumps(dataclasses.asdict(self._space.decode(tokens)))
        return {
            **dataclasses.asdict(found), "accuracy": accuracy, "latency_ms": latency,
            "tokens": np.array(tokens), "architecture": architecture,
        }  # fmt: skip

    def _metrics(self, found: Sequence[dict[str, Any]]) -> dict[str, float]:
        accuracy, latency, cached = (
            np.array([x[key] for x in found], float) for key in ("accuracy", "latency_ms", "cached")
        )
        target = self._objective.target_ms
        return {
            "accuracy": float(accuracy.mean()),
            "latency_ms": float(latency.mean()),
            "share_above_target": float((latency > target).mean()),
            "share_cached": float(cached.mean()),
            "hypervolume": hypervolume(accuracy, latency, UNKNOWN_LATENCY * target),
            "target_ms": target,
        }


class ArchSearchEnv(gym.Env[Array, int]):
    """One search: a vector of one."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        space: Space,
        evaluator: Evaluator,
        objective: Objective,
        observations: Observations = "one-hot",
    ) -> None:
        """See `ArchSearchVector`."""
        self._one = ArchSearchVector(space, evaluator, objective, 1, observations)
        self.max_steps = len(space.choices)
        """Steps after which an episode ends, L."""
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def action_masks(self) -> Array:
        """The valid next tokens, bool [N]; the name that sb3-contrib's MaskablePPO expects."""
        valid: Array = self._one.action_masks()[0]
        return valid

    def look_up(self, tokens: Array) -> Found:
        """See `ArchSearchVector.look_up`."""
        return self._one.look_up(tokens)

    def look_up_scaled(self, tokens: Tokens, widths: Sequence[float]) -> list[Evaluation]:
        """See `ArchSearchVector.look_up_scaled`."""
        return self._one.look_up_scaled(tokens, widths)

    def close(self) -> None:
        """See `ArchSearchVector.close_extras`."""
        self._one.close()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins an episode; see `ArchSearchVector.reset`."""
        super().reset(seed=seed)
        obs, info = self._one.reset(
            seed=int(self.np_random.integers(2**31)) if seed is None else seed
        )
        return obs[0], _first(info)

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Chooses one token; see `ArchSearchVector.step`."""
        obs, reward, terminated, _, info = self._one.step(np.array([action]))
        info.pop("metrics", None)
        return obs[0], float(reward[0]), bool(terminated[0]), False, _first(info)


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """The info of the first environment of a vector, as plain values."""
    found = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    return {key: x.item() if isinstance(x, np.generic) else x for key, x in found.items()}
