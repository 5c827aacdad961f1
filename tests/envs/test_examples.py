"""Labelled examples: what each source gives, files and sources of one's own, and what is refused."""

import math
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rlbench import names
from rlbench.envs.examples import Arrays, Source, frames_minigrid, glyphs
from rlbench.envs.examples._base import Split
from rlbench.envs.examples.frames_minigrid import MiniGridFrames, front, place_of_goal
from rlbench.envs.examples.glyphs import SIDE, alphabet, drawn, render
from rlbench.envs.tasks import Task, find_task
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.offline_data import examples as module
from rlbench.offline_data.cache import cache_folder
from rlbench.offline_data.examples import ExampleSet, open_examples
from rlbench.sequences import SPECIAL, TokenSequence
from tests.rlbench.test_cli import refused

Array = NDArray[Any]
FIELDS: dict[str, Any] = {"obs": spaces.Box(-1, 1, (2,)), "label": spaces.Discrete(3)}


class Fixed(Source):
    """Whole numbers as columns; each test changes one thing in it."""

    given: ClassVar[dict[str, Any]] = {}
    calls: ClassVar[list[tuple[str, int, int]]] = []

    @property
    def fields(self) -> Mapping[str, Any]:
        return FIELDS

    @property
    def sizes(self) -> Any:
        return {"train": 6, "test": 3}

    def sample(self, split: Split, size: int, seed: int) -> Any:
        self.calls.append((split, size, seed))
        obs = np.full((size, 2), seed / 10)
        return {"obs": obs, "label": np.arange(size) % 3, "unused": "left out", **self.given}


class Slow(Fixed):
    cached = True


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    Fixed.calls.clear()


def opened(source: Any, size: int = 4, seed: int = 1) -> ExampleSet:
    return open_examples(Task("mine", make=pytest.fail, source=source), size, seed)


