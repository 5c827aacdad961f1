"""The command line. Importing it loads the standard library and tyro, nothing else."""

import contextlib
import dataclasses
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from rlbench.errors import Interrupted, RunsFailed, UserError
from rlbench.parsing import choose, parse, peek, whole_number
from rlbench.stopping import handling
from rlbench.streams import show_all
from rlbench.trust import TrustOption

HELP = """\
usage: rlbench COMMAND ...

Reinforcement-learning agents, supervised models, their baselines and their benchmarks.

  rlbench run LEARNER --env TASK   train and score an agent or a model
  rlbench run --resume RUN         resume a stopped run
  rlbench evaluate RUN             score a trained agent on new episodes, or a model on its test examples
  rlbench table PAPER              make a paper's table: runs, statistics, verdicts
  rlbench sweep                    run agents x tasks x seeds
  rlbench tune LEARNER --env TASK  search for the best settings of a learner on a task
  rlbench analyse ANALYSIS RUN     analyse a finished run, for example the edge activations of its network
  rlbench plot [RUN ...]           draw learning curves, with intervals over seeds
  rlbench report [RUN ...]         show curves, tables and films of runs in one HTML file
  rlbench watch RUN                film a trained agent
  rlbench export RUN               export the policy to TorchScript and ONNX, or the rule of a run of lpg-meta
  rlbench list                     list agents, update rules, models, encoders and tasks
  rlbench data COMMAND             manage offline data: list, info, make, get, check, examples
  rlbench zoo COMMAND              use trained agents and models: list, card, get, import

Each command has its own help, as in `rlbench run bear --help`. --debug prints the full traceback of an error.\
"""

# PyTorch has no exception of its own for a CPU's memory, nor for sizes beyond 64 bits.
_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate", "storage size calculation overflowed")  # fmt: skip
_STOPPED = "stopped; the same command can be run again"


@contextlib.contextmanager
def _warnings_in_words(debug: bool) -> Iterator[None]:
    """Shows warnings without the file and the line of code that they are from, unless `debug` is on."""
    usual = warnings.formatwarning
    if not debug:
        warnings.formatwarning = lambda message, *_, **__: f"rlbench: warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 success, 2 an error of the user, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    show_all(sys.stdout, sys.stderr)
    try:
        with handling(signal.default_int_handler), _warnings_in_words(debug):
            _dispatch(words)
    except BrokenPipeError:  # such as `rlbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"rlbench: {str(stop) or _STOPPED}", file=sys.stderr)
        return 130
    except RunsFailed as failed:
        _complain(str(failed))
        return 1
    except UserError as error:
        if debug:
            raise
        _complain(str(error))
        return 2
    except OSError as error:
        if debug:
            raise
        where = "" if error.filename is None else f" at {error.filename}"
        _complain(
            f"the system reported {error.strerror or error!s}{where}; what was saved before is kept, so correct this and "
            "run the same command again, or see --debug"
        )
        return 2
    except Exception as error:
        if debug:
            raise
        if any(words in str(error).lower() for words in _NO_MEMORY):
            _complain(
                f"there is not enough memory ({error}); give smaller sizes, for example of networks, batches or rollouts"
            )
            return 2
        _complain(
            f"{type(error).__name__}: {error}; this should not happen, so please report "
            "it with the output of the same command with --debug"
        )
        return 1
    return 0


def _complain(text: str) -> None:
    """Prints an error; names and files that it quotes cannot control the terminal."""
    from rlbench.terminal import printable

    print(f"rlbench: {printable(text)}", file=sys.stderr)


def _dispatch(words: list[str]) -> None:
    commands = {
        "run": _run,
        "list": _list,
        "analyse": _analyse,
        "tune": _tune,
    }
    commands |= {name: partial(_imported, name) for name in IMPORTED}
    commands |= {name: partial(_grouped, name) for name in ("data", "zoo")}
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
    elif words[0] == "--version":
        from rlbench import __version__

        print(__version__)
    else:
        command = partial(choose(commands, words[0], "command", "rlbench --help"), words[1:])
        from rlbench.stand_in import show_help

        show_help(command) if {"-h", "--help"} & set(words) else command()


@dataclasses.dataclass(frozen=True)
class Resume:
    """Resume a stopped run with its own settings."""

    resume: Path
    """Folder of the run to resume."""
    trust: TrustOption = False


