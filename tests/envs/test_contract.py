"""Requirements on environments: faults are named, arrays copied, values kept."""

import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.wrappers import TimeLimit

from rlbench.agents import AWR, PPO, SAC, AWRConfig, PPOConfig, SACConfig
from rlbench.envs.contract import BrokenAction, Checked, as_obs, as_tensor, check, made
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.odd import InPlace, Line, good

BYTES, IMAGE = Box(0, 255, (2,), np.uint8), Box(0, 255, (2, 2), np.uint8)
STILL = np.zeros(1, np.float32)


def changed(name: str, method: Callable[..., Any]) -> Line:
    """An environment with another method."""
    kind: Any = type("Changed", (Line,), {name: method})
    env: Line = kind()
    return env


def reset_by_seed(self: Any, seed: int) -> Any: ...


def four(self: Any, action: Any) -> Any:
    """What a step returned before Gym 0.26."""
    return np.zeros(2), 0.0, False, {}


def no_info(self: Any, action: Any) -> Any:
    return np.zeros(2), 0.0, False, False, None


def leave(*_: Any, **__: Any) -> Any:
    sys.exit(3)


def fail(*_: Any, **__: Any) -> Any:
    raise KeyError("door")


@pytest.mark.parametrize(
    ("given", "space", "wanted"),
    [
        (np.array([0.5, 2.25]), BYTES, np.array([0.5, 2.25], np.float32)),
        ([0.5, 2.25], Box(-9, 9, (2,), np.int32), np.array([0.5, 2.25], np.float32)),
        (np.array([3, 255], np.uint8), BYTES, np.array([3, 255], np.float32)),
        (np.full((2, 2), 7, np.uint8), IMAGE, np.full((2, 2), 7, np.uint8)),
        (np.full((2, 2), 0.5), IMAGE, np.full((2, 2), 0.5, np.float32)),
        (np.full((5, 2, 2), 7, np.uint8), IMAGE, np.full((5, 2, 2), 7, np.uint8)),
        (np.full((5, 2), 7, np.uint8), BYTES, np.full((5, 2), 7, np.float32)),
        (np.full((2, 2), 7, np.uint8), Box(0, 1, (2, 2)), np.full((2, 2), 7, np.float32)),
        (np.int64(3), Discrete(5), np.array(3, np.float32)),
    ],
)
def test_observations_keep_their_values_whatever_the_space_declares(
    given: Any, space: gym.Space[Any], wanted: Any
) -> None:
    found = as_obs(given, space)
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


