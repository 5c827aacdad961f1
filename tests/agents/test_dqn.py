"""DQN: targets, losses, weights and schedules by hand, probes, whole runs and their exact resume."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from rich.console import Console
from torch import Tensor

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.agents.dqn import DQN, DQNConfig, huber_loss, importance_weight
from rlbench.backbones.heads.action_values import Duelling, action_values
from rlbench.benchmarks.commands import export
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import encoders_of
from rlbench.benchmarks.training.runner import Run
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Spec
from tests.agents.case import Case
from tests.kill_and_resume import assert_equal, killed_equals_unkilled
from tests.networks import assert_close, copies, equal, unchanged
from tests.probe_envs import transitions

CASE = Case(
    "dqn",
    small={"hidden": (8,), "target_every": 2, "exploration_updates": 8},
    changes={
        "double": (False, {"learning_rate": 0.1}),
        "error_clip": (0.1, {}),
        "max_grad_norm": (1e-3, {}),
        "prioritised": (True, {"batch_size": 24}),
    },
    spaces=(Discrete,),
    # What the driver does with them is tested here.
    driver_settings=(
        "batch_size", "n_step", "prioritised", "priority_exponent", "priority_floor", "correction",
        "correction_updates",
    ),
)  # fmt: skip
SPEC = Spec(Box(-1, 1, (2,)), Discrete(3), discount=0.5)
QUIET = Console(quiet=True)
TABLE = ([1.0, 5.0, 2.0], [0.0, 3.0, 4.0])
SLOW_TABLE = ([7.0, -1.0, 3.0], [6.0, 2.0, 1.0])
"""Values of three actions in two states, of the network and of its copy."""


def agent(spec: Spec = SPEC, **settings: Any) -> DQN:
    return DQN(DQNConfig(**{"hidden": (8,), **settings}), spec)


def tabular(**settings: Any) -> DQN:
    """An agent whose networks are the tables; states are the unit vectors."""
    made = agent(**{"hidden": (), "duelling": False, **settings})
    for network, table in ((made.critic, TABLE), (made.target_critic, SLOW_TABLE)):
        weight, bias = network.parameters()
        weight.data.copy_(torch.tensor(table).T)
        bias.data.zero_()
    return made


def batch(**changes: Tensor) -> Transitions:
    """From the first state by action 2 to the second, and back by action 1."""
    states = torch.eye(2)
    given = transitions(
        states, torch.tensor([2, 1]), torch.tensor([1.0, 2.0]), next_obs=states.flip(0),
        terminated=torch.zeros(2),
    )  # fmt: skip
    return dataclasses.replace(given, **changes)


def test_the_target_of_double_q_learning_by_hand() -> None:
    # Next states 1 and 0: the network prefers actions 2 and 1, which the copy values at 1 and -1.
    assert tabular()._target(batch()).tolist() == [1 + 0.5 * 1, 2 + 0.5 * -1]


def test_the_target_of_the_first_dqn_by_hand() -> None:
    assert tabular(double=False)._target(batch()).tolist() == [1 + 0.5 * 6, 2 + 0.5 * 7]


def test_the_target_of_several_steps_has_their_discount() -> None:
    given = batch(discount=torch.tensor([0.25, 0.125]))
    assert tabular()._target(given).tolist() == [1 + 0.25 * 1, 2 + 0.125 * -1]


def test_an_end_stops_the_bootstrap_and_a_time_limit_does_not() -> None:
    ended = batch(terminated=torch.tensor([1.0, 0.0]))
    assert tabular()._target(ended).tolist() == [1.0, 1.5]
    cut = batch(truncated=torch.ones(2))
    assert torch.equal(tabular()._target(cut), tabular()._target(batch()))


def test_huber_loss_by_hand() -> None:
    value, target = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 3.0, -1.0])
    assert huber_loss(value, target, 1.0).tolist() == [0.125, 2.5, 1.5]
    assert huber_loss(value, target, 2.0).tolist() == [0.125, 4.0, 2.0]
    assert huber_loss(value, target, None).tolist() == [0.125, 4.5, 2.0]
    with pytest.raises(ValueError, match="expected one shape"):
        huber_loss(value, target[:, None], 1.0)


def test_weights_by_hand() -> None:
    # 16^-0.5 = 1/4, (1/4)^-0.5 = 2, 1; the largest is 2.
    got = importance_weight(torch.tensor([16.0, 0.25, 1.0]), 0.5)
    torch.testing.assert_close(got, torch.tensor([0.125, 1.0, 0.5]))
    assert importance_weight(torch.tensor([9.0, 0.1]), 0.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("clip", "losses"), [(1.0, (0.125, 1.0)), (None, (0.125, 1.125))])
def test_the_loss_is_weighted_and_priorities_follow_the_errors(
    clip: float | None, losses: tuple[float, float]
) -> None:
    # Targets 1.5 and 1.5; the values of the actions are 2 and 3: errors 0.5 and 1.5.
    dqn = tabular(
        prioritised=True, batch_size=2, error_clip=clip, correction=0.5, correction_updates=4,
        priority_exponent=0.5, priority_floor=0.75, learning_rate=0.0,
    )  # fmt: skip
    given = batch(frequency=torch.tensor([4.0, 0.25]))
    for passed in range(6):
        exponent = min(0.5 + passed / 8, 1.0)  # Rises from 0.5 to 1 in four updates.
        weight = (4.0**-exponent) / (0.25**-exponent)
        metrics = dqn.learn(given)
        wanted = (weight * losses[0] + losses[1]) / 2
        assert metrics["critic_loss"].item() == pytest.approx(wanted)
        assert metrics["weight_mean"].item() == pytest.approx((weight + 1) / 2)
        assert metrics["error"].item() == 1.0
    assert dqn.priority is not None
    torch.testing.assert_close(dqn.priority, torch.tensor([1.25, 2.25]).sqrt())


def test_without_priorities_all_transitions_weigh_the_same() -> None:
    dqn = tabular(learning_rate=0.0)
    assert dqn.priority is None
    assert dqn.learn(batch())["critic_loss"].item() == (0.125 + 1.0) / 2


def test_a_duelling_network_by_hand() -> None:
    made = action_values(2, 3, (), duelling=True)
    assert isinstance(made, Duelling)
    for part, weight in ((made.value, [[10.0, 20.0]]), (made.advantage, [[1, 0], [2, 0], [6, 3]])):
        part[0].weight.data.copy_(torch.tensor(weight))  # type: ignore[operator]
        part[0].bias.data.zero_()  # type: ignore[operator]
    # Advantages 1, 2, 6 less 3, and 0, 0, 3 less 1.
    assert made(torch.eye(2)).tolist() == [[8.0, 9.0, 13.0], [19.0, 19.0, 22.0]]


def test_the_parts_of_a_duelling_network_share_all_layers_but_the_last_hidden_one() -> None:
    made = action_values(2, 3, (5, 6, 7), duelling=True)
    shapes = {name: tuple(x.shape) for name, x in made.named_parameters() if "weight" in name}
    assert shapes == {
        "shared.0.weight": (5, 2), "shared.2.weight": (6, 5), "value.0.weight": (7, 6),
        "value.2.weight": (1, 7), "advantage.0.weight": (7, 6), "advantage.2.weight": (3, 7),
    }  # fmt: skip
    x = torch.randn(4, 2)
    features = made.shared(x)  # type: ignore[operator]
    assert (features >= 0).all(), "the shared layers end with a ReLU"
    torch.testing.assert_close(made(x).mean(-1), made.value(features)[:, 0])  # type: ignore[operator]


def test_exploration_falls_along_a_line_and_is_the_share_of_uniform_actions() -> None:
    dqn = tabular(exploration_updates=4, exploration_end=0.2, learning_rate=0.0)
    obs, rates = torch.eye(2)[[0]].expand(6_000, 2), []
    for _ in range(6):
        rates.append(float(dqn.exploration))
        action = dqn.act(obs, explore=True).action
        share = torch.bincount(action, minlength=3) / 6_000
        uniform = rates[-1] / 3
        wanted = torch.tensor([uniform, 1 - 2 * uniform, uniform])  # Action 1 has the value 5.
        torch.testing.assert_close(share, wanted, atol=0.02, rtol=0)
        assert dqn.act(obs[:5]).action.tolist() == [1] * 5
        assert float(dqn.learn(batch())["exploration"]) == rates[-1]
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_the_preset_explores_for_a_tenth_of_the_run_and_corrects_over_all_of_it() -> None:
    wanted = {"exploration_updates": 500, "correction_updates": 5_000}
    assert DQN.preset("CartPole-v1", 5_000) == wanted
    assert DQN.preset("CartPole-v1", 3)["exploration_updates"] == 1


def test_the_copy_is_renewed_after_every_third_update() -> None:
    dqn = agent(target_every=3, learning_rate=0.01)
    for update in range(1, 8):
        before, phase = copies(dqn.target_critic), dqn.phase()
        dqn.learn(batch())
        assert phase == (update % 3 == 0)
        assert unchanged(dqn.target_critic, before) != phase
        assert unchanged(dqn.target_critic, copies(dqn.critic)) == phase


@pytest.mark.parametrize("prioritised", [False, True])
def test_recorded_updates_equal_those_of_learn(prioritised: bool) -> None:
    made = [
        agent(prioritised=prioritised, batch_size=2, target_every=2, correction_updates=3)
        for _ in range(2)
    ]
    learn = compiled_learn(made[1], interpreted)
    frequency = torch.tensor([4.0, 0.25]) if prioritised else None
    for _ in range(5):
        given = batch(discount=torch.tensor([0.5, 0.25]))
        given = dataclasses.replace(given, frequency=frequency)
        wanted, got = made[0].learn(given), learn(given)
        for name, value in wanted.items():
            torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5)
    assert_close(*made)


def test_actions_are_counted_from_anywhere() -> None:
    made = [agent(dataclasses.replace(SPEC, action_space=Discrete(3, start=x))) for x in (0, 5)]
    for dqn, start in zip(made, (0, 5), strict=True):
        for _ in range(3):
            dqn.learn(batch(action=torch.tensor([2, 1]) + start))
    obs = torch.randn(99, 2)
    for explore in (False, True):
        first, second = (dqn.act(obs, explore=explore).action for dqn in made)
        assert torch.equal(first + 5, second)
    assert set(second.tolist()) == {5, 6, 7}


def test_other_spaces_are_refused_in_one_sentence_which_names_sac() -> None:
    for space in (Box(-1, 1, (2,)), MultiDiscrete([2, 2])):
        with pytest.raises(UserError, match=r"this agent needs a Discrete space; .* such as sac$"):
            agent(dataclasses.replace(SPEC, action_space=space))
    with pytest.raises(UserError, match="this agent needs a Box of one dimension"):
        agent(dataclasses.replace(SPEC, observation_space=Discrete(4)))


def test_data_sets_have_neither_several_steps_nor_priorities() -> None:
    data = dataclasses.replace(SPEC, return_range=(0.0, 1.0))
    agent(data)
    with pytest.raises(UserError, match=r"^n_step is 3, but .* data set.* set it to 1, or give"):
        agent(data, n_step=3)
    with pytest.raises(UserError, match=r"^prioritised is True, but .* set it to False, or give"):
        agent(data, prioritised=True)


@pytest.mark.parametrize("settings", [{}, {"double": False, "duelling": False}])
def test_values_of_a_probe_are_found(settings: dict[str, Any]) -> None:
    """First s = +1: action 1 leads to s = -1 and others end; there action 2 is paid 1, others 0."""
    signs = torch.randint(2, (240, 2), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    action, first = torch.arange(240) % 3, signs[:, 0] > 0
    reward = (~first & (action == 2)).float()
    goes_on = first & (action == 1)
    later = torch.tensor([-1.0, 1.0]).expand(240, 2)
    given = transitions(signs, action, reward, next_obs=later, terminated=(~goes_on).float())
    dqn = agent(hidden=(32, 32), learning_rate=5e-3, target_every=20, **settings)
    for _ in range(200):
        dqn.learn(given)
    value = dqn.critic(torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0]]))
    wanted = torch.tensor([[0.0, 0.5, 0.0]] * 2 + [[0.0, 0.0, 1.0]] * 2)
    torch.testing.assert_close(value, wanted, atol=0.1, rtol=0)
    assert dqn.act(torch.tensor([[1.0, 1.0], [-1.0, 1.0]])).action.tolist() == [1, 2]


SMALL = {"hidden": (8,), "batch_size": 4, "random_steps": 10, "replay_size": 40, "target_every": 7}
LIGHTS = "tests.agents.test_observing:Lights"
TINY = "resnet:units=1,width=4,stages=2,norm=bn"


def begun(out: Path, env: str = "CartPole-v1", **settings: Any) -> Run:
    config = RunConfig(
        env=env, updates=60, checkpoint_every=20, eval_every=0, eval_episodes=1, log_every=10,
        out=out,
    )  # fmt: skip
    return Run("dqn", DQNConfig(**{**SMALL, **settings}), config, QUIET)


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"prioritised": True, "n_step": 3, "steps_per_update": 2}),
        (LIGHTS, {"prioritised": True, "n_step": 2, "encoder": TINY}),
    ],
    ids=["plain", "prioritised", "images"],
)
def test_a_run_stopped_between_checkpoints_ends_as_one_never_stopped(
    env: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    begun(tmp_path / "whole", env, **settings).start()
    cut = begun(tmp_path / "cut", env, **settings)
    learn, left = cut.learner.learn, iter(range(33))

    def dying(given: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return learn(given)

    cut.learner.learn = dying
    with pytest.raises(KeyboardInterrupt):
        cut.start()
    assert Run.resume(tmp_path / "cut", QUIET, trust=True).finish() == 40
    assert_equal(tmp_path / "whole", tmp_path / "cut")


PRIORITISED: dict[str, Any] = {"prioritised": True}


@pytest.mark.parametrize(
    ("setting", "value", "others"),
    [
        ("n_step", 3, {}), ("batch_size", 5, {}), ("prioritised", True, {}),
        ("priority_exponent", 0.1, PRIORITISED), ("priority_floor", 0.5, PRIORITISED),
        ("correction", 1.0, PRIORITISED), ("correction_updates", 20, PRIORITISED),
        ("steps_per_update", 2, {}), ("random_steps", 11, {}), ("replay_size", 20, {}),
    ],
)  # fmt: skip
def test_settings_of_the_replay_buffer_have_an_effect(
    setting: str, value: Any, others: dict[str, Any], tmp_path: Path
) -> None:
    weights = []
    for name, changed in (("usual", {}), ("changed", {setting: value})):
        (tmp_path / name).mkdir()
        run = begun(tmp_path / name, **{**others, **changed})
        driver = run.make_driver()
        for _ in range(25):
            driver.update()
        weights.append(torch.cat([x.flatten() for x in copies(run.learner.critic)]))
    assert not torch.equal(*weights)


def test_the_driver_keeps_the_priorities_of_the_steps_that_were_drawn(tmp_path: Path) -> None:
    run = begun(tmp_path, prioritised=True, replay_size=1_000)
    driver: Any = run.make_driver()
    for _ in range(5):
        driver.update()
    leaves = driver.state_dict()["priorities"]["leaves"]
    assert torch.isin(run.learner.priority.double(), leaves).all()
    assert (leaves[:15] > 0).all()
    assert (leaves[15:] == 0).all(), "these steps are not taken yet"


@pytest.mark.parametrize(
    "words",
    [
        "MinAtar/Breakout-v1 --encoder grid",
        "MiniGrid-Empty-5x5-v0 --encoder parts:image=one-hot-grid,text=bag-of-words,join=concat",
        f"{LIGHTS} --encoder nature",
        f"{LIGHTS} --encoder impala --prioritised --n-step 2",
    ],
)
def test_it_runs_on_grids_images_and_texts(words: str, tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    pytest.importorskip("minatar")
    short = [
        "--updates",
        "3",
        "--random-steps",
        "6",
        "--batch-size",
        "4",
        "--hidden",
        "8",
        "--eval-episodes",
        "1",
    ]
    out = ["--out", str(tmp_path / "run")]
    assert main(["run", "dqn", "--env", *words.split(), *short, *out]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1", "--trust"]) == 0


def test_a_pretrained_encoder_is_loaded_into_network_and_copy(tmp_path: Path) -> None:
    begun(tmp_path / "source", LIGHTS, encoder=TINY).start()
    source = encoders_of(load_run(tmp_path / "source", trust=True)[0])[0]
    run = begun(tmp_path / "run", LIGHTS, encoder=TINY, freeze=True, hidden=(9,))
    run.config = dataclasses.replace(run.config, pretrained=str(tmp_path / "source"), updates=5)
    run.start()
    assert len(encoders_of(run.learner)) == 2
    for encoder in encoders_of(run.learner):
        mine, theirs = encoder.state_dict(), source.state_dict()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_an_exported_policy_acts_as_its_agent() -> None:
    dqn = agent(dataclasses.replace(SPEC, action_space=Discrete(3, start=5)))
    dqn.learn(batch())
    _, acts = export._torchscript(dqn, (torch.randn(3, 2),))
    obs = torch.randn(50, 2)
    assert torch.equal(acts((obs,)), dqn.act(obs).action)


def test_a_resume_of_the_agent_keeps_its_priorities() -> None:
    made = [agent(prioritised=True, batch_size=2) for _ in range(2)]
    made[0].learn(batch())
    made[1].load_state_dict(made[0].state_dict())
    assert equal(*made)
    assert made[1].priority is not None
    assert (made[1].priority != 1).all()


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_one_never_killed(tmp_path: Path) -> None:
    words = (
        "dqn --env CartPole-v1 --updates 600 --prioritised --n-step 3 --replay-size 300 --random-steps 50 "
        "--hidden 8 --checkpoint-every 40 --log-every 10 --eval-every 100 --eval-episodes 2"
    )
    killed_equals_unkilled(words.split(), tmp_path, kills=2, seed=0)


@pytest.mark.slow
def test_it_learns_to_balance_the_pole(tmp_path: Path) -> None:
    # Its returns still rise and fall after that, as DQN's do.
    config = RunConfig(env="CartPole-v1", updates=10_000, eval_every=0, out=tmp_path / "run")
    run = Run("dqn", DQNConfig(exploration_updates=2_000), config, QUIET)
    run.start()
    _, returns = EpisodesEvaluator(find_task("CartPole-v1"), 20).returns(run.learner, seed=1)
    assert returns.mean() > 400
