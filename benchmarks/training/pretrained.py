"""The run from which weights are taken.

`--pretrained` names it by its folder or by the file of `rlbench analyse transfers`, `--encoder objects:RUN`, `keypoints:RUN`, `codes:RUN` or `classes:RUN`
by the folder of a trained network.
"""

import json
from pathlib import Path

import torch

from rlbench.backbones.encoders import ENCODERS
from rlbench.backbones.encoders._base import FromRun
from rlbench.backbones.models.pretext import Pretext
from rlbench.benchmarks.training.run_folder import RunFolder
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


def detector_options(encoder: str, run: str) -> str:
    """The options of an encoder for the network that a run trained.

    Args:
        encoder: One of `FROM_RUNS`.
        run: The folder of a run of the encoder's model.

    Raises:
        UserError: It is not such a run, or has no checkpoint.
    """
    layers: type[FromRun] = ENCODERS.load(encoder).layers
    folder = RunFolder(Path(run))
    learner = folder.config()["learner"]
    if learner["name"] not in layers.models:
        raise UserError(
            f"--encoder {encoder}:{run}: this is a run of {learner['name']}, which has no {encoder}; give a run of {' or '.join(layers.models)}"
        )
    state = folder.load_checkpoint(torch.device("cpu"))
    if state is None:
        raise UserError(
            f"--encoder {encoder}:{run}: this run has no checkpoint yet; let it continue for longer"
        )
    options = layers.options_of(learner["settings"], state["learner"])
    return ",".join(f"{name}={value}" for name, value in options.items())
