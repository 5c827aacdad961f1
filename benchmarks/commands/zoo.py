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
from rlbench.terminal import Terminal, say

Name = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class List:
    """List the trained agents, models and update rules that come with the package."""


@dataclass(frozen=True)
class ShowCard:
    """Show how a trained agent, model or update rule was made, and its results."""

    name: Name
    """Name; `rlbench zoo list` shows all."""


@dataclass(frozen=True)
class Get:
    """Copy a trained agent or model to a folder, as a finished run; nothing is downloaded."""

    name: Name
    """Name; `rlbench zoo list` shows all."""
    out: Path | None = None
    """New folder; by default runs/NAME."""


@dataclass(frozen=True)
class Import:
    """Convert a model file of Stable-Baselines3, such as one of RL Baselines3 Zoo, to a finished run; nothing is unpickled."""

    model: Annotated[Path, tyro.conf.Positional]
    """File that model.save wrote (.zip): an MlpPolicy of SAC, TD3, DDPG, PPO, A2C or DQN."""
    env: str
    """Task on which the model was trained."""
    episodes: int = 10
    """Number of episodes of the evaluation."""
    out: Path | None = None
    """Folder of the run; by default a new one in runs/."""
    ranges: ClassVar[Mapping[str, Range]] = {"episodes": COUNT}

    def __post_init__(self) -> None:
        """Raises an error if an option has a wrong type or is out of range."""
        check(self)


def show_list(_: List) -> None:
    """Prints one row for each trained agent, model and update rule."""
    from rlbench.benchmarks.zoo.cards import card  # It loads PyTorch.

    table = Table(box=None, pad_edge=False)
    for title in ("name", "description", "result"):
        table.add_column(title)
    table.add_column("size (MB)", justify="right")
    for name in (*zoo.names(), *sorted(RULES)):
        found = card(name)
        table.add_row(name, found.about, found.headline, f"{found.bytes / 1e6:.2f}")
    console = Terminal()
    console.print(table)
    console.print("\nNext: rlbench zoo card bear-hopper-medium", soft_wrap=True)


def show_card(options: ShowCard) -> None:
    """Prints a card."""
    from rlbench.benchmarks.zoo.cards import card

    found = card(options.name)
    say(f"{found.name}: {found.about}")
    for title, text in found.rows().items():
        say(f"{title:<9} {text}")


def get(options: Get) -> None:
    """Copies a trained agent or model."""
    out = zoo.copy(options.name, options.out or Path("runs") / options.name)
    say(f"copied to {out}; next: rlbench evaluate {quote(str(out))}")


def import_model(options: Import) -> None:
    """Converts a model file."""
    from rlbench.benchmarks.training.recorder import describe
    from rlbench.benchmarks.zoo.sb3 import convert

    run = convert(options.model, options.env, options.episodes, options.out)
    path, columns = run.folder.path, run.folder.last_evaluation()
    say(f"{run.learner_name} on {run.config.env}: {describe(run.task, run.learner_class, columns)}")
    say(f"kept in {path}; next: rlbench watch {quote(str(path))}{run.trust_option}")


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "list": (List, show_list),
    "card": (ShowCard, show_card),
    "get": (Get, get),
    "import": (Import, import_model),
}
"""Options and function of each command, by name."""
