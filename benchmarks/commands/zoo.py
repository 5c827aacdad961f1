"""The commands of `rlbench zoo`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, ClassVar

import tyro
from rich.table import Table

from rlbench.agents import RULES
from rlbench.backbones.ranges import COUNT, Range, check
from rlbench.benchmarks import zoo
from rlbench.errors import UserError
from rlbench.terminal import Terminal, say

Name = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class List:
    """List the trained agents, encoders and update rules that come with the package."""


@dataclass(frozen=True)
class CardOf:
    """Show how one of them was made and what it scores."""

    name: Name
    """Its name; `rlbench zoo list` shows all."""


@dataclass(frozen=True)
class Get:
    """Copy a trained agent or encoder to a folder, as a finished run; no network is used."""

    name: Name
    """Its name; `rlbench zoo list` shows all."""
    out: Path | None = None
    """Folder to write; by default runs/NAME."""


@dataclass(frozen=True)
class Import:
    """Convert a model file of Stable-Baselines3, such as those of RL Baselines3 Zoo, to a finished run; nothing is unpickled."""

    model: Annotated[Path, tyro.conf.Positional]
    """File that model.save wrote (.zip): an MlpPolicy of SAC, TD3, DDPG, PPO, A2C or DQN."""
    env: str
    """Task that it was trained on."""
    episodes: int = 10
    """Number of episodes in which it is evaluated."""
    out: Path | None = None
    """Folder of the run; by default a new one in runs/."""
    ranges: ClassVar[Mapping[str, Range]] = {"episodes": COUNT}

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)


def show_list(_: List) -> None:
    """Prints one line for each name."""
    from rlbench.benchmarks.zoo.cards import card  # It loads PyTorch.

    table = Table(box=None, pad_edge=False)
    for title in ("name", "what it is", "result", "MB"):
        table.add_column(title, justify="right" if title == "MB" else "left")
    for name in (*zoo.names(), *sorted(RULES)):
        found = card(name)
        table.add_row(name, found.about, found.headline, f"{found.bytes / 1e6:.1f}")
    console = Terminal()
    console.print(table)
    console.print("\nNext: rlbench zoo card bear-hopper-medium", soft_wrap=True)


def show_card(options: CardOf) -> None:
    """Prints the card of a name."""
    from rlbench.benchmarks.zoo.cards import card

    found = card(options.name)
    say(f"{found.name}: {found.about}")
    for title, text in found.rows().items():
        say(f"{title:<9} {text}")


def get(options: Get) -> None:
    """Copies a trained agent or encoder."""
    if options.name in RULES:
        raise UserError(f"{options.name} is an update rule, not a run; use it with `rlbench run lpg --env TASK --rule {options.name}`")  # fmt: skip
    out = zoo.copied(options.name, options.out or Path("runs") / options.name)
    say(f"{out}\nnext: rlbench evaluate {quote(str(out))}")


def import_model(options: Import) -> None:
    """Converts a model file."""
    from rlbench.benchmarks.zoo.sb3 import imported

    from rlbench.benchmarks.training.recorder import describe

    run = imported(options.model, options.env, options.episodes, options.out)
    path, columns = run.folder.path, run.folder.last_evaluation()
    say(f"{run.learner_name} on {run.config.env}: {describe(run.task, run.learner_class, columns)}")
    say(f"kept in {path}; next: rlbench watch {quote(str(path))}")


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "list": (List, show_list),
    "card": (CardOf, show_card),
    "get": (Get, get),
    "import": (Import, import_model),
}
"""Name of a command to its options and its function."""