def rows(examples: Examples) -> set[bytes]:
    return {row.tobytes() for row in examples["obs"].numpy()}


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "train", "test", "classes"),
    [
        ("digits", (8, 8, 1), torch.uint8, 1437, 360, 10),
        ("glyphs", (28, 28, 1), torch.uint8, 10_000, 2_000, 20),
        ("signals-2", (100,), torch.float32, 2_048, 1_000, 5),
        ("frames-minigrid", (7, 7, 3), torch.uint8, 10_000, 2_000, 4),
    ],
)
def test_examples_have_the_shapes_and_types_of_their_fields(
    name: str, shape: tuple[int, ...], dtype: Any, train: int, test: int, classes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if name == "frames-minigrid":
        pytest.importorskip("minigrid")
    source_of = find_task(name).source
    assert source_of is not None
    source = source_of()
    assert source.sizes == {"train": train, "test": test}
    monkeypatch.setattr(type(source), "sizes", {"train": train, "test": min(test, 100)})
    found = open_examples(find_task(name), 150, seed=3)
    for part, count in ((found.train, 150), (found.test, min(test, 100))):
        assert part["obs"].shape == (count, *shape)
        assert (part["obs"].dtype, part["label"].dtype) == (dtype, torch.int64)
        assert set(part["label"].tolist()) <= set(range(classes))
    assert found.fields["obs"].shape == shape
    assert found.fields["label"] == spaces.Discrete(classes)
    again = open_examples(find_task(name), 150, seed=3)
    assert all(torch.equal(found.train[key], again.train[key]) for key in found.fields)
    assert all(torch.equal(found.test[key], again.test[key]) for key in found.fields)
    assert again.provenance == found.provenance
    other = open_examples(find_task(name), 150, seed=4)
    assert (other.provenance.sha256 != found.provenance.sha256) == source.seeded
    if name in ("glyphs", "signals-2"):
        parts = [rows(x) for x in (found.train, found.test, other.train, other.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 500


def test_a_smaller_training_set_is_the_beginning_of_a_larger_one() -> None:
    for name in ("digits", "glyphs"):
        few, many = (open_examples(find_task(name), size, seed=0).train for size in (20, 40))
        assert torch.equal(few["label"], many["label"][:20])


def test_digits_share_no_image_between_training_and_test_and_look_like_their_classes() -> None:
    found = open_examples(find_task("digits"), 10_000, seed=0)
    assert (len(found.train), len(found.test)) == (1437, 360)
    assert not rows(found.train) & rows(found.test)
    train, test = (x["obs"].float().flatten(1) for x in (found.train, found.test))
    assert [int(train.min()), int(train.max())] == [0, 255]
    assert (found.train["label"].bincount() > 120).all()
    means = torch.stack([train[found.train["label"] == digit].mean(dim=0) for digit in range(10)])
    nearest = torch.cdist(test, means).argmin(dim=1)
    assert (nearest == found.test["label"]).float().mean() > 0.85


def test_a_dot_is_rendered_as_by_hand() -> None:
    dot = np.broadcast_to([10.5 / SIDE, 14.5 / SIDE], (1, 3, 3, 2))
    image = render(dot)[0]
    # 255 min(1, 2 - d / 0.045) at d = 0, 1, sqrt 2, 2, sqrt 5 pixels of 1 / 28; from sqrt 8 on, nothing.
    assert image[14, 10:14].tolist() == [255, 255, 105, 0]
    assert image[15, 10:14].tolist() == [255, 224, 57, 0]
    assert image[16, 10:14].tolist() == [105, 57, 0, 0]
    assert np.array_equal(image[12:17, 8:13], image[16:11:-1, 12:7:-1])
    assert np.count_nonzero(image) == 21


def test_a_stroke_is_a_quadratic_curve() -> None:
    """It begins and ends at two of its points and comes half-way to the third."""
    ends, middle = (3.5 / SIDE, 3.5 / SIDE), (23.5 / SIDE, 3.5 / SIDE)
    image = render(np.broadcast_to([ends, middle, ends], (1, 3, 3, 2)))[0]
    # Half of 20 pixels from column 3, at t = 7/15 to 0.04 pixels.
    assert (image[3, 3:14] == 255).all()
    assert image[3, 17:].max() == 0
    assert image[8:].max() == 0


class One:
    """Draws 1 every time."""

    def standard_normal(self, shape: Any) -> Array:
        return np.ones(shape)


def test_drawings_are_turned_scaled_and_shifted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("JITTER", 0.0), ("TURN", math.pi / 2), ("SCALE", 1.0), ("SHIFT", 0.1)):
        monkeypatch.setattr(glyphs, name, value)
    point = np.broadcast_to([0.6, 0.5], (1, 3, 3, 2))
    # (0.1, 0) from the middle: a quarter turn makes it (0, 0.1), twice the scale (0, 0.2).
    moved = drawn(point, One())  # type: ignore[arg-type]
    np.testing.assert_allclose(moved, np.broadcast_to([0.6, 0.8], (1, 3, 3, 2)))
    monkeypatch.setattr(glyphs, "JITTER", 0.05)
    np.testing.assert_allclose(drawn(point, One())[0, 0, 0], [0.5, 0.9])  # type: ignore[arg-type]
    # Twice as unsteady: (0.2, 0.1) is turned by half a circle, has three times its size and moves by 0.2.
    np.testing.assert_allclose(drawn(point, One(), 2.0)[0, 0, 0], [0.1, 0.4])  # type: ignore[arg-type]


def test_drawings_of_one_character_are_more_alike_than_those_of_others() -> None:
    rng = np.random.default_rng(0)
    characters = alphabet(4, rng)
    labels = np.repeat(np.arange(4), 10)
    points = drawn(characters[labels], rng).reshape(40, -1)
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    same = labels[:, None] == labels
    assert distance[same].mean() < 0.5 * distance[~same].mean()


def test_the_seed_decides_the_characters_and_the_split_how_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = (glyphs.Glyphs().sample(split, 60, 3) for split in ("train", "test"))
    assert not np.array_equal(train["label"], test["label"])
    for name in ("JITTER", "TURN", "SCALE", "SHIFT"):
        monkeypatch.setattr(glyphs, name, 0.0)
    shown = []
    for seed, split in ((3, "train"), (3, "test"), (4, "train")):
        found = glyphs.Glyphs().sample(split, 60, seed)  # type: ignore[arg-type]
        pairs = zip(found["label"].tolist(), found["obs"], strict=True)
        shown.append({(label, image.tobytes()) for label, image in pairs})
        assert len({label for label, _ in shown[-1]}) == len(shown[-1]), "one image of a class"
    train_3, test_3, train_4 = shown
    assert len(train_3 & test_3) > 10
    assert not {image for _, image in train_3} & {image for _, image in train_4}


def test_where_the_goal_is_and_what_is_in_front_by_hand() -> None:
    """The agent is at the bottom of the middle column, [3, 6], and looks up."""
    views = np.zeros((6, 7, 7, 3), np.uint8)
    for view, (column, row) in enumerate([(1, 4), (3, 2), (5, 6), (0, 0), (4, 5)]):
        views[view, column, row, 0] = 8
    views[5, 2, 2, 1] = 8  # A colour is no type.
    assert place_of_goal(views).tolist() == [1, 2, 3, 1, 3, 0]
    views[0, 3, 5, 0], views[1, 3, 4, 0] = 2, 4
    assert front(views).tolist() == [2, 0, 0, 0, 0, 0]
    assert place_of_goal(views).dtype == front(views).dtype == np.int64


def test_views_come_from_levels_of_their_own_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    class Counting:
        """A view is the number of steps; the third step ends the level."""

        def reset(self, seed: int | None = None) -> tuple[int, dict[str, Any]]:
            self.steps = 0
            seeds.append(-1 if seed is None else seed)
            return 0, {}

        def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
            assert action in (0, 1, 2)
            self.steps += 1
            return self.steps, 0.0, self.steps == 5, False, {}

        def close(self) -> None:
            pass

    monkeypatch.setattr(frames_minigrid, "make_minigrid", lambda name: Counting())
    found = MiniGridFrames().sample("train", 12, 0)
    # Three steps after each view; after the fifth a new level begins in the middle of them.
    assert found["obs"][:, 0, 0, 0].tolist() == [0, 3, 1, 4, 2, 0, 3, 1, 4, 2, 0, 3]
    given = [seed for seed in seeds if seed != -1]
    MiniGridFrames().sample("test", 12, 0)
    MiniGridFrames().sample("train", 12, 1)
    given = [seed for seed in seeds if seed != -1]
    assert len(set(given)) == len(given) == 6


def columns(rows: int = 8, **changed: Any) -> dict[str, Array]:
    """Those of a file: vectors [5] and three classes."""
    usual: dict[str, Any] = {}
    for split in ("train", "test"):
        usual[f"{split}/obs"] = np.arange(5.0 * rows).reshape(rows, 5) / (5 * rows)
        usual[f"{split}/label"] = np.arange(rows) % 3
    return {**usual, **{name.replace("__", "/"): x for name, x in changed.items()}}


def npz(file: Path, content: Mapping[str, Array]) -> str:
    np.savez(file, **content)  # type: ignore[arg-type]
    return str(file)


def hdf5(file: Path, content: Mapping[str, Any]) -> str:
    with h5py.File(file, "w") as opened_file:
        for name, column in content.items():
            opened_file[name] = column
    return str(file)


@pytest.mark.parametrize("write", [npz, hdf5])
def test_a_file_is_a_source(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    images = np.arange(8 * 12).reshape(8, 2, 2, 3).astype(np.uint8)
    content = columns(train__obs=images, test__obs=images[:3], test__label=np.array([0, 4, 1]))
    content |= {"train/weight": np.ones(8, ">f8"), "test/weight": np.ones(3), "other": np.ones(2)}
    file = write(tmp_path / ("mine.npz" if write is npz else "mine.h5"), content)
    found = open_examples(find_task(file), 6, seed=9)
    assert found.train["obs"].dtype == torch.uint8
    assert torch.equal(found.train["obs"], torch.from_numpy(images[:6]))
    assert found.test["label"].tolist() == [0, 4, 1]
    assert found.train["weight"].dtype == torch.float32
    # A class that only the test has counts too.
    assert found.fields["label"] == spaces.Discrete(5)
    assert found.provenance.kind == "file"
    assert found.provenance.details["transitions"] == 6
    assert not found.provenance.details["seeded"]


@pytest.mark.parametrize(
    ("column", "space"),
    [
        (np.array([True, False]), spaces.Discrete(2)),
        (np.array([3, 1], np.uint64), spaces.Discrete(4)),
        (np.array([-1, 1]), spaces.Box(-(2**63), 2**63 - 1, (), np.int64)),
        (np.array([2**63 - 1, 1]), spaces.Box(-(2**63), 2**63 - 1, (), np.int64)),
        (np.array([[1, 2], [3, 4]]), spaces.Box(0, 4, (2,), np.int64)),
        (np.array([[1, 2], [3, 4]], np.uint8), spaces.Box(0, 255, (2,), np.uint8)),
        (np.array([0.0, 1.0]), spaces.Box(-np.inf, np.inf, (), np.float32)),
        (np.array([[[0, 2]]], np.uint8), spaces.Box(0, 2, (1, 2), np.uint8)),
        (np.array([[[1, 2]]]), spaces.Box(0, 2, (1, 2), np.int64)),
        (np.array([[[-1, 2]]]), spaces.Box(-1, 2, (1, 2), np.int64)),
        (np.array([[[[0, 2]]]], np.uint8), spaces.Box(0, 255, (1, 1, 2), np.uint8)),
        (np.zeros(0, int), spaces.Discrete(1)),
    ],
)
def test_what_a_column_of_an_array_is_follows_from_its_numbers(column: Array, space: Any) -> None:
    assert Arrays({"x": column}, {"x": column}).fields["x"] == space


def test_bytes_without_channels_are_images_if_they_are_the_observations() -> None:
    column = np.array([[[0, 2]]], np.uint8)
    assert Arrays({"obs": column}, {"obs": column}).fields["obs"] == spaces.Box(
        0, 255, (1, 2), np.uint8
    )


def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = Path(npz(tmp_path / "whole.npz", columns())).read_bytes()
    np.savez_compressed(tmp_path / "packed.npz", **columns())  # type: ignore[arg-type]
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[100:110] = bytes(10)
    np.save(tmp_path / "single.npy", np.ones(3))
    contents = {
        "empty.npz": b"", "empty.h5": b"", "text.npz": b"words\n", "cut.npz": whole[:200],
        "packed.npz": bytes(packed), "single.npz": (tmp_path / "single.npy").read_bytes(),
        "cut.hdf5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    }  # fmt: skip
    others = {"empty.h5": "is not an HDF5 file; give one", "cut.hdf5": r"is damaged or cut off \("}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        words = others.get(name, r"cannot be read \(.*\); give an")
        with pytest.raises(UserError, match=rf"^\S*{name} {words}"):
            open_examples(find_task(str(tmp_path / name)), 4, 0)
    objects = npz(tmp_path / "objects.npz", columns(train__obs=np.array([{}] * 8)))
    with pytest.raises(UserError, match=r"cannot be read \(Object arrays cannot be loaded"):
        open_examples(find_task(objects), 4, 0)
    with pytest.raises(UserError, match=r"there is no file .*absent.npz; give the path"):
        open_examples(find_task(str(tmp_path / "absent.npz")), 4, 0)
    with pytest.raises(UserError, match=r"absent.h5; give the path of an .npz or HDF5"):
        open_examples(find_task(str(tmp_path / "absent.h5")), 4, 0)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match=r"folder.npz is a folder, not a file; give"):
        open_examples(find_task(str(tmp_path / "folder.npz")), 4, 0)
    with pytest.raises(UserError, match=r"cannot be read \(.*too long"):
        open_examples(find_task("x" * 300 + ".npz"), 4, 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train__label": np.arange(5)}, "train columns have different lengths .obs 8, label 5"),
        ({"test__label": np.arange(9)}, "test columns have different lengths .obs 8, label 9"),
        ({"test__more": np.arange(8)}, "the arrays test/label, test/more, test/obs, train/label"),
        ({"train__label": np.array(3)}, "expected the same names in two parts"),
        ({"train__obs": np.array(["a"] * 8)}, "the column obs of .* has the type <U1; expected n"),
        ({"train__obs": np.ones((8, 5)) * 1j}, "has the type complex128; expected numbers"),
        ({"test__obs": np.ones((8, 4))}, r"has the shape \[8, 4\], expected \[8, 5\]; correct"),
        ({"train__obs": np.full((8, 5), np.nan)}, "values that are NaN or too large for float32"),
        ({"train__obs": np.full((8, 5), 1e300)}, "values that are NaN or too large for float32"),
        ({"train__label": np.full(8, 2**64 - 1, np.uint64)}, "values from 18446744073709551615"),
        ({"train__obs": np.ones((8, 0))}, "the column obs of .* has no values; give 1 or more"),
        (
            {"train__obs": np.ones((8, 5), np.uint8), "test__obs": np.full((8, 5), 300)},
            r"has values from 300 to 300, expected Box\(0, 255",
        ),
        (
            {"train__obs": np.ones((8, 5), np.uint8), "test__obs": np.full((8, 5), -1)},
            "has values from -1 to -1",
        ),
        (
            {"train__obs": np.ones((8, 5), np.uint8), "test__obs": np.full((8, 5), 0.5)},
            "has fractions, expected whole numbers of Box",
        ),
    ],
)
def test_columns_of_a_file_that_do_not_fit_are_named(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        open_examples(find_task(npz(tmp_path / "mine.npz", columns(**changed))), 99, 0)


def test_an_hdf5_file_of_other_things_is_refused(tmp_path: Path) -> None:
    flat = hdf5(tmp_path / "flat.h5", {"obs": np.ones(3), "train": np.ones(3)})
    with pytest.raises(UserError, match="has the arrays none; expected the same names"):
        open_examples(find_task(flat), 4, 0)
    hollow = hdf5(tmp_path / "hollow.h5", {"train/obs": h5py.Empty("f"), "test/obs": [1.0]})
    with pytest.raises(UserError, match="has the arrays test/obs; expected the same names"):
        open_examples(find_task(hollow), 4, 0)


class Words(Fixed):
    @property
    def fields(self) -> Mapping[str, Any]:
        return {"obs": TokenSequence((*SPECIAL, "go"), 3)}

    def sample(self, split: Split, size: int, seed: int) -> Any:
        return {"obs": np.tile([[1, 0, 3]], (size, 1))}


def test_tokens_after_padding_are_refused() -> None:
    with pytest.raises(UserError, match="obs of mine has tokens after padding, expected TokenSequence of 3"):  # fmt: skip
        opened(Words)


def test_a_custom_source_is_named_by_its_place() -> None:
    found = open_examples(find_task("tests.envs.test_examples:Fixed"), 4, seed=5)
    assert Fixed.calls == [("train", 4, 5), ("test", 3, 5)]
    assert found.train["obs"].tolist() == [[0.5, 0.5]] * 4
    assert found.test["label"].tolist() == [0, 1, 2]
    assert list(found.train.columns) == ["obs", "label"]
    assert found.provenance.kind == "custom"
    assert opened(Fixed, size=99).provenance.details["transitions"] == 6


def nothing() -> Any:
    return None


def explodes() -> Any:
    raise KeyError("wire")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "tests.envs.test_examples:nothing",
            "made a NoneType; expected an rlbench.envs.examples.Sou",
        ),
        (
            "tests.envs.test_examples:explodes",
            "raised KeyError in its factory: 'wire'; this comes fr",
        ),
        ("tests.envs.test_examples:absent", "has no function 'absent'"),
        ("no_such_module:make", "no module named 'no_such_module'"),
        ("Pendulum-v1", "Pendulum-v1 has no labelled examples; give a source of them, such as"),
    ],
)
def test_what_gives_no_source_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_examples(find_task(name), 4, 0)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tests.envs.test_examples:Fixed", ""),
        (
            "tests.envs.test_examples:nothing",
            "theirs made a NoneType; expected an rlbench.envs.exam",
        ),
        ("tests.envs.test_examples:explodes", "theirs raised KeyError in its factory: 'wire'"),
        ("tests.envs.test_examples:absent", "source 'theirs': 'absent' in the module"),
    ],
)
def test_a_package_registers_a_source(
    place: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("theirs", place, "rlbench.sources")
    monkeypatch.setattr(
        names, "registered", lambda group: [point] if group == "rlbench.sources" else []
    )
    if not words:
        assert len(open_examples(find_task("theirs"), 4, 0).train) == 4
        return
    with pytest.raises(UserError, match=words):
        open_examples(find_task("theirs"), 4, 0)


@pytest.mark.parametrize("size", [0, -2])
def test_fewer_examples_than_one_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"{size} training examples were requested; give a data"):
        opened(Fixed, size=size)


