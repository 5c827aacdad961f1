"""Sources of sequences: what they contain by hand, and that splits share nothing."""

from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlbench.envs.examples import associations, digits_pixels, find_source, glyph_episodes
from rlbench.envs.examples._base import Source, Split
from rlbench.envs.examples.associations import KEYS, NEAR, TESTS, hashed
from rlbench.envs.examples.trajectories import BINS, STEPS, tokens_of
from rlbench.errors import UserError
from rlbench.sequences import CLS, MASK, PAD, SPECIAL, TokenSequence


def source_of(name: str) -> Source:
    factory = find_source(name)
    assert factory is not None
    return factory()


def rows(array: Any) -> set[bytes]:
    return {row.tobytes() for row in array}


SMALL: dict[str, int] = {
    "assoc-retrieval-4": 300,
    "assoc-retrieval-long:128": 100,
    "assoc-retrieval-far:128": 100,
    "glyph-episodes": 20,
    "digits-pixels": 360,
    "digits-pixels-permuted": 360,
    "trajectories:CartPole-v1": 50,
    "trajectories:Pendulum-v1": 30,
}


@pytest.mark.parametrize("name", SMALL)
def test_sequences_are_in_their_spaces_and_no_two_splits_or_seeds_share_one(name: str) -> None:
    source, size = source_of(name), SMALL[name]
    splits: tuple[Split, Split] = ("train", "test")
    parts = []
    for seed in (0, 1) if source.seeded else (0,):
        for split in splits:
            found = source.sample(split, size, seed)
            for field, space in source.fields.items():
                assert found[field].shape == (size, *(space.shape or ()))
                assert space.contains(found[field][3].astype(space.dtype))
            parts.append(rows(found["obs"]))
            again = source.sample(split, size // 2, seed)
            assert np.array_equal(again["obs"], found["obs"][: size // 2])
    assert len(set.union(*parts)) == sum(map(len, parts)) == size * len(parts)


def test_a_token_sequence_by_hand() -> None:
    space = TokenSequence((*SPECIAL, "red", "ball"), 6)
    assert space.dtype == np.uint8
    assert space.text(np.array([CLS, 3, 4, MASK, PAD, PAD])) == "[CLS] red ball [MASK]"
    assert space.contains(np.array([CLS, 3, 4, PAD, PAD, PAD], np.uint8))
    assert not space.contains(np.array([CLS, 3, 5, PAD, PAD, PAD], np.uint8))
    assert not space.contains(np.array([CLS, PAD, 4, PAD, PAD, PAD], np.uint8))
    space.seed(0)
    assert all(space.contains(space.sample()) for _ in range(50))
    assert TokenSequence((*SPECIAL, *map(str, range(253))), 1).dtype == np.uint8
    assert TokenSequence((*SPECIAL, *map(str, range(254))), 1).dtype == np.int64
    for words, length in ((("red", *SPECIAL), 6), (SPECIAL, 0)):
        with pytest.raises(ValueError, match="vocabulary that begins"):
            TokenSequence(words, length)


@pytest.mark.parametrize("pairs", [1, 2, 4, 26])
def test_the_digit_after_the_letter_is_the_answer(pairs: int) -> None:
    source = source_of(f"assoc-retrieval-{pairs}")
    space = source.fields["obs"]
    assert isinstance(space, TokenSequence)
    found = source.sample("train", 200, 0)
    for tokens, label in zip(found["obs"], found["label"], strict=True):
        words = space.text(tokens).split()
        assert (words[0], words[-3:-1]) == ("[CLS]", ["?", "?"])
        letters, digits = words[1:-3:2], words[2:-3:2]
        assert len(set(letters)) == len(letters) == pairs
        assert all(x.isalpha() and d.isdecimal() for x, d in zip(letters, digits, strict=True))
        assert digits[letters.index(words[-1])] == str(label)
    asked = np.array([(row == row[-1]).argmax() for row in found["obs"]])
    assert set(asked) == set(range(1, 2 * min(pairs, 26), 2)) or pairs == 26
    assert (np.bincount(found["label"], minlength=10) > 5).all()


@pytest.mark.parametrize("name", ["assoc-retrieval-1", "assoc-retrieval-long:128"])
def test_a_hash_decides_the_split_of_a_sequence(name: str) -> None:
    source = source_of(name)
    for split in ("train", "test"):
        tests = hashed(source.sample(split, 500, 7)["obs"]) % TESTS == 0
        assert tests.all() if split == "test" else not tests.any()
    drawn, _ = associations.Retrieval(4).draw(np.random.default_rng(0), "test")
    assert (hashed(drawn) % TESTS == 0).mean() == pytest.approx(1 / TESTS, abs=0.015)
    # FNV-1a of the byte "a" is af63dc4c8601ec8c.
    expected = 0xAF63DC4C8601EC8C
    assert int(hashed(np.array([[97]], np.uint8))[0]) == expected ^ (expected >> 32)


def test_sequences_for_training_may_have_fewer_pairs() -> None:
    source = source_of("assoc-retrieval-1-2-4")
    space = source.fields["obs"]
    assert isinstance(space, TokenSequence)
    assert space.shape == (12,)
    lengths = set()
    found = source.sample("train", 300, 0)
    for tokens, label in zip(found["obs"], found["label"], strict=True):
        words = space.text(tokens).split()
        assert words[-3:-1] == ["?", "?"]
        assert words[words.index(words[-1]) + 1] == str(label)
        lengths.add(len(words))
    assert lengths == {6, 8, 12}
    assert (source.sample("test", 50, 0)["obs"] != PAD).all()


@pytest.mark.parametrize("form", ["long", "far"])
def test_the_long_form_has_all_pairs_far_from_the_start(form: str) -> None:
    source = source_of(f"assoc-retrieval-{form}:128")
    space = source.fields["obs"]
    assert isinstance(space, TokenSequence)
    found = source.sample("train", 200, 0)
    places = []
    for tokens, label in zip(found["obs"], found["label"], strict=True):
        words = [space.words[token] for token in tokens]
        assert words[0] == "[CLS]"
        (place,) = [i for i, word in enumerate(words) if word.endswith("?")]
        places.append(place)
        pairs = {i: word for i, word in enumerate(words) if word[-1].isdecimal()}
        assert min(pairs) >= NEAR
        assert sorted(word[0] for word in pairs.values()) == list("ab")
        assert words.count(".") == 128 - 2 - KEYS
        assert words[place][0] + str(label) in pairs.values()
    assert set(places) == {1} if form == "long" else (min(places) >= NEAR and len(set(places)) > 30)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("assoc-retrieval-27", "27 pairs need as many letters"),
        ("assoc-retrieval-0", "no numbers of pairs"),
        ("assoc-retrieval-x", "no numbers of pairs"),
        ("assoc-retrieval-long:127", "a length from 128 to"),
        ("assoc-retrieval-long:x", "'x' is not a length"),
        ("assoc-retrieval-far:", "'' is not a length"),
        ("trajectories:Blackjack-v1", "observations of Blackjack-v1"),
        ("trajectories:MountainCar-v0x", "MountainCar-v0x"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        source_of(name)


def test_pixels_are_the_digits_in_a_fixed_order() -> None:
    pytest.importorskip("sklearn")
    images = source_of("digits").sample("test", 5, 0)
    plain = source_of("digits-pixels").sample("test", 5, 0)
    mixed = source_of("digits-pixels-permuted").sample("test", 5, 3)
    assert np.array_equal(plain["label"], images["label"])
    assert np.allclose(plain["obs"][..., 0] * 255, images["obs"].reshape(5, 64), atol=1e-4)
    order = digits_pixels.permuted()._order
    assert sorted(order) == list(range(64))
    assert (np.abs(np.diff(order)) > 1).mean() > 0.9
    assert np.array_equal(mixed["obs"], plain["obs"][:, order])


def test_episodes_of_glyphs_have_ten_drawings_of_each_and_look_alike() -> None:
    source = source_of("glyph-episodes")
    found = source.sample("test", 30, 0)
    for obs, label in zip(found["obs"], found["label"], strict=True):
        assert np.bincount(label).tolist() == [10] * 5
        within, across = [], []
        for i in range(0, 50, 7):
            distance = ((obs - obs[i]) ** 2).sum(-1)
            within.append(distance[label == label[i]].sum() / 9)
            across.append(distance[label != label[i]].mean())
        assert np.mean(within) < np.mean(across)
    assert len({label.tobytes() for label in found["label"]}) == 30


def test_no_glyph_is_in_both_splits() -> None:
    glyphs = glyph_episodes.Alphabet(3).glyphs
    parts = [rows(glyphs[split]) for split in ("train", "test")]
    assert [len(part) for part in parts] == [2_000, 400]
    assert not parts[0] & parts[1]
    assert set(np.unique(glyphs["train"])) == {0.0, 1.0}


def test_a_drawing_moves_by_at_most_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyph_episodes, "NOISE", 0.0)
    glyph = np.zeros((500, 8, 8), np.float32)
    glyph[:, 3, 4] = 1
    drawn = glyph_episodes.drawings(glyph, np.random.default_rng(0))
    places = {tuple(np.argwhere(one)[0].tolist()) for one in drawn}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}
    edge = np.zeros((100, 8, 8), np.float32)
    edge[:, 0] = 1
    assert set(glyph_episodes.drawings(edge, np.random.default_rng(0)).sum((1, 2)).tolist()) == {
        0.0, 7.0, 8.0,
    }  # fmt: skip


def test_tokens_of_numbers_by_hand() -> None:
    numbers = np.array([[[0.0, 5.0], [1.0, -5.0], [2.0, 0.0]]])
    # Three bins of the first number and two of the second; a number on a bound is above it.
    found = tokens_of(numbers, [np.array([0.5, 2.0]), np.array([0.0])])
    assert found.tolist() == [[3, 7, 4, 6, 5, 7]]


class Counter(gym.Env[Any, Any]):
    """Its state is the number of steps and the last action."""

    observation_space = spaces.Box(-1, 99, (2,))
    action_space = spaces.Discrete(3, start=5)
    length = 20

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.array([0, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        obs = np.array([self.steps, action], np.float32)
        return obs, float(action), self.steps == self.length, False, {}


class Short(Counter):
    length = 3


def test_a_window_shows_steps_in_order_and_hides_the_last_action() -> None:
    source = source_of("trajectories:tests.envs.test_sequences:Counter")
    space = source.fields["obs"]
    assert isinstance(space, TokenSequence)
    assert source.fields["label"] == spaces.Discrete(3)
    found = source.sample("train", 40, 0)
    for tokens, label in zip(found["obs"], found["label"], strict=True):
        words = space.text(tokens).split()
        assert words[0] == "[CLS]"
        names = [word.partition("=")[0] for word in words[1:]]
        steps = ["s0", "s1", "a0", "r"]
        assert names == [*steps * (STEPS - 2), "s0", "s1", "[MASK]", "r", "s0", "s1"]
        values = {
            name: [int(w.partition("=")[2]) for w in words if w.startswith(name)]
            for name in ("s0", "a0", "r")
        }
        assert values["s0"] == sorted(values["s0"])
        assert len(set(values["s0"])) > 3
        # The reward is the action: 5, 6 or 7, of which each is a third.
        assert len({*zip(values["a0"], values["r"][:-1], strict=True)}) == len(set(values["a0"]))
        shown = dict(zip(values["a0"], values["r"][:-1], strict=True))
        assert shown.get(label, values["r"][-1]) == values["r"][-1]
    assert set(found["label"]) == {0, 1, 2}
    assert source_of("trajectories:Pendulum-v1").fields.keys() == {"obs"}


def test_short_episodes_are_refused() -> None:
    source = source_of("trajectories:tests.envs.test_sequences:Short")
    with pytest.raises(UserError, match="fewer than 8 steps"):
        source.sample("train", 3, 0)


def test_bins_are_equally_frequent() -> None:
    source = source_of("trajectories:Pendulum-v1")
    tokens = source.sample("train", 400, 0)["obs"]
    space = source.fields["obs"]
    assert isinstance(space, TokenSequence)
    first = space.words.index("a0=0")
    counts = np.array([(tokens == first + b).sum() for b in range(BINS)])
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.4 * counts.mean()


def seq(kind: str, *parts: Any) -> Any:
    from minigrid.envs.babyai.core import verifier

    return getattr(verifier, kind)(*parts)


def thing(kind: str, colour: str | None = None) -> Any:
    return seq("ObjDesc", kind, colour)


TREES: list[tuple[Callable[[], Any], tuple[str, str]]] = [
    (lambda: seq("GoToInstr", thing("ball", "red")), ("red", "ball")),
    (lambda: seq("PutNextInstr", thing("key"), thing("ball", "red")), ("none", "key")),
    (
        lambda: seq("AfterInstr", seq("OpenInstr", thing("door")), seq("PickupInstr", thing("box", "blue"))),
        ("blue", "box"),
    ),
    (
        lambda: seq("BeforeInstr", seq("OpenInstr", thing("door")), seq("PickupInstr", thing("box", "blue"))),
        ("none", "door"),
    ),
    (
        lambda: seq(
            "AfterInstr",
            seq("OpenInstr", thing("door", "red")),
            seq("AndInstr", seq("GoToInstr", thing("key", "grey")), seq("GoToInstr", thing("ball"))),
        ),
        ("grey", "key"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "expected"), TREES)
def test_the_first_object_of_a_tree(tree: Callable[[], Any], expected: tuple[str, str]) -> None:
    pytest.importorskip("minigrid")
    from rlbench.envs.examples.missions import first_object

    assert first_object(tree()) == expected


def test_missions_by_their_text(capsys: pytest.CaptureFixture[str]) -> None:
    """In `A, then B` and `A and B` the first object is the first that is mentioned, in `B after you A` that of A."""
    pytest.importorskip("minigrid")
    from rlbench.envs.examples.missions import KINDS, SHARES, missions_of, part
    from rlbench.envs.minigrid.words import WORDS

    found = list(islice(missions_of(0), 200))
    assert not capsys.readouterr().out
    assert len(rows(mission.tokens for mission in found)) == 200
    for mission in found:
        text = TokenSequence(WORDS, 48).text(mission.tokens).removeprefix("[CLS] ")
        first = text.partition(" after you ")[2] or text
        words = first.split()
        place = next(i for i, word in enumerate(words) if word in KINDS)
        assert words[place] == mission.kind
        before = words[place - 1]
        assert mission.colour == ("none" if before in ("a", "the") else before)
    shares = [part(mission.tokens) for mission in found]
    assert set(shares) == set(range(16))
    assert sorted(x for share in SHARES.values() for x in share) == list(range(16))


def test_parts_of_the_missions_share_nothing() -> None:
    pytest.importorskip("minigrid")
    from rlbench.envs.examples.missions import Missions, part

    found: list[Any] = []
    for labelled in (True, False):
        source = Missions(labelled=labelled)
        for split, size in (("train", 20), ("test", 10)):
            sample = source.sample(split, size, seed=len(found))  # type: ignore[arg-type]
            assert set(source.fields) <= set(sample)
            assert source.fields["obs"].contains(sample["obs"][0])
            found.append({part(tokens) for tokens in sample["obs"]})
    assert sum(map(len, found)) == len(set.union(*found))
    fields: SimpleNamespace = SimpleNamespace(**Missions().fields)
    assert (fields.label.n, fields.kind.n) == (7, 4)
