"""`rlbench.load`: trained agents act on NumPy observations as in an evaluation, and keep their memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import rlbench
from rlbench.agents import load_agent
from rlbench.benchmarks.training.acting import Actor
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.contract import made
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, Spec, State
from rlbench.seeding import derive
from tests.benchmarks.test_steps import HERE, PPO, QUIET

RECURRENT: dict[str, Any] = {"memory_size": 4, "envs": 2, "rollout_steps": 8, "epochs": 1}


def trained(out: Path, agent: str, env: str, settings: dict[str, Any]) -> Path:
    config = RunConfig(env=env, updates=1, eval_episodes=1, compile="off", out=out)
    Run(agent, load_agent(agent).Config(**settings), config, QUIET).start()
    return out


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("ppo") / "run", "ppo", "CartPole-v1", PPO)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recurrent") / "run"
    return trained(out, "recurrent-ppo", "CartPole-v1", RECURRENT)


@pytest.mark.parametrize("name", ["ppo", "recurrent"])
def test_an_agent_alone_earns_what_an_evaluation_says(
    name: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    agent = rlbench.load(str(path))
    env, returns = gym.make("CartPole-v1"), []
    for episode in range(3):
        (obs, _), total, over = env.reset(seed=derive(1, "episode", episode)), 0.0, False
        agent.reset()
        while not over:
            obs, reward, terminated, truncated, _ = env.step(agent(obs))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    _, expected = EpisodesEvaluator(agent.task, 3).returns(agent.agent, seed=1)
    assert returns == expected.tolist()


def test_a_batch_is_its_observations_one_by_one(recurrent: Path) -> None:
    batched, ones = rlbench.load(recurrent), [rlbench.load(recurrent) for _ in range(3)]
    rng = np.random.default_rng(0)
    for step in range(12):
        obs = rng.normal(size=(3, 4))
        begun = np.array([step == 4, step in (4, 7), False])
        batched.reset(begun)
        for one, new in zip(ones, begun, strict=True):
            one.reset() if new else None
        actions = batched(obs)
        assert actions.shape == (3,)
        assert actions.tolist() == [one(row) for one, row in zip(ones, obs, strict=True)]
        state = batched._state
        assert state is not None
        assert all(one._state is not None for one in ones)
        for key, value in state.items():
            torch.testing.assert_close(
                value, torch.cat([one._state[key] for one in ones if one._state is not None])
            )


@pytest.fixture(scope="module")
def rewarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an agent that needs the reward of each step."""
    out = tmp_path_factory.mktemp("rewarded") / "run"
    settings = {
        "embedding_size": 8,
        "blocks": 1,
        "sequence_length": 3,
        "learning_rate": 1e-2,
        "warmup_updates": 0,
    }
    config = RunConfig(
        env="point-mixed", data_size=200, updates=20, eval_episodes=12, compile="off", out=out
    )
    name = "decision-transformer"
    Run(name, load_agent(name).Config(**settings), config, QUIET).start()
    return out


def test_an_agent_alone_is_given_the_rewards_that_an_evaluation_gives_it(rewarded: Path) -> None:
    """Also if there are more episodes than environments, so that some environments play two."""
    agent = rlbench.load(rewarded)
    env = agent.task.make()
    returns: list[float] = []
    other: list[float] = []
    for kept, factor in ((returns, 1.0), (other, 0.0)):
        for episode in range(12):
            (obs, _), total, over, reward = (
                env.reset(seed=derive(1, "episode", episode)),
                0.0,
                False,
                9.0,
            )
            agent.reset()
            while not over:
                obs, got, terminated, truncated, _ = env.step(agent(obs, reward=reward))
                total, over, reward = (
                    total + float(got),
                    terminated or truncated,
                    factor * float(got),
                )
            kept.append(total)
    _, expected = EpisodesEvaluator(agent.task, 12).returns(agent.agent, seed=1)
    np.testing.assert_allclose(np.array(returns), expected, rtol=1e-4)
    assert not np.allclose(other, expected, rtol=1e-4)


def test_a_missing_reward_is_one_sentence(rewarded: Path) -> None:
    agent = rlbench.load(rewarded)
    obs = np.zeros((3, 2), np.float32)
    agent(obs)  # No step has been taken yet.
    for wrong in (None, 1.0, [1.0, 2.0]):
        with pytest.raises(
            UserError, match="needs the reward of the last step in each environment"
        ):
            agent(obs, reward=wrong)
    agent(obs, reward=[1.0, 2.0, 3.0])
    agent.reset(np.array([True, False, False]))
    agent(obs, reward=[1.0, 2.0, 3.0])
    agent.reset()
    agent(obs[0])
    with pytest.raises(UserError, match=r"the reward is array\(\[1"):
        agent(obs[0], reward=np.ones(1))
    agent(obs[0], reward=1.0)


