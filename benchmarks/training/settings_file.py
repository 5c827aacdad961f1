"""Files with settings of a learner, such as the best ones of a study.

    {"learner": "td3", "settings": {"learning_rate": 0.001, "batch_size": 128}}

Other entries, such as the result of a study, are for readers only.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rlbench.benchmarks.training.learners import load_learner
from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file


def read_settings(file: Path) -> tuple[str, dict[str, Any]]:
    """The learner that a file of settings names, and its settings, which are not checked; lists become tuples.

    Raises:
        UserError: The file is missing or is no file of settings.
    """
    refuse_other_than_file(file)
    try:
        found = json.loads(file.read_bytes())
        learner, settings = str(found["learner"]), dict(found["settings"])
    except FileNotFoundError:
        raise UserError(
            f"there is no file {file}; give a file of settings, such as the best.json of a study"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        example = '{"learner": "td3", "settings": {"learning_rate": 0.001}}'
        raise UserError(
            f"{file} is not a file of settings; give a JSON file such as {example}"
        ) from None
    return learner, {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def settings_for(learner: str, file: Path) -> dict[str, Any]:
    """The settings that a file has for a learner.

    Raises:
        UserError: The file is for another learner, or has a setting that the learner does not have; see also `read_settings`.
    """
    named, settings = read_settings(file)
    if named != learner:
        raise UserError(
            f"{file} has settings of {named}, not of {learner}; give a file for {learner}, or run {named}"
        )
    known = [field.name for field in fields(load_learner(learner).Config)]
    for name in settings:
        if name not in known:
            raise UserError(f"{file}: {no_setting(learner, name, known)}")
    return settings


def no_setting(learner: str, name: str, known: Sequence[str]) -> str:
    """The part of an error that says that a learner has no such setting, with the closest name."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(known)}"
    return f"{learner} has no setting {name!r}; {hint}"
