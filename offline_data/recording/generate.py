"""Generated data sets: behaviour policies recorded on the task's environment.

The recording is a sequence of chunks of whole episodes. Every episode has its own seeds for its
start and its noise, and a chunk always runs on the same number of environments, so the rows do not
depend on the number of processes. Rows beyond the requested size are cut off; as in
D4RL, the episode that is cut has neither flag. If several policies share a data set, each records
whole episodes; a share that ends within an episode is filled up by the next policy.
"""

import functools
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.envs import data_names
from rlbench.envs.data_names import DataName
from rlbench.envs.episodes import Environments, Separate, make_envs, play
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.files import refuse_without_space
from rlbench.offline_data.dataset import Columns, Provenance, Recording
from rlbench.offline_data.formats._reader import Progress, World
from rlbench.offline_data.recording.behaviour import (
    Behaviour,
    Controlled,
    OnStates,
    Sampled,
    Uniform,
)
from rlbench.offline_data.recording.mixtures import Controller, Part, SB3Model, recipe
from rlbench.offline_data.recording.policy_cards import Weights
from rlbench.offline_data.recording.sb3_policy import SB3Policy
from rlbench.seeding import derive
from rlbench.storage import Layout
from rlbench.workers import Submit, workers

Array = NDArray[Any]

GENERATOR_VERSION = 1
"""Raise this with every change that alters the rows."""
PARALLEL = 16
"""Number of environments of a chunk."""
CHUNK_ROWS = 4_000
"""Target size of a chunk in rows: enough to keep most environments busy until its end."""
MOST_PICTURES = 100_000
"""Largest number of transitions with pictures."""
ROWS_PER_WORKER = 50_000
"""Starting another process for fewer rows takes longer than recording them."""


@dataclass(frozen=True)
class Plan:
    """What to generate."""

    title: str
    """Name of the data."""
    task: str
    """Task that they are recorded on."""
    environment: str
    """What that task is made of."""
    parts: tuple[Part, ...]
    """The policies that record it, in the order of the rows."""
    size: int
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """Everything on which the rows depend."""
        return {
            "generator": GENERATOR_VERSION,
            "size": self.size,
            "seed": self.seed,
            "policies": {part.level: part.key for part in self.parts},
            "environment": self.environment,
            "mujoco": version("mujoco"),
            "gymnasium": version("gymnasium"),
        }


def make_plan(name: DataName, size: int, seed: int) -> Plan:
    """Finds the policies that a data set needs.

    Raises:
        UserError: The size is not positive, or a policy is not shipped.
    """
    _check_size(size)
    if name.family in data_names.PIXELS and size > MOST_PICTURES:
        raise UserError(
            f"{size:,} transitions of {name} were requested, whose pictures are drawn one by one and take 24 kB each; give "
            f"--data-size 10000, or any number up to {MOST_PICTURES:,}"
        )
    # No version of D4RL in the title, because these are not D4RL's data.
    title = f"{name.family}-{name.level}"
    return Plan(title, title, data_names.environment(name), recipe(name), size, seed)


def plan_by_model(task: Task, file: Path, size: int, seed: int) -> Plan:
    """Data recorded on a task by a model file of Stable-Baselines3.

    Raises:
        UserError: The model cannot be used, or the task cannot be stored as a data set.
    """
    _check_size(size)
    world = World.of(task)
    if not isinstance(world.action_space, spaces.Box):
        raise UserError(
            f"{task.name} has the action space {world.action_space}, but data sets hold continuous "
            "actions; give a task with a Box"
        )
    if world.max_episode_steps is None:
        raise UserError(
            f"{task.name} has no time limit, so an episode might never end; wrap it in "
            "gymnasium.wrappers.TimeLimit or register it with max_episode_steps"
        )
    SB3Policy(file, world.observation_space, world.action_space)  # Refuses what does not fit.
    environment = task.name if task.data is None else data_names.environment(task.data)
    part = Part("model", SB3Model(file))
    return Plan(file.name[-40:], task.name, environment, (part,), size, seed)


def _check_size(size: int) -> None:
    if size < 1:
        raise UserError(f"{size} transitions were requested; give a size of 1 or more")


