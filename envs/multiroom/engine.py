"""MultiRoom: through rooms and their doors to a goal, with all environments stepped as a batch.

The task of MiniGrid's MultiRoom seen from above. A test checks that observations, rewards and ends are
the same, step for step, as in `FullyObsWrapper(MultiRoomEnv(...))` of the package minigrid (3.2).

    observation   the whole grid, uint8 [W, H, 3]: type, colour and state of each cell; the
                  agent's cell is (10, 0, direction)
    actions       0 turn left, 1 turn right, 2 forward, 5 open or close the door ahead; 3, 4 and 6
                  (pick up, drop, done) have nothing to act on here
    reward        1 - 0.9 t / T at the goal, which ends the episode, else 0; cut after T steps
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlbench.envs.multiroom.levels import (
    AGENT,
    CLOSED,
    DOOR,
    EMPTY,
    GOAL,
    OPEN,
    RED,
    Levels,
    level,
    level_set,
    stacked,
)
from rlbench.envs.multiroom.names import Floor
from rlbench.envs.multiroom.picture import draw
from rlbench.envs.resets import episodes_to_begin

Array = NDArray[Any]

_LEFT, _RIGHT, _FORWARD, _TOGGLE = 0, 1, 2, 5
_ACTIONS = 7

_TURNED = np.tile(np.arange(4), (_ACTIONS, 1))
"""Direction after an action, [action, direction]."""
_TURNED[_LEFT], _TURNED[_RIGHT] = [3, 0, 1, 2], [1, 2, 3, 0]

_SOLID, _FREE, _GOAL, _CLOSED, _OPEN = range(5)
"""What a cell means to an agent that faces it."""
_NOTHING, _TURNS_DOOR, _WALKS, _REACHES = range(4)
_EVENT = np.full((_ACTIONS, 5), _NOTHING)
"""Event, [action, kind of the cell ahead]; all events from _WALKS on move the agent."""
_EVENT[_FORWARD, [_FREE, _OPEN]] = _WALKS
_EVENT[_FORWARD, _GOAL] = _REACHES
_EVENT[_TOGGLE, [_CLOSED, _OPEN]] = _TURNS_DOOR


def _packed(cells: Array) -> Array:
    """Type, colour and state of cells, [..., 3], and their kind for an agent, as one number.

    Moving one number takes NumPy a third of the time of moving three; the first three bytes of the
    four are the observation.
    """
    kind, _, state = np.moveaxis(cells, -1, 0)
    role = np.full(kind.shape, _SOLID, np.uint8)
    role[kind == EMPTY], role[kind == GOAL] = _FREE, _GOAL
    role[(kind == DOOR) & (state == CLOSED)] = _CLOSED
    role[(kind == DOOR) & (state == OPEN)] = _OPEN
    packed: Array = np.concatenate([cells, role[..., None]], axis=-1).view(np.uint32)[..., 0]
    return packed


_DOORS = _packed(np.array([(DOOR, RED, CLOSED), (DOOR, RED, OPEN)], np.uint8))
_TURN_DOOR = _DOORS[0] ^ _DOORS[1]
"""The bits in which an open and a closed door differ."""
_AGENTS = _packed(np.array([(AGENT, RED, direction) for direction in range(4)], np.uint8))


def _starts(levels: Levels) -> tuple[Array, Array, Array]:
    """Packed cells [N, W*H], and the place among them [N] and direction [N] of the agents."""
    count, side = levels.cells.shape[:2]
    return (
        _packed(levels.cells).reshape(count, side * side),
        levels.at @ (side, 1),
        levels.direction,
    )


class MultiRoomVector(VectorEnv[Array, Array, Array]):
    """Environments of one task; the caller resets those whose episodes are over.

    `reset` and `step` behave as in `SyncVectorEnv(..., autoreset_mode=AutoresetMode.DISABLED)`.
    """

    def __init__(self, floor: Floor, count: int, *, held_out: bool = False) -> None:
        """`count` environments, V, with the training levels or the held-out ones."""
        self.num_envs = count
        self.metadata = {
            "render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.DISABLED,
        }  # fmt: skip
        self.render_mode = "rgb_array"
        self.single_observation_space = Box(0, 255, (floor.side, floor.side, 3), np.uint8)
        self.single_action_space = Discrete(_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._floor = floor
        self._starts = None if floor.levels is None else _starts(level_set(floor, held_out))
        self._cells = np.zeros((count, floor.side**2), np.uint32)
        """Packed cells without the agents, column by column."""
        self._first = np.arange(count) * floor.side**2
        """Place of the first cell of each environment, counted through all of `_cells`."""
        self._at = self._first.copy()
        """Place of each agent, counted likewise."""
        self._direction = np.zeros(count, np.int64)
        self._steps = np.zeros(count, np.int64)
        # Right, down, left, up: the cell below is the next of the column.
        self._ahead = np.array([floor.side, 1, -floor.side, -1])

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes.

        Args:
            seed: Alone decides which level an environment gets: with n levels number seed mod n,
                with new levels the level of this seed. One for each environment, or the first of V
                consecutive ones; None draws.
            options: `reset_mask`, bool [V]: only these begin a new episode. Without it, all do.

        Returns:
            Observations of all environments, uint8 [V, W, H, 3], and an empty dict.
        """
        mask, chosen = episodes_to_begin(self, seed, options)
        (rows,) = mask.nonzero()
        if chosen:
            self._begin(rows, chosen)
        return self._obs(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of each environment; the actions have shape [V]."""
        self._steps += 1
        ahead = self._ahead[self._direction]
        front = self._at + ahead
        cells = self._cells.reshape(-1)
        event = _EVENT[actions, cells[front] >> 24]
        self._direction = _TURNED[actions, self._direction]
        self._at += ahead * (event >= _WALKS)
        doors = front[event == _TURNS_DOOR]
        if len(doors):
            cells[doors] ^= _TURN_DOOR
        terminated = event == _REACHES
        reward = np.zeros(self.num_envs)
        (reached,) = terminated.nonzero()
        if len(reached):
            reward[reached] = 1 - 0.9 * (self._steps[reached] / self._floor.max_steps)
        return self._obs(), reward, terminated, self._steps >= self._floor.max_steps, {}

    def render(self) -> tuple[Array, ...]:
        """A picture of each environment, uint8 [H, W, 3]."""
        return tuple(draw(obs) for obs in self._obs())

    def _begin(self, rows: Array, seeds: list[int]) -> None:
        """Puts environments at the start of the levels of their seeds."""
        if self._starts is None:
            fresh = stacked([level(self._floor, seed) for seed in seeds])
            cells, at, direction = _starts(fresh)
        else:
            index = np.array(seeds) % len(self._starts[0])
            cells, at, direction = (column[index] for column in self._starts)
        self._cells[rows] = cells
        self._at[rows] = self._first[rows] + at
        self._direction[rows] = direction
        self._steps[rows] = 0

    def _obs(self) -> Array:
        """Observations of all environments, uint8 [V, W, H, 3]; a copy."""
        cells = self._cells.copy()
        cells.reshape(-1)[self._at] = _AGENTS[self._direction]
        side = self._floor.side
        return cells.view(np.uint8).reshape(self.num_envs, side, side, 4)[..., :3]


class MultiRoom(gym.Env[Array, int]):
    """One environment: a vector of one."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, floor: Floor, *, held_out: bool = False) -> None:
        """With the training levels, or the held-out ones."""
        self._one = MultiRoomVector(floor, 1, held_out=held_out)
        self.max_steps = floor.max_steps
        """Steps after which an episode is cut."""
        self.render_mode = self._one.render_mode
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins the level of a seed; without one, the next level drawn from the last seed."""
        super().reset(seed=seed)
        obs, info = self._one.reset(
            seed=int(self.np_random.integers(2**31)) if seed is None else seed
        )
        return obs[0], info

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step."""
        obs, reward, terminated, truncated, info = self._one.step(np.array([action]))
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Array:
        """The grid from above, uint8 [H, W, 3]."""
        return self._one.render()[0]
