"""PettingZoo's parallel environments as team environments, stepped one after another.

An agent that ends before the others observes zeros and gets reward 0 until the episode has ended for all. The last step decides
how the episode ends: truncated if it truncates any agent, else terminated.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.envs.contract import as_obs, is_images
from rlbench.envs.resets import episodes_to_begin
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.teams import team_space

Array = NDArray[Any]


_FIVE = "five dicts (observations, rewards, terminations, truncations, infos)"
_OF_AN_AGENT = ("reward", "termination", "truncation")


class TeamsOfParallelEnvs(VectorEnv[Array, Array, Array]):
    """Environments of one factory; the caller resets those whose episodes are over."""

    def __init__(self, name: str, make: Callable[[], Any], count: int) -> None:
        """Makes `count` environments, V.

        Args:
            name: Name of the environment in errors.
            make: Makes a `pettingzoo.ParallelEnv`.
            count: Number of environments.

        Raises:
            UserError: PettingZoo is not installed; `make` failed or did not return a new ParallelEnv; or there are no agents, or
                they have different spaces or spaces that a team does not support.
        """
        self.num_envs, self._name = count, name
        self._envs = [_made(name, make) for _ in range(count)]
        first = self._envs[0]
        if any(env is first for env in self._envs[1:]):
            raise UserError(
                f"{name} made the same environment twice; make a new one in each call of the factory"
            )
        self._agents: list[str] = list(getattr(first, "possible_agents", ()))
        if not self._agents:
            raise UserError(
                f"{name} has no agents in `possible_agents`; list all of them there when it is made"
            )
        seen, self._action = (self._one(x) for x in ("observation_space", "action_space"))
        if not isinstance(seen, Box):
            raise UserError(
                f"{name}: its agents have the observation space {seen}; a team needs a Box, so flatten the "
                "observations in the factory"
            )
        if not isinstance(self._action, Box | Discrete):
            raise UserError(
                f"{name}: its agents have the action space {self._action}; a team needs a Box or a Discrete space, "
                "so convert the actions in the factory"
            )
        # Only images remain uint8; other observations become float32.
        self._seen = seen if is_images(seen) else Box(seen.low, seen.high, dtype=np.float32)
        self._living: list[list[str]] = [[] for _ in self._envs]
        """Agents that still take part in the episode of each environment."""
        self._obs = np.zeros((count, len(self._agents), *seen.shape), self._seen.dtype)
        self.render_mode = getattr(first, "render_mode", None)
        self.metadata = {
            **getattr(first, "metadata", {}),
            "autoreset_mode": AutoresetMode.DISABLED,
        }
        self.single_observation_space = team_space(self._seen, len(self._agents))
        self.single_action_space = team_space(self._action, len(self._agents))
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes; see `episodes_to_begin`.

        Returns:
            Observations of all agents in all environments, [V, A, ...], and an empty dict.

        Raises:
            UserError: An environment failed, or did not return what PettingZoo requires.
        """
        mask, seeds = episodes_to_begin(self, seed, options)
        for v, begun in zip(np.flatnonzero(mask).tolist(), seeds, strict=True):
            result = self._called("reset", self._envs[v].reset, seed=begun)
            if not (_is_tuple(result, 2) and isinstance(result[0], Mapping)):
                self._refuse("reset", "something else", "two dicts, (observations, infos)")
            self._living[v] = self._present(v, "reset")
            if not self._living[v]:
                self._refuse("reset", "no agents", "at least one in `agents`")
            self._look(v, "reset", result[0], self._living[v])
        return self._obs.copy(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment, with actions [V, A, ...]; rewards are float64 [V, A].

        Raises:
            UserError: As in `reset`.
        """
        reward = np.zeros((self.num_envs, len(self._agents)))
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        for v, env in enumerate(self._envs):
            before = self._living[v]
            if not before:  # Its episode is over, and the caller has not reset it.
                continue
            given = {
                agent: self._for_env(actions[v, self._agents.index(agent)]) for agent in before
            }
            result = self._called("step", env.step, given)
            if not (_is_tuple(result, 5) and all(isinstance(x, Mapping) for x in result)):
                self._refuse("step", "something else", _FIVE)
            obs, rewards, ends, cuts, _ = result
            for agent in before:
                for part, what in zip((rewards, ends, cuts), _OF_AN_AGENT, strict=True):
                    if agent not in part:
                        self._refuse(
                            "step", f"no {what} of {agent}", "one for each agent that acted"
                        )
                reward[v, self._agents.index(agent)] = self._number(rewards[agent], agent)
            present = self._present(v, "step")
            after = [x for x in present if not (ends.get(x, False) or cuts.get(x, False))]
            self._living[v] = after
            self._look(v, "step", obs, after or before)
            if not after:
                truncated[v] = any(cuts[agent] for agent in before)
                terminated[v] = not truncated[v]
        return self._obs.copy(), reward, terminated, truncated, {}

    def render(self) -> tuple[Any, ...] | None:
        """A picture of each environment; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._called("render", env.render) for env in self._envs)

    def close_extras(self, **_: Any) -> None:
        """Closes the environments."""
        for env in self._envs:
            self._called("close", env.close)

    def _one(self, which: str) -> Space[Any]:
        """The space that all agents have; `which` is observation_space or action_space."""
        function = getattr(self._envs[0], which)
        spaces = {agent: self._called(which, function, agent) for agent in self._agents}
        (first, one), *others = spaces.items()
        for agent, other in others:
            if other != one:
                raise UserError(
                    f"{self._name}: {first} has the {which} {one}, but {agent} has {other}; a team needs the same "
                    "spaces for all agents, so pad them in the factory (for example with SuperSuit)"
                )
        return one  # type: ignore[no-any-return]

    def _look(self, v: int, where: str, obs: Mapping[str, Any], agents: list[str]) -> None:
        """Stores the observations of some agents, and zeros for the others."""
        self._obs[v] = 0
        for agent in agents:
            if agent not in obs:
                self._refuse(where, f"no observation of {agent}", "one for each agent in `agents`")
            try:
                seen = as_obs(obs[agent], self._seen)
            except (TypeError, ValueError):
                self._refuse(
                    where, f"an observation of {agent} of another kind", "an array of numbers"
                )
            if seen.shape != self._seen.shape:
                expected = f"{list(self._seen.shape)} as in its observation space"
                self._refuse(
                    where, f"an observation of {agent} of shape {list(seen.shape)}", expected
                )
            self._obs[v, self._agents.index(agent)] = seen

    def _present(self, v: int, where: str) -> list[str]:
        """The agents that an environment lists as taking part."""
        present = list(self._envs[v].agents)
        for agent in present:
            if agent not in self._agents:
                self._refuse(where, f"the new agent {agent}", "agents from `possible_agents` only")
        return present

    def _number(self, reward: Any, agent: str) -> float:
        """The reward of an agent."""
        try:
            return float(reward)
        except (TypeError, ValueError):
            self._refuse("step", f"no number as the reward of {agent}", "one for each agent")

    def _for_env(self, action: Any) -> Any:
        """A copy of an agent's action that its action space contains."""
        if isinstance(self._action, Discrete):
            return np.int64(action)
        assert isinstance(self._action, Box)
        # Rounding to float32 may exceed the bounds.
        return np.clip(action, self._action.low, self._action.high).astype(self._action.dtype)

    def _called(self, where: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """The result of a method of the user's environment; its exceptions are reported as the environment's."""
        try:
            return function(*given, **options)
        except FAILURES as error:
            raise raised_by(self._name, where, error, "environment") from error

    def _refuse(self, where: str, found: str, expected: str) -> NoReturn:
        raise UserError(
            f"{self._name}: {where} returned {found}; expected {expected}; correct the environment"
        )


def _is_tuple(result: Any, length: int) -> bool:
    return isinstance(result, tuple | list) and len(result) == length


def _made(name: str, make: Callable[[], Any]) -> Any:
    """The environment that `make` returns."""
    try:
        base = importlib.import_module("pettingzoo").ParallelEnv
    except ModuleNotFoundError:
        raise UserError(
            f"{name} needs the package pettingzoo; install it with pip install 'rlbench[pettingzoo]'"
        ) from None
    try:
        env = make()
    except UserError:
        raise
    except FAILURES as error:
        raise raised_by(name, "its factory", error, "environment") from error
    if not isinstance(env, base):
        raise UserError(
            f"{name} made a {type(env).__name__}; expected a pettingzoo.ParallelEnv, so return one from the factory "
            "(pettingzoo.utils.aec_to_parallel converts environments in which agents take turns)"
        )
    return env
