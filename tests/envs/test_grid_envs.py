"""Chains, random grids, exact values and single environments of LPG's grids."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from rlbench.envs.grids import values
from rlbench.envs.grids.chains import CHAINS, Chain, ChainWorlds
from rlbench.envs.grids.engine import GridWorlds, RandomGridWorlds
from rlbench.envs.grids.levels import LEVELS, RANDOM
from rlbench.envs.grids.make import make_worlds
from rlbench.envs.grids.names import LENGTHS, RANDOM as RANDOM_NAMES, gymnasium_id
from rlbench.envs.grids.picture import cells, in_words
from rlbench.envs.grids.single import GridEnv
from rlbench.envs.grids.values import exact_values, model_of
from rlbench.envs.tasks import find_task, task_names
from tests.grids import RIGHT, STAY, Drawn, worlds


def chain(kind: Chain, right: int = 1) -> ChainWorlds:
    made = ChainWorlds(kind, 1, 1, seed=0)
    made.right = torch.full((1, 1), right)
    return made


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_the_first_action_decides_the_last_reward_of_a_chain(right: int, first: int) -> None:
    made = chain(Chain((5, 5)), right)
    for _ in range(2):
        assert int(made.obs()) == 0
        for step, action in enumerate((first, 1 - first, first, 0, 1)):
            reward, over, final = made.step(torch.tensor([[action]]), made.chance(1)[0])
            assert int(final) == 1 + 5 * first + step
            last = (1.0 if first == right else -1.0, 1.0)
            assert (float(reward), float(over)) == (last if step == 4 else (0.0, 0.0))


def test_noise_is_between_the_first_and_the_last_step_and_has_mean_0() -> None:
    made = ChainWorlds(Chain((6, 6), noisy=True), 50, 40, seed=0)
    action = torch.zeros((50, 40), dtype=torch.int64)
    rewards = torch.stack([made.step(action, x)[0] for x in made.chance(6)])
    assert (rewards[0] == 0).all()
    assert (rewards[1:5].abs() == 1).all()
    assert rewards[1:5].mean().abs() < 0.05
    assert torch.equal(rewards[5], torch.where(made.right == 0, 1.0, -1.0).expand(50, 40))


def test_two_bits_of_a_distractor_chain_are_informative() -> None:
    made = chain(CHAINS["distractor"], right=1)
    assert made.obs_size == 22
    assert made.obs()[0, 0, :2].tolist() == [0, 0]
    for action in (0, 1):
        shown = []
        over = torch.zeros(1)
        while not over.any():
            _, over, final = made.step(torch.tensor([[action]]), made.chance(1)[0])
            shown.append(final[0, 0])
        assert len(shown) == int(made.length)
        assert all(x[:2].tolist() == [0, action] for x in shown)
        assert made.obs()[0, 0, :2].tolist() == [0, 0]
    many = ChainWorlds(CHAINS["distractor"], 40, 50, seed=0)
    before = many.obs()[..., 2:]
    many.advance(torch.zeros((40, 50), dtype=torch.int64), numbers := many.chance(1)[0])
    after = many.obs()[..., 2:]
    many.begin(torch.ones((40, 50), dtype=torch.bool), numbers)
    anew = many.obs()[..., 2:]
    for x, y in ((before, after), (after, anew)):
        assert abs(float(x.mean()) - 0.5) < 0.02
        assert abs(float((x == y).float().mean()) - 0.5) < 0.02


def test_lengths_of_chains() -> None:
    for name, low, high in (
        ("short", 5, 30),
        ("noisy", 5, 30),
        ("long", 5, 50),
        ("noisy-long", 5, 50),
    ):
        made = ChainWorlds(CHAINS[name], 2_000, 1, seed=0)
        assert (int(made.length.min()), int(made.length.max())) == (low, high)
        assert made.states == 1 + 2 * high
        assert abs(float(made.right.float().mean()) - 0.5) < 0.05


def planes(made: GridWorlds) -> Tensor:
    """Observations as [N, W, 1 + O, C]."""
    return made.obs().view(*made.shape, 1 + made.slots, made.cells)


@pytest.mark.parametrize("name", RANDOM_NAMES)
def test_random_grids_place_agent_and_objects_in_different_free_cells(name: str) -> None:
    made = make_worlds(f"grid-rand-{name}", 3, 200, seed=0)
    assert isinstance(made, RandomGridWorlds)
    assert (made.states, made.obs_size) == (None, (1 + made.slots) * made.cells)
    shown = planes(made)
    assert (shown.sum(-1) == 1).all()
    assert (shown.sum(-2) <= 1).all()
    free = ~made.levels.wall[0]
    assert not shown[..., ~free].any()
    often = shown.flatten(0, 1).mean(0)[:, free]
    assert often.max() < 6 / free.sum(), "all cells are about equally likely"
    before = made.object_cell
    made.begin(torch.ones(made.shape, dtype=torch.bool), made.chance(1)[0])
    assert (made.object_cell == before).float().mean() < 0.1, "another episode, other cells"


def test_random_grids_keep_objects_that_are_there_and_move_those_that_come_back() -> None:
    made = RandomGridWorlds(RANDOM["small"], 20, 50, 9, seed=0)
    came = torch.zeros((), dtype=torch.int64)
    for _ in range(60):
        present, where_ = made.present, made.object_cell
        action = torch.randint(0, 9, made.shape)
        reward, terminated, _ = made.advance(action, made.chance(1)[0])
        here = (made.cell[..., None] == where_) & present
        assert torch.equal(reward, (here * made.tables.reward).sum(-1))
        stays = present & ~here
        assert torch.equal(made.present & present, stays)
        assert torch.equal(made.object_cell[stays], where_[stays])
        fresh = made.present & ~present
        came += fresh.sum()
        shown = planes(made)
        assert (shown.sum(-2) <= 1).all(), "never two in a cell"
        assert not shown[..., made.levels.wall[0]].any()
        made.begin(terminated, made.chance(1)[0])
    assert came > 100


def test_an_object_that_always_returns_does_so_elsewhere() -> None:
    made = RandomGridWorlds(Drawn("A0.", ((1.0, 0.0, 1.0),)), 1, 1_000, 5, seed=0)
    seen = set()
    for _ in range(30):
        present = made.present.squeeze(-1)
        made.step(torch.randint(0, 5, made.shape), made.chance(1)[0])
        back = ~present
        assert made.present.squeeze(-1)[back].all()
        assert (made.object_cell.squeeze(-1) != made.cell)[back].all()
        seen |= set(made.object_cell[back].flatten().tolist())
    assert seen == {0, 1, 2}


def uniform(made: GridWorlds) -> Tensor:
    return torch.full((made.shape[0], made.states or 0, made.actions), 1 / made.actions)


def always(made: GridWorlds, action: int) -> Tensor:
    return torch.eye(made.actions)[action].expand(made.shape[0], made.states or 0, -1)


def test_exact_values_by_hand() -> None:
    made = worlds("..0", (2.0, 0.25, 0.1))
    value = exact_values(made.levels, (1, 3), 5, always(made, RIGHT), 0.9)[0].view(3, 2)
    # Next to the object: reward 2, then with probability 0.75 the episode continues; the object respawns with 0.1.
    # a: value in the object's cell while it is absent; b: value next to the object while it is present.
    # a = 0.9 (0.9 a + 0.1 b), b = 2 + 0.75 * 0.9 a.
    b = 2 / (1 - 0.675 * 0.09 / 0.19)
    a = 0.09 * b / 0.19
    assert value[2].tolist() == pytest.approx([a, b])
    assert float(value[1, 1]) == pytest.approx(b), "collected by entering"
    assert float(value[0, 1]) == pytest.approx(0.9 * b)
    stay = exact_values(made.levels, (1, 3), 5, always(made, STAY), 0.9)[0].view(3, 2)
    assert stay[:2].abs().max() == 0
    now = exact_values(made.levels, (1, 3), 5, uniform(made), 0.0)[0].view(3, 2)
    assert now.flatten().tolist() == pytest.approx([0, 0, 0, 0.4, 0, 1.6])


def test_an_object_that_ends_the_episode_leaves_no_value_behind() -> None:
    made = worlds("A01", (1.0, 1.0, 1.0), (10.0, 0.0, 0.0))
    value = exact_values(made.levels, (1, 3), 5, always(made, RIGHT), 0.99)[0].view(3, 4)
    assert float(value[0, 3]) == pytest.approx(1)
    model = model_of(made.levels, (1, 3), 5, uniform(made))
    left = 1 - model.transition.sum(-1).view(3, 4)
    assert left[0].tolist() == pytest.approx([0, 0.2, 0, 0.2], abs=1e-6)
    assert left[2].tolist() == pytest.approx([0, 0.2, 0, 0.2], abs=1e-6)


@pytest.mark.parametrize("actions", [5, 18])
def test_exact_values_are_the_mean_returns_of_the_engine(actions: int) -> None:
    torch.manual_seed(0)
    made = GridWorlds(LEVELS["small"], 4, 4_000, actions, seed=2)
    made.levels.limit[:] = 10**9
    made.levels.returns[:] *= 5
    policy = torch.rand((4, made.states or 0, actions)) ** 2
    policy /= policy.sum(-1, keepdim=True)
    discount, obs = 0.85, made.obs()[:, 0]
    exact = exact_values(made.levels, made.level_set.shape, actions, policy, discount)
    made.tables = made._tables(made.levels)
    total, weight = torch.zeros(made.shape), torch.ones(made.shape)
    for numbers in made.chance(50):
        rows = policy[torch.arange(4)[:, None], made.obs()]
        action = torch.multinomial(rows.flatten(0, 1), 1).view(made.shape)
        reward, over, _ = made.step(action, numbers)
        total += weight * reward
        weight *= discount * (1 - over)
    error = (total.mean(1) - exact.gather(1, obs[:, None])[:, 0]).abs()
    assert (error < 4 * total.std(1) / 4_000**0.5 + 1e-3).all()
    assert exact.gather(1, obs[:, None]).abs().max() > 0.02


@pytest.mark.parametrize("largest", [values.LARGEST, 1])
def test_exact_values_do_not_depend_on_the_number_solved_together(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "LARGEST", largest)
    made = GridWorlds(LEVELS["sparse"], 3, 1, 5, seed=0)
    whole = exact_values(made.levels, (6, 6), 5, uniform(made), 0.9)
    assert (whole.shape, whole.dtype) == ((3, 144), torch.float64)
    for row in range(3):
        level = made.levels.take(torch.tensor([row]))
        alone = exact_values(level, (6, 6), 5, uniform(made)[:1], 0.9)
        torch.testing.assert_close(whole[row], alone[0])


def test_exact_values_refuse_wrong_discounts_and_policies() -> None:
    made = worlds("A0", (1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="discount is 1"):
        exact_values(made.levels, (1, 2), 5, uniform(made), 1.0)
    with pytest.raises(ValueError, match="policy has the shape"):
        exact_values(made.levels, (1, 2), 9, uniform(made), 0.9)


@pytest.mark.parametrize("family", ["grid-sparse", "grid-rand-small", "grid-levels-small", "chain-short", "chain-distractor"])  # fmt: skip
def test_gymnasium_checker(family: str) -> None:
    made = gym.make(f"rlbench.envs.grids.single:{gymnasium_id(family)}", render_mode="rgb_array")
    check_env(made.unwrapped)


@pytest.mark.parametrize(
    "family", ["grid-dense", "grid-rand-small", "grid-levels-small", "chain-noisy"]
)
def test_an_environment_is_the_batched_engine_with_one_worker(family: str) -> None:
    env = GridEnv(family, 3)
    batch = make_worlds(family, 1, 1, seed=0)
    batch.load_state_dict(GridEnv(family, 3).worlds.state_dict())
    chance = np.random.default_rng(7)

    def numbers() -> Tensor:
        return torch.from_numpy(chance.random((1, 1, batch.draws), np.float32))

    obs, _ = env.reset(seed=7)
    batch.begin(torch.ones((1, 1), dtype=torch.bool), numbers())
    ends = 0
    for step in range(120):
        given = batch.obs()[0, 0].numpy()
        assert np.array_equal(obs, given if env.states is None else np.eye(env.states)[given])
        action = step * 7 % batch.actions
        obs, reward, terminated, truncated, _ = env.step(action)
        expected = batch.advance(torch.tensor([[action]]), numbers())
        assert (reward, terminated, truncated) == tuple(x.item() for x in expected)
        if terminated or truncated:
            ends += 1
            obs, _ = env.reset()
            batch.begin(torch.ones((1, 1), dtype=torch.bool), numbers())
    assert ends or family in ("grid-dense", "grid-rand-small")


def test_a_level_is_always_the_same_and_the_seed_decides_chance() -> None:
    def picture(level: int, seed: int) -> str:
        env = GridEnv("grid-dense", level, "ansi")
        env.reset(seed=seed)
        return in_words(env.worlds)

    assert picture(2, 5) == picture(2, 5)
    assert picture(2, 5).replace("@", " ") == picture(2, 6).replace("@", " ")
    assert picture(2, 5) != picture(2, 6)
    assert picture(2, 5).replace("@", " ") != picture(3, 5).replace("@", " ")


def test_objects_terminate_and_the_limit_truncates() -> None:
    env = GridEnv("grid-sparse")
    env.reset(seed=0)
    assert env.max_steps == 50
    ends = [env.step(STAY + 4)[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(False, True)]
    env.worlds = worlds("A0", (1.0, 1.0, 0.0))
    env.reset(seed=0)
    env.states = 4
    assert env.step(RIGHT)[1:4] == (1.0, True, False)


def test_pictures() -> None:
    made = worlds("A0#\n1..", (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0))
    assert cells(made) == ["@+#", "-  "]
    env = GridEnv("grid-levels-small", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (128, 128, 3)
    straight = chain(Chain((5, 5)), right=0)
    straight.length = torch.full((1, 1), 5)
    assert cells(straight) == ["@    +", "@    -"]
    straight.advance(torch.tensor([[1]]), straight.chance(1)[0])
    assert cells(straight) == ["     +", " @   -"]


@pytest.mark.parametrize("family", LENGTHS)
def test_families_are_tasks_and_gymnasium_ids(family: str) -> None:
    assert family in task_names()
    task = pickle.loads(pickle.dumps(find_task(family)))
    obs, _ = task.make().reset(seed=1)
    other = find_task(gymnasium_id(family)).make()
    assert np.array_equal(other.reset(seed=1)[0], obs)
    assert obs.shape == other.observation_space.shape


def test_levels_are_tasks() -> None:
    three = find_task("grid-levels-small-level-3").make()
    assert isinstance(three, GridEnv)
    named = gym.make("rlbench.envs.grids.single:rlbench/GridLevelsSmall-v0", level=3).unwrapped
    assert isinstance(named, GridEnv)
    assert isinstance(three.worlds, GridWorlds)
    assert isinstance(named.worlds, GridWorlds)
    assert torch.equal(three.worlds.levels.wall, named.worlds.levels.wall)
