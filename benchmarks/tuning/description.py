"""The file study.json in the folder of a study: everything that decides its trials, apart from their number."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlbench.benchmarks.tuning.spaces import Choice, Interval, Searched
from rlbench.benchmarks.tuning.study import JOURNAL, Study
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.measures import Measure

FILE = "study.json"
BEST = "best.json"
"""File with the best settings, for the option `--settings`."""


@dataclass(frozen=True)
class Description:
    """What a study searches."""

    learner: str
    task: str
    settings: Mapping[str, Any]
    """Settings that differ from the defaults and are the same in all trials."""
    run: Mapping[str, Any]
    """Options of `rlbench run` that differ from the defaults; `steps` for a length in environment steps."""
    searched: tuple[Searched, ...]
    seeds: int
    """Runs of each trial, with the seeds from 0 on."""
    seed: int
    """Seed of the proposals."""
    prune: bool
    """Whether bad trials end early."""
    stages: int
    """Stages of a trial; at the end of each it may be pruned."""
    measure: Measure
    """What is optimised: the learner's headline measure."""

    def keep(self, folder: Path) -> None:
        """Writes the file of a new study.

        Raises:
            UserError: The folder holds another study, or a run.
        """
        if (folder / "config.json").exists():
            raise UserError(f"{folder} holds a run; give another --out for the study")
        mine = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        if not (folder / FILE).exists():
            write_atomically(folder / FILE, (json.dumps(mine, indent=1) + "\n").encode())
            return
        other = _read(folder)
        differing = [
            f"{name} is {json.dumps(other.get(name))}, not {json.dumps(value)}"
            for name, value in mine.items()
            if other.get(name) != value
        ]
        if differing:
            raise UserError(
                f"{folder} holds another study: {'; '.join(differing)}; give the options of that study, or another --out"
            )

    @classmethod
    def kept(cls, folder: Path) -> "Description":
        """The description in the folder of a study.

        Raises:
            UserError: The file is damaged.
        """
        plain = _read(folder)
        try:
            searched = tuple(map(_searched, plain.pop("searched")))
            measure = Measure.from_json(plain.pop("measure"))
            return cls(**plain, searched=searched, measure=measure)
        except (KeyError, TypeError, AttributeError):
            raise _damaged(folder) from None

    def study(self, folder: Path) -> Study:
        """The trials in the folder."""
        maximise = self.measure.higher_is_better
        return Study(folder, self.searched, self.seed, maximise=maximise)


def study_folders(folders: Iterable[Path]) -> list[Path]:
    """The folders of studies among folders and everything below them, in order, each once."""
    found = [file.parent for folder in folders for file in sorted(folder.glob(f"**/{JOURNAL}"))]
    return list({path.resolve(): path for path in found}.values())


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FILE).read_bytes())
        return dict(found)
    except (ValueError, TypeError):
        raise _damaged(folder) from None


def _damaged(folder: Path) -> UserError:
    return UserError(f"{folder / FILE} is damaged; restore it from a copy, or give another --out")


def _searched(plain: Mapping[str, Any]) -> Searched:
    space = plain["space"]
    made = Choice(tuple(map(_tuple, space["values"]))) if "values" in space else Interval(**space)
    return Searched(plain["name"], made, _tuple(plain["default"]))


def _tuple(value: Any) -> Any:
    """A value from JSON, where tuples became lists."""
    return tuple(value) if isinstance(value, list) else value
