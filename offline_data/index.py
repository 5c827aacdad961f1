"""Information on data sets without opening them, and checks of files."""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rlbench.envs import data_names
from rlbench.envs.d4rl.names import D4RLName
from rlbench.envs.data_names import DataName
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.files import explaining_os_errors, file_hash
from rlbench.offline_data import stamp
from rlbench.offline_data.cache import cache_folder
from rlbench.offline_data.formats import d4rl
from rlbench.offline_data.formats._download import download
from rlbench.offline_data.recording import policy_cards as cards
from rlbench.offline_data.recording.mixtures import Part, described, recipe
from rlbench.offline_data.recording.policy_cards import Weights


@dataclass(frozen=True)
class DataRow:
    """A line of `rlbench data list`."""

    name: str
    """The short name."""
    d4rl_file: Path | None
    """D4RL's own file, if it has been downloaded."""
    generated_by: str | None
    """The policies that generate it, with D4RL scores; None if a policy is not shipped."""
    cached: tuple[int, ...]
    """Sizes of the generated data sets in the cache."""


def list_data() -> list[DataRow]:
    """All names and what is available for each."""
    rows = []
    for short in data_names.short_names():
        name = _parse(short)
        parts = _parts(name)
        cached = tuple(p["details"]["transitions"] for p in _cached(short))
        file = d4rl.local_file(name) if isinstance(name, D4RLName) else None
        rows.append(DataRow(short, file, described(parts) if parts else None, cached))
    return rows


def data_info(name: str) -> dict[str, Any]:
    """All information on a data set's name, in plain values."""
    parsed = _parse(name)
    parts = _parts(parsed)
    return {
        "name": str(parsed),
        "environment": data_names.environment(parsed),
        "reference_returns": list(data_names.reference_returns(parsed)),
        "d4rl": _published(parsed) if isinstance(parsed, D4RLName) else None,
        "generated_by": described(parts) if parts else None,
        "policies": _policies(parts) if parts else None,
        "cached": _cached(f"{parsed.family}-{parsed.level}"),
    }


def get_data(name: str, progress: Callable[[int, int], None]) -> Path:
    """Downloads D4RL's own file of a name into D4RL's folder, unless it is already there.

    Raises:
        UserError: It cannot be downloaded, or another file is in its place.
    """
    parsed = _parse(name)
    if not isinstance(parsed, D4RLName):
        raise UserError(f"D4RL published no data set {name}; `rlbench data make {name}` records it")
    published, target = d4rl.published(parsed), d4rl.target(parsed)
    if not target.exists():
        download(
            d4rl.url_of(parsed),
            target,
            size=published.size,
            sha256=published.sha256,
            progress=progress,
        )
    elif file_hash(target) != published.sha256:
        raise UserError(
            f"{target} is not the file that D4RL published as {parsed}; move it away and run the "
            "same command again"
        )
    return target


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    level: Literal["error", "warning", "note"]
    text: str


def check_data(target: str, task: Task | None = None) -> list[Finding]:
    """Reads a whole file and reports what is wrong or unusual in it.

    Args:
        target: One of D4RL's names, or what `data_file` takes.
        task: The task that it must fit; by default the task of its name, if it has one.
    """
    import torch

    from rlbench.offline_data.dataset import DataSet
    from rlbench.offline_data.formats._reader import World
    from rlbench.offline_data.opening import data_file, format_of

    name = data_names.parse(target)
    file = d4rl.target(name) if isinstance(name, D4RLName) else data_file(target)
    named = name or data_names.parse(file.stem.replace("_", "-"))
    task = task or (find_task(str(named)) if named else None)
    reader = format_of(file)
    try:
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Its warnings are also in the provenance.
            folder = Path(temporary)
            world = World.of(task) if task else reader.world_of(file)
            with explaining_os_errors(folder):
                reader.read(file, folder, world, lambda done, total: None)
            data = DataSet(folder)
    except UserError as error:
        return [Finding("error", str(error))]
    provenance, details = data.provenance, data.provenance.details
    limit = "at terminals and at the step limit"
    if world.max_episode_steps is None:
        limit = "only at terminals, because the step limit is unknown; give --env with a task that has one"
    findings = [
        Finding("warning", sentence.format(**details, limit=limit))
        for key, sentence in _REMARKS.items()
        if key in details
    ]
    if isinstance(named, D4RLName) and provenance.kind == "file":
        findings.append(Finding("warning", f"it is not the file that D4RL published as {named}"))
    still = data.obs_std <= torch.finfo(torch.float32).eps * data.obs_mean.abs()
    if still.any():
        text = f"{int(still.sum())} of {still.numel()} components of the observations never vary"
        findings.append(Finding("note", text))
    mean, score = details["mean_return"], details["score"]
    text = f"{provenance.kind}: {details['transitions']:,} transitions"
    text += f" of {details['rows_in_file']:,} rows" if "rows_in_file" in details else ""
    text += f", {details['episodes']:,} complete episodes"
    text += "" if mean is None else f", mean return {mean:,.1f}"
    text += "" if score is None else f", score {score:.1f}"
    return [*findings, Finding("note", text)]