def _run(words: list[str]) -> None:
    """`rlbench run`: a new run, or the rest of a stopped one."""
    if any(word.split("=")[0] == "--resume" for word in words):
        settings = [word for word in words if word.startswith("--")]
        known = ("--resume", "--help", "--trust", "--no-trust")
        if others := [x for x in settings if x.split("=")[0] not in known]:
            raise UserError(
                f"a resumed run keeps its settings, so {others[0]} cannot change; give the folder alone, with --trust "
                "if it names custom code that you trust, or start a new run"
            )
        options = parse(Resume, words, "rlbench run")
        from rlbench.benchmarks.commands import run as commands

        commands.resume(options.resume, trust=options.trust)
        return
    if not words or words[0].startswith("-"):
        from rlbench.benchmarks.commands import listing as catalog

        if not words or words[0] not in ("-h", "--help"):
            raise UserError(
                f"give an agent or a model first: rlbench run {catalog.learners_in_words()}"
            )
        print("usage: rlbench run LEARNER --env TASK [SETTINGS]\n       rlbench run --resume RUN\n")
        print(catalog.lines(catalog.LEARNERS))
        print("\nSettings of a learner: rlbench run bear --help")
        return
    name, *rest = words
    config, settings, steps, trust = _new_run("run", name, rest)[:4]
    from rlbench.benchmarks.commands import run as commands

    if steps is not None:
        whole = commands.in_updates(steps, name, settings, config, trust=trust)
        # The presets may depend on the number of updates.
        config, settings, *_ = _new_run("run", name, rest, updates=whole)
        config = dataclasses.replace(config, updates=whole)
    commands.run(name, settings, config, trust=trust)


def _tune(words: list[str]) -> None:
    """`rlbench tune`."""
    from rlbench.benchmarks.tuning import tune as command

    if not words or words[0].startswith("-"):
        command.overview(words)
        return
    name, *rest = words
    config, settings, steps, trust, study = _new_run("tune", name, rest, study=command.TuneConfig)
    command.make(name, settings, config, study, steps=steps, trust=trust)


def _new_run(
    command: str, name: str, words: list[str], updates: int | None = None, study: Any = None
) -> tuple[Any, ...]:
    """Options of a run, settings of its learner, `--steps`, whether folders are trusted, and options of a study.

    Args:
        command: The command, for its help.
        name: Name of the learner.
        words: The words after it.
        updates: The number of updates on which presets depend; None: that of the words.
        study: Dataclass with the options of a study, if the command has them.
    """
    from rlbench.benchmarks.commands import listing as catalog, options as grouped
    from rlbench.benchmarks.training.learners import load_learner

    plain = [word for word in words if word not in ("-h", "--help")]
    task, file, length = (peek(plain, x, "") for x in ("--env", "--settings", "--updates"))
    updates = updates or whole_number(length)
    recurrent = f"recurrent-{name}"
    if any(word.startswith("--memory") for word in plain) and recurrent in catalog.LEARNERS:
        raise UserError(
            f"{name} has no memory; give {recurrent}, which has --memory and --memory-size"
        )
    description, defaults, settings = catalog.preset(name, task, updates, file)
    both = grouped.options(name, defaults, settings, study)
    env = quote(task or catalog.example_task(name))
    example = f"Example: rlbench {command} {quote(name)} --env {env}"
    new: Any = parse(both, words, f"rlbench {command} {name}", f"{description}\n\n{example}")
    from rlbench.benchmarks.training.faults import named_as_users  # It loads PyTorch.

    with named_as_users(load_learner(name)):
        run = grouped.separate(new, type(settings))
    if length and run[2] is not None:
        raise UserError(f"--updates is {length} and --steps is {run[2]}; give only one of them")
    return (*run, getattr(new, grouped.STUDY, None))


IMPORTED = {
    "evaluate": ("commands.evaluate", "EvaluateConfig", "make"),
    "table": ("tables.table", "TableConfig", "make"),
    "sweep": ("tables.sweep", "SweepConfig", "make"),
    "plot": ("tables.plot", "PlotConfig", "make"),
    "report": ("tables.report", "ReportConfig", "make"),
    "watch": ("commands.watch", "WatchConfig", "make"),
    "export": ("commands.export", "ExportConfig", "make"),
}
"""Command to a module of `rlbench.benchmarks`, its settings and its function."""


def _imported(name: str, words: list[str]) -> None:
    """Runs a command whose settings are a dataclass in the module of its function."""
    module_name, settings, function = IMPORTED[name]
    module = import_module(f"rlbench.benchmarks.{module_name}")
    kind = getattr(module, settings)
    getattr(module, function)(parse(kind, words, f"rlbench {name}", kind.__doc__ or ""))


def _analyse(words: list[str]) -> None:
    """`rlbench analyse`."""
    from rlbench.benchmarks.commands import analyse as command

    if not words or words[0].startswith("-"):
        command.overview(words)
        return
    name, *rest = words
    kind, line = command.options(name)
    command.make(name, parse(kind, rest, f"rlbench analyse {name}", line))


def _list(words: list[str]) -> None:
    """`rlbench list`."""
    if words and words[0] not in ("-h", "--help"):
        raise UserError(f"`rlbench list` takes no arguments, got {' '.join(words)!r}")
    from rlbench.benchmarks.commands import listing as catalog

    print(catalog.everything())


def _grouped(group: str, words: list[str]) -> None:
    """A command of `rlbench data` or `rlbench zoo`."""
    known = import_module(f"rlbench.benchmarks.commands.{group}").COMMANDS
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: rlbench {group} COMMAND ...\n")
        for name, (kind, _) in known.items():
            print(f"  {name:<8} {kind.__doc__}")
        return
    kind, command = choose(known, words[0], "command", f"rlbench {group} --help")
    command(parse(kind, words[1:], f"rlbench {group} {words[0]}", kind.__doc__ or ""))
