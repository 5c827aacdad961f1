"""Sources of sets: one class in each set, distinct classes, and none in both splits."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlbench.envs.examples import find_source, glyph_sets, goal_sets, level_sets, moment_sets
from rlbench.envs.examples._base import Source, Split
from rlbench.envs.examples.digits import Digits
from rlbench.envs.examples.level_sets import FRAMES, STEPS_BETWEEN
from rlbench.envs.making import make_minigrid
from rlbench.envs.minigrid.tiles import COLOURS
from rlbench.envs.tasks import Task
from rlbench.errors import UserError

SPLITS: tuple[Split, Split] = ("train", "test")


def source_of(name: str) -> Source:
    factory = find_source(name)
    assert factory is not None
    return factory()


class Pool:
    """Pictures show the level and the number of steps."""

    made: list["Pool"]

    def __init__(self, env_id: str, options: dict[str, Any], seeds: list[int]) -> None:
        self.env_id, self.options, self.seeds = env_id, options, seeds
        self.steps = self.resets = 0
        self.actions: list[int] = []
        self.made.append(self)

    def reset(self) -> None:
        self.resets += 1

    def step(self, actions: Any) -> tuple[Any, ...]:
        self.steps += 1
        self.actions += actions.tolist()
        obs = np.full((1, 3, 64, 64), self.steps, np.uint8)
        obs[:, 0] = self.options["start_level"] % 256
        return (obs,)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(level_sets, "make_pool", Pool)
    Pool.made = []
    return Pool


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("glyph-sets", 300, 100),
        ("digit-sets", 5, 5),
        ("level-sets:coinrun", 300, 100),
        ("moment-sets:Pendulum-v1", 300, 100),
    ],
)
def test_every_set_has_its_own_class(name: str, train: int, test: int, pools: type[Pool]) -> None:
    if name == "digit-sets":
        pytest.importorskip("sklearn")
    source = source_of(name)
    assert source.sizes == {"train": train, "test": test}
    size, parts, labels = 4, [], []
    for seed in (0, 1) if source.seeded else (0,):
        for split in SPLITS:
            found = source.sample(split, size, seed)
            for field, space in source.fields.items():
                assert found[field].shape == (size, *(space.shape or ()))
                assert all(space.contains(x.astype(space.dtype)) for x in found[field])
            pictures = {x.tobytes() for one in found["obs"] for x in one}
            parts.append(pictures)
            labels.append(found["label"].tolist())
            few = source.sample(split, 2, seed)
            assert np.array_equal(few["obs"], found["obs"][:2])
    assert labels[:2] == [[0, 1, 2, 3], [train + x for x in range(4)]]
    if not name.startswith("level"):  # The pool above draws few different pictures.
        assert len(set.union(*parts)) == sum(map(len, parts))


def test_drawings_of_a_set_are_alike_but_less_than_those_of_a_steady_hand() -> None:
    sets = source_of("glyph-sets").sample("test", 40, 0)["obs"].reshape(40, 20, -1) / 255
    centre = sets[:, :10].mean(1)
    distance = np.square(sets[:, 10:, None] - centre).sum(-1)
    right = (distance.argmin(-1) == np.arange(40)[:, None]).mean()
    assert 0.1 < right < 0.6, "chance is 1/40"


def test_every_seed_has_its_own_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyph_sets, "UNSTEADINESS", 0.0)
    source = source_of("glyph-sets")
    sets = [source.sample(split, 2, seed)["obs"] for split in SPLITS for seed in (0, 1)]
    assert all((x == x[:, :1]).all() for x in sets), "a steady hand always draws the same"
    assert len({glyph.tobytes() for x in sets for glyph in x[:, 0]}) == 8


def test_digits_of_a_set_are_all_of_its_class() -> None:
    pytest.importorskip("sklearn")
    found, digits = source_of("digit-sets"), Digits()
    of: dict[bytes, int] = {}
    for split in SPLITS:
        part = digits.sample(split, 2_000, 0)
        of |= {x.tobytes(): int(y) for x, y in zip(part["obs"], part["label"], strict=True)}
    for split in SPLITS:
        part = found.sample(split, 5, 0)
        for images, label in zip(part["obs"], part["label"], strict=True):
            assert {of[x.tobytes()] for x in images} == {int(label)}
            assert len({x.tobytes() for x in images}) == len(images) == 170


def test_frames_of_a_level_are_ten_steps_apart(pools: type[Pool]) -> None:
    found = source_of("level-sets:heist-hard").sample("test", 2, 3)
    assert [pool.options for pool in pools.made] == [
        {"start_level": 610_000 + i, "num_levels": 1} for i in range(2)
    ]
    one = pools.made[0]
    assert (one.env_id, one.resets, len(one.seeds)) == ("HeistHard-v0", 2, 1)
    assert found["obs"][0, :, 5, 7].tolist() == [
        [610_000 % 256, *[STEPS_BETWEEN * (i + 1)] * 2] for i in range(FRAMES)
    ]
    actions = np.array(one.actions).reshape(FRAMES, STEPS_BETWEEN)
    assert (actions == actions[:, :1]).all()
    assert len(set(actions[:, 0].tolist())) > 5
    assert pools.made[1].seeds != one.seeds
    assert source_of("level-sets:heist-hard").sample("train", 1, 3)["label"] == [0]
    assert pools.made[-1].options["start_level"] == 600_000


class Counting(gym.Env[Any, Any]):
    """An observation is the number of the episode and of the step; every third episode is short."""

    observation_space = spaces.Box(-1, 9_999, (2,))
    action_space = spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episodes += 1
        self.step_number = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        last = 3 if self.episodes % 3 == 0 else 100
        return self._obs(), 0.0, self.step_number == last, False, {}

    def _obs(self) -> Any:
        return np.array([self.episodes, self.step_number], np.float32)


def test_a_moment_has_steps_that_follow_each_other_in_an_episode_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = Task("counting", make=Counting)
    monkeypatch.setattr(moment_sets, "find_task", lambda _: task)
    source = moment_sets.MomentSets("counting")
    found = source.sample("train", 60, 0)["obs"]
    episodes, steps = found[..., 0], found[..., 1]
    assert (np.diff(steps, axis=1) == 1).all()
    assert (episodes == episodes[:, :1]).all()
    assert (episodes % 3 != 0).all()
    assert len(set(episodes[:, 0])) == 60
    assert set(steps[:, 0]) <= set(range(31))
    assert len(set(steps[:, 0])) > 15
    monkeypatch.setattr(moment_sets, "MOST_ATTEMPTS", 3)
    monkeypatch.setattr(moment_sets, "OBSERVATIONS", 200)
    with pytest.raises(UserError, match="episodes of counting in a row ended within 230 steps"):
        source.sample("train", 1, 0)
    task = Task("choices", make=lambda: gym.make("FrozenLake-v1"))
    with pytest.raises(UserError, match="moments need observations in a Box space"):
        moment_sets.MomentSets("choices")


def test_a_game_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="Procgen has no game 'chess'; give one of bigfish"):
        source_of("level-sets:chess")


def test_levels_of_coinrun() -> None:
    pytest.importorskip("envpool")
    found = source_of("level-sets:coinrun").sample("test", 2, 0)["obs"].astype(float)
    frames = found.reshape(2, FRAMES, -1)
    own = np.abs(frames - frames.mean(1, keepdims=True)).mean()
    other = np.abs(frames - frames.mean(1, keepdims=True)[::-1]).mean()
    assert own < other


def test_goals_of_tests_are_new_pairs_of_kinds_and_colours_that_training_shows() -> None:
    train, test = (set(goal_sets.THINGS[split]) for split in SPLITS)
    assert not train & test
    assert len(train | test) == len(goal_sets.KINDS) * len(COLOURS) + 2
    for part in (0, 1):
        assert {thing[part] for thing in test} <= {thing[part] for thing in train}
    pytest.importorskip("minigrid")
    source = source_of("goal-sets")
    names = source.classes["label"]
    assert (names[12], names[13], names[-1]) == ("wall", "nothing", "red key")
    found = {split: source.sample(split, 2, 0) for split in SPLITS}
    assert [found[split]["label"].tolist() for split in SPLITS] == [[0, 1], [14, 15]]
    again = source.sample("test", 1, 0)["obs"]
    assert np.array_equal(again, found["test"]["obs"][:1]), "a prefix"
    assert not np.array_equal(again, source.sample("test", 1, 1)["obs"])
    assert all(source.fields["obs"].contains(x) for x in found["train"]["obs"])


@pytest.mark.parametrize("thing", [("key", "blue"), ("box", "grey"), ("wall", ""), ("nothing", "")])
def test_the_thing_is_in_front_of_the_agent(thing: tuple[str, str]) -> None:
    pytest.importorskip("minigrid")
    env, rng = make_minigrid(goal_sets.ROOM), np.random.default_rng(0)
    room: Any = env.unwrapped
    seen = set()
    for _ in range(30):
        picture = goal_sets.view(room, thing, rng)
        front = room.grid.get(*room.front_pos)
        assert thing == (
            ("nothing", "")
            if front is None
            else (front.type, "" if front.type == "wall" else front.color)
        )
        assert np.array_equal(picture, room.get_pov_render(tile_size=8))
        assert room.grid.get(*room.agent_pos) is None
        seen.add((room.agent_pos, room.agent_dir))
    assert len(seen) > 10
    env.close()