class Wide(gym.Env[Any, Any]):
    """Its bounds do not fit in float32."""

    observation_space: gym.Space[Any] = spaces.Box(-1, 1, (2,), np.float64)
    action_space: gym.Space[Any] = spaces.Box(-0.1, 0.1, (1,), np.float64)


class Parts(gym.Env[Any, Any]):
    observation_space: gym.Space[Any] = spaces.Dict(
        {"place": spaces.Box(-1, 1, (2,)), "kind": spaces.Discrete(3)}
    )
    action_space: gym.Space[Any] = spaces.Discrete(4, start=2)


class Sums(Agent):
    """Its action is the sum of the observations so far, in the first element of the space, with dropout of everything."""

    Config = dict
    consumes = Transitions

    def build(self) -> None:
        self.network = nn.Dropout(1.0)

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        total = self.network(obs).sum(1) + (0 if state is None else state["total"])
        if isinstance(self.spec.action_space, spaces.Discrete):
            return Action(total.long(), state={"total": total})
        return Action(total[:, None] + 0.05 * explore, state={"total": total})

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        return {}


def sums(kind: type[gym.Env[Any, Any]]) -> Actor:
    task = Task("sums", lambda: made("sums", kind))
    return Actor(Sums({}, Spec.of(task.make())), task)


def test_actions_are_of_the_space_and_inside_it() -> None:
    agent = sums(Wide)
    action = agent(np.array([0.1, 0.0]))
    assert action.dtype == np.float64
    assert action.shape == (1,)
    assert float(np.float32(0.1)) > 0.1, "rounding leaves the box"
    assert Wide.action_space.contains(action)
    agent.reset()
    assert agent([0.0, 0.0], explore=True) == pytest.approx(0.05)
    agent.reset()
    assert agent(np.zeros((5, 2))).shape == (5, 1)


def test_networks_are_in_evaluation_mode_while_they_act_and_only_then() -> None:
    agent = sums(Wide)
    assert agent(np.array([0.01, 0.02])) == pytest.approx(0.03)
    network: Any = agent.agent
    assert network.network.training


def test_dict_observations_are_taken_as_they_come() -> None:
    agent = sums(Parts)
    assert agent({"place": np.array([0.5, 0.5]), "kind": 1}) == 2  # One-hot, so 0.5 + 0.5 + 1.
    assert agent({"place": np.array([1.0, -1.0]), "kind": 2}) == 3
    with pytest.raises(UserError, match="these are not observations of sums: "):
        agent({"place": np.array([0.5, 0.5])})


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        (
            np.zeros(3),
            r"have the shape \[3\], but an observation of sums has \[2\]; give one observation or a",
        ),
        (np.zeros((1, 1, 2)), r"have the shape \[1, 1, 2\]"),
        ("x", "these are not observations of sums: "),
        ([0.0, np.nan], r"the observations have the value nan at \[1\]; give finite numbers"),
        ([[1.0], [1.0, 2.0]], "these are not observations of sums: "),
    ],
)
def test_other_observations_are_refused(obs: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sums(Wide)(obs)


def test_a_memory_belongs_to_a_number_of_environments() -> None:
    agent = sums(Wide)
    agent(np.zeros((3, 2)))
    with pytest.raises(
        UserError, match="remembers 3 environments, but was given observations of 1"
    ):
        agent(np.zeros(2))
    with pytest.raises(UserError, match=r"begun has the shape \[2\], but the agent remembers 3"):
        agent.reset([True, False])
    agent.reset()
    agent(np.zeros(2))
    agent.reset([True])


def test_what_does_not_act_is_refused(tmp_path: Path, ppo: Path) -> None:
    words = ["run", "classifier", "--env", "digits", "--updates", "1", "--batch-size", "4"]
    words += ["--encoder", "flatten", "--data-size", "50", "--out", str(tmp_path / "model")]
    assert main(words) == 0
    with pytest.raises(UserError, match="model is the run of a learner that does not act"):
        rlbench.load(tmp_path / "model")
    with pytest.raises(UserError, match=r"is a folder of runs; give one of them, such as \S+run$"):
        rlbench.load(ppo.parent)
    with pytest.raises(UserError, match="nowhere contains no run"):
        rlbench.load(tmp_path / "nowhere")


def test_custom_code_needs_trust(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "ppo", HERE, PPO)
    with pytest.raises(UserError, match=f"names the custom code {HERE}, which runs"):
        rlbench.load(run)
    assert rlbench.load(run, trust={HERE})(np.zeros(2)) in (0, 1)