def raising(_: Any) -> Any:
    raise KeyError("wire")


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("fields", property(raising), "raised KeyError in fields: 'wire'; this comes from your so"),
        ("fields", None, "mine raised TypeError in fields"),
        ("fields", {"obs": 3}, "the field 'obs' of mine is 3; expected a space of arrays"),
        ("fields", {"obs": spaces.Dict()}, "the field 'obs' of mine is Dict"),
        ("sizes", property(raising), "mine raised KeyError in sizes: 'wire'"),
        ("sizes", {"train": 3}, "mine raised KeyError in sizes: 'test'"),
        ("sizes", {"train": 3, "test": 2.5}, "mine raised TypeError in sizes"),
        ("sizes", {"train": 3, "test": 0}, "mine has no examples for test; give a source with"),
        ("sizes", {"train": -3, "test": 1}, "mine has no examples for train"),
        ("sample", lambda *_: raising(0), "mine raised KeyError in sample: 'wire'"),
        ("sample", lambda *_: sys.exit(3), "mine raised SystemExit in sample: 3"),
        ("sample", lambda *_: None, "mine raised TypeError in sample"),
        ("sample", lambda *_: {"obs": [[1], [1, 2]]}, "mine raised ValueError in sample"),
        ("sample", lambda *_: {}, "the train examples of mine have no column 'obs'; let the"),
        ("given", {"obs": np.ones((7, 2))}, r"column obs of mine has the shape \[7, 2\], expecte"),
        ("given", {"obs": np.full((4, 2), 1.5)}, "has values from 1.5 to 1.5, expected Box"),
        ("given", {"label": np.arange(4)}, "has classes from 0 to 3, expected Discrete"),
        ("given", {"label": np.arange(4) - 1}, "has classes from -1 to 2, expected Discrete"),
        ("given", {"label": np.arange(4) / 2}, "the column label of mine has fractions"),
    ],
)
def test_the_fault_of_a_custom_source_is_named(
    method: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fixed, method, value)
    with pytest.raises(UserError, match=words):
        opened(Fixed)