def test_an_agent_acts_on_a_copy_in_the_form_in_which_it_learns() -> None:
    spec = Spec(Box(-1, 1, (2,)), Box(-1, 1, (1,)))
    for agent, dtype in (
        (PPO(PPOConfig(hidden=(8,)), spec), torch.uint8),
        (SAC(SACConfig(hidden=(8,)), spec), torch.uint8),
        (AWR(AWRConfig(hidden=(8,)), spec), torch.uint8),
    ):
        image, vector = np.full((1, 2, 2), 7, np.uint8), np.full((1, 2), 7, np.float32)
        assert as_tensor(image, agent).dtype == dtype
        for obs in (image, vector):
            as_tensor(obs, agent).fill_(9)
            assert (obs == 7).all()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Line(reward=lambda r: np.array([r])), "step 1 .* the reward an array of shape"),
        (Line(reward=lambda r: None), "the reward None; expected one number"),
        (Line(reward=lambda r: "much"), "the reward 'much'"),
        (Line(reward=lambda r: float("nan")), "the reward nan; expected finite"),
        (Line(reward=lambda r: -1e39), "the reward -1e\\+39; expected finite numbers that float32"),
        (
            Line(obs=lambda x: x[:, None]),
            r"reset\(seed=3\) returned an observation of shape \[2, 1\]",
        ),
        (Line(obs=lambda x: x[:1]), r"shape \[1\]; expected \[2\]"),
        (Line(obs=lambda x: {"x": x}), "the observation a dict"),
        (Line(obs=lambda x: "north"), "the observation 'north'; expected an array of numbers"),
        (Line(obs=lambda x: None), "observation"),
        (Line(obs=lambda x: [1.0, [2.0]]), "the observation a list of 2"),
        (Line(obs=lambda x: x * np.nan), r"an observation that is nan at \[0\]; expected finite"),
        (Line(obs=lambda x: x * np.float64(1e39)), "an observation that is"),
        (
            changed("step", four),
            r"step 1 .* returned a tuple of 4; expected \(observation, reward, te",
        ),
        (changed("step", lambda self, a: None), "returned None; expected"),
        (changed("reset", lambda self, seed: None), r"reset\(seed=3\) returned None; expected"),
        (
            Line(obs=lambda x: x + 1j),
            "an array of complex.* of shape .*expected an array of numbers",
        ),
        (Line(obs=lambda x: ["1.0", "2.0"]), "a list of 2; expected an array of numbers"),
        (Line(obs=lambda x: np.array(["1", "2"])), "an array of <U1 of shape"),
        (Line(obs=lambda x: torch.zeros(2, requires_grad=True)), r"tensor.*; expected an array of"),
        (Line(reward=lambda r: "0.5"), "the reward '0.5'; expected one number"),
        (Line(reward=lambda r: np.complex64(1j)), "the reward .*1j.*; expected one number"),
        (Line(ends=2), "terminated and truncated as 2 and False; expected two bools"),
        (Line(ends=-1), "terminated and truncated as -1 and False; expected two bools"),
        (changed("step", no_info), "step 1 .* returned the info None; expected a dict"),
        (Line(ends=np.array([False])), "terminated and truncated as an array of shape"),
        (Line(ends=None), "terminated and truncated as None and False; expected two bools"),
        (Line(obs_space=Dict(x=BYTES)), r"observation space Dict.*FlattenObservation"),
        (Line(action_space=Dict(x=BYTES)), r"action space Dict.*TransformAction"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_fault_of_an_environment_is_one_sentence_that_names_it(env: Any, words: str) -> None:
    def play() -> None:
        checked = Checked(env, "mine:make")
        checked.reset(3)
        checked.step(STILL)

    with pytest.raises(UserError, match=words) as error:
        play()
    assert "mine:make" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            changed("reset", lambda self: (np.zeros(2), {})),
            "unexpected keyword argument .*def reset",
        ),
        (changed("reset", reset_by_seed), "unexpected keyword argument 'options'.*def reset"),
        (changed("reset", lambda self, **_: np.zeros(2)), "returned an array of shape"),
        (changed("reset", lambda self, **_: (0.5, 0.5)), "returned a tuple of 2; expected .observ"),
        (changed("step", four), r"step 1 .* got 4\)\); expected \(observation, reward, te"),
        (
            changed("step", fail),
            "mine:make raised KeyError in step: 'door'; this comes from your env",
        ),
        (
            changed("step", leave),
            "mine:make raised SystemExit in step: 3; this comes from your env",
        ),
        (changed("reset", leave), "mine:make raised SystemExit in reset: 3"),
        (changed("close", leave), "mine:make raised SystemExit in close: 3"),
        (changed("reset", fail), "mine:make raised KeyError in reset: 'door'"),
        (changed("close", fail), "mine:make raised KeyError in close: 'door'"),
    ],
)
def test_methods_that_break_gymnasiums_rules_are_named(env: Line, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(lambda: TimeLimit(env, 9), "mine:make")


def test_the_original_exception_is_kept_and_user_errors_pass_unchanged() -> None:
    checked = Checked(changed("step", fail))
    checked.reset(0)
    with pytest.raises(UserError, match=r"tests.envs.test_contract.Changed raised") as error:
        checked.step(STILL)
    assert isinstance(error.value.__cause__, KeyError)

    def refuse(*_: Any) -> Any:
        raise UserError("there are no levels; download them")

    with pytest.raises(UserError, match=r"^there are no levels; download them$"):
        check(lambda: changed("step", refuse), "mine:make")


@pytest.mark.parametrize("reward", [0.5, 1, True, np.float32(0.5), np.array(0.5), np.int8(1)])
@pytest.mark.parametrize("end", [True, np.True_, 1])
def test_numbers_of_any_type_are_accepted(reward: Any, end: Any) -> None:
    checked = Checked(Line(reward=lambda _: reward, ends=end, obs=lambda x: x.tolist()))
    assert checked.reset(0).dtype == np.float32
    obs, paid, terminated, truncated = checked.step(STILL)
    assert obs.dtype == np.float32
    assert (type(paid), type(terminated), type(truncated)) == (float, bool, bool)
    assert (paid, terminated, truncated) == (float(reward), True, False)


@pytest.mark.filterwarnings("ignore:overflow")
def test_huge_numbers_that_float32_holds_are_accepted() -> None:
    checked = Checked(Line(obs=lambda x: x * 0 + np.float32(3e38), reward=lambda r: 3e38))
    assert checked.reset(0)[0] == np.float32(3e38)
    assert checked.step(STILL)[1] == 3e38


def test_reused_arrays_and_actions_are_copied() -> None:
    checked, action = Checked(InPlace()), np.ones(1, np.float32)
    first = checked.reset(0)
    second, *_ = checked.step(action)
    third, *_ = checked.step(action)
    assert [x[1] for x in (first, second, third)] == [0, 1, 2]
    assert action.tolist() == [1]


def test_a_reused_reward_array_is_read_immediately() -> None:
    shared = np.zeros(())

    def pay(reward: float) -> Any:
        shared[...] += 1
        return shared

    checked = Checked(Line(reward=pay))
    checked.reset(0)
    assert [checked.step(STILL)[1] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("space", "given", "wanted"),
    [
        (Box(-0.1, 0.7, (1,), np.float64), np.array([-0.1], np.float32), np.array([-0.1])),
        (Box(0.1, 0.1, (1,), np.float64), np.array([0.1], np.float32), np.array([0.1])),
        (
            Box(-0.5, 0.5, (1,), np.float64),
            np.array([0.5], np.float32),
            np.array([0.5], np.float32),
        ),
        (Box(-1, 1, (1,), np.float16), np.array([0.1], np.float32), np.array([0.1], np.float16)),
        (Box(-1, 1, (1,)), np.array([0.1], np.float32), np.array([0.1], np.float32)),
        (Discrete(3), np.int64(2), np.int64(2)),
        (Discrete(3, start=-1), np.float32(-1), np.int64(-1)),
    ],
)
def test_the_environment_receives_actions_inside_its_space(
    space: gym.Space[Any], given: Any, wanted: Any
) -> None:
    seen: list[Any] = []
    checked = Checked(Line(action_space=space, step=lambda env, action: seen.append(action)))
    checked.reset(0)
    checked.step(given)
    assert space.contains(seen[0])
    assert seen[0].dtype == wanted.dtype
    assert np.array_equal(seen[0], wanted)


def test_an_action_of_another_shape_is_the_agents_fault() -> None:
    checked = Checked(Line(), "mine:make")
    checked.reset(0)
    with pytest.raises(
        UserError, match=r"agent's action for mine:make has the shape \[3\], .* \[1\]"
    ):
        checked.step(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "env", [Line(), Line(step=fail), Line(obs=lambda x: [0, 0])], ids=["obs", "raises", "reward"]
)
def test_an_action_that_is_not_finite_is_the_agents_fault(env: Line) -> None:
    checked = Checked(env, "mine:make")
    checked.reset(0)
    with pytest.raises(BrokenAction, match=r"the agent's action for mine:make became \[nan\]"):
        checked.step(np.array([np.nan], np.float32))


def test_observations_that_change_between_bytes_and_floats_are_refused() -> None:
    env = Line(obs_space=IMAGE)
    env.make_obs = lambda x: np.full((2, 2), 7, np.uint8 if env.t == 0 else float)
    checked = Checked(env)
    assert checked.reset(0).dtype == np.uint8
    with pytest.raises(
        UserError, match="returned float32 after uint8; expected always the same type"
    ):
        checked.step(STILL)


def test_a_check_plays_the_same_few_steps_each_time_and_closes() -> None:
    def played() -> list[Any]:
        seen: list[Any] = []
        env = changed("close", lambda self: seen.append("closed"))
        env.before = lambda env, action: seen.append((env.t, float(action[0])))
        check(lambda: TimeLimit(env, 2), "mine:make")
        return seen

    seen = played()
    assert [x[0] for x in seen[:-1]] == [0, 1, 0], "a new episode where one is over"
    assert seen[-1] == "closed"
    assert seen == played()
    assert check(good, "good").action_space == Box(-1, 1, (1,))


@pytest.mark.parametrize(
    "space",
    [
        Box(-np.inf, np.inf, (1,)), Box(0, 10, (1,), np.int32), Box(-1e300, 1e300, (1,), np.float64),
        Box(0.1, 0.1, (1,), np.float64), Discrete(3, start=2), gym.spaces.MultiDiscrete([3, 2]),
    ],
)  # fmt: skip
def test_a_check_acts_within_every_space(space: gym.Space[Any]) -> None:
    seen: list[Any] = []
    check(lambda: Line(action_space=space, step=lambda env, action: seen.append(action)), "mine")
    assert len(seen) == 3
    assert all(space.contains(action) for action in seen)


class OldGym:
    observation_space = action_space = Box(-1, 1, (1,))

    def reset(self) -> Any: ...

    def step(self, action: Any) -> Any: ...


class NoSpaces(gym.Env[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (OldGym, "made a OldGym; expected a gymnasium.Env"),
        (NoSpaces, "has the observation_space None"),
        (lambda: TimeLimit(NoSpaces(), 3), "has the observation_space None"),
        (lambda: Line(action_space="left or right"), "has the action_space left or right"),  # type: ignore[arg-type]
        (lambda: gym.make("NoSuchEnvironment-v0"), "raised NameNotFound in its factory: Environ"),
        (lambda: gym.make_vec("CartPole-v1", 2), "expected a gymnasium.Env"),
        (leave, "raised SystemExit in its factory: 3"),
        (lambda one: one, "raised TypeError in its factory"),
    ],
)
def test_a_factory_that_makes_no_environment_is_named(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        made("mine:make", make)
    assert str(error.value).startswith("mine:make ")
