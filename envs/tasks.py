"""Tasks: names for things that can be run. Importing this loads the standard library only."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from rlbench.envs import data_names, making
from rlbench.envs.architectures import names as search_names
from rlbench.envs.atari import names as atari_names
from rlbench.envs.data_names import DataName
from rlbench.envs.examples import SOURCES, find_source
from rlbench.envs.grids import names as grid_names
from rlbench.envs.grids.names import GridName
from rlbench.envs.making import MINATAR
from rlbench.envs.minigrid import names as empty_names
from rlbench.envs.multiroom import names as multiroom_names
from rlbench.envs.multiroom.names import Floor
from rlbench.envs.poses import names as pose_names
from rlbench.envs.procgen import names as procgen_names
from rlbench.envs.procgen.names import ProcgenName
from rlbench.envs.recall import names as recall_names
from rlbench.envs.social import make as social, names as social_names
from rlbench.envs.teams import make as teams
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.names import registered

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.vector import VectorEnv

    from rlbench.envs.examples import Source
    from rlbench.experience import Lifetimes

MINIGRID = ("MiniGrid-", "BabyAI-")
"""Prefixes of the ids of the package minigrid."""
TRAJECTORIES = "trajectories:"
"""Prefix of sources of trajectories in a task."""
PARTS = "parts"
"""View with all parts of the observations, for a task that otherwise shows only one of them; see `rlbench.packed`."""
GRIDS = "rlbench.envs.grids.single"
"""Module that registers the Gymnasium ids of grids and chains."""


@dataclass(frozen=True)
class Task:
    """Something that can be run."""

    name: str
    """Name that the user gives."""
    make: "Callable[[], gym.Env[Any, Any]]"
    """Makes one environment; can be pickled, so that worker processes can call it."""
    data: DataName | None = None
    """Its data set, if it has one."""
    reference_returns: tuple[float, float] | None = None
    """Returns that score 0 and 100; None if none are defined."""
    make_vector: "Callable[[int], VectorEnv[Any, Any, Any]] | None" = None
    """Makes a number of environments that are stepped as a batch, if that is faster than one after the other:
    a Gymnasium vector with AutoresetMode.DISABLED, whose `reset` takes a seed for each environment
    and the option `reset_mask`, as in SyncVectorEnv. If seeds cannot be given per episode, it also
    has the method of `rlbench.envs.episodes.Repeats`. In the task of a team, `step` returns rewards [V, A].
    If the info of a step has `metrics`, a dict of numbers, these are logged with the next update."""
    held_out: "Task | None" = None
    """The same task with levels that training never sees."""
    training: "Task | None" = None
    """The same task with the environments for training, if they differ, for example by clipped rewards;
    evaluations and films use the environments of the task itself."""
    views: "Mapping[str, Task]" = field(default_factory=dict)
    """The same task with other observations, for agents that need these; see `rlbench.interface.Agent.view`."""
    solved_above: float | None = None
    """Return above which an episode counts as solved; None if this has no meaning."""
    source: "Callable[[], Source] | None" = None
    """Makes its source of labelled examples, for models; None if it has none."""
    lifetimes: "Callable[..., Lifetimes] | None" = None
    """Makes lifetimes, for meta-training; see `rlbench.envs.grids.make.make_lifetimes`. None if there are none."""
    unseen: "tuple[Task, ...]" = ()
    """Tasks with other lifetimes, on which a meta-learner is also measured."""
    team: str | None = None
    """How its agents learn: all by one policy, `shared`, or each by its own, `independent`; see `rlbench.envs.teams`.
    None if one agent learns. Observations and actions of all agents are stacked, [A, ...], in spaces of
    `rlbench.teams`; the reward of an environment is the mean over the agents."""
    imports: str | None = None
    """The `package.module:factory` that it is made by, if that is custom code; imported when something is made."""

    def score(self, mean_return: float) -> float | None:
        """D4RL-normalised score, 100 (R - min) / (max - min); None without reference returns."""
        if self.reference_returns is None:
            return None
        low, high = self.reference_returns
        return 100.0 * (mean_return - low) / (high - low)


def find_task(name: str) -> Task:
    """The task of a name.

    Args:
        name: A data set's name (`halfcheetah-medium`, `halfcheetah-pixels-medium`, `point-mixed`), rooms with doors
            (`multiroom-n2`), empty rooms (`minigrid-empty-5-8`), recall (`recall-3-10`), a demonstration to follow (`follow-humanoid`), a level of a grid or chain (`grid-dense`, `grid-levels-small-level-3`,
            `chain-short`), a multi-agent game (`coin`), a game of Procgen (`coinrun`) or Atari (`atari-pong`), a source of examples
            (`digits`, `frames-procgen:coinrun`, or a file of them), a search for an architecture on such a source
            (`archsearch-digits-shift`), a task that a package registered under the entry point `rlbench.tasks`,
            an id of Gymnasium (`Pendulum-v1`) or of the package minigrid
            (`MiniGrid-DoorKey-5x5-v0`, `BabyAI-GoToRedBall-v0`) or minatar (`MinAtar/Breakout-v1`), an id that a module
            registers with Gymnasium (`package.module:EnvId-v0`), `package.module:factory`, or a team (`shared:stag-hunt-4p`, see `rlbench.envs.teams.make.offers`).

    Raises:
        UserError: Nothing has this name.
    """
    data = data_names.parse(name)
    if data is not None:
        options = {"use_contact_forces": True} if data.family == "ant" else {}
        pixels = data.family in data_names.PIXELS
        maker = making.make_mujoco_pixels if pixels else making.make_gymnasium
        make = partial(maker, data_names.environment(data), **options)
        return Task(name, make, data, data_names.reference_returns(data))
    rooms = multiroom_names.parse(name)
    if rooms is not None:
        return _multiroom(name, *rooms)
    sizes = empty_names.parse(name)
    if sizes is not None:
        making.register_minigrid(name)
        return Task(name, partial(making.make_empty_rooms, sizes), solved_above=0.0)
    recall = recall_names.parse(name)
    if recall is not None:
        return Task(
            name,
            partial(making.make_recall, *recall),
            make_vector=partial(making.make_recall_vector, *recall),
            solved_above=1 - 0.5 / recall[0],
        )
    robot = pose_names.parse(name)
    if robot is not None:
        return Task(
            name,
            partial(making.make_follow, robot),
            make_vector=partial(making.make_follow_vector, robot),
        )
    game = procgen_names.parse(name)
    if game is not None:
        return _procgen(game)
    atari_game = atari_names.parse(name)
    if atari_game is not None:
        clipped = _atari(name, atari_game, clipped=True)
        return replace(_atari(name, atari_game, clipped=False), training=clipped)
    grid = grid_names.parse(name)
    if grid is not None:
        return _grid(grid)
    if name in social_names.GAMES:
        return _viewed(name, social.offers, social.VIEWS)
    if teams.offers(name) is not None:
        return _viewed(name, teams.offers, teams.views(name))
    for point in registered("rlbench.tasks"):
        if point.name == name:
            return _registered(name, point)
    search = search_names.parse(name)
    if search is not None:
        return Task(
            name,
            partial(making.make_search, search),
            make_vector=partial(making.make_search_vector, search),
        )
    source = find_source(name)
    if source is not None:
        # Trajectories are those of another task, which may be custom code.
        played = name.partition(TRAJECTORIES)[2] if name.startswith(TRAJECTORIES) else None
        imports = find_task(played).imports if played else None
        return Task(name, partial(making.no_episodes, name), source=source, imports=imports)
    if re.fullmatch(r"[^:]+:.+-v\d+", name):
        return Task(name, partial(making.make_of_module, name), imports=name)
    if ":" in name:
        return Task(
            name,
            partial(making.make_from_factory, name),
            source=partial(making.source_from_factory, name),
            imports=name,
        )
    import gymnasium as gym

    make_one: Callable[[str], gym.Env[Any, Any]] = making.make_gymnasium
    views = {}
    if name.startswith(MINIGRID):
        making.register_minigrid(name)
        make_one = making.make_minigrid
        whole = partial(making.make_minigrid, name, whole=True)
        views[PARTS] = Task(name, whole, solved_above=0.0)
    elif name.startswith(MINATAR):
        making.register_minatar(name)
        make_one = making.make_minatar
    if name in map(grid_names.gymnasium_id, grid_names.names()):
        # With the name of the module in the id, worker processes can register it, too.
        return Task(name, partial(making.make_gymnasium, f"{GRIDS}:{name}"))
    try:
        gym.spec(name)
    except gym.error.Error:
        raise UserError(_unknown(name, list(gym.registry))) from None
    # The missions of minigrid give one reward, at their end.
    return Task(name, partial(make_one, name), views=views, solved_above=0.0 if views else None)


def task_names() -> list[str]:
    """Names that `rlbench list` shows: of data sets, rooms, grids, games, examples and tasks of other packages."""
    return [
        *data_names.short_names(), *multiroom_names.names(), *recall_names.SHOWN, *pose_names.names(), *grid_names.names(), *social_names.names(),
        *procgen_names.names(), *atari_names.names(), *SOURCES, "signals-2", "signals-64", *registered_names(),
    ]  # fmt: skip


def registered_names() -> list[str]:
    """Names of the tasks that packages registered under the entry point `rlbench.tasks`."""
    return [point.name for point in registered("rlbench.tasks")]


def _viewed(name: str, offers: Callable[..., Any], views: Sequence[str]) -> Task:
    """A multi-agent task, with the views that it offers."""
    found = {view: Task(name, **offers(name, view)) for view in views}
    return Task(name, **offers(name), views=found)


def _registered(name: str, point: EntryPoint) -> Task:
    """The task that a package registered."""
    try:
        task = point.load()()
    except UserError:
        raise
    except FAILURES as error:  # A user's package can fail in any way.
        raise raised_by(name, f"its entry point {point.value}", error, "task") from error
    if not isinstance(task, Task):
        raise UserError(
            f"the entry point {point.value} of the task {name!r} made a {type(task).__name__}; "
            "expected an rlbench.envs.tasks.Task, so return one"
        )
    return task


def _grid(name: GridName) -> Task:
    unseen = grid_names.UNSEEN.get(name.family, ())
    return Task(
        str(name),
        partial(making.make_grid, name),
        lifetimes=partial(making.make_lifetimes, name.family),
        unseen=tuple(_grid(GridName(family)) for family in unseen),
    )


def _procgen(game: ProcgenName) -> Task:
    # Single environments have a new pool for each episode, so they repeat whatever the game does.
    in_one_pool = game.game not in procgen_names.CARRIES_OVER
    return Task(
        str(game),
        partial(making.make_procgen, game),
        make_vector=partial(making.make_procgen_vector, game) if in_one_pool else None,
        held_out=None if game.held_out else _procgen(replace(game, held_out=True)),
        solved_above=0.0 if game.game in procgen_names.ONE_REWARD else None,
    )


def _atari(name: str, game: str, *, clipped: bool) -> Task:
    return Task(
        name,
        partial(making.make_atari, game, clipped),
        make_vector=partial(making.make_atari_vector, game, clipped),
    )


def _multiroom(name: str, floor: Floor, held_out: bool) -> Task:
    other = name + multiroom_names.HELD_OUT
    has_other = multiroom_names.parse(other) is not None
    return Task(
        name,
        partial(making.make_multiroom, floor, held_out),
        make_vector=partial(making.make_multiroom_vector, floor, held_out),
        held_out=_multiroom(other, floor, True) if has_other else None,
        solved_above=0.0,  # The goal gives the only reward.
    )


def _unknown(name: str, gymnasium_ids: list[str]) -> str:
    if name.startswith(empty_names.PREFIX):
        return (
            f"{name!r} is not a task; give sizes of {empty_names.SMALLEST} to {empty_names.LARGEST} cells, each once and without leading "
            f"zeros, as in "
            f"{empty_names.PREFIX}5-6-8"
        )
    if name.startswith(recall_names.PREFIX):
        return (
            f"{name!r} is not a task; give {recall_names.PREFIX}K-D with K pairs, 1 to {recall_names.KEYS}, and D distractors, 0 to "
            f"{recall_names.LONGEST:,}, without leading zeros, as in {recall_names.PREFIX}3-10"
        )
    close = difflib.get_close_matches(name, [*task_names(), *gymnasium_ids], n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "`rlbench list` shows the names;"
    return f"no task named {name!r}; {hint} any Gymnasium id and package.module:factory work too"
