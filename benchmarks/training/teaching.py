"""What an agent saw and did as labelled examples, from which a network can learn to act alike.

The agent is a trained one, which acts now, or the one that recorded offline data. Training and test examples are from
different episodes, whose steps follow each other.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.benchmarks.training.evaluation import MAX_ENVS, EpisodesEvaluator
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.envs.contract import as_tensor
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.interface import Agent, Learner, evaluating
from rlbench.offline_data import open_data
from rlbench.seeding import derive
from rlbench.trust import Trust

Array = NDArray[Any]

TESTS = 4
"""Training examples for each test example."""
BATCH = 1_024
"""Observations at once for which scores are computed."""


def write_examples(
    run: Path, size: int, out: Path, progress: Callable[[int], object], *, trust: Trust = False
) -> None:
    """Writes the observations and actions of a trained agent as a file of labelled examples.

    If the agent has no memory, the column `scores` holds the logits or values of the actions, by which it chose.

    Args:
        run: Folder of the agent's run.
        size: Number of training examples; a quarter as many test examples are added.
        out: An .npz file, which the task of its name reads.
        progress: Called with the number of examples so far.
        trust: Whether custom code that the folder names may be imported, or the names that may.

    Raises:
        UserError: The agent's actions are not discrete, or a value is out of range.
    """
    _check(size, out)
    write_columns(_of_run(run, size, progress, trust=trust), out)


def _of_run(
    run: Path, size: int, progress: Callable[[int], object], *, trust: Trust = False
) -> dict[str, Array]:
    """The columns of a file of examples of an agent; see `write_examples`."""
    agent, task = load_agent_run(run, trust=trust)
    if not isinstance(agent.spec.action_space, spaces.Discrete):
        raise UserError(
            f"the actions of {run} are {agent.spec.action_space}; give the run of an agent with discrete actions, which "
            "are the classes of the examples"
        )
    seed = RunFolder(run).config()["run"]["seed"]
    columns: dict[str, Array] = {}
    with evaluating(agent):
        for split, first, count in (("train", 0, size), ("test", size, size // TESTS)):
            drawn = derive(seed, "examples", split)
            obs, action = recorded(agent, task, count, drawn, partial(_advance, progress, first))
            columns |= {f"{split}/obs": obs, f"{split}/label": action}
            # An agent with a memory chooses by more than an observation, and one from another package may have no scores.
            remembers = agent.act(as_tensor(obs[:1], agent)).state is not None
            if not remembers and type(agent).scores is not Learner.scores:
                columns[f"{split}/scores"] = _scores(agent, obs)
    return columns


@torch.no_grad()
def _scores(agent: Agent, obs: Array) -> Array:
    """Logits or values of the actions, by which the agent chose, float32 [N, A]."""
    parts = np.split(obs, range(BATCH, len(obs), BATCH))
    found = [agent.scores(as_tensor(part, agent).float()) for part in parts]
    return torch.cat(found).cpu().numpy()


def write_clients(
    runs: Sequence[Path],
    size: int,
    clients: int,
    out: Path,
    progress: Callable[[int], object],
    *,
    trust: Trust = False,
) -> None:
    """Writes the observations and actions of several trained agents as clients of federated learning.

    Every client knows consecutive steps of one agent, and all clients the same number of steps.

    Args:
        runs: Folders of runs of agents on the same task.
        size: Number of training examples, of each agent equally many; a quarter as many test examples are added.
        clients: Number of clients, a multiple of the number of agents.
        out: An .npz file, which the task of its name reads.
        progress: Called with the number of examples so far.
        trust: See `write_examples`.

    Raises:
        UserError: The numbers do not fit, the actions are not discrete, or the agents have different observations.
    """
    _check(size, out)
    each, own = size // len(runs), clients // len(runs)
    if clients % len(runs) or own * TESTS > each:
        raise UserError(
            f"there are {len(runs)} runs, {clients} clients and {size} examples; give a multiple of {len(runs)} clients, and at least "
            f"{TESTS} examples for each client"
        )
    parts = []
    for number, run in enumerate(runs):
        first = number * (each + each // TESTS)
        parts.append(_of_run(run, each, partial(_advance, progress, first), trust=trust))
    steps = each // own
    columns: dict[str, Array] = {}
    for name in parts[0]:
        # Test sets are as large as those of clients.
        sets = [x[name][: len(x[name]) // steps * steps] for x in parts]
        if len({x.shape[1:] for x in sets}) > 1:
            raise UserError(
                f"the agents have observations of the shapes {', '.join(str(x.shape[1:]) for x in sets)}; give runs on the same task"
            )
        columns[name] = np.concatenate([x.reshape(-1, steps, *x.shape[1:]) for x in sets])
    write_columns(columns, out)


def write_examples_of_data(task: Task, source: str, size: int, out: Path) -> None:
    """Writes the observations and actions of offline data as a file of labelled examples.

    Args:
        task: The task of the data; its actions are discrete.
        source: See `rlbench.offline_data.open_data`.
        size: Number of training examples; a quarter as many test examples, from later episodes, are added.
        out: See `write_examples`.

    Raises:
        UserError: The actions are not discrete, the data are too few, or a value is out of range.
    """
    _check(size, out)
    with closing(task.make()) as env:
        space = env.action_space
    if not isinstance(space, spaces.Discrete):
        raise UserError(
            f"the actions of {task.name} are {space}; give data of a task with discrete actions, which are the classes of "
            "the examples"
        )
    data = open_data(task, source)
    tests = size // TESTS
    later = data.episode_bounds[data.episode_bounds >= size]
    if not len(later) or len(data) - later[0] < tests:
        raise UserError(
            f"the data have {len(data):,} transitions, but {size:,} training and {tests:,} test examples from different "
            "episodes need more; give a smaller --size"
        )
    columns: dict[str, Array] = {}
    for split, first, count in (("train", 0, size), ("test", int(later[0]), tests)):
        rows = data.take(torch.arange(first, first + count))
        action = rows.action.reshape(count).long() - int(space.start)
        columns |= {f"{split}/obs": rows.obs.numpy(), f"{split}/label": action.numpy()}
    write_columns(columns, out)


def _check(size: int, out: Path) -> None:
    if size < TESTS:
        raise UserError(f"size is {size}; give {TESTS} or more")
    if out.suffix != ".npz":
        raise UserError(f"{out} has no name of examples; give a file that ends in .npz")


def write_columns(columns: Mapping[str, Array], out: Path) -> None:
    """Writes columns, such as `train/obs`, as an .npz file."""
    content = io.BytesIO()
    np.savez_compressed(content, **columns)  # type: ignore[arg-type]
    write_atomically(out, content.getvalue())


def recorded(
    agent: Agent, task: Task, count: int, seed: int, progress: Callable[[int], object]
) -> tuple[Array, Array]:
    """Observations [N, ...] and actions of an agent without exploration, episode by episode.

    Discrete actions are counted from 0, [N]; others are [N, A].

    Args:
        agent: The agent.
        task: Where it acts.
        count: Number of steps, N.
        seed: Decides the episodes.
        progress: Called with the number of steps after each round of episodes.
    """
    evaluator = EpisodesEvaluator(task, MAX_ENVS)
    seen: list[tuple[Array, Array]] = []
    rounds = 0
    try:
        while (steps := sum(len(action) for _, action in seen)) < count:
            progress(steps)
            episodes: list[list[tuple[Array, Array]]] = [[] for _ in range(MAX_ENVS)]

            def record(
                episode: Array, step: Array, obs: Array, action: Array, reward: Array,
                terminated: Array, truncated: Array, next_obs: Array,
            ) -> None:  # fmt: skip
                for v in np.flatnonzero(episode >= 0).tolist():
                    episodes[episode[v]].append((obs[v], action[v]))  # noqa: B023

            evaluator.returns(agent, derive(seed, "round", rounds), record=record)
            rounds += 1
            seen += [
                (np.array([x for x, _ in one]), np.array([a for _, a in one])) for one in episodes
            ]
    finally:
        evaluator.envs.close()
    progress(count)
    obs, action = (np.concatenate(column)[:count] for column in zip(*seen, strict=True))
    if isinstance(agent.spec.action_space, spaces.Discrete):
        action = action.astype(np.int64) - int(agent.spec.action_space.start)
    return obs, action


def _advance(progress: Callable[[int], object], first: int, done: int) -> None:
    """Reports examples after the first ones."""
    progress(first + done)
