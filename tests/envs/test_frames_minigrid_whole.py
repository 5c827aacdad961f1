"""Whole levels of MiniGrid: pictures equal to minigrid's, the type of every pixel, and labels by hand."""

from typing import Any

import numpy as np
import pytest

from rlbench.envs.examples import find_source
from rlbench.errors import UserError

pytest.importorskip("minigrid")

from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj

from rlbench.envs.examples import frames_minigrid_whole
from rlbench.envs.examples.frames_minigrid_whole import SIZES, MiniGridLevels, labels, levels
from rlbench.envs.minigrid.tiles import (
    AGENTS,
    BALLS,
    COLOURS,
    DOORS,
    EMPTY,
    GOAL,
    KEYS,
    KINDS,
    WALL,
    drawn,
    tiles,
)
from rlbench.envs.tasks import find_task
from rlbench.offline_data.examples import open_examples


def of_minigrid(tile: int) -> tuple[int, int, int]:
    """Type, colour and state of a tile in minigrid's numbers; the agent's cell is empty."""
    if DOORS <= tile < KEYS:
        return 4, (tile - DOORS) // 3, (tile - DOORS) % 3
    if KEYS <= tile < AGENTS:
        return 5 + (tile - KEYS) // 6, (tile - KEYS) % 6, 0
    return {WALL: (2, 5, 0), GOAL: (8, 1, 0)}.get(tile, (1, 0, 0))


@pytest.mark.parametrize("side", [5, 9])
def test_pictures_match_minigrid(side: int) -> None:
    cells = levels(np.random.default_rng(side), 40, side)
    pictures, kinds = tiles()
    images, segs = drawn(cells, pictures), drawn(cells, kinds)
    for level, image, seg in zip(cells, images, segs, strict=True):
        grid, agent, facing = Grid(side, side), (0, 0), 0
        for (row, column), tile in np.ndenumerate(level):
            grid.set(column, row, WorldObj.decode(*of_minigrid(int(tile))))
            if tile >= AGENTS:
                agent, facing = (column, row), int(tile) - AGENTS
        assert np.array_equal(image, grid.render(8, agent, facing))
        bare = Grid(side, side).render(8, (-1, -1))
        assert ((seg > 0) == (image != bare).any(axis=-1)).all()


def test_the_kind_of_pixels_by_hand() -> None:
    tile = {"empty": EMPTY, "wall": WALL, "goal": GOAL, "door": DOORS, "key": KEYS, "ball": BALLS,
            "box": BALLS + 6, "agent": AGENTS}  # fmt: skip
    _, kinds = tiles()
    assert set(kinds[tile.pop("empty")].ravel()) == {0}
    assert (kinds[tile["wall"]] == KINDS.index("wall")).all()
    for name, number in tile.items():
        assert set(kinds[number].ravel()) - {0} == {KINDS.index(name)}
    # The middle of its tile shows the ball, the corners do not.
    assert [kinds[BALLS][i, j] for i, j in ((3, 3), (0, 0), (7, 7))] == [4, 0, 0]


def test_labels_by_hand() -> None:
    cells = np.full((3, 5, 5), EMPTY, np.uint8)
    cells[0, 1, 3], cells[1, 3, 1], cells[2, 2, 2] = AGENTS, AGENTS + 1, AGENTS + 3
    cells[0, 4, 2], cells[1, 2, 4], cells[2, 1, 2] = DOORS, DOORS + 5, KEYS - 1
    cells[0, 1, 1], cells[1, 1, 1], cells[1, 1, 2] = BALLS, KEYS, BALLS - 1
    found = labels(cells)
    assert {name: column.tolist() for name, column in found.items()} == {
        "door": [0, 1, 5], "quadrant": [1, 2, 0], "keys": [0, 2, 0],
    }  # fmt: skip
    assert all(column.dtype == np.int64 for column in found.values())


@pytest.mark.parametrize("size", SIZES)
def test_doors_and_keys_have_the_same_chances_at_every_size(size: int) -> None:
    side = size // 8
    cells = levels(np.random.default_rng(0), 3_000, side)
    found = labels(cells)
    for name, classes in (("door", 6), ("keys", 3)):
        counts = np.bincount(found[name], minlength=classes)
        assert abs(counts * classes / 3_000 - 1).max() < 0.15
    assert np.bincount(found["quadrant"], minlength=4).min() > 400
    flat = cells.reshape(3_000, -1)
    assert (((flat >= DOORS) & (flat < KEYS)).sum(axis=1) == 1).all()
    assert (((flat >= BALLS) & (flat < AGENTS)).sum(axis=1) == 2).all()
    assert ((flat == GOAL).sum(axis=1) == 1).all()
    assert ((flat >= AGENTS).sum(axis=1) == 1).all()
    # The outer wall, and the wall that divides the level, without its door.
    assert ((flat == WALL).sum(axis=1) == 4 * side - 4 + side - 3).all()


@pytest.mark.parametrize("size", ["40", "96"])
def test_splits_and_seeds_share_no_level(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MiniGridLevels, "sizes", {"train": 300, "test": 300})
    parts = []
    for seed in (0, 1):
        found = open_examples(find_task(f"frames-minigrid-s{size}"), 300, seed)
        for part in (found.train, found.test):
            assert part["obs"].shape == (300, int(size), int(size), 3)
            assert part["seg"].shape == (300, int(size), int(size))
            parts.append({row.tobytes() for row in part["obs"].numpy()})
    assert len(set.union(*parts)) == sum(map(len, parts)) == 1_200


def test_levels_of_several_sizes_take_turns_and_are_padded_with_their_labels() -> None:
    source = MiniGridLevels("64-48")
    assert source.fields["obs"].shape == (64, 64, 3)
    found = source.sample("train", 7, 0)
    for i in range(7):
        side = (64, 48)[i % 2]
        obs, seg = found["obs"][i], found["seg"][i]
        assert obs[[0, side - 1], :side].any(axis=-1).all()  # The walls.
        assert not obs[side:].any()
        assert not obs[:, side:].any()
        assert not seg[side:].any()
        # The label is the colour of the door in this picture.
        (door,) = {
            tile for tile in range(DOORS, KEYS)
            if any(
                np.array_equal(obs[r : r + 8, c : c + 8], tiles()[0][tile])
                for r in range(0, side, 8) for c in range(0, side, 8)
            )
        }  # fmt: skip
        assert found["door"][i] == (door - DOORS) // 3


def test_names_of_classes() -> None:
    source = MiniGridLevels("40")
    assert source.classes["seg"][2] == "door"
    assert source.classes["door"] == COLOURS
    for name, classes in source.classes.items():
        space: Any = source.fields[name]
        assert len(classes) == (space.high.max() + 1 if name == "seg" else space.n)


@pytest.mark.parametrize("size", ["50", "", "8", "048", "48x"])
def test_other_sizes_are_refused(size: str) -> None:
    factory = find_source(f"frames-minigrid-s{size}")
    assert factory is not None
    with pytest.raises(
        UserError, match=f"there are no levels of {size} pixels; give frames-minigrid"
    ):
        factory()


def test_a_missing_package_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise UserError(f"{name} needs the package minigrid")

    monkeypatch.setattr(frames_minigrid_whole, "register_minigrid", missing)
    with pytest.raises(UserError, match=r"^frames-minigrid-s48 needs the package minigrid$"):
        MiniGridLevels("48")
