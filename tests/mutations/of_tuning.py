"""Faults of `rlbench tune`: search spaces, trials and their decisions, stages of runs."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "benchmarks/tuning/spaces.py", "benchmarks/test_search_spaces.py",
        ("ranges are always linear", "self.low > 0 and self.high / self.low >= DECADE", "False"),
        ("a discount is searched like a learning rate", "share and default > 0.5", "False"),
        ("a range outside the valid one", "replace(settings, **{name: value})", "pass"),
        ("settings that are given are searched", "and getattr(settings, field.name) == getattr(usual, field.name)", ""),
        ("an empty range", "if not smaller < larger < math.inf:", "if False:"),
        ("the distance from 1 as the value", "round(1 - _short(number), 12) if space.from_one else _short(number)", "_short(number)"),
        ("values beyond the range by rounding", "min(max(value, space.low), space.high)", "value"),
        ("a default that is rounded", "if number == self.start:", "if False:"),
        ("powers of two alone", "sorted(near | {default})", "sorted(near)"),
    ),
    *of_file(
        "benchmarks/tuning/study.py", "benchmarks/test_study.py",
        ("the defaults are not the first trial", "if number == 0 and all(", "if False and all("),
        ("defaults outside the ranges", "one.default in one.space for one", "True for one"),
        ("a trial is tried twice", "for _ in range(ATTEMPTS):", "for _ in range(1):"),
        ("proposals of another seed", 'derive(self._seed, "trial", number)', "None"),
        ("more trials than asked for", "or len(found) >= count", ""),
        ("a pruned trial goes on", "and opened[trial.number].should_prune()", "and False"),
        ("pruned in spite of --no-prune", "elif prune and stage", "elif stage"),
        ("lower is better", '"maximize" if maximise else "minimize"', '"minimize"'),
        ("the worst trial is the best", "sign * float(trial.value or 0.0)", "-sign * float(trial.value or 0.0)"),
        ("a failed trial is pruned", "self.optuna.tell(trial.number, state=states.FAIL)", "self.optuna.tell(trial.number, state=states.PRUNED)"),
        ("half a line stays", 'journal.truncate(journal.read().rfind(b"\\n") + 1)', "pass"),
        ("a lock stays", "(folder / f\"{JOURNAL}.lock\").unlink(missing_ok=True)", "pass"),
        ("an interrupted trial is not begun again", "if len(trial.params) < len(self._searched):", "if False:"),
        ("combinations are repeated", "or self._exhausted()", ""),
    ),
    *of_file(
        "benchmarks/tuning/training.py", "benchmarks/test_tune.py",
        ("a failing run is ignored", "failed[outcome.job.folder] = outcome.error", "pass"),
        ("a run that a callback ended breaks its trial", 'found["update"] <= (', 'found["update"] == ('),
        ("a fixed setting is left out", "{**study.settings, **trial.settings}", "{**trial.settings}"),
    ),
    *of_file(
        "benchmarks/tuning/tune.py", "benchmarks/test_tune.py",
        ("any folder", "        study.keep(out)\n", ""),
        ("a study of failures", "                _refuse_failures(trials, out)\n", ""),
        ("several loggers as one word", "map(str, value) if isinstance(value, tuple) else [str(value)]", "[str(value)]"),
        ("the best with a seed of the search", "str(study.seeds)]))", '"0"]))'),
    ),
    *of_file(
        "benchmarks/tuning/shown.py", "benchmarks/test_tune.py",
        ("every trial is a method of the report", "if trial.number not in keep", "if False"),
    ),
    *of_file(
        "benchmarks/training/recorder.py", "benchmarks/test_tune.py",
        ("a stage ends without a checkpoint", " or update == self._until:", ":"),
    ),
    *of_file(
        "benchmarks/training/runner.py", "benchmarks/test_tune.py",
        ("a stage is the whole run", "range(first + 1, self.until + 1)", "range(first + 1, updates + 1)"),
        ("a stage removes the replay buffer", "        if ended or self.until == updates:\n            driver.close()", "        driver.close()"),
    ),
    *of_file(
        "benchmarks/tables/jobs.py", "benchmarks/test_tune.py",
        ("a stage is never complete", "folder.complete() if self.until is None else folder.reached(self.until)", "folder.complete()"),
    ),
    *of_file(
        "benchmarks/commands/listing.py", "benchmarks/test_tune.py",
        ("a file of settings is ignored", "{**chosen, **given}", "{**chosen}"),
    ),
    *of_file(
        "benchmarks/training/settings_file.py", "benchmarks/test_tune.py",
        ("a file for another learner", "if named != learner:", "if False:"),
        ("an unknown setting in a file", "if name not in known:", "if False:"),
    ),
]  # fmt: skip