def test_a_fault_of_the_suite_itself_is_not_blamed_on_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(glyphs.Glyphs, "sample", lambda *_: raising(0))
    with pytest.raises(KeyError, match="wire"):
        open_examples(find_task("glyphs"), 4, 0)


def test_whole_numbers_may_come_as_floats_and_numbers_in_any_width() -> None:
    Fixed.given = {"obs": np.ones((3, 2), np.float16), "label": np.array([0.0, 2.0, 1.0])}
    try:
        found = opened(Fixed, size=3)
    finally:
        Fixed.given = {}
    assert found.train["label"].tolist() == [0, 2, 1]
    assert found.train["obs"].dtype == torch.float32


def test_a_slow_source_draws_once_for_each_size_and_seed() -> None:
    first = opened(Slow)
    assert len(Slow.calls) == 2
    again = opened(Slow)
    assert len(Slow.calls) == 2
    assert torch.equal(first.train["obs"], again.train["obs"])
    assert again.train["label"].dtype == torch.int64
    assert first.provenance == again.provenance
    opened(Slow, seed=2)
    assert len(Slow.calls) == 4
    opened(Slow, size=5)
    assert Slow.calls[4:] == [("train", 5, 1)], "the test examples are the same"


def test_a_source_of_another_version_or_with_other_fields_draws_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened(Slow)
    monkeypatch.setattr(Slow, "version", 2)
    opened(Slow)
    assert len(Slow.calls) == 4
    monkeypatch.setattr(Slow, "fields", {"label": FIELDS["label"]})
    assert list(opened(Slow).train.columns) == ["label"]
    assert len(Slow.calls) == 6


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_a_damaged_cache_is_made_again(ending: str) -> None:
    first = opened(Slow)
    files = sorted(cache_folder().glob(f"mine-*/examples{ending}"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:-9])
    again = opened(Slow)
    assert len(Slow.calls) == 4
    assert again.provenance == first.provenance
    opened(Slow)
    assert len(Slow.calls) == 4