def generate(
    plan: Plan,
    folder: Path,
    jobs: int,
    score: Callable[[float], float | None],
    progress: Progress,
) -> None:
    """Records a data set into `folder`.

    Args:
        plan: From `make_plan`.
        folder: Where the files of the data set are written; it exists.
        jobs: Worker processes; 0 means one per core.
        score: Normalised score of a mean return, for the provenance.
        progress: Called with rows done and total rows.
    """
    world = World.of(find_task(plan.task))
    layout, limit = world.layout, world.max_episode_steps
    assert limit is not None
    picture = prod(layout.obs_shape) if layout.images else 0
    refuse_without_space(
        folder.parent,
        (np.dtype(np.float32).itemsize * layout.stored.width + picture) * plan.size,
        f"a data set of {plan.size:,} transitions",
        "ask for fewer transitions",
    )
    returns: list[float] = []
    bounds = [0]
    jobs = min(jobs or os.cpu_count() or 1, 1 + plan.size // ROWS_PER_WORKER)
    _behaviour.cache_clear()  # The weights at a path may have changed since the last time.
    with (
        tempfile.TemporaryDirectory(dir=folder) as chunks,
        closing(Recording(folder, layout, plan.size)) as out,
        workers(jobs) as submit,
    ):
        share = 0.0
        for part in plan.parts:
            share += part.share
            last = part is plan.parts[-1]
            end = plan.size if last else int(share * plan.size)
            # Half of medium-expert is the beginning of medium, as in D4RL.
            wanted = end - bounds[-1]
            # A short part needs at most as many episodes as fill it at full length.
            episodes = range(max(1, min(PARALLEL, -(-wanted // limit))))
            first = Chunk(plan.task, part, plan.seed, episodes, Path(chunks))
            for taken, recorded in _chunks(first, wanted, submit, jobs):
                start = bounds[-1]
                ends = start + np.cumsum(recorded.lengths)
                whole = int((ends <= end).sum())
                returns += recorded.returns[:whole].tolist()
                bounds += ends[:whole].tolist()
                # Only the last part is cut within an episode, as D4RL stitches medium to expert.
                stop = end if last and ends[-1] > end else bounds[-1]
                out.append(*(x[: stop - start] for x in taken))
                progress(stop, plan.size)
        if bounds[-1] < plan.size:
            bounds.append(plan.size)
        out.finish(_provenance(plan), np.array(returns), np.array(bounds), score)


def _provenance(plan: Plan) -> Provenance:
    details = {
        **plan.key,
        "algorithm": " and ".join(dict.fromkeys(part.algorithm for part in plan.parts)),
        "next_obs": "recorded",
    }
    scores = {part.level: part.score for part in plan.parts if part.score is not None}
    if scores:
        details["policy_scores"] = scores
    source = " then ".join(dict.fromkeys(_named(part, plan.task) for part in plan.parts))
    return Provenance("generated", plan.title, source, "", details)


def _named(part: Part, task: str) -> str:
    """The policy of a part; all rungs of a ladder share one name."""
    if part.source is None:
        return "uniform"
    if isinstance(part.source, SB3Model):
        return part.source.path.name
    if isinstance(part.source, Weights):
        return part.source.file.stem
    return f"{task.partition('-')[0]}-{part.level}"


@dataclass(frozen=True)
class Chunk:
    """Episodes for one worker."""

    task: str
    part: Part
    seed: int
    episodes: range
    folder: Path

    @property
    def path(self) -> Path:
        """File to which the worker writes the rows."""
        return self.folder / f"{self.part.level}-{self.episodes.start}.npz"


@dataclass(frozen=True)
class Recorded:
    """Summary of a chunk by its worker."""

    lengths: Array
    """Steps of each episode, int64 [E]."""
    returns: Array
    """Undiscounted returns, float64 [E]."""


def _chunks(
    first: Chunk, wanted: int, submit: Submit, jobs: int
) -> Iterator[tuple[tuple[Array, ...], Recorded]]:
    """Yields chunks, as arguments of `Recording.append`, until `wanted` rows are recorded.

    The mean episode length of the first chunk determines the number of episodes of the others.
    """
    recorded = submit(record_chunk, first).result()
    yield _take(first), recorded
    got = int(recorded.lengths.sum())
    mean_length = got / len(first.episodes)
    episodes = max(PARALLEL, round(CHUNK_ROWS / mean_length))
    upcoming = first.episodes.stop
    pending: deque[tuple[Chunk, Future[Recorded]]] = deque()
    while got < wanted:
        # Not more chunks in advance than will probably be needed.
        while not pending or (
            len(pending) < 2 * jobs and got + len(pending) * episodes * mean_length < wanted
        ):
            chunk = replace(first, episodes=range(upcoming, upcoming + episodes))
            pending.append((chunk, submit(record_chunk, chunk)))
            upcoming += episodes
        chunk, future = pending.popleft()
        recorded = future.result()
        yield _take(chunk), recorded
        got += int(recorded.lengths.sum())


def _take(chunk: Chunk) -> tuple[Array, ...]:
    """The rows of a chunk, and the pictures before and after them if there are any."""
    with np.load(chunk.path) as file:
        rows, pictures, lengths = (file[name] for name in ("rows", "pictures", "lengths"))
    chunk.path.unlink()
    if not pictures.size:
        return (rows,)
    # Each episode has one picture more than rows.
    before = np.arange(len(rows)) + np.repeat(np.arange(len(lengths)), lengths)
    return rows, pictures[before], pictures[before + 1]


def record_chunk(chunk: Chunk) -> Recorded:
    """Plays the episodes of a chunk and writes their rows to its file, one after the other."""
    stage = _stage(chunk.task)
    behaviour = _behaviour(chunk.task, chunk.part.source)
    named = f"{chunk.task.partition('-')[0]}-{chunk.part.level}"
    seeds, noise_seeds = (
        [derive(chunk.seed, "generate", named, use, e) for e in chunk.episodes]
        for use in ("start", "noise")
    )
    slot = np.arange(PARALLEL)
    noise = np.zeros((PARALLEL, stage.limit, *stage.layout.action_shape), dtype=np.float32)
    layout = stage.layout
    current = np.zeros((PARALLEL, stage.limit, layout.stored.width), dtype=np.float32)
    columns = Columns.of(current, layout.stored)
    shape = layout.obs_shape if layout.images else (0,)
    pictures = np.zeros((PARALLEL, stage.limit + 1, *shape), np.uint8)
    episodes: list[tuple[Array, Array]] = [(np.empty(0), np.empty(0))] * len(seeds)

    def act(obs: Array, episode: Array, step: Array) -> Array:
        for v in np.flatnonzero((step == 0) & (episode >= 0)):
            generator = np.random.default_rng(noise_seeds[episode[v]])
            noise[v] = behaviour.draw(generator, stage.limit)
        return behaviour.act(obs, noise[slot, step])

    def record(
        episode: Array, step: Array, obs: Array, action: Array, reward: Array,
        terminated: Array, truncated: Array, next_obs: Array,
    ) -> None:  # fmt: skip
        if layout.images:
            pictures[slot, step], pictures[slot, step + 1] = obs, next_obs
        else:
            columns.obs[slot, step], columns.next_obs[slot, step] = obs, next_obs
        columns.action[slot, step] = action
        columns.reward[slot, step, 0] = reward
        columns.terminated[slot, step, 0] = terminated
        columns.truncated[slot, step, 0] = truncated
        for v in np.flatnonzero((terminated | truncated) & (episode >= 0)):
            end = step[v] + 1
            episodes[episode[v]] = current[v, :end].copy(), pictures[v, : end + 1].copy()

    # Some environments name a limit but leave its enforcement to a wrapper, which may be missing.
    returns = play(stage.envs, seeds, act, record, max_steps=stage.limit)
    lengths = np.array([len(rows) for rows, _ in episodes])
    rows, drawn = map(np.concatenate, zip(*episodes, strict=True))
    np.savez(chunk.path, rows=rows, pictures=drawn, lengths=lengths)
    return Recorded(lengths, returns)


@dataclass(frozen=True)
class _Stage:
    envs: Environments
    layout: Layout
    limit: int


@functools.lru_cache(maxsize=1)
def _stage(task: str) -> _Stage:
    """The environments of a worker, kept from chunk to chunk and from part to part."""
    envs, world = make_envs(find_task(task).make, PARALLEL, task), World.of(find_task(task))
    assert world.max_episode_steps is not None
    return _Stage(envs, world.layout, world.max_episode_steps)


@functools.lru_cache(maxsize=1)
def _behaviour(task: str, source: Weights | SB3Model | Controller | None) -> Behaviour:
    """The acting policy, kept from chunk to chunk."""
    stage = _stage(task)
    env = stage.envs
    box = env.action_space
    assert isinstance(box, spaces.Box)
    if source is None:
        return Uniform(box)
    if isinstance(source, Weights):
        if stage.layout.images:
            assert isinstance(env, Separate)
            worlds = [x.env for x in env.envs]
            return OnStates(Sampled(source, worlds[0].unwrapped.observation_space, box), worlds)
        return Sampled(source, env.observation_space, box)
    if isinstance(source, SB3Model):
        return SB3Policy(source.path, env.observation_space, box)
    return Controlled(source)
