"""Sources of objects: columns by hand, MiniGrid's tiles where the boxes say, objects at all sizes."""

from typing import Any

import numpy as np
import pytest

from rlbench.envs.examples import find_source, objects_procgen
from rlbench.envs.examples._objects import object_columns, object_fields
from rlbench.envs.examples.objects_procgen import ProcgenObjects, objects
from rlbench.envs.procgen.classes import CLASSES as CLASSES_OF_GAMES, Classes
from rlbench.errors import UserError

pytest.importorskip("minigrid")

from rlbench.envs.examples.objects_minigrid import CLASSES, MOST, SIDE, MiniGridObjects, frames
from rlbench.envs.minigrid.tiles import KINDS, tiles
from rlbench.envs.tasks import find_task
from rlbench.offline_data.examples import open_examples


def test_columns_by_hand() -> None:
    instances = np.zeros((2, 4, 6), np.uint8)
    instances[0, 0, 0], instances[0, 1:3, 2:6] = 1, 3
    instances[1, 3, 5] = 2
    classes = np.array([[4, 5, 6], [4, 5, 6]])
    found = object_columns(np.zeros((2, 4, 6, 3), np.uint8), instances, classes)
    # Hidden objects are left out, and those that follow take their numbers.
    assert found["boxes"].tolist() == [
        [[0, 0, 1, 1], [2, 1, 6, 3], [0, 0, 0, 0]],
        [[5, 3, 6, 4], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert found["classes"].tolist() == [[4, 6, 0], [5, 0, 0]]
    assert found["instances"][0].tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 0, 2, 2, 2, 2],
        [0, 0, 2, 2, 2, 2],
        [0] * 6,
    ]
    assert found["instances"][1, 3, 5] == 1
    space: Any = object_fields(4, 6, 3, 6)["boxes"]
    assert space.high[0].tolist() == [6, 4, 6, 4]


def test_boxes_hold_what_minigrid_draws() -> None:
    for side in (4, 10):
        found = frames(np.random.default_rng(side), 30, side)
        pictures, kinds = tiles(side)
        for obs, boxes, classes in zip(
            found["obs"], found["boxes"].astype(int), found["classes"], strict=True
        ):
            for (left, top, right, bottom), kind in zip(boxes, classes, strict=True):
                if not kind:
                    continue
                number = KINDS.index(CLASSES[kind])
                shown = obs[top:bottom, left:right]
                fits = []
                for tile in np.flatnonzero((kinds == number).any((1, 2))):
                    rows, columns = (np.flatnonzero((kinds[tile] > 0).any(axis)) for axis in (1, 0))
                    part = pictures[tile, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                    fits.append(np.array_equal(part, shown))
                assert any(fits), CLASSES[kind]


def test_every_coloured_pixel_belongs_to_an_object() -> None:
    found = frames(np.random.default_rng(0), 100, 12)
    coloured = found["obs"].max(-1) - found["obs"].min(-1) > 60
    assert coloured.any()
    assert not (coloured & (found["instances"] == 0)).any()
    for k in range(MOST):
        there = (found["instances"] == k + 1).any((1, 2))
        assert np.array_equal(there, found["classes"][:, k] > 0)


def test_frames_have_a_door_an_agent_and_one_to_five_others_of_all_sizes() -> None:
    found = MiniGridObjects("16").sample("test", 700, 0)
    counts = [(found["classes"] == k).sum(1) for k in range(len(CLASSES))]
    size = np.arange(700) % 7
    assert (counts[CLASSES.index("door")][size > 0] == 1).all()
    assert 20 < counts[CLASSES.index("door")][size == 0].sum() < 80, "open ones are not seen"
    assert (counts[CLASSES.index("agent")] == 1).all()
    assert counts[CLASSES.index("goal")].max() == 1
    others = (found["classes"] > 0).sum(1)[size > 0] - 2
    assert np.bincount(others, minlength=6)[1:].min() > 90
    assert all(found["classes"].ravel().tolist().count(k) > 50 for k in range(1, len(CLASSES)))
    door = found["classes"] == CLASSES.index("door")
    boxes = found["boxes"][door]
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    wanted = 4 + 2 * size[door.any(1)]
    assert ((sides <= wanted) & (sides >= wanted - 2)).all(), "sizes take turns"
    left = boxes[sides == 16][:, 0]
    assert len(set((left % 16).tolist())) > 10, "not at multiples of the tile"


def test_columns_are_in_their_spaces_and_no_two_splits_or_seeds_share_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MiniGridObjects, "sizes", {"train": 100, "test": 100})
    parts = []
    for seed in (0, 1):
        found = open_examples(find_task("objects-minigrid-s8"), 100, seed)
        for part in (found.train, found.test):
            parts.append({x.tobytes() for x in part["obs"].numpy()})
            assert part["obs"].shape == (100, SIDE, SIDE, 3)
            assert part["boxes"].shape == (100, MOST, 4)
            wide = (part["boxes"][..., 2:] - part["boxes"][..., :2]).max()
            assert wide == 8
    assert len(set.union(*parts)) == 400
    source = MiniGridObjects("8")
    whole, few = source.sample("test", 40, 3), source.sample("test", 7, 3)
    for field, space in source.fields.items():
        assert np.array_equal(whole[field][:7], few[field])
        assert all(space.contains(x.astype(space.dtype)) for x in whole[field])


