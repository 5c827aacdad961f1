"""Teams: which rows each member gets, what it returns, and runs in which all agents learn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.agents import AGENTS, load_agent
from rlbench.agents._team import Team, team_of
from rlbench.agents.ppo import PPO
from rlbench.benchmarks.commands import export
from rlbench.benchmarks.commands.watch import frames
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import learner_for, load_run, loadable_state, weights_of
from rlbench.benchmarks.training.pretrained import encoders_of
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, Spec, State
from rlbench.teams import team_space
from tests.kill_and_resume import killed_equals_unkilled

KINDS = ("shared", "independent")
SPEC = Spec(team_space(Box(-1, 1, (2,)), 3), team_space(Discrete(50), 3))


@dataclass(frozen=True, kw_only=True)
class Settings:
    envs: int = 2
    rollout_steps: int = 4


class Echo(Agent):
    """Its action is the first number that it observes; its state is the sum of these numbers."""

    Config = Settings
    consumes = Trajectories
    explores = True

    def __init__(self, config: Any, spec: Spec, **options: Any) -> None:
        super().__init__(config, spec, **options)
        self.weight = torch.rand((), generator=self.generator)

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        state = state or {"sum": torch.zeros(len(obs), 1)}
        extras = {"row": torch.arange(len(obs)), "sum": state["sum"]}
        return Action(obs[:, 0].long(), extras, {"sum": state["sum"] + obs[:, :1]})

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        self.rollout = experience
        return {"reward": experience.reward.mean()}


class Broken(Echo):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        raise ZeroDivisionError("no")


def made(kind: str, agent: type[Agent] = Echo) -> Any:
    return team_of(agent, "echo", kind)(agent.Config(), SPEC, seed=0)


def observations() -> Tensor:
    """[2, 3, 2]: ten times the environment plus the agent."""
    numbers = 10.0 * torch.arange(2)[:, None] + torch.arange(3)
    return torch.stack([numbers, -numbers], -1)


def rollout() -> Trajectories:
    """Four steps, [4, 2, 3, ...]: a hundred times the step plus ten times the environment plus the agent."""
    obs = 100.0 * torch.arange(4)[:, None, None, None] + observations()
    ends = torch.zeros(4, 2)
    ends[1, 0] = 1
    return Trajectories(
        obs, obs[..., 0].long(), obs[..., 0], ends, 0 * ends, obs + 1, {"row": obs[..., 1]}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_actions_extras_and_states_go_to_their_agents_and_back(kind: str) -> None:
    team, obs = made(kind), observations()
    first = team.act(obs, explore=True)
    assert first.action.tolist() == [[0, 1, 2], [10, 11, 12]]
    rows = [[0, 1, 2], [3, 4, 5]] if kind == "shared" else [[0, 0, 0], [1, 1, 1]]
    assert first.extras["row"].tolist() == rows
    assert first.state["sum"].shape == (2, 3, 1)
    second = team.act(obs, explore=True, state=first.state)
    assert second.extras["sum"].squeeze(-1).tolist() == [[0, 1, 2], [10, 11, 12]]
    assert second.state["sum"].squeeze(-1).tolist() == [[0, 2, 4], [20, 22, 24]]


def test_a_shared_policy_learns_from_all_rows() -> None:
    team = made("shared")
    assert [member.config.envs for member in team.members] == [6]
    metrics = team.learn(rollout())
    seen = team.members[0].rollout
    assert seen.reward[2].tolist() == [200, 201, 202, 210, 211, 212]
    assert seen.action[2].tolist() == [200, 201, 202, 210, 211, 212]
    assert seen.obs.shape == seen.final_obs.shape == (4, 6, 2)
    assert seen.terminated[1].tolist() == [1, 1, 1, 0, 0, 0]
    assert seen.extras["row"][0].tolist() == [0, -1, -2, -10, -11, -12]
    assert metrics["reward"] == rollout().reward.mean()


def test_independent_agents_learn_from_their_own_rows() -> None:
    team = made("independent")
    assert [member.config.envs for member in team.members] == [2, 2, 2]
    metrics = team.learn(rollout())
    for number, member in enumerate(team.members):
        seen = member.rollout
        assert seen.reward[2].tolist() == [200 + number, 210 + number]
        assert seen.obs[0].tolist() == [[number, -number], [10 + number, -10 - number]]
        assert seen.terminated[1].tolist() == [1, 0]
        seen.terminated[1] = 7
    assert [member.rollout.terminated[1, 0].item() for member in team.members] == [7, 7, 7]
    assert metrics["reward"] == rollout().reward.mean()
    assert len({member.weight.item() for member in team.members}) == 3


def test_what_one_independent_agent_sees_does_not_change_the_others() -> None:
    config = load_agent("a2c").Config(hidden=(8,), envs=2, rollout_steps=4)
    kind = team_of(load_agent("a2c"), "a2c", "independent")
    experience = rollout()
    teams: list[Any] = [kind(config, SPEC, seed=0) for _ in range(2)]
    experience = replace(experience, extras={"sample": experience.action % 50})
    other = replace(experience, reward=experience.reward.clone())
    other.reward[:, :, 1] = -5
    before = teams[0].agent_0.network.head.out.weight.clone()
    for team, seen in zip(teams, (experience, other), strict=True):
        team.learn(seen)
    weights = [[m.network.head.out.weight for m in team.members] for team in teams]
    assert not torch.equal(weights[0][0], before)
    equal = [torch.equal(*pair) for pair in zip(*weights, strict=True)]
    assert equal == [True, False, True]
    assert not torch.equal(weights[0][0], weights[0][2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_restores_all_members_and_the_generator_of_their_actions(kind: str) -> None:
    config = load_agent("recurrent-ppo").Config(memory_size=4, envs=2, rollout_steps=4)
    teams = [team_of(load_agent("recurrent-ppo"), "x", kind)(config, SPEC, seed=s) for s in (0, 1)]
    obs = observations()
    for team in teams:
        team.act(obs, explore=True)
    teams[1].load_state_dict(teams[0].state_dict())
    actions: list[Any] = [team.act(obs, explore=True) for team in teams]
    assert torch.equal(actions[0].action, actions[1].action)
    assert all(torch.equal(x, actions[1].state[name]) for name, x in actions[0].state.items())
    for team in teams:  # As in an evaluation.
        team.act_generator.manual_seed(5)
    assert torch.equal(*(team.act(obs, explore=True).action for team in teams))
    assert all(member.act_generator is teams[0].act_generator for member in teams[0].members)


def test_the_driver_keeps_the_reward_of_each_agent_and_logs_the_mean_return() -> None:
    task = find_task("independent:stag-hunt-4p")
    kind = learner_for("tests.agents.test_team:Echo", task)
    assert (kind.__module__, kind.__qualname__) == (Echo.__module__, "Echo")
    env = task.make()
    team: Any = team_of(Random, "random", "shared")(Settings(rollout_steps=32), Spec.of(env))
    driver = RolloutDriver(team, task, seed=0)
    metrics = driver.update()
    seen = team.members[0].rollout
    assert seen.reward.shape == (32, 8)
    assert seen.reward.sum() > 0
    assert metrics["episode_return"] == pytest.approx(float(seen.reward.sum(0).mean()))


class Random(Echo):
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return Action(torch.randint(5, (len(obs),), generator=self.act_generator))


def test_only_agents_that_learn_from_their_rollouts_can_be_in_a_team() -> None:
    for name in ("bc", "sac", "recurrent-crr", "vib", "lpg-meta"):
        with pytest.raises(UserError, match=f"{name} does not learn from rollouts"):
            Run(name, None, RunConfig(env="shared:coin"))
    able = [name for name in AGENTS if issubclass(load_agent(name), PPO) or name == "lpg"]
    assert {"a2c", "ppo", "lpg"} <= {*able}
    assert issubclass(learner_for("ppo", find_task("shared:coin")), Team)
    assert not issubclass(learner_for("ppo", find_task("coin")), Team)


RUNS: dict[str, dict[str, Any]] = {
    "a2c": {}, "recurrent-ppo": {"memory_size": 4, "batch_size": 6}, "lpg": {},
    "ibac-sni": {"encoder": "flatten", "normalise_obs": True, "normalise_reward": True},
    "sb3-ppo": {"batch_size": 6}, "sb3-a2c": {},
}  # fmt: skip


def run(name: str, env: str, folder: Path, **settings: Any) -> Run:
    kind = load_agent(name)
    config = RunConfig(
        env=env, updates=2, eval_every=0, eval_episodes=1, log_every=1, checkpoint_every=1, out=folder / "run"
    )  # fmt: skip
    job = Run(name, kind.Config(envs=2, rollout_steps=6, **settings), config, Console(quiet=True))
    job.start()
    return job


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kind", KINDS)
def test_agents_of_all_kinds_learn_in_teams(name: str, kind: str, tmp_path: Path) -> None:
    if name.startswith("sb3"):
        pytest.importorskip("stable_baselines3")
    job = run(name, f"{kind}:coin", tmp_path, **RUNS[name])
    found, task = load_run(tmp_path / "run")
    assert task.team == kind
    assert len(found.members) == (1 if kind == "shared" else 2)
    fresh = type(found)(found.config, found.spec, seed=0)
    for mine, theirs in zip(found.members, fresh.members, strict=True):
        assert torch.equal(mine.generator.get_state(), theirs.generator.get_state()), "not loaded"
    obs = torch.from_numpy(task.make().reset(seed=0)[0])[None]
    for team in (found, job.learner):
        team.act_generator.manual_seed(0)
    assert torch.equal(found.act(obs).action, job.learner.act(obs).action)


def test_a_run_of_a_team_is_filmed_and_its_export_refused(tmp_path: Path) -> None:
    run("ppo", "independent:stag-hunt", tmp_path, encoder="flatten", hidden=(8,), batch_size=4)
    pictures, _ = frames(tmp_path / "run", 1, seed=0, size=8, max_fps=5)
    assert len(list(pictures)) == 33
    with pytest.raises(UserError, match="policies of a team cannot be exported"):
        export.make(export.ExportConfig(tmp_path / "run"))
    assert not (tmp_path / "run" / "export").exists()


def test_encoders_of_all_members_are_found() -> None:
    grids = team_space(Box(0, 255, (8, 8, 5), np.uint8), 3)
    config = load_agent("ppo").Config(encoder="grid", hidden=(8,), batch_size=4)
    team = team_of(PPO, "ppo", "independent")(config, replace(SPEC, observation_space=grids))
    assert len(encoders_of(team)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_team_with_the_weights_of_another_has_its_values(kind: str) -> None:
    one, other = (team_of(PPO, "ppo", kind)(PPO.Config(hidden=(8,)), SPEC, seed=x) for x in (0, 1))

    def values(team: Any) -> Tensor:
        return torch.stack([each.scores(observations().flatten(0, 1)) for each in team.members])

    assert not torch.equal(values(one), values(other))
    weights = weights_of(one)
    assert not any("optimizer" in x or "generator" in x for x in str(weights).split("'"))
    other.load_state_dict(loadable_state(other, weights, weights_only=True))
    assert torch.equal(values(one), values(other))


def test_the_fault_of_a_custom_agent_is_reported_as_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="test_team:Broken raised ZeroDivisionError in act: no"):
        run("tests.agents.test_team:Broken", "shared:coin", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_a_team_killed_twice_ends_as_one_never_killed(kind: str, tmp_path: Path) -> None:
    arguments = ["recurrent-ppo", "--env", f"{kind}:coin", "--updates", "60", "--envs", "3"]
    arguments += ["--rollout-steps", "7", "--memory-size", "8", "--batch-size", "21"]
    arguments += ["--eval-every", "30", "--eval-episodes", "2", "--log-every", "5"]
    arguments += ["--checkpoint-every", "5", "--normalise-reward", "--normalise-obs"]
    assert "killed 2 times" in killed_equals_unkilled(arguments, tmp_path, kills=2, seed=0)
