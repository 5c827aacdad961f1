"""Runs analyses of finished runs, stores their results in a folder of the first run, and reads them.

analysis.json   settings, runs with the hashes of their checkpoints, main results, curves, and the hash of it all
columns.npz     raw results for each example
curves.csv      the curves, with intervals
curves.png      a plot of the curves, if matplotlib is installed
...             further files that the analysis makes
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlbench.backbones.analyses import load_analysis
from rlbench.benchmarks.training.run_folder import RunFolder, folder_name
from rlbench.benchmarks.training.versions import versions
from rlbench.benchmarks.zoo import output_folder
from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.files import write_atomically
from rlbench.trust import Trust, texts, with_names

if TYPE_CHECKING:
    from rlbench.backbones.analyses._base import Findings, Panel


@dataclass(frozen=True)
class AnalysisJob:
    """One analysis of some finished runs."""

    name: str
    """As in `rlbench list`."""
    settings: Mapping[str, Any]
    """Settings that differ from the defaults."""
    runs: tuple[Path, ...]
    """Folders of the runs."""
    out: Path | None = None
    """Where to write; by default a folder of the first run."""

    @property
    def folder(self) -> Path:
        """Where the results are: in the first run, next to the results of the same analysis with other settings or other runs."""
        if self.out is not None:
            return self.out
        name = output_folder(self.runs[0]) / "analyses" / folder_name(self.name)
        numbered = (name.with_name(f"{name.name}-{number}") for number in count(2))
        return next(x for x in chain([name], numbered) if self._belongs(x))

    def _belongs(self, folder: Path) -> bool:
        """Whether a folder has no undamaged results, or results of the same settings and runs."""
        try:
            facts, _ = _read(folder)
        except UserError:
            return True
        names = [Path(run).name for run in facts["runs"]]
        return facts["settings"] == self._settings() and names == [x.name for x in self.runs]

    def _settings(self) -> Any:
        """All settings, as JSON values."""
        config = load_analysis(self.name).Config(**self.settings)
        return json.loads(json.dumps(dataclasses.asdict(config)))

    def description(self) -> dict[str, Any]:
        """All that decides the results, as JSON values."""
        checkpoints = [_checkpoint_hash(run) for run in self.runs]
        return {
            "analysis": self.name, "settings": self._settings(), "checkpoints": checkpoints,
        }  # fmt: skip

    def complete(self) -> bool:
        """Whether there are undamaged results for these settings and checkpoints."""
        try:
            facts, _ = _read(self.folder)
        except UserError:
            return False
        return self.description().items() <= facts.items()


@dataclass(frozen=True)
class Analysed:
    """Stored results of an analysis."""

    name: str
    numbers: Mapping[str, float]
    panels: Sequence[Mapping[str, Any]]
    """`title`, `x_label` and `lines` with `name`, `x`, `value`, `low` and `high`; None stands for NaN."""
    columns: Mapping[str, NDArray[Any]]
    """Raw results for each example."""
    files: Sequence[str] = ()
    """Names of further files in its folder."""


def read_analysis(folder: Path) -> Analysed:
    """The results in a folder.

    Raises:
        UserError: The folder has no results, or they are damaged.
    """
    facts, content = _read(folder)
    with np.load(io.BytesIO(content), allow_pickle=False) as saved:
        columns = dict(saved)
    return Analysed(
        facts["analysis"], facts["numbers"], facts["panels"], columns, facts.get("files", ())
    )


def perform(
    job: AnalysisJob, *, trust: Trust = False, say: Callable[[str], object] = lambda _: None
) -> "Findings":
    """Runs an analysis and writes its results.

    Args:
        job: The analysis and its runs.
        say: Called with results that are known before the end of a long analysis, in words.
        trust: Whether custom code that the folders of the runs name may be imported, or the names that may; names in
            the settings of the analysis may in any case.

    Raises:
        UserError: The runs do not suit the analysis, or name custom code that is not trusted.
    """
    # Imported here, so that stored results can be read without loading PyTorch.
    import torch

    from rlbench.benchmarks.training.loading import examples_of_run, load_run, task_of
    from rlbench.benchmarks.training.playing import moments, observed, play
    from rlbench.envs.tasks import Task, find_task
    from rlbench.interface import Agent, Learner, Model, evaluating
    from rlbench.offline_data.examples import open_examples

    kind = load_analysis(job.name)
    analysis = kind(kind.Config(**job.settings))
    surplus = len(job.runs) - len(kind.runs)
    if surplus < 0 or (surplus > 0 and not kind.several):
        raise UserError(
            f"{job.name} needs {' and '.join(kind.runs)}; got {len(job.runs)} run{'s' * (len(job.runs) != 1)}"
        )
    allowed = (Model, Agent) if kind.agents else Model
    trust = with_names(trust, texts(job.settings))
    learners: list[Learner] = []
    tasks: list[Task] = []
    for path, what in zip(job.runs, [*kind.runs, *kind.runs[-1:] * surplus], strict=True):
        learner, its_task = load_run(path, trust=trust)
        if not isinstance(learner, allowed):
            raise UserError(f"{path} is the run of a {type(learner).__name__}; give {what}")
        if tasks and its_task.name != tasks[0].name:
            raise UserError(
                f"{path} is a run on {its_task.name}, but {job.runs[0]} is on {tasks[0].name}; give runs on the same task"
            )
        learners.append(learner)
        tasks.append(its_task)
    config = RunFolder(job.runs[0]).config()["run"]
    examples = {}
    if isinstance(learners[0], Model):
        examples[tasks[0].name] = examples_of_run(job.runs[0], trust=trust).test
        for other in analysis.other_tasks:
            # A source needs at least one training example, which is not used here.
            examples[other] = open_examples(find_task(other), 1, config["seed"]).test
    analysis.say = say
    analysis.folders = [path.resolve() for path in job.runs]
    analysis.history = partial(_history, learners[0], job.runs[0])
    analysis.environment = tasks[0].make
    analysis.task = tasks[0].name

    def played(name: str, *words: Any, run: int = 0, **more: Any) -> Mapping[str, NDArray[Any]]:
        learner, own = learners[run], tasks[run]
        task = own if name == own.name else task_of(name, type(learner), learner.config)
        return play(learner, config["seed"], task, *words, **more)

    analysis.play = played
    if isinstance(learners[0], Agent):
        analysis.observations = partial(observed, learners[0], tasks[0], config["seed"])
        analysis.moments = partial(moments, learners[0], tasks[0], config["seed"])
    analysis.untrained = partial(_untrained, learners[0], config["seed"])
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for learner in learners:
            stack.enter_context(evaluating(learner))
        try:
            found = analysis.analyse(learners, examples)
        except UserError:
            raise
        except FAILURES as error:
            if kind.__module__.startswith("rlbench."):
                raise
            raise raised_by(job.name, "analyse", error, "analysis") from error
    _write(job, found)
    return found


def _untrained(learner: Any, seed: int) -> Any:
    """A new learner with the settings and the seed of a trained one, in evaluation mode."""
    from torch import nn

    fresh = type(learner)(learner.config, learner.spec, seed=seed, device=learner.device)
    for part in vars(fresh).values():
        if isinstance(part, nn.Module):
            part.eval()
    return fresh


def _history(learner: Any, path: Path) -> Iterator[tuple[int, Any]]:
    """The learner of a run at each snapshot; the same object in another state each time."""
    from rlbench.benchmarks.training.loading import loadable_state

    for update, state in RunFolder(path).snapshots(learner.device):
        learner.load_state_dict(loadable_state(learner, state))
        yield update, learner


def _write(job: AnalysisJob, found: "Findings") -> None:
    """Writes all files, analysis.json last, because it marks the results as complete.

    Until then its hash does not fit columns.npz, so that results of two analyses are never taken for one.
    """
    folder = job.folder
    with contextlib.suppress(UserError):
        for old in set(_read(folder)[0].get("files", ())) - found.files.keys():
            (folder / old).unlink(missing_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found.columns)  # type: ignore[arg-type]
    write_atomically(folder / "columns.npz", buffer.getvalue())
    drawn = {name: x.encode() if isinstance(x, str) else x for name, x in found.files.items()} | {
        "curves.csv": _csv(found.panels).encode() if found.panels else None,
        "curves.png": _picture(found.panels) if found.panels else None,
    }
    for name, content in drawn.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_atomically(folder / name, content)
    panels = [
        {
            "title": panel.title,
            "x_label": panel.x_label,
            "lines": [
                {"name": line.name, "x": list(map(float, line.x))}
                | {part: _plain(getattr(line, part)) for part in ("value", "low", "high")}
                for line in panel.lines
            ],
        }
        for panel in found.panels
    ]
    numbers = {name: None if math.isnan(x) else x for name, x in found.numbers.items()}
    whole = job.description() | {
        "runs": [str(path) for path in job.runs], "numbers": numbers, "panels": panels, "versions": versions(),
        "files": sorted(found.files),
    }  # fmt: skip
    whole["hash"] = _hash(whole, buffer.getvalue())
    write_atomically(folder / "analysis.json", (json.dumps(whole, indent=1) + "\n").encode())


def _plain(values: NDArray[Any]) -> list[float | None]:
    return [None if math.isnan(x) else x for x in map(float, values)]


def _csv(panels: Sequence["Panel"]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["panel", "line", "x", "mean", "low", "high"])
    for panel in panels:
        for line in panel.lines:
            for row in zip(line.x, line.value, line.low, line.high, strict=True):
                writer.writerow(
                    [panel.title, line.name, *("" if math.isnan(x) else f"{x:.6g}" for x in row)]
                )
    return text.getvalue()


def _picture(panels: Sequence["Panel"]) -> bytes | None:
    """The curves as a PNG file; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    figure = Figure(figsize=(6.4, 2.8 * len(panels)), layout="constrained")
    every = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, panel in zip(every, panels, strict=True):
        for line in panel.lines:
            (drawn,) = axes.plot(line.x, line.value, label=line.name)
            axes.fill_between(line.x, line.low, line.high, color=drawn.get_color(), alpha=0.2)
        axes.set_title(panel.title, fontsize="medium")
        axes.set_xlabel(panel.x_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _checkpoint_hash(run: Path) -> str:
    """SHA-256 of the JSON file of a run's last checkpoint, which has the hash of its contents."""
    there = sorted((RunFolder(run).path / "checkpoint").glob("update-*.json"))
    if not there:
        raise UserError(f"{run} has no checkpoint yet; let the run continue for longer")
    return hashlib.sha256(there[-1].read_bytes()).hexdigest()


def _hash(facts: Mapping[str, Any], columns: bytes) -> str:
    """SHA-256 of the contents of analysis.json, apart from this hash itself, and of columns.npz."""
    return hashlib.sha256(json.dumps(facts).encode() + columns).hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The contents of analysis.json, and of columns.npz as bytes.

    Raises:
        UserError: The folder has no results, or they are damaged.
    """
    if not (folder / "analysis.json").exists():
        raise UserError(f"{folder} holds no analysis; make one with `rlbench analyse`")
    try:
        facts, columns = (
            json.loads((folder / "analysis.json").read_bytes()), (folder / "columns.npz").read_bytes(),
        )  # fmt: skip
        if facts.pop("hash", None) == _hash(facts, columns):
            return facts, columns
        reason = "its hash differs"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    raise UserError(f"the analysis in {folder} is damaged ({reason}); make it again")