_REMARKS = {
    "timeouts": "timeouts are {timeouts}, so episodes end {limit}",
    "terminals_at_time_outs": "all time-outs ({terminals_at_time_outs}) are also marked as terminals, "
    "and are treated as time-outs only",
    "terminals_at_the_limit_of_steps": "terminals at the step limit "
    "({terminals_at_the_limit_of_steps}) are treated as time-outs",
    "timeouts_added_at_the_limit_of_steps": "{timeouts_added_at_the_limit_of_steps} episodes reach "
    "the step limit without a flag, so they are treated as timed out",
    "probable_limit_of_steps": "{probable_limit_of_steps[terminals]} episodes end with a terminal after "
    "exactly {probable_limit_of_steps[steps]} steps and none is longer, so this is probably a step "
    "limit; if so, mark those rows as time-outs, or give --env with a task that has this limit",
    "next_obs_of_the_next_episode": "the last next observation of {next_obs_of_the_next_episode} "
    "episodes is the first observation of the next episode, which is wrong unless nothing was reset; "
    "remove next_observations from the file, and transitions at time-outs are left out",
    "next_obs_of_zeros": "the last next observation of {next_obs_of_zeros} episodes is all zeros; "
    "unless that is true, remove next_observations from the file, and transitions at time-outs are left out",
    "next_obs_copied": "in {next_obs_copied} rows the next observation is the observation itself; remove "
    "next_observations from the file",
    "next_obs_copied_at_ends": "the last next observation of {next_obs_copied_at_ends} episodes is the "
    "observation itself, unlike inside episodes; unless that is true, remove next_observations from the "
    "file, and transitions at time-outs are left out",
    "next_obs_alike_at_ends": "the last next observation is the same in all {next_obs_alike_at_ends} "
    "episodes; unless that is true, remove next_observations from the file, and transitions at time-outs "
    "are left out",
    "limit_of_steps_exceeded": "{limit_of_steps_exceeded} episodes are marked as timed out after more steps "
    "than the environment allows, so its step limit is not used",
    "next_obs_apart_from_the_next_row": "in {next_obs_apart_from_the_next_row} rows inside episodes "
    "the next observation differs from the observation of the next row, so ends of episodes may be "
    "missing",
    "episodes_without_end": "{episodes_without_end} episodes have no end, so they are treated as timed out",
    "contact_forces": "all contact forces are 0, as in D4RL's own files, so evaluations set them to 0 "
    "too and leave out their cost",
    "clipped_actions": "{clipped_actions} actions lie up to {clipped_by_at_most:.3g} outside the "
    "action space, so they are clipped",
}
"""The findings and repairs of a reader, in words."""


def _parse(name: str) -> DataName:
    parsed = data_names.parse(name)
    if parsed is None:
        raise UserError(f"there is no data set {name!r}; `rlbench data list` shows all data sets")
    return parsed


def _published(name: D4RLName) -> dict[str, Any]:
    """Location of D4RL's own file."""
    published, file = d4rl.published(name), d4rl.local_file(name)
    return {
        "url": d4rl.url_of(name),
        "bytes": published.size,
        "sha256": published.sha256,
        "file": None if file is None else str(file),
    }


def _parts(name: DataName) -> tuple[Part, ...] | None:
    """The policies that record a data set; None if a policy is not shipped."""
    try:
        return recipe(name)
    except UserError:
        return None


def _policies(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """Metadata of the behaviours that record a data set, in plain values."""
    known: dict[object, dict[str, Any]] = {}  # once for each ladder
    for part in parts:
        if isinstance(part.source, Weights):
            level = part.source.file.stem.partition("-")[2]
            known[part.source.file] = {"level": level} | asdict(cards.card(part.source.file))
        else:
            known[part] = {"level": part.level, "share": part.share, "behaviour": part.key}
    return list(known.values())


def _cached(title: str) -> list[dict[str, Any]]:
    """Provenance of the generated data sets in the cache."""
    found = []
    for meta in sorted(cache_folder().glob(f"{title}-{'[0-9a-f]' * 16}/meta.json")):
        if not stamp.is_true(meta.parent, [meta.name]):
            continue  # changed or damaged; it will be made again when it is opened
        provenance = json.loads(meta.read_text(encoding="utf-8"))["provenance"]
        if provenance["name"] == title:  # and not a file of that name
            found.append(provenance)
    return found
