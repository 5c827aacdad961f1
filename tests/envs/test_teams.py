"""Environments in which all agents learn: batches of games, PettingZoo environments, and their tasks."""

import pickle
import sys
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary
from gymnasium.utils.env_checker import check_env

from rlbench.entities import Entities
from rlbench.envs.contract import check
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.parallel import SocialParallelEnv
from rlbench.envs.social.views import MODES
from rlbench.envs.tasks import Task, find_task
from rlbench.envs.teams.games import TeamGames
from rlbench.envs.teams.make import make_single
from rlbench.errors import UserError
from rlbench.teams import team_space

Base: Any = object
with suppress(ModuleNotFoundError):
    Base = import_module("pettingzoo").ParallelEnv
HERE = "shared:tests.envs.test_teams:"


@pytest.fixture(autouse=True)
def a_pettingzoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the package if it is not installed: only one class of it is used."""
    if Base is object:
        monkeypatch.setitem(sys.modules, "pettingzoo", SimpleNamespace(ParallelEnv=Countdown))


class Countdown(Base):  # type: ignore[misc]
    """Agent i takes part for 2 + i steps, gets reward 10 i + t in step t, and observes (seed, t) plus its last action.

    The last agent's end is a truncation in episodes with an odd seed.
    """

    agents_in_all = 3
    low, high = -1.0, 1.0

    def __init__(self) -> None:
        self.possible_agents = [f"a{i}" for i in range(self.agents_in_all)]
        self.metadata: dict[str, Any] = {}

    def observation_space(self, agent: str) -> Any:
        return Box(-np.inf, np.inf, (2,))

    def action_space(self, agent: str) -> Any:
        return Discrete(3, start=1)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seed, self.t, self.agents = seed, 0, list(self.possible_agents)
        return self.obs(dict.fromkeys(self.agents, 0)), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert {*actions} == {*self.agents}
        self.t += 1
        told, obs = self.agents, self.obs(actions)
        rewards = {agent: 10 * int(agent[1]) + self.t for agent in told}
        over = {agent: self.t >= 2 + int(agent[1]) for agent in told}
        cut = {agent: over[agent] and len(told) == 1 and self.seed % 2 == 1 for agent in told}
        self.agents = [agent for agent in told if not over[agent]]
        return obs, rewards, {x: over[x] and not cut[x] for x in told}, cut, {x: {} for x in told}

    def obs(self, actions: dict[str, Any]) -> Any:
        return {x: np.array([self.seed + a / 10, self.t], np.float32) for x, a in actions.items()}

    def close(self) -> None:
        self.closed = True


class Continuous(Countdown):
    """Actions between -1 and 0.1, which float32 cannot represent exactly; uint8 observations."""

    def observation_space(self, agent: str) -> Any:
        return Box(0, 255, (2,), np.uint8)

    def action_space(self, agent: str) -> Any:
        return Box(-1.0, 0.1, (2,), np.float64)

    def obs(self, actions: dict[str, Any]) -> Any:
        for agent, action in actions.items():
            assert self.t == 0 or self.action_space(agent).contains(action)
        return {agent: np.array([7, self.t], np.uint8) for agent in actions}


class Unlike(Countdown):
    def observation_space(self, agent: str) -> Any:
        return Box(0, 1, (2 + int(agent[1]),))


class OddActions(Countdown):
    def action_space(self, agent: str) -> Any:
        return MultiBinary(2)


class OddObservations(Countdown):
    def observation_space(self, agent: str) -> Any:
        return Discrete(4)


class Breaks(Countdown):
    def step(self, actions: Any) -> Any:
        raise KeyError("door")


class Silent(Countdown):
    def obs(self, actions: Any) -> Any:
        return {"a0": np.zeros(2)}


class Long(Countdown):
    def obs(self, actions: Any) -> Any:
        return dict.fromkeys(actions, np.zeros(3))


class Words(Countdown):
    def obs(self, actions: Any) -> Any:
        return dict.fromkeys(actions, "north")


class OldStep(Countdown):
    def step(self, actions: Any) -> Any:
        return super().step(actions)[:4]


class NoInfos(Countdown):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed)[0]


class Unpaid(Countdown):
    def step(self, actions: Any) -> Any:
        obs, _, *rest = super().step(actions)
        return obs, {"a0": "much"}, *rest


class Misspelt(Countdown):
    """One of the dicts of `step` has other keys."""

    part = 1

    def step(self, actions: Any) -> Any:
        parts = list(super().step(actions))
        parts[self.part] = {f"{agent} ": x for agent, x in parts[self.part].items()}
        return tuple(parts)


class Endless(Misspelt):
    part = 2


class Uncut(Misspelt):
    part = 3


class Deserted(Countdown):
    agents_in_all = 0


class Vacant(Countdown):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed)
        self.agents = []
        return {}, {}


class Joined(Countdown):
    def step(self, actions: Any) -> Any:
        result = super().step(actions)
        self.agents.append("b")
        return result


def fails() -> Any:
    raise RuntimeError("no licence")


def text() -> Any:
    return "an environment"


def vector_of(name: str, count: int) -> Any:
    make = find_task(name).make_vector
    assert make is not None
    return make(count)


@pytest.mark.skipif(Base is object, reason="needs pettingzoo")
@pytest.mark.parametrize("game", list(GAMES))
def test_a_games_batch_equals_its_pettingzoo_environment_step_for_step(
    game: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules[__name__], "made", lambda: SocialParallelEnv(game), raising=False
    )
    one, other = vector_of(f"shared:{game}", 3), vector_of(f"independent:{__name__}:made", 3)
    for space in ("observation_space", "action_space"):
        mine, yours = getattr(one, f"single_{space}"), getattr(other, f"single_{space}")
        assert np.array_equal(mine.sample().shape, yours.sample().shape)
        assert mine.one == yours.one
    seeds, rng = [5, 6, 7], np.random.default_rng(0)
    assert np.array_equal(one.reset(seed=seeds)[0], other.reset(seed=seeds)[0])
    first = GAMES[game].first_action
    for step in range(45):
        actions = rng.integers(first, 5, (3, GAMES[game].agents))
        for mine, yours in zip(one.step(actions)[:4], other.step(actions)[:4], strict=True):
            assert np.array_equal(mine, yours)
        over = one.game.steps >= GAMES[game].limit
        over[0] |= step == 3
        if over.any():
            options = {"reset_mask": over}
            again = [x.reset(seed=[step, 1, 2], options=options)[0] for x in (one, other)]
            assert np.array_equal(*again)


def test_one_environment_is_a_row_with_the_mean_of_the_rewards() -> None:
    vector, one = vector_of("shared:coopnav", 2), make_single("shared:coopnav")
    stag = vector_of("shared:stag-hunt-4p", 64)
    seen, _ = vector.reset(seed=[3, 4])
    assert np.array_equal(one.reset(seed=4)[0], seen[1])
    obs, reward, *_ = one.step(np.array([1, 2]))
    many = vector.step(np.array([[0, 0], [1, 2]]))
    assert np.array_equal(many[0][1], obs)
    assert many[1].shape == (2, 2)
    assert reward == many[1][1].mean()
    stag.reset(seed=0)
    rewards = [stag.step(np.full((64, 4), move))[1] for move in (1, 2, 3, 4)]
    assert any((x.max(1) != x.min(1)).any() for x in rewards), "each agent has its own"
    again = make_single("independent:stag-hunt-4p")
    again.reset(seed=11)
    paid = [again.step(np.full(4, move))[1] for move in (1, 2, 3, 4)]
    assert paid == [x[11].mean() for x in rewards]


@pytest.mark.parametrize("mode", MODES)
def test_observation_spaces_of_all_kinds_keep_their_attributes(mode: str) -> None:
    env = make_single("shared:coin", mode)
    check_env(env, skip_render_check=True)
    space: Any = env.observation_space
    assert space.shape == (2, *space.one.shape)
    assert isinstance(space.one, Entities) == (mode == "graph")
    assert space.dtype == (np.uint8 if mode == "grid" else np.float32)
    assert env.action_space == team_space(Discrete(5), 2)


def test_names_are_tasks_that_can_be_sent_to_other_processes() -> None:
    for team in ("shared", "independent"):
        task = find_task(f"{team}:coopnav")
        assert (task.team, task.solved_above) == (team, 0.0)
        again = pickle.loads(pickle.dumps(task.make))()
        again.reset(seed=0)
        assert again.render().shape == (168, 168, 3)
    assert find_task("coopnav").team is None
    markov: Any = find_task("shared:markov-stag-hunt").make().action_space
    assert markov.start.tolist() == [1, 1]
    with pytest.raises(
        UserError, match=r"'coins'.*did you mean shared:coin.*ParallelEnv is written"
    ):
        find_task("shared:coins")
    with pytest.raises(UserError, match="has no function 'missing'"):
        find_task(f"{HERE}missing").make()


def test_an_agent_that_ends_early_sees_zeros_until_all_have_ended() -> None:
    vector = vector_of(f"{HERE}Countdown", 2)
    obs, _ = vector.reset(seed=[20, 31])
    assert obs.tolist() == [[[20, 0]] * 3, [[31, 0]] * 3]
    actions = np.array([[1, 2, 3], [3, 2, 1]])
    steps = [vector.step(actions)[:4] for _ in range(4)]
    assert steps[0][0][0].tolist() == pytest.approx(np.array([[20.1, 1], [20.2, 1], [20.3, 1]]))
    assert steps[1][0][0].tolist() == pytest.approx(np.array([[0, 0], [20.2, 2], [20.3, 2]]))
    assert steps[2][0][0].tolist() == pytest.approx(np.array([[0, 0], [0, 0], [20.3, 3]]))
    last = steps[3][0]
    assert last[0] == pytest.approx(np.array([[0, 0], [0, 0], [20.3, 4]])), "what ends it is seen"
    assert [x[1][1].tolist() for x in steps] == [[1, 11, 21], [2, 12, 22], [0, 13, 23], [0, 0, 24]]
    assert [x[2].tolist() for x in steps] == [[False] * 2] * 3 + [[True, False]]
    assert [x[3].tolist() for x in steps] == [[False] * 2] * 3 + [[False, True]]
    assert not vector.step(actions)[2].any(), "over, so nothing happens until the reset"
    masked, _ = vector.reset(seed=[5, 6], options={"reset_mask": np.array([False, True])})
    assert masked[1].tolist() == [[6, 0]] * 3
    assert np.array_equal(masked[0], last[0])
    vector.close()
    assert all(env.closed for env in vector._envs)


def test_bytes_that_are_not_images_become_floats_and_actions_stay_in_their_box() -> None:
    env = check(find_task(f"{HERE}Continuous").make, "continuous")
    assert env.observation_space.dtype == np.float32
    assert env.reset(seed=0).tolist() == [[7, 0]] * 3
    env.step(np.full((3, 2), 0.1, np.float32))
    assert env.action_space.shape == (3, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Unlike", r"a0 has the observation_space .*\(2,\).* a1 has .*\(3,\).*pad them"),
        ("OddActions", r"action space MultiBinary\(2\).*a Box or a Discrete"),
        ("OddObservations", r"observation space Discrete\(4\).*needs a Box"),
        ("Breaks", "raised KeyError in step: 'door'; this comes from your environment"),
        ("Silent", "reset returned no observation of a1; expected one for each agent"),
        ("Long", r"an observation of a0 of shape \[3\]; expected \[2\]"),
        ("Words", "an observation of a0 of another kind; expected an array of numbers"),
        ("OldStep", "step returned something else; expected five dicts"),
        ("NoInfos", r"reset returned something else; expected two dicts, \(observations"),
        ("Unpaid", "no number as the reward of a0; expected one for each"),
        ("Misspelt", "step returned no reward of a0; expected one for each agent that acted"),
        ("Endless", "step returned no termination of a0; expected one for each"),
        ("Uncut", "step returned no truncation of a0; expected one for each"),
        ("Deserted", "has no agents in `possible_agents`; list all of them"),
        ("Vacant", "reset returned no agents; expected at least one in `agents`"),
        ("Joined", "step returned the new agent b; expected agents from `possible_agents` only"),
        ("fails", "raised RuntimeError in its factory: no licence"),
        ("text", "made a str; expected a pettingzoo.ParallelEnv"),
    ],
)
def test_a_faulty_environment_is_named_in_one_sentence(name: str, words: str) -> None:
    task = find_task(HERE + name)
    with pytest.raises(UserError, match=words) as raised:
        check(task.make, task.name)
    assert HERE + name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_each_environment_must_be_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Countdown()
    monkeypatch.setattr(sys.modules[__name__], "made", lambda: one, raising=False)
    with pytest.raises(UserError, match="made the same environment twice; make a new one in each"):
        vector_of(f"{HERE}made", 2)


def test_without_pettingzoo_its_environments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(UserError, match=r"pip install 'rlbench\[pettingzoo\]'"):
        find_task(f"{HERE}Countdown").make()
    assert isinstance(vector_of("shared:coin", 1), TeamGames), "games do not need it"


def test_a_registered_task_may_be_a_team_task() -> None:
    assert Task("mine", lambda: make_single("shared:coin"), team="shared").team == "shared"