def test_a_set_moves_to_a_device_as_a_whole() -> None:
    moved = opened(Fixed).to(torch.device("meta"))
    assert moved.train["obs"].device.type == moved.test["label"].device.type == "meta"
    assert moved.fields == FIELDS


def test_the_hash_distinguishes_columns_and_splits() -> None:
    one, two = (Examples({"a": torch.tensor([x])}) for x in (1, 2))
    hashes = {
        module._sha256({"train": a, "test": b})
        for a, b in ((one, two), (two, one), (one, one), (Examples({"b": one["a"]}), two))
    }
    assert len(hashes) == 4


LABELS = ("train/label", "test/label")
RUN = ["run", "classifier", "--encoder", "flatten", "--updates", "2"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--env", "mine.npz"], "batch_size is 64, but there are 8 training examples; give --batch"),
        (["--env", "mine.npz", "--data-size", "0"], "data_size is 0; give 1 or more"),
        (["--env", "mine.npz", "--data", "generated"], "--data is generated, but classifier learns"),
        (["--env", "mine.npz", "--updates", "0"], "updates is 0; give 1 or more"),
        (["--env", "mine.npz", "--threads", "0"], "threads is 0; give 1 or more"),
        (["--env", "mine.npz", "--seeds", "2"], "cannot learn several seeds as one program"),
        (["--env", "mine.npz", "--compile", "on"], "Classifier has no compiled form; give --compile"),
        (["--env", "Pendulum-v1"], "Pendulum-v1 has no labelled examples"),
        (["--env", "column.npz"], "they have no classes at all; a class is a whole number from 0"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused_before_anything_is_written(
    words: list[str], told: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(in_folder / "mine.npz", columns())
    npz(in_folder / "column.npz", columns() | dict.fromkeys(LABELS, np.ones((8, 1), int)))
    assert told in refused(capsys, [*RUN, *words])
    assert sorted(file.name for file in in_folder.iterdir()) == ["column.npz", "mine.npz"]


@pytest.mark.parametrize("agent", ["ppo", "bc", "sac"])
def test_an_agent_is_refused_on_examples(
    agent: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, ["run", agent, "--env", "digits", "--updates", "2"])
    assert "digits has labelled examples and no episodes; give it to a model such as" in told
    assert not list(in_folder.iterdir())
