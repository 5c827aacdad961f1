"""Sources of labelled examples, by name; importing this loads the standard library only."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlbench.errors import FAILURES, UserError, raised_by
from rlbench.names import NameTable

if TYPE_CHECKING:
    from rlbench.envs.examples._base import Arrays as Arrays, Source as Source

SOURCES = NameTable(
    "source",
    __name__,
    {
        "digits": ("digits:Digits", "scikit-learn's 1,797 handwritten digits, 8x8"),
        "digits-pixels": (
            "digits_pixels:DigitsPixels",
            "the same digits as sequences of 64 pixels",
        ),
        "digits-pixels-permuted": (
            "digits_pixels:permuted",
            "the same sequences in a fixed random order",
        ),
        "digit-sets": (
            "digit_sets:DigitSets",
            "sets of images of one handwritten digit each: 0 to 4 in training, 5 to 9 in tests",
        ),
        "digits-shift": (
            "digits_shift:DigitsShift",
            "the same digits somewhere on a noisy 12x12 canvas",
        ),
        "frames-minigrid": (
            "frames_minigrid:MiniGridFrames",
            "views of MiniGrid's levels, 7x7 cells",
        ),
        "glyph-episodes": (
            "glyph_episodes:GlyphEpisodes",
            "episodes of one-shot learning: ten drawings of each of five new glyphs, 8x8",
        ),
        "glyph-sets": (
            "glyph_sets:GlyphSets",
            "sets of 20 drawings of one glyph each, 20x20; other glyphs in tests",
        ),
        "glyphs": ("glyphs:Glyphs", "drawings of 20 characters of random strokes, 28x28"),
        "glyphs-8": ("glyphs:small", "the same characters, 8x8 like the digits"),
        "goal-sets": (
            "goal_sets:GoalSets",
            "sets of 100 views with the same thing in front of the agent; other things in tests",
        ),
        "missions": (
            "missions:Missions",
            "sentences of BabyAI's missions; the colour and type of the first object",
        ),
        "missions-unlabelled": ("missions:unlabelled", "further missions, without labels"),
        "navon": ("navon:Navon", "large letters that consist of small letters, 42x42"),
        "room-visits": (
            "room_visits:RoomVisits",
            "MultiRoom's levels with the agent in the first room; in tests also in rooms that are new to it",
        ),
        "photographs": (
            "photographs:Photographs",
            "pieces of six photographs and textures, 64x64; their other halves in tests",
        ),
        "trifeature": (
            "trifeature:Trifeature",
            "objects of five shapes, colours and textures, 32x32",
        ),
    },
    group="rlbench.sources",
)
"""Names to classes; `signals-B`, the names with the prefixes below and files are not in this table."""
PREFIXES = {
    "assoc-retrieval-far:": "associations:far",
    "assoc-retrieval-long:": "associations:long",
    "assoc-retrieval-": "associations:short",
    "captures:": "captures:Captures",
    "digit-clients-": "digit_clients:DigitClients",
    "digit-grids-": "digit_grids:DigitGrids",
    "digits-labelled-": "digits_labelled:DigitsLabelled",
    "episodes-": "episodes:recorded",
    "frames-minigrid-s": "frames_minigrid_whole:MiniGridLevels",
    "frames-mujoco:": "frames_mujoco:MujocoFrames",
    "frames-mujoco-clutter:": "frames_mujoco_clutter:MujocoClutter",
    "frames-procgen:": "frames_procgen:ProcgenFrames",
    "level-sets:": "level_sets:LevelSets",
    "moment-pairs:": "moment_pairs:MomentPairs",
    "moment-sets:": "moment_sets:MomentSets",
    "motion-pairs:": "motion_pairs:MotionPairs",
    "objects-minigrid-s": "objects_minigrid:MiniGridObjects",
    "objects-procgen:": "objects_procgen:ProcgenObjects",
    "poses:": "poses:Poses",
    "room-goals-": "room_goals:RoomGoals",
    "scenes-": "scenes:Scenes",
    "trajectories:": "trajectories:Trajectories",
    "trifeature-": "trifeature:correlated",
    "views-mujoco:": "views_mujoco:MujocoViews",
}
"""Beginnings of names to functions of the rest of the name."""
SHOWN = {
    **SOURCES,
    "assoc-retrieval-K": "K pairs of a letter and a digit: which digit came after this letter? With -1-2-4, easier ones in training too",
    "assoc-retrieval-long:L": "the same for attention: 2 pairs among L tokens; -far:L with a distant question",
    "digit-clients-iid": "the digits divided among 100 clients; -shards: two or three digits each; -unequal: 1 to 42 images each",
    "digit-grids-N": "pairs of images with N digits each, of which the second has the next digit in each place",
    "digits-labelled-L": "the digits with L = 10, 20, ... labels, and the others without",
    "signals-B": "noisy signals whose background misleads, B backgrounds per class (2 or 64)",
    "captures:FAMILY": "robots in motion (halfcheetah, humanoid, ...), seen by two cameras with known positions",
    "episodes-GAME": "episodes of a multi-agent game with scripted agents; GAME-trained: with trained agents",
    "frames-minigrid-sS": "whole levels of MiniGrid, S = 40, 48, 64, 80, 96 or 152 pixels, and the type of every pixel",
    "frames-mujoco:FAMILY": "robots in random poses (halfcheetah, hopper, ...): parts, depth, key points",
    "frames-mujoco-clutter:FAMILY": "the same with 1 to 3 limbs of other frames pasted at random places, and the frame without them",
    "frames-procgen:GAME": "frames of coinrun, starpilot, ... and the class of every pixel",
    "level-sets:GAME": "sets of 20 frames of one Procgen level each, of coinrun, ...; other levels in tests",
    "moment-pairs:TASK": "pairs of observations four steps apart under random actions",
    "moment-sets:TASK": "sets of 8 consecutive observations under random actions; other moments in tests",
    "motion-pairs:FAMILY": "clips of a robot and of another one in the same poses (halfcheetah, hopper, walker2d), as stick figures and pictures",
    "room-goals-L": "pictures of MiniGrid's empty rooms, L of them labelled with whether the goal is reached",
    "scenes-R": "actions of a figure; the background gives them away in R % of the training frames",
    "objects-minigrid-sS": "objects of MiniGrid in frames of 64x64 pixels, with their boxes; tiles of 4 to S = 4, 6, ... or 16 pixels",
    "objects-procgen:GAME": "objects of coinrun, starpilot, ... in frames of 64x64 pixels, with their boxes",
    "poses:FAMILY": "random poses of robots (humanoid, ant, ...) as points in space",
    "trajectories:TASK": "steps of random actions in a task as sequences of tokens, and a hidden action",
    "trifeature-A-B-P": "the same, with features A and B that agree in P % of the training pictures, as in trifeature-shape-colour-100",
    "views-mujoco:FAMILY": "robots from random angles, before and after an action: parts, depth, normals, return",
    "FILE": "an .npz or HDF5 file with train/obs, train/label, test/obs and test/label",
}
"""Names and descriptions that `rlbench list` shows."""


def find_source(name: str) -> "Callable[[], Source] | None":
    """The factory of the source with a name; None if there is no such source.

    Args:
        name: One of `SOURCES`, `signals-B`, a name with one of `PREFIXES`, such as `episodes-coin` or
            `frames-procgen:coinrun`, or the path of an .npz or HDF5 file.
    """
    if name in SOURCES:
        return lambda: made_source(name, SOURCES.load(name))
    if found := re.fullmatch(r"signals-([1-9]\d{0,3})", name):
        return lambda: _of("signals:Signals")(int(found[1]))
    for prefix, place in PREFIXES.items():
        if name.startswith(prefix):
            return lambda: _of(place)(name.removeprefix(prefix))
    if name.endswith((".npz", ".h5", ".hdf5")):
        return lambda: _of("files:read")(Path(name).expanduser())
    return None


def made_source(name: str, factory: Callable[[], Any]) -> "Source":
    """The source that a factory returns.

    Raises:
        UserError: The factory failed, or returned something else.
    """
    try:
        source = factory()
    except UserError:
        raise
    except FAILURES as error:
        raise raised_by(name, "its factory", error, "source") from error
    if not isinstance(source, _of("_base:Source")):
        raise UserError(
            f"{name} made a {type(source).__name__}; expected an rlbench.envs.examples.Source for a "
            "model, so return one from the factory"
        )
    return source  # type: ignore[no-any-return]


def _of(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __getattr__(name: str) -> Any:
    """`Source` and `Arrays`, for custom sources."""
    if name in ("Arrays", "Source"):
        return _of(f"_base:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
