"""Senseless settings of every learner are refused in one sentence before anything is written, or they train.

The values follow from the types of the settings: negative, zero, tiny, huge, infinite, not a number, in the wrong order, of another
type. A value that is accepted must train for one update and be evaluated, with finite numbers.
"""

import dataclasses
import resource
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from math import inf, nan
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS
from rlbench.backbones.ranges import LONGEST
from rlbench.benchmarks.commands import data, watch
from rlbench.benchmarks.commands.evaluate import EvaluateConfig
from rlbench.benchmarks.tables import table
from rlbench.benchmarks.tables.executors import Execution
from rlbench.benchmarks.tables.sweep import SweepConfig
from rlbench.benchmarks.tables.table import TableConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.cli import main
from rlbench.envs.grids.names import LENGTHS
from rlbench.errors import UserError
from tests.benchmarks.test_table import TINY as PAPER
from tests.faults.harness import forked

pytestmark = pytest.mark.slow
WHOLE = (-1, 0, 1, LONGEST, 10**18, 10**30, 1.5, nan, "x", "", True)
REAL = (-1.0, 0.0, 1e-300, 1e-9, 1.0, 1e6, 1e300, -1e300, inf, -inf, nan, "x", "", True)
TEXT = ("", "x", "[/red]", 3)
MEMORY = 16 * 2**30
"""Bytes that a run may ask for."""

ONCE = ["--updates", "1", "--eval-episodes", "1", "--compile", "off"]
SMALL = ["--hidden", "8", "--batch-size", "4"]
OFFLINE = ["--env", "point-mixed", "--data-size", "500", *SMALL]
ONLINE = ["--env", "Pendulum-v1", "--random-steps", "4", *SMALL]
DISCRETE = ["--env", "CartPole-v1", "--random-steps", "4", *SMALL]
ROLLOUTS = ["--env", "CartPole-v1", "--envs", "2", "--rollout-steps", "4", "--hidden", "8"]
SEARCH = ["--env", "archsearch-tiny", "--envs", "2"]
OBJECTS = ["--env", "tests.squares:Squares", "--data-size", "8", "--batch-size", "4"]
SETS = [
    "--env",
    "glyph-sets",
    "--data-size",
    "30",
    "--batch-size",
    "3",
    "--encoder",
    "conv4:width=4",
]
POSES = ["--env", "poses:swimmer", "--data-size", "8", "--batch-size", "4"]
MLP = ["--encoder", "mlp:units=8", "--batch-size", "4"]
DIGITS = ["--env", "digits", "--data-size", "8", *MLP]
GLYPHS = ["--env", "glyph-episodes", "--data-size", "8", "--batch-size", "4"]
RELATIONS = ["--env", "episodes-coin", "--data-size", "8", "--batch-size", "4"]
TINY: dict[str, list[str]] = {
    **dict.fromkeys(("sac", "td3", "sb3-sac", "sb3-td3"), ONLINE),
    **dict.fromkeys(("dqn", "sb3-dqn"), DISCRETE),
    **dict.fromkeys(("a2c", "ppo", "recurrent-ppo", "sb3-a2c", "sb3-ppo", "lpg", "novelty-ppo"), ROLLOUTS),
    "imitation-ppo": [
        "--env", "follow-swimmer", "--envs", "2", "--rollout-steps", "4", "--hidden", "8", "--reward-encoder", "pose:width=8,torso=2",
    ],
    **dict.fromkeys(("pose-nearest", "pr-vipe"), POSES),
    "ibac-sni": ["--env", "multiroom-n1", "--envs", "2", "--rollout-steps", "4", "--code-size", "8"],
    "rfm": ["--env", "stag-hunt", "--envs", "2", "--rollout-steps", "4", "--hidden", "8"],
    **dict.fromkeys(("nas", "nas-evolution", "nas-local", "nas-random"), SEARCH),
    "lpg-meta": [
        "--env", "grid-levels-small", "--lifetimes", "2", "--workers", "2", "--rollout-steps", "3", "--agent-updates", "2",
        "--hidden", "4",
    ],
    "classifier": ["--env", "digits", "--encoder", "sigmoid-mlp:units=8,layers=1", "--batch-size", "4"],
    "decision-transformer": ["--env", "point-mixed", "--data-size", "500", "--batch-size", "4", "--embedding-size", "8"],
    "dance": [
        "--env", "motion-pairs:halfcheetah", "--data-size", "4", "--batch-size", "1", "--width", "4", "--judge-width", "4", "--blocks", "1",
        "--encoder", "vgg:width=4",
    ],
    "nearest-frame": ["--env", "motion-pairs:halfcheetah", "--data-size", "4", "--batch-size", "2", "--memory", "4"],
    "debiasing": ["--env", "scenes-85", "--data-size", "64", "--batch-size", "4", "--encoder", "conv4:width=4"],
    "language-model": ["--env", "missions-unlabelled", "--data-size", "64", "--batch-size", "4"],
    "sequence-classifier": ["--env", "missions", "--data-size", "64", "--batch-size", "4"],
    "pose-mrf": ["--env", "tests.robots:Robots", "--data-size", "8", "--batch-size", "4", "--encoder", "conv4:layers=2,width=4"],
    "pixelcnn": ["--env", "digits", "--levels", "4", "--width", "4", "--layers", "1", "--batch-size", "4"],
    "count-ppo": ["--env", "multiroom-n1", "--encoder", "flatten", "--levels", "11", "--no-quantise", "--density-width", "4", *ROLLOUTS[2:]],
    "pretext": ["--env", "frames-minigrid-s48", "--data-size", "8", "--batch-size", "4"],
    **dict.fromkeys(("blobs", "mask-rcnn", "proposals", "ssd"), OBJECTS),
    **dict.fromkeys(("facenet", "prototypical"), SETS),
    **dict.fromkeys(("born-again", "smooth-adversarial", "supermask", "tickets"), DIGITS),
    "contrastive": ["--env", "digit-grids-1", "--data-size", "8", *MLP],
    "fedavg": ["--env", "digit-clients-iid", *MLP],
    "mixmatch": ["--env", "digits-labelled-20", "--data-size", "8", *MLP],
    **dict.fromkeys(("nearest", "one-shot"), GLYPHS),
    "style-network": ["--env", "frames-minigrid-s48", "--data-size", "8", "--batch-size", "4", "--styles", "brick", "--width", "4"],
    "style-ppo": ["--env", "minigrid-empty-5", "--encoder", "nature", "--envs", "2", "--styles", "1", "--rollout-steps", "4", "--hidden", "8"],
    "success-ppo": ["--reward-encoder", "classes:of=mlp/units=4", *ROLLOUTS],
    "tickets-ppo": ["--encoder", "mlp:units=4", *ROLLOUTS],
    "segmenter": ["--env", "frames-minigrid-s48", "--data-size", "8", "--batch-size", "4"],
    "vq-vae": ["--env", "frames-minigrid-s40", "--data-size", "8", "--width", "4", "--codes", "4", "--batch-size", "4"],
    "nerfies": [
        "--env", "tests.backbones.test_nerfies:source", "--batch-size", "4", "--width", "8", "--warp-width", "8", "--rays", "8", "--samples", "4",
    ],
    "vib": ["--env", "signals-2", "--data-size", "64", *SMALL],
    "rfm-predictor": RELATIONS,
    "rfm-returns": RELATIONS,
}  # fmt: skip
"""Options of a short run of each learner; all others learn from `OFFLINE`."""


