"""The command line. Importing it loads the standard library and tyro, nothing else."""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import tyro

from rlbench.errors import Interrupted, RunsFailed, UserError
from rlbench.stopping import handling
from rlbench.streams import show_all
from rlbench.trust import TrustOption

T = TypeVar("T")

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
  rlbench zoo COMMAND              use trained agents and encoders: list, card, get, import

Each command has its own help, as in `rlbench run bear --help`. --debug prints the full traceback of an error.\
"""

# PyTorch has no exception of its own for a CPU's memory, nor for sizes beyond 64 bits.
_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate", "storage size calculation overflowed")  # fmt: skip
FEW_FLAGS = 20
"""Largest number of flags that an error lists."""
_NUMBERS = {r"invalid literal for int\(\) with base 10": "a whole number", "could not convert string to float": "a number"}  # fmt: skip
"""Patterns of Python's messages about text that is not a number, and what was expected."""
_STOPPED = "stopped; run the same command again to continue"


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
        _choose(commands, words[0], "command", "rlbench --help")(words[1:])


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
        options = _parse(Resume, words, "rlbench run")
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
    task, file, length = (_peek(plain, x, "") for x in ("--env", "--settings", "--updates"))
    updates = updates or _whole(length)
    description, defaults, settings = catalog.preset(name, task, updates, file)
    both = grouped.options(name, defaults, settings, study)
    env = quote(task or catalog.example_task(name))
    example = f"Example: rlbench {command} {quote(name)} --env {env}"
    new: Any = _parse(both, words, f"rlbench {command} {name}", f"{description}\n\n{example}")
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
    getattr(module, function)(_parse(kind, words, f"rlbench {name}", kind.__doc__ or ""))


def _analyse(words: list[str]) -> None:
    """`rlbench analyse`."""
    from rlbench.benchmarks.commands import analyse as command

    if not words or words[0].startswith("-"):
        command.overview(words)
        return
    name, *rest = words
    kind, line = command.options(name)
    command.make(name, _parse(kind, rest, f"rlbench analyse {name}", line))


def _list(words: list[str]) -> None:
    """`rlbench list`."""
    if words and words[0] not in ("-h", "--help"):
        raise UserError(f"`rlbench list` takes no arguments, got {' '.join(words)!r}")
    from rlbench.benchmarks.commands import listing as catalog

    print(catalog.everything())


def _grouped(group: str, words: list[str]) -> None:
    """`rlbench data` or `rlbench zoo`: runs one of its commands."""
    known = import_module(f"rlbench.benchmarks.commands.{group}").COMMANDS
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: rlbench {group} COMMAND ...\n")
        for name, (kind, _) in known.items():
            print(f"  {name:<8} {kind.__doc__}")
        return
    kind, command = _choose(known, words[0], "command", f"rlbench {group} --help")
    command(_parse(kind, words[1:], f"rlbench {group} {words[0]}", kind.__doc__ or ""))


def _peek(words: Sequence[str], flag: str, default: str) -> str:
    """Value of a flag, before the whole line is parsed: the presets of a learner depend on it."""
    for here, following in zip(words, [*words[1:], ""], strict=False):
        if here == flag:
            return following
        if here.startswith(f"{flag}="):
            return here.partition("=")[2]
    return default


def _whole(text: str) -> int | None:
    """A whole number as tyro reads it, such as 20_000; None for any other text."""
    try:
        return int(text)
    except ValueError:
        return None


def _parse(kind: type[T], words: Sequence[str], program: str, description: str = "") -> T:
    """Parses the words to a dataclass; raises an error of one sentence if they do not fit."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            parsed, unknown = tyro.cli(
                kind, args=words, prog=program, description=description,
                config=(tyro.conf.OmitArgPrefixes,), return_unknown_args=True,
            )  # fmt: skip
    except SystemExit as stop:
        if not stop.code:
            raise
        _check_flags(kind, words, program)
        raise UserError(_refusal(_first_part(message.getvalue()), program)) from None
    if unknown:
        raise UserError(_unknown(unknown[0], _flags(kind), program))
    return parsed


def _refusal(text: str, program: str) -> str:
    """Tyro's message about arguments that it refuses, as a sentence."""
    # Settings that are out of range have their own error message.
    if refused := re.match(r"Error parsing \S+: (.*; give .*)", text):
        return refused[1]
    for reason, expected in _NUMBERS.items():
        if refused := re.match(rf"Error parsing (\S+): .*{reason}: '([^']*)'", text):
            return f"{refused[1]} is {refused[2]}; give {expected}{_written_out(refused[2])}"
    return f"{text}; see `{program} --help`"


def _written_out(text: str) -> str:
    """How to write a number such as 1e4 as a whole number; empty for other text."""
    with contextlib.suppress(ValueError):
        if (number := float(text)).is_integer():
            return f", here {number:.0f}"
    return ""


def _check_flags(kind: Any, words: Sequence[str], program: str) -> None:
    """Refuses a line with an unknown flag for that, whatever tyro made of the flag's value."""
    known = _flags(kind)
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        plain = flag.replace("--no-", "--", 1)
        if word.startswith("--") and not {flag, plain} & {*known, "--help", "--"}:
            raise UserError(_unknown(word, known, program))


def _flags(kind: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in _field_names(kind)]


def _unknown(word: str, known: Sequence[str], program: str) -> str:
    close = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    hint = "there is no such setting;"
    if close:
        hint = f"did you mean {close[0]}?"
    elif len(known) <= FEW_FLAGS:
        hint = f"expected one of {', '.join(known)};"
    return f"unknown setting {word!r}: {hint} see `{program} --help`"


def _field_names(kind: Any) -> list[str]:
    """Names of the fields of a dataclass and of the dataclasses inside it, without positional ones."""
    names: list[str] = []
    for field in dataclasses.fields(kind):
        if tyro.conf.Positional in getattr(field.type, "__metadata__", ()):
            continue
        inner = getattr(field.type, "__origin__", field.type)
        names += _field_names(inner) if dataclasses.is_dataclass(inner) else [field.name]
    return names


def _first_part(panel: str) -> str:
    """The text below the title of tyro's framed message and above the next rule, as one line."""
    part: list[str] = []
    for line in panel.splitlines()[1:]:
        text = line.strip("│ ")
        if text and not text.strip("─-╰╯"):
            if part:
                break
        else:
            part.append(text)
    return " ".join(filter(None, part)).rstrip(".") or "the command is malformed"


def _choose(options: dict[str, T], name: str, what: str, help_command: str) -> T:
    """The option of a name, or an error with the closest name."""
    if name in options:
        return options[name]
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(options)};"
    raise UserError(f"unknown {what} {name!r}: {hint} see `{help_command}`")
