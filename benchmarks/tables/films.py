"""Films for a report."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from rlbench.benchmarks.tables.results import Result, Results
from rlbench.errors import UserError
from rlbench.trust import Trust

MAX_FILMS = 12
"""Runs that are filmed for a page; more would make it too large to send."""
FILM_BYTES = 4_000_000
"""Largest film of a run folder that a page contains."""


@dataclass(frozen=True)
class Film:
    """A film, or the reason why there is none."""

    title: str
    data: str = ""
    """Data URL; empty if there is none."""
    why: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is an mp4 and not a GIF."""
        return self.data.startswith("data:video")


def films(results: Results, trust: Trust) -> Iterator[Film]:
    """The films in run folders, and a new one of the first seed of each method on each task that has none."""
    made = 0
    for method, task in sorted({(result.method, result.task) for result in results.all}):
        runs = results.of(method, task)
        kept = [(run, file) for run in runs if (file := _kept_film(run.folder))]
        yield from (_film_of(run, file) for run, file in kept)
        if not kept:
            made += 1
            yield (
                _new_film(runs[0], trust)
                if made <= MAX_FILMS
                else Film(
                    _title(runs[0]),
                    why=f"not filmed for this page; `rlbench watch {quote(str(runs[0].folder))}` films it",
                )
            )


def _title(run: Result) -> str:
    return f"{run.method} on {run.task}, seed {run.seed}"


def _new_film(run: Result, trust: Trust) -> Film:
    from rlbench.benchmarks.commands.watch import small_film

    try:
        return Film(_title(run), _url("image/gif", small_film(run.folder, trust=trust)))
    except UserError as error:
        return Film(_title(run), why=str(error))


def _kept_film(folder: Path) -> Path | None:
    """The film that `rlbench watch` wrote into a run folder by default."""
    found = (folder / name for name in ("film.mp4", "film.gif"))
    return next((file for file in found if file.is_file()), None)


def _film_of(run: Result, file: Path) -> Film:
    if (size := file.stat().st_size) > FILM_BYTES:
        return Film(_title(run), why=f"{file} is too large for this page ({size / 1e6:.0f} MB)")
    kind = "video/mp4" if file.suffix == ".mp4" else "image/gif"
    return Film(_title(run), _url(kind, file.read_bytes()))


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