def values(hint: Any) -> Iterator[Any]:
    """Senseless and extreme values for a setting of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is int:
        yield from WHOLE
    elif hint is float:
        yield from REAL
    elif hint is str:
        yield from TEXT
    elif hint is bool:
        yield from ("", "maybe", 2, nan)
    elif origin is Literal:
        yield from ("", "x", parts[0].upper(), 3)
    elif origin is tuple and parts[1:] == (...,):
        yield from ((), "x", 3, *((x,) for x in values(parts[0])))
    elif origin is tuple:
        pairs = (
            (2.0, -5.0),
            (1.0, 1.0),
            (nan, 0.0),
            (0.0, nan),
            (-inf, inf),
            (-1e300, 1e300),
            (0.0, 1e-300),
        )
        yield from ((), "x", 3, (0.0,), (0.0, 1.0, 2.0), *pairs)
    else:  # A union.
        for part in parts:
            yield from (None,) if part is NoneType else values(part)


def words(name: str, value: Any) -> list[str]:
    """A setting as it is written on a command line."""
    several = value if isinstance(value, tuple) else (value,)
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    return [f"--{name}", *map(str, several)]


def refused(kind: Callable[..., Any], setting: str, value: Any) -> bool:
    """Whether settings refuse a value, in one sentence."""
    try:
        kind(**{setting: value})
    except UserError as error:
        told = str(error)
    else:
        return False
    assert "\n" not in told
    assert "; " in told, told
    return True


def with_little_memory() -> None:
    """A process that asks for much memory gets an error, in place of the computer's whole memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def outcome(given: list[str], out: Path) -> tuple[bool, list[str]]:
    """Whether a command that writes to `out` ends well, and what is wrong about its end.

    Nothing is wrong about one sentence if nothing was written.
    """
    code, told = forked(given, with_little_memory)
    well = code == 0 and "rlbench: " not in told
    sentence = code == 2 and told.startswith("rlbench: ") and told.count("\n") == 1
    fine = well or (sentence and not out.exists())
    return well, [] if fine else [f"{' '.join(given)}: {code} {told.strip()[-400:]}"]


