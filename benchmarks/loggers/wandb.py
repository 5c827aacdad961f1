"""Curves on Weights & Biases, with the number of updates as the step.

WANDB_PROJECT names the project; with WANDB_MODE=offline nothing leaves this machine until `wandb sync`.
"""

import os
import secrets
from collections.abc import Mapping

from rlbench.benchmarks.loggers._base import LoggedRun, Logger, required


class WandB(Logger):
    """One run of Weights & Biases, which a resume continues.

    The server accepts each step once and in order. A step may have metrics and an evaluation, so it is sent as a whole, when
    the next one begins. Without a server, each resume writes a new offline run with the same id and all points, which
    replaces the earlier ones when it is synchronised.
    """

    package = "wandb"

    def __init__(self, run: LoggedRun) -> None:
        """Begins or continues the run on the server, or a new offline run."""
        super().__init__(run)
        wandb = required(self.package)
        project = os.environ.get("WANDB_PROJECT", "rlbench")
        self.kept = {"id": secrets.token_hex(4), "project": project} | dict(run.kept)
        run.folder.mkdir(parents=True, exist_ok=True)
        learner, task = run.config["learner"]["name"], run.config["run"]["env"]
        self._run = wandb.init(
            id=self.kept["id"], project=self.kept["project"], name=run.folder.name,
            group=f"{learner}-{task}", config=dict(run.config), dir=str(run.folder), resume="allow",
            settings=wandb.Settings(
                console="off", quiet=True, disable_git=True, save_code=False, reinit="create_new"
            ),
        )  # fmt: skip
        self._sent_before = int(self._run.step)
        self._step, self._row = 0, dict[str, float]()

    def add(self, update: int, values: Mapping[str, float], env_steps: int | None = None) -> None:
        """Adds the values to the row of the update; the previous row is complete and is sent."""
        if update > self._step:
            self._send()
        steps = {} if env_steps is None else {"env_steps": env_steps}
        self._step, self._row = update, {**self._row, **values, **steps}

    def close(self, *, complete: bool) -> None:
        """Sends the last row and ends the run on the server."""
        self._send()
        self._run.finish(exit_code=0 if complete else 1)

    def _send(self) -> None:
        if self._row and self._step >= self._sent_before:
            self._run.log(self._row, step=self._step)
        self._row = {}
