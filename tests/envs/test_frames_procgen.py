"""Frames of Procgen: colours to classes, environments in lockstep, and levels that no two splits or seeds share."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench.envs.examples import find_source, frames_procgen
from rlbench.envs.examples.frames_procgen import (
    ENVIRONMENTS,
    FRAMES_OF_EPISODE,
    STEPS_BETWEEN,
    ProcgenFrames,
    count_colours,
    levels,
    nearest,
    played,
    segmented,
)
from rlbench.envs.procgen.classes import CLASSES, Classes, colour
from rlbench.envs.procgen.names import HELD_OUT_LEVELS, TRAIN_LEVELS, ProcgenName
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data.examples import open_examples

Array = NDArray[Any]
TABLE = Classes(
    {"agent": (0x7FFF7F,), "wall": (0x010203,)}, {"coin": (0xFFBFBF, 0x000001), "saw": (0x7F7FFF,)}
)


def painted(rows: list[list[int]]) -> Array:
    """A picture [1, H, W, 3] of colours 0xRRGGBB."""
    return np.array([[[[x >> 16, x >> 8 & 255, x & 255] for x in row] for row in rows]], np.uint8)


def test_colours_of_types_and_themes_by_hand() -> None:
    # 29 mod 64 = 1, 3, 1 in base 4; 29 * 52 mod 64 = 36 = 2, 1, 0; (29 * 3 + 19 * 2) mod 64 = 61 = 3, 3, 1.
    assert colour(0) == 0x7FFF7F
    assert colour(51) == 0xBF7F3F
    assert colour(2, 2) == 0xFFFF7F


@pytest.mark.parametrize("game", CLASSES)
def test_no_colour_has_two_classes(game: str) -> None:
    table = CLASSES[game]
    colours = [
        x for group in (table.scenery, table.objects) for those in group.values() for x in those
    ]
    assert len(set(colours)) == len(colours) == len(table.by_colour) - 1
    assert table.names[:2] == ("background", "agent")
    assert len(set(table.names)) == len(table.names) == 1 + len(table.scenery) + len(table.objects)


def test_classes_of_pixels_by_hand() -> None:
    flat = painted([[0, 0x7FFF7F, 0x010203], [0xFFBFBF, 0x000001, 0x7F7FFF]])
    bare = painted([[5, 1, 0x100], [0x10000, 1, 0]])
    assert TABLE.names == ("background", "agent", "wall", "coin", "saw")
    # The last pixel belongs to a rectangle, but not to the picture in it.
    assert segmented(bare, flat, TABLE).tolist() == [[[0, 1, 2], [3, 3, 0]]]
    beyond = Classes(TABLE.scenery, TABLE.objects, agent_beyond=True)
    assert segmented(bare, flat, beyond).tolist() == [[[1, 1, 2], [3, 3, 0]]]


def test_a_colour_without_a_class_is_refused() -> None:
    with pytest.raises(UserError, match="the colour 0a0b0c has no class; install another version"):
        segmented(painted([[1]]), painted([[0x0A0B0C]]), TABLE)
    with pytest.raises(UserError, match="the colour fffffe has no class"):
        segmented(painted([[1]]), painted([[0xFFFFFE]]), TABLE)


def test_the_nearest_object_by_hand() -> None:
    seg = np.zeros((5, 4, 6), np.uint8)
    seg[:4, 1:3, 0] = 1  # The middle of the agent is (1.5, 0).
    seg[0, 3, 2], seg[0, 0, 5] = 3, 4  # Squared distances 6.25 and 27.25.
    seg[1, 0, 1], seg[1, 3, 5] = 2, 4  # A wall is not an object.
    seg[2, 0, 2], seg[2, 2, 2] = 3, 4  # 6.25 and 4.25.
    seg[4, 0, 0] = 3  # Without an agent.
    assert nearest(seg, TABLE).tolist() == [3, 4, 4, 0, 0]


@pytest.mark.parametrize("seed", [0, 1, 7, 9_999])
def test_levels_of_splits_and_seeds_never_overlap(seed: int) -> None:
    parts = [levels(split, x) for split in ("train", "test") for x in (seed, (seed + 1) % 10_000)]
    parts.sort(key=lambda part: part.start)
    assert all(before.stop <= after.start for before, after in pairwise(parts))
    assert parts[-1].stop < 2**31
    assert len(levels("train", seed)) == 200
    held_out = range(TRAIN_LEVELS, TRAIN_LEVELS + HELD_OUT_LEVELS)
    assert not set(levels("train", seed)) & set(held_out)


def test_seed_0_has_the_first_levels() -> None:
    assert levels("train", 0) == range(200)
    assert levels("test", 0).start == 10_000


class Pool:
    """Pictures are the number of steps; a group that draws rectangles may differ in its rewards."""

    made: list[dict[str, Any]]
    differs = ""

    def __init__(self, env_id: str, options: dict[str, Any], seeds: list[int]) -> None:
        self.steps = self.resets = 0
        self.flat = options.get("use_monochrome_assets", False)
        self.made.append({**options, "env_id": env_id, "seeds": seeds, "pool": self, "actions": []})

    def reset(self) -> None:
        self.resets += 1

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        self.steps += 1
        next(x for x in self.made if x["pool"] is self)["actions"].append(actions.tolist())
        parts = {name: np.zeros(len(actions)) for name in ("reward", "terminated", "truncated")}
        if self.flat and self.differs:
            parts[self.differs][3] = 1
        obs = np.full((len(actions), 3, 64, 64), self.steps, np.uint8)
        obs[:, 0] = 9
        return obs, *parts.values(), {}  # type: ignore[return-value]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(frames_procgen, "make_pool", Pool)
    Pool.made, Pool.differs = [], ""
    return Pool


def test_three_groups_play_the_same_and_draw_differently(pools: type[Pool]) -> None:
    frames = played(ProcgenName("heist", hard=True), CLASSES["heist"], "test", 2)
    for number in range(1, FRAMES_OF_EPISODE + 2):
        for pictures in next(frames):
            assert pictures.shape == (ENVIRONMENTS, 64, 64, 3)
            assert pictures[0, 5, 5].tolist() == [9, *[number * STEPS_BETWEEN] * 2]
    usual, bare, flat = pools.made
    for group in pools.made:
        assert (group["env_id"], group["start_level"], group["num_levels"]) == (
            "HeistHard-v0",
            410_000,
            10_000,
        )
        assert (group["seeds"], group["actions"]) == (usual["seeds"], usual["actions"])
        assert group["pool"].resets == 2
    assert len(set(usual["seeds"])) == ENVIRONMENTS
    assert (
        usual["actions"][0]
        == usual["actions"][STEPS_BETWEEN - 1]
        != usual["actions"][STEPS_BETWEEN]
    )
    assert "use_backgrounds" not in usual
    assert [bare["use_backgrounds"], flat["use_backgrounds"]] == [False, False]
    assert [flat["use_monochrome_assets"], flat["restrict_themes"]] == [True, True]
    next(played(ProcgenName("fruitbot"), CLASSES["fruitbot"], "train", 0))
    assert not pools.made[-1]["restrict_themes"]


@pytest.mark.parametrize("part", ["reward", "terminated", "truncated"])
def test_environments_out_of_step_are_refused(part: str, pools: type[Pool]) -> None:
    pools.differs = part
    with pytest.raises(
        UserError, match="environments of maze, which should differ only in their drawing, diff"
    ):
        ProcgenFrames("maze").sample("train", 3, 0)


@pytest.mark.parametrize(
    ("game", "words"),
    [
        ("chess", "Procgen has no game 'chess'; give one of bigfish"),
        ("coinrun-held-out", "Procgen has no game 'coinrun-held-out'"),
        ("", "Procgen has no game ''"),
        (
            "jumper",
            "the colours of jumper do not determine the classes of its objects; give one of big",
        ),
        ("fruitbot-hard", "colours of fruitbot do not determine .*; give fruitbot without -hard"),
    ],
)
def test_a_game_without_classes_is_refused(game: str, words: str) -> None:
    factory = find_source(f"frames-procgen:{game}")
    assert factory is not None
    with pytest.raises(UserError, match=words):
        factory()


def test_frames_of_coinrun(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("envpool")
    monkeypatch.setattr(frames_procgen, "ENVIRONMENTS", 6)
    monkeypatch.setattr(ProcgenFrames, "sizes", {"train": 18, "test": 12})
    parts = []
    for seed in (0, 1):
        found = open_examples(find_task("frames-procgen:coinrun"), 18, seed)
        assert found.fields["seg"] == spaces.Box(0, 8, (64, 64), np.int64)
        for part in (found.train, found.test):
            assert part["obs"].shape == (len(part), 64, 64, 3)
            # The agent is always in sight, and the ground below it.
            assert (part["seg"] == 1).any(dim=2).any(dim=1).all()
            assert (part["seg"] == 2).float().mean() > 0.3
            parts.append({row.tobytes() for row in part["obs"].numpy()})
    for i, one in enumerate(parts):
        assert all(not one & other for other in parts[i + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize("game", CLASSES)
def test_every_colour_of_a_game_has_a_class(game: str) -> None:
    pytest.importorskip("envpool")
    assert set(count_colours(game)) <= set(CLASSES[game].by_colour)


@pytest.mark.slow
def test_classes_of_starpilot_are_where_objects_are_drawn() -> None:
    """Objects look the same with and without a background, and other pixels do not."""
    pytest.importorskip("envpool")
    table = CLASSES["starpilot"]
    usual, bare, flat = next(played(ProcgenName("starpilot"), table, "train", 0))
    seg = segmented(bare, flat, table)
    assert (seg == table.names.index("agent")).any(axis=(1, 2)).mean() > 0.9
    apart = np.abs(usual.astype(int) - bare).max(axis=-1)
    bright = usual.max(axis=-1) > 60
    assert np.median(apart[seg > 0]) < 30 < np.median(apart[(seg == 0) & bright])
