"""The run from which `--pretrained` takes its weights: a folder, or the choice of `rlbench analyse transfers`."""

import json
from pathlib import Path

from rlbench.backbones.models.pretext import Pretext
from rlbench.errors import UserError
from rlbench.interface import Learner

AUTO, TARGET = "auto:", ",target="
USUAL = "return"
"""Target of a learner that is not a run of `pretext`, such as an agent."""


def pretrained_folder(given: str, learner: Learner) -> Path:
    """The folder of the run.

    Args:
        given: A folder, or `auto:FILE` or `auto:FILE,target=NAME` with the transfers.json of an analysis.
        learner: The learner that is initialised. Without NAME the target is the objective of a `Pretext`, and `return` for every other learner.

    Raises:
        UserError: The file cannot be read, or has no such target.
    """
    if not given.startswith(AUTO):
        return Path(given)
    file, _, named = given.removeprefix(AUTO).partition(TARGET)
    target = named or (learner.config.objective if isinstance(learner, Pretext) else USUAL)
    try:
        runs = {
            name: str(x["run"])
            for name, x in json.loads(Path(file).read_bytes())["targets"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--pretrained {given}: {file} cannot be read ({error}); give the transfers.json of `rlbench analyse transfers`"
        ) from error
    if target not in runs:
        raise UserError(
            f"--pretrained {given}: {file} serves {', '.join(runs)}, but not {target}; give auto:{file},target=NAME with one of them"
        )
    return Path(runs[target])
