"""What is kept of a run while it goes on: log lines, evaluations, snapshots, checkpoints."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlbench.benchmarks.training.evaluation import Evaluator
from rlbench.benchmarks.training.progress import ProgressLine
from rlbench.envs.tasks import Task
from rlbench.errors import Interrupted, UserError
from rlbench.seeding import derive

if TYPE_CHECKING:
    from rlbench.benchmarks.training.runner import Run


FAR = 0.3
"""Divergence of a new policy from the old one, in nats, from which on the log names the update."""


class Keeper:
    """Told of each update, it does what is due."""

    def __init__(self, run: "Run", line: ProgressLine) -> None:
        """Begins at the present update of the run, which may be a resumed one."""
        self._run = run
        self._line = line
        self._first = run.update
        self._before, self._start, self._evaluating = run.folder.seconds(), time.monotonic(), 0.0
        tasks = [task for task in (run.task, run.task.held_out) if task is not None]
        self._evaluators = [Evaluator(task, run.config.eval_episodes) for task in tasks]

    def after(
        self,
        metrics: Mapping[str, Tensor],
        driver_state: Callable[[], dict[str, Any]],
        *,
        stopping: bool,
    ) -> None:
        """Counts an update and does what is due after it.

        Args:
            metrics: What the update returned.
            driver_state: What a checkpoint keeps beside the agent.
            stopping: Whether a person wants the run to be saved and to end.

        Raises:
            UserError: A metric or a weight is not finite.
            Interrupted: The run was stopped on request and is saved.
        """
        run, config, line = self._run, self._run.config, self._line
        run.update += 1
        last = run.update == config.updates
        self._name_far_update(metrics)
        if self._due(config.log_every) or last:
            seconds = time.monotonic() - self._start
            rate = (run.update - self._first) / (seconds - self._evaluating)
            run.folder.log(run.update, self._finite(metrics), rate, self._before + seconds)
        if self._due(config.eval_every) or last:
            self._finite(metrics)
            self._check_state(run.agent.state_dict())
            line.advance(run.update)
            start = time.monotonic()
            line.report(self._evaluate())
            for note in filter(None, (evaluator.note() for evaluator in self._evaluators)):
                line.say(note)
            self._evaluating += time.monotonic() - start
        if self._due(config.snapshot_every):
            self._finite(metrics)
            state = run.agent.state_dict()
            self._check_state(state)
            run.folder.save_snapshot(run.update, state)
        if self._due(config.checkpoint_every) or last or stopping:
            self._finite(metrics)
            state = {"agent": run.agent.state_dict(), "driver": driver_state()}
            self._check_state(state["agent"])
            # Seeds that learn together resume from the last checkpoint that all of them have.
            run.folder.save_checkpoint(
                run.update, state, keep=1 if config.seeds == 1 or last else 2
            )
        if stopping and not last:
            raise stopped(run.update, run.folder.path)
        if run.update % 10 == 0:
            line.advance(run.update)

    def _name_far_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Says so if an update moved the policy far, which is how on-policy agents lose what they learned."""
        if "kl_update" in metrics and metrics["kl_update"] > FAR:
            end = ", so it was undone" if metrics["undone"] else ""
            self._line.say(
                f"update {self._run.update:,} moved the policy far (KL {metrics['kl_update']:.2f}){end}"
            )

    def reads_agent(self, *, stopping: bool) -> bool:
        """Whether the next `after` evaluates or saves the agent."""
        config, update = self._run.config, self._run.update + 1
        every = (config.eval_every, config.snapshot_every, config.checkpoint_every)
        return stopping or update == config.updates or any(x > 0 and update % x == 0 for x in every)

    def _due(self, every: int) -> bool:
        return every > 0 and self._run.update % every == 0

    def _finite(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """The metrics as numbers; a UserError if one is not finite."""
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self.diverged(f"{name} became {value}")
        return values

    def _check_state(self, state: Mapping[str, Any]) -> None:
        """Refuses a state of the agent that is not finite."""
        for name, value in state.items():
            if not _is_finite(value):
                raise self.diverged(f"a number in the agent's {name} became nan or infinite")

    def diverged(self, what: str) -> UserError:
        """The error for an agent with a value that is not finite; `what` names it."""
        run = self._run
        saved = run.folder.checkpoints()
        kept = (
            f"its checkpoint of update {saved[-1]:,}"
            if saved
            else "no checkpoint yet, only its log"
        )
        return UserError(
            f"{what} by update {run.update:,}, so the run was stopped; a smaller learning rate or "
            "smaller rewards may help; "
            f"{run.folder.path} holds {kept}"
        )

    def _evaluate(self) -> str:
        run = self._run
        seed = derive(run.config.seed, "evaluation", run.update)
        (seeds, returns), *others = [x.returns(run.agent, seed) for x in self._evaluators]
        held_out = others[0][1] if others else None
        score = run.task.score(float(returns.mean()))
        run.folder.add_returns(run.update, seeds, returns, score, held_out)
        seed_in_words = f"seed {run.config.seed}, " if run.config.seeds > 1 else ""
        told = describe_returns(run.task, returns, held_out)
        return f"{seed_in_words}update {run.update:,}: {told}"


def _is_finite(value: Any) -> bool:
    """Whether all numbers in nested dicts and lists of tensors and plain values are finite."""
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)


def stopped(update: int, path: Path) -> Interrupted:
    """Says how to resume runs that the user stopped; `update` is the last one saved, 0 if none."""
    where = f"and saved at update {update:,}" if update else "before the first checkpoint"
    how = "resume with" if update else "start again with"
    return Interrupted(f"stopped {where}; {how} `rlbench run --resume {path}`")


def describe_returns(
    task: Task, returns: NDArray[np.float64], held_out: NDArray[np.float64] | None = None
) -> str:
    """Score, return, number of episodes and share of solved ones, for a person."""
    digits = 1 if abs(returns).max() >= 10 else 3
    text = f"return {returns.mean():,.{digits}f} ± {returns.std():,.{digits}f}"
    text += f" over {len(returns)} episodes"
    score = task.score(float(returns.mean()))
    if score is not None:
        text = f"score {score:.1f} ({text})"
    if task.solved_above is not None:
        text += f", solved {100 * (returns > task.solved_above).mean():.0f} %"
    if held_out is not None and task.held_out is not None:
        text += f"; held out: {describe_returns(task.held_out, held_out)}"
    return text