class Wrong(MiniGridObjects):
    """Classes beyond their space."""

    cached = False
    sizes: Any = {"train": 4, "test": 4}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__("4")

    def sample(self, split: Any, size: int, seed: int) -> Any:
        found = dict(super().sample(split, size, seed))
        return found | {"classes": found["classes"] + len(CLASSES)}


def test_classes_beyond_their_space_are_refused() -> None:
    with pytest.raises(UserError, match=r"the column classes of .* has classes from"):
        open_examples(find_task(f"{__name__}:Wrong"), 4, 0)


@pytest.mark.parametrize("size", ["5", "", "18", "04", "2"])
def test_other_sizes_are_refused(size: str) -> None:
    factory = find_source(f"objects-minigrid-s{size}")
    assert factory is not None
    with pytest.raises(UserError, match=f"there are no tiles of {size} pixels; give objects-mini"):
        factory()


TABLE = Classes(
    {"agent": (0x7FFF7F,), "wall": (0x010203,)}, {"coin": (0xFFBFBF, 0x000001), "saw": (0x7F7FFF,)}
)


def painted(rows: list[list[int]]) -> Any:
    """A picture [1, H, W, 3] of colours 0xRRGGBB."""
    return np.array([[[[x >> 16, x >> 8 & 255, x & 255] for x in row] for row in rows]], np.uint8)


def test_objects_of_procgen_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, wall, coin, other, saw = 0x7FFF7F, 0x010203, 0xFFBFBF, 0x000001, 0x7F7FFF
    flat = painted([
        [agent, agent, wall, coin, coin],
        [agent, agent, other, coin, coin],
        [wall, wall, other, wall, wall],
        [saw, saw, saw, wall, coin],
        [saw, saw, saw, wall, coin],
    ])  # fmt: skip
    bare = np.full_like(flat, 9)
    bare[0, 3, 0] = 0  # A transparent corner of the saw.
    monkeypatch.setattr(objects_procgen, "FEWEST", 2)
    instances, classes = objects(bare, flat, TABLE)
    # The saw has five pixels, agent and coin four each, then two coins of two; walls are no objects.
    assert instances[0].tolist() == [
        [2, 2, 0, 3, 3],
        [2, 2, 4, 3, 3],
        [0, 0, 4, 0, 0],
        [0, 1, 1, 0, 5],
        [1, 1, 1, 0, 5],
    ]
    assert classes[0].tolist() == [3, 1, 2, 2, 2] + [0] * 11
    monkeypatch.setattr(objects_procgen, "FEWEST", 3)
    assert objects(bare, flat, TABLE)[0].max() == 3
    monkeypatch.setattr(objects_procgen, "MOST", 2)
    few, kinds = objects(bare, flat, TABLE)
    assert (int(few.max()), kinds.tolist()) == (2, [[3, 1]])


def test_frames_of_procgen_become_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ProcgenObjects("starpilot")
    assert source.classes["classes"][:4] == ("none", "agent", "bullet", "flyer")
    colours = [x[0] for x in CLASSES_OF_GAMES["starpilot"].objects.values()]

    def fake(name: Any, table: Any, split: Any, seed: int) -> Any:
        assert (name.game, split, seed) == ("starpilot", "test", 5)
        for _ in range(2):
            flat = np.zeros((50, 64, 64, 3), np.uint8)
            flat[:, 10:14, 20:30] = painted([[colours[1]]])[0, 0, 0]
            yield flat + 1, flat, flat

    monkeypatch.setattr(objects_procgen, "played", fake)
    found = source.sample("test", 60, 5)
    for field, space in source.fields.items():
        assert len(found[field]) == 60
        assert all(space.contains(x.astype(space.dtype)) for x in found[field])
    assert found["boxes"][:, 0].tolist() == [[20, 10, 30, 14]] * 60
    assert (found["classes"][:, 0] == source.classes["classes"].index("flyer")).all()
    with pytest.raises(UserError, match="Procgen has no game"):
        ProcgenObjects("chess")
