"""Opens the data set of a task: finds, reads or generates it, through the cache."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rlbench.compute import release_freed_memory
from rlbench.envs.d4rl.names import D4RLName
from rlbench.envs.data_names import DataName
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file
from rlbench.offline_data.cache import entry, open_or_make
from rlbench.offline_data.dataset import DataSet
from rlbench.offline_data.formats import d4rl, hdf5, minari
from rlbench.offline_data.formats._reader import READER_VERSION, Progress, World
from rlbench.offline_data.recording.mixtures import described

Notify = Callable[[str], None]
MINARI = "minari:"
"""Prefix of the ids of Minari's data sets."""


def _ignore(*_: object) -> None:
    pass


def open_data(
    task: Task,
    source: str = "auto",
    *,
    size: int = 1_000_000,
    seed: int = 0,
    jobs: int = 0,
    notify: Notify = _ignore,
    progress: Progress = _ignore,
) -> DataSet:
    """The data set of a task.

    Args:
        task: The task that it must fit.
        source: `auto` (D4RL's own file if it is in D4RL's folder, otherwise generated),
            `generated`, `d4rl`, `minari:ID`, the path of an HDF5 file in D4RL's format or of the folder of a
            data set in Minari's, or the path of a Stable-Baselines3 model (`.zip`), which then generates the data.
        size: Transitions to generate.
        seed: Seed of the generated episodes.
        jobs: Processes that generate data; 0 means one per core.
        notify: Called with a sentence before a step that takes long.
        progress: Called with transitions done and total transitions during generation or reading.

    Raises:
        UserError: There are no such data, or they are damaged or do not fit the task.
    """
    if source == "auto":
        name = _name(task)
        local = isinstance(name, D4RLName) and d4rl.local_file(name)
        source = "d4rl" if local else "generated"
    if source == "generated" or source.endswith(".zip"):
        return _generated(task, source, size, seed, jobs, notify, progress)
    if source == "d4rl":
        name = _name(task)
        if not isinstance(name, D4RLName):
            raise UserError(f"D4RL published no data set {name}; leave --data out to generate it")
        file = d4rl.local_file(name)
        if file is None:
            raise UserError(
                f"{name}: D4RL's file is not in {d4rl.folder()}; `rlbench data get {name}` "
                "downloads it"
            )
    else:
        file = data_file(source)
    return _read(file, task, notify, progress)


def data_file(source: str) -> Path:
    """The HDF5 file of a source: `minari:ID`, the path of a file, or the folder of a data set in Minari's format.

    Raises:
        UserError: Minari's data set has not been downloaded.
    """
    if source.startswith(MINARI):
        return minari.find(source.removeprefix(MINARI))
    file = Path(source).expanduser()
    inside = file / "data" / "main_data.hdf5"
    return inside if inside.is_file() else file


def format_of(file: Path) -> ModuleType:
    """The module that reads a file: `minari` or `hdf5`, by the file alone."""
    return minari if minari.holds(file) else hdf5


def _name(task: Task) -> DataName:
    if task.data is None:
        raise UserError(
            f"the task {task.name!r} has no data set of its own; give --data FILE, an HDF5 file in "
            "D4RL's format, or --data minari:ID"
        )
    return task.data


def _generated(
    task: Task, source: str, size: int, seed: int, jobs: int, notify: Notify, progress: Progress
) -> DataSet:
    # It needs agents, whose import takes a while.
    from rlbench.offline_data.recording import generate

    if source == "generated":
        plan = generate.make_plan(_name(task), size, seed)
    else:
        plan = generate.plan_by_model(task, Path(source).expanduser(), size, seed)
    folder = entry(plan.title, plan.key)

    def make(part: Path) -> None:
        notify(
            f"generating {size:,} transitions of {plan.title} by {described(plan.parts)}, once; "
            "they are kept"
        )
        generate.generate(plan, part, jobs, task.score, progress)

    return open_or_make(folder, make, notify)


def _read(file: Path, task: Task, notify: Notify, progress: Progress) -> DataSet:
    if not file.exists():
        raise UserError(
            f"there is no file {file}; give `auto`, `generated`, `d4rl`, `minari:ID` or the path "
            "of an HDF5 file or of a model (.zip)"
        )
    refuse_other_than_file(file)
    stat, world = file.stat(), World.of(task)
    key = {
        "reader": READER_VERSION,
        "file": str(file.resolve()),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "world": str(world),
    }

    def make(part: Path) -> None:
        notify(f"reading {file} (once; a copy is kept for the next time)")
        format_of(file).read(file, part, world, progress)
        release_freed_memory()

    return open_or_make(entry(file.stem[:40], key), make, notify)