def extremes(accepted: list[Any]) -> list[Any]:
    """The smallest and the largest number, and everything else."""
    numbers = sorted(x for x in accepted if isinstance(x, int | float) and not isinstance(x, bool))
    return [
        *dict.fromkeys((*numbers[:1], *numbers[-1:])),
        *(x for x in accepted if x not in numbers),
    ]


def mistakes(tiny: list[str], given: list[list[str]], folder: Path) -> list[str]:
    """What is wrong about runs with each of some settings; they are given together, and separated if that does not end well."""
    out = folder / str(len(list(folder.iterdir())))
    well, wrong = outcome([*tiny, "--out", str(out), *chain(*given)], out)
    out.mkdir(exist_ok=True)
    if well or len(given) == 1:
        return wrong
    half = len(given) // 2
    return mistakes(tiny, given[:half], folder) + mistakes(tiny, given[half:], folder)


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifetimes of a few rollouts, for meta-learners."""
    for name in LENGTHS:
        monkeypatch.setitem(LENGTHS, name, 60)


@pytest.mark.parametrize("name", [*AGENTS, *META_LEARNERS, *MODELS])
def test_settings_of_a_learner(
    name: str, tmp_path: Path, count_faults: Callable[[int], None]
) -> None:
    kind = load_learner(name).Config
    hints = get_type_hints(kind)
    tiny = ["run", name, *TINY.get(name, OFFLINE), *ONCE]
    assert main([*tiny, "--out", str(tmp_path / "0")]) == 0  # Forks have everything imported.
    rounds: dict[int, list[list[str]]] = {}
    for setting in (field.name for field in dataclasses.fields(kind)):
        tried = list(values(hints[setting]))
        count_faults(len(tried))
        accepted = [value for value in tried if not refused(kind, setting, value)]
        for number, value in enumerate(extremes(accepted)):
            rounds.setdefault(number, []).append(words(setting.replace("_", "-"), value))
    wrong = [x for given in rounds.values() for x in mistakes(tiny, given, tmp_path)]
    assert not wrong, "\n".join(wrong)


ENDINGS = {"watch": ".gif", "data examples": ".npz"}
"""Endings of the files that commands write."""


def commands(root: Path) -> dict[str, tuple[list[str], Any, bool]]:
    """Commands with options, the dataclass of their options, and whether they have the option `--out`.

    `root` contains what they read: a finished `run`, and the finished runs of a `sweep` and of a `table`.
    """
    sweep = [
        "sweep",
        "--agents",
        "bc",
        "--tasks",
        "point-mixed",
        "--data-size",
        "500",
        "--seeds",
        "1",
        "--jobs",
        "1",
    ]
    sweep += ["--out", str(root / "sweep"), "--updates", "1"]
    tiny = ["table", "tiny", "--jobs", "1", "--out", str(root / "table")]
    teacher = ["data", "examples", str(root / "run"), "--size", "8", "--env", "point-mixed"]
    return {
        "run": (["run", "bc", *OFFLINE, *ONCE], RunConfig, True),
        "evaluate": (["evaluate", str(root / "run"), "--episodes", "1"], EvaluateConfig, False),
        "watch": (["watch", str(root / "run"), "--size", "32"], watch.WatchConfig, True),
        "data make": (["data", "make", "point-mixed", "--size", "500"], data.Make, True),
        "data examples": (teacher, data.ExamplesOf, True),
        "sweep": (sweep, SweepConfig, False),
        "execution of a sweep": (sweep, Execution, False),
        "table": (tiny, TableConfig, False),
        "execution of a table": (tiny, Execution, False),
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert main(["run", "bc", *OFFLINE, *ONCE, "--out", str(folder / "run")]) == 0
    return folder


@pytest.mark.parametrize("name", commands(Path()))
def test_options_of_a_command(
    name: str,
    root: Path,
    tmp_path: Path,
    count_faults: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "load_paper", lambda name: PAPER)
    given, kind, writes = commands(root)[name]
    if not writes and name != "evaluate":
        assert main(given) == 0  # Its runs are complete from now on.
    needed = {"env": "point-mixed", "run": root, "name": "point-mixed", "source": "x"}
    names = [field.name for field in dataclasses.fields(kind)]
    other = partial(kind, **{x: value for x, value in needed.items() if x in names})
    count, wrong, hints = 0, [], get_type_hints(kind)
    for option in names:
        typed = False
        for value in values(hints[option]):
            count += 1
            if refused(other, option, value):
                if typed:
                    continue
                typed = True  # The command line refuses the others in the same way.
            elif option == "updates" and value == LONGEST:
                continue  # It may be as many, and would never end.
            out = (tmp_path / str(count)).with_suffix(ENDINGS.get(name, ""))
            where = ["--out", str(out)] if writes else []
            asked = [*given, *where, *words(option.replace("_", "-"), value)]
            wrong += outcome(asked, out)[1]
    count_faults(count)
    assert not wrong, "\n".join(wrong)
