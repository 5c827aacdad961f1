"""Faults of loggers and callbacks."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "benchmarks/loggers/_group.py", "benchmarks/test_loggers.py",
        ("loggers draw from the run's generators", "with keeping_global_generators():", "if True:"),
        ("a failing logger is called again", "            self._open.pop(name, None)\n", ""),
        ("a new run begins without a logger", "if fatal:", "if False:"),
        ("a resume fails without a logger", 'fatal=new)', "fatal=True)"),
        ("ids are forgotten", "before.get(name, {})", "{}"),
        ("a failed run counts as complete", "complete=kind is None", "complete=True"),
        ("a changed list is believed", "without_hash(json.loads(file.read_bytes()))", "json.loads(file.read_bytes())"),
        ("resumed from the start", "config=config, first=first", "config=config, first=0"),
    ),
    *of_file(
        "benchmarks/loggers/tensorboard.py", "benchmarks/test_loggers.py",
        ("old points are written anew", "if update <= self._first:", "if False:"),
    ),
    *of_file(
        "benchmarks/loggers/csv.py", "benchmarks/test_loggers.py",
        ("old points stay in the file", 'self._write(COLUMNS, mode="w")', 'self._write(COLUMNS, mode="a")'),
    ),
    *of_file(
        "benchmarks/loggers/wandb.py", "benchmarks/test_loggers.py",
        ("a step in two parts", "if update > self._step:", "if True:"),
        ("steps that the server has", "and self._step >= self._sent_before", ""),
        ("the last step is lost", '        self._send()\n        self._run.finish(', "        self._run.finish("),
        ("an environment variable moves a run", "| dict(run.kept)", '| {"id": run.kept.get("id", "12345678")}'),
    ),
    *of_file(
        "benchmarks/loggers/mlflow.py", "benchmarks/test_loggers.py",
        ("old points are added again", "if step not in self._steps(_key(name))", ""),
    ),
    *of_file(
        "benchmarks/training/recorder.py", "benchmarks/test_loggers.py benchmarks/test_callbacks.py",
        ("numbers of callbacks are not logged", 'in_group("callback", values), self._steps_at', "{}, self._steps_at"),
        ("callbacks change what is recorded", "{k: x.copy() for k, x in (columns or {}).items()}", "dict(columns or {})"),
        ("the state of callbacks is not saved", 'state["callbacks"] = self._callbacks.state_dict()', 'state["callbacks"] = {}'),
        ("a stopped run is not complete", 'state["stopped"] = self._stopped', "pass"),
        ("a stop after a log line waits", "            self._log(self._finite(metrics))\n            last |= bool(self._stopped)\n", "            self._log(self._finite(metrics))\n"),
        ("one seed stops alone", "if self._config.seeds > 1:\n            self._line", "if False:\n            self._line"),
    ),
    *of_file(
        "benchmarks/training/callbacks.py", "benchmarks/test_callbacks.py",
        ("global generators are not restored", ", keeping_global_generators():", ":"),
        ("the learner's generators are not restored", "        generator.set_state(state)\n", "        pass\n"),
        ("a changed learner is believed", "not _equal(before[part], after[part])", "False"),
        ("a view of the state and no copy", "value.detach().clone() if", "value.detach() if"),
        ("networks in training mode", "with evaluating(learner), _keeping", "with _keeping"),
        ("compiled with a changing callback", '"off" if self.changing else', '"off" if False else'),
        ("other classes on resume", "if (list(self.names), self.changing) != (names, changing):", "if list(self.names) != names:"),
    ),
    *of_file(
        "benchmarks/training/runner.py", "benchmarks/test_loggers.py benchmarks/test_callbacks.py",
        ("imports callbacks and loggers without trust", "refuse_untrusted([*custom, *(() if callbacks else config.callbacks)], path, trust)", "pass"),
        ("old points are not given again", "            self.loggers.add(at, values, ", "            self.loggers.add(at, {}, "),
        ("a complete run is not logged again", "                self.continue_logs(self.folder.checkpoints()[-1])\n", ""),
        ("loggers are in config.json", '        del options["loggers"]', "        pass"),
        ("callbacks do not go back", 'self.callbacks.load_state_dict(state["callbacks"])', "pass"),
        ("stopped and not ended", "                        break\n", "                        pass\n"),
    ),
    *of_file(
        "benchmarks/training/run_folder.py", "benchmarks/test_callbacks.py",
        ("numbers of callbacks do not go back", '("metrics.jsonl", "timing.jsonl", "callbacks.jsonl")', '("metrics.jsonl", "timing.jsonl")'),
    ),
    *of_file(
        "benchmarks/tables/methods.py", "benchmarks/test_loggers.py",
        ("loggers make another run", '"threads", "compile", "loggers"}', '"threads", "compile"}'),
    ),
]  # fmt: skip
