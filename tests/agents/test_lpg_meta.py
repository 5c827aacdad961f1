"""Meta-training: what an update does, whole lifetimes, exact resume, the bandit, evolution, the probe."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlbench.agents import _probe as probe
from rlbench.agents._bandit import Bandit
from rlbench.agents._evolution import changed_rules, draw_noise, many_rules
from rlbench.agents._lives import a2c_update, final_reward, live, parts
from rlbench.agents._populations import Tables
from rlbench.agents._rule import Rule, save_rule
from rlbench.agents.lpg_meta import LPGMeta, LPGMetaConfig
from rlbench.benchmarks.tables import report
from rlbench.benchmarks.tables.report import ReportConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import LifetimesEvaluator
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.grids.make import make_lifetimes
from rlbench.envs.grids.names import LENGTHS
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Lifetimes
from tests.networks import tensors as tensors_of

SMALL = {
    "lifetimes": 4,
    "workers": 3,
    "rollout_steps": 5,
    "agent_updates": 2,
    "hidden": 6,
    "prediction_size": 3,
}


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifetimes of 12 rollouts, and quick fits."""
    for name in LENGTHS:
        monkeypatch.setitem(LENGTHS, name, 60)
    monkeypatch.setattr(probe, "FIT_STEPS", 100)
    monkeypatch.setattr(probe, "MOST_UPDATES", 20)


def world(
    task: str = "grid-levels-small", count: int = 4, workers: int = 3, **how: Any
) -> Lifetimes:
    return make_lifetimes(task, count, workers, seed=5, **how)


def learner(task: str = "grid-levels-small", seed: int = 0, **settings: Any) -> LPGMeta:
    return LPGMeta(LPGMetaConfig(**SMALL | settings), world(task).spec, seed=seed)


def trained(updates: int = 3, task: str = "grid-levels-small", **settings: Any) -> LPGMeta:
    made, where = learner(task, **settings), world(task, staggered=True)
    for _ in range(updates):
        where.renew()
        made.learn(where)
    return made


def rule_of(made: LPGMeta) -> Tensor:
    return torch.cat([x.detach().flatten() for x in made.rule.parameters()])


@pytest.mark.parametrize("task", ["grid-levels-small", "grid-rand-small", "chain-short"])
def test_an_update_changes_rule_and_agents(task: str) -> None:
    made, where = learner(task), world(task)
    before, agents = rule_of(made), made.population.tensors()
    metrics = made.learn(where)
    assert not torch.equal(before, rule_of(made))
    for part in ("policy", "prediction", "value"):
        names = [name for name in agents if name.startswith(part)]
        # A new rule does not change any policy.
        if part != "policy":
            assert any(not torch.equal(agents[n], made.population.tensors()[n]) for n in names)
    for value in metrics.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.isfinite()


def test_the_penalty_of_policy_targets_shrinks_them_where_there_is_no_reward() -> None:
    made, where = learner(policy_entropy=0.0, policy_penalty=1.0, learning_rate=0.01), world()
    where.worlds.levels.reward.zero_()  # type: ignore[attr-defined]
    where.worlds.tables.reward.zero_()  # type: ignore[attr-defined]
    nn.init.constant_(made.rule.policy_out.bias, 0.5)
    targets = [float(made.learn(where)["policy_target"]) for _ in range(30)]
    assert targets[-1] < 0.25 * targets[0]


def test_lifetimes_that_are_over_begin_with_new_agents() -> None:
    made, where = learner(), world()
    made.learn(where)
    where.begun = torch.tensor([True, False, False, False])
    made.population = made.population.with_tensors(
        {name: torch.full_like(x, 7.0) for name, x in made.population.tensors().items()}
    )
    made.learn(where)
    assert made.population.tensors()["value"][0].max() < 2
    assert made.population.tensors()["value"][1:].max() == 7


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "prediction": ("mse", {}),
    "agent_hidden": ((8,), {"task": "grid-rand-small"}),
    "final_learning_rate": (0.5, {"decay_updates": 3}),
    "decay_updates": (3, {}),
    "detach_predictions": (True, {"prediction_entropy": 0.0}),
    "method": ("evolution", {}),
    "evolution_noise": (0.2, {"method": "evolution"}),
    "bandit": (True, {}),
    "bandit_rates": ((1.0,), {"bandit": True}),
    "bandit_weights": ((9.0,), {"bandit": True}),
    "agent_max_norm": (1e-4, {}),
    "max_norm": (1e-9, {}),
    "policy_entropy": (5.0, {}),
}
MEASURING = {"a2c_rates": (1.0,), "a2c_entropies": (5.0,), "probe": True}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(LPGMetaConfig)])
def test_every_setting_has_an_effect(name: str, tmp_path: Path) -> None:
    if name in MEASURING:
        changed: dict[str, Any] = {name: MEASURING[name]}
        made, other = trained(1), trained(1, **changed)
        columns = [x.measure(world()) for x in (made, other)]
        assert columns[0].keys() != columns[1].keys() or any(
            not torch.equal(x, columns[1][key]) for key, x in columns[0].items()
        )
        return
    value: Any
    others: dict[str, Any]
    if name == "rule":
        save_rule(Rule(3, 6), tmp_path / "mine.safetensors", {})
        value, others = str(tmp_path / "mine.safetensors"), {}
    elif name in CHANGES:
        value, others = CHANGES[name]
    else:
        default: Any = (dataclasses.asdict(LPGMetaConfig()) | SMALL)[name]
        value, others = default * 2 if isinstance(default, int) else default / 2, {}
    others = dict(others)
    task = others.pop("task", "grid-levels-small")
    count = value if name == "lifetimes" else 4
    workers = value if name == "workers" else 3
    usual = trained(4, task, **{"policy_rate": 10.0, **others})
    made = LPGMeta(
        LPGMetaConfig(**{**SMALL, "policy_rate": 10.0, **others, name: value}),
        world(task, count, workers).spec,
    )
    where = world(task, count, workers, staggered=True)
    for _ in range(4):
        where.renew()
        made.learn(where)
    a, b = rule_of(usual), rule_of(made)
    assert a.shape != b.shape or not torch.equal(a, b)


def test_measuring_changes_nothing_and_depends_on_its_generator() -> None:
    made = trained(2)
    before = tensors_of(made.state_dict())
    made.measure_generator.manual_seed(3)
    first = made.measure(world())
    made.measure_generator.manual_seed(3)
    second = made.measure(world())
    after = tensors_of(made.state_dict())
    assert all(torch.equal(before[k], after[k]) for k in before if "measure_generator" not in k)
    for name, column in first.items():
        assert len(column) == 4
        assert torch.equal(column, second[name])
    assert set(first) == {"random", "curve", "reward", "a2c", "a2c_curve"}
    assert first["curve"].shape == (4, 10)


def test_lifetimes_are_cut_into_ten_parts() -> None:
    assert [len(x) for x in parts(list(range(250)))] == [25] * 10  # type: ignore[arg-type]
    assert [list(x) for x in parts(list(range(3)))][-1] == [2]  # type: ignore[arg-type]
    assert all(len(x) == 1 for x in parts(list(range(3))))  # type: ignore[arg-type]


def test_a2c_learns_the_right_first_action_of_chains() -> None:
    where = make_lifetimes("chain-short", 8, 16, seed=0)
    generator = torch.Generator().manual_seed(0)
    start = Tables.new(8, where.spec.states or 0, {"policy": 2, "value": 1}, 0.0, generator)

    def learn(agents: Any, rollout: Any) -> Any:
        return a2c_update(
            agents, rollout, 0.99, 0.95, rate=40.0, entropy=0.01, critic_rate=0.1, max_norm=0.5
        )

    where.length = 3_000
    agents, curve = live(where, start, learn, 20, generator)
    reward = final_reward(where, agents, generator)
    # A chain of length L gives a reward of 1 in L steps.
    length = where.worlds.length.squeeze(1)  # type: ignore[attr-defined]
    assert (reward * length > 0.6).all()
    assert (curve[:, -1] > curve[:, 0]).float().mean() >= 0.75


def test_bandit_by_hand() -> None:
    bandit = Bandit(2, torch.device("cpu"))
    for value in range(1, 13):
        bandit.record(torch.tensor([1]), torch.tensor([float(value)]))
    # The last ten returns, 3 to 12.
    assert float(bandit.returns[1].sum()) == sum(range(3, 13))
    assert bandit.trials.tolist() == [0, 12]
    bandit = Bandit(2, torch.device("cpu"))
    bandit.record(torch.tensor([0, 1]), torch.tensor([0.0, 0.1]))
    share = bandit.draw(20_000, torch.Generator().manual_seed(0)).float().mean()
    # Equal bonuses: odds of exp(0.1 / 0.1).
    assert float(share) == pytest.approx(float(torch.tensor(1.0).sigmoid()), abs=0.01)


def test_the_bandit_receives_the_return_of_an_episode() -> None:
    made, where = learner(bandit=True), world()
    made.learn(where)
    made.earned, made.episodes = torch.full((4,), 6.0), torch.tensor([2.0, 3.0, 0.0, 1.0])
    arm = made.arm.clone()
    made._choose(torch.tensor([True, False, True, False]))
    assert made.bandit.trials.sum() == 1
    assert made.bandit.returns[arm[0], 0] == 3.0
    assert made.earned.tolist() == [0.0, 6.0, 0.0, 6.0]


def test_many_rules_give_the_same_targets_as_each_alone() -> None:
    rule = Rule(3, 6)
    many = {
        name: torch.stack([x + 0.1 * torch.randn_like(x) for _ in range(4)])
        for name, x in rule.named_parameters()
    }
    columns = [torch.randn(5, 4, 2), (torch.rand(5, 4, 2) < 0.3).float(), torch.rand(5, 4, 2)]
    columns += [torch.randn(5, 4, 2, 3), torch.randn(5, 4, 2, 3)]
    reward, over, *rest = columns
    with torch.no_grad():
        pi, y = many_rules(rule, many)(reward, over, 0.9, *rest)
        for n in range(4):
            own = [x[:, n] for x in (reward, over, *rest)]
            one = functional_call(
                rule, {k: x[n] for k, x in many.items()}, (*own[:2], 0.9, *own[2:])
            )
            torch.testing.assert_close(pi[:, n], one[0])
            torch.testing.assert_close(y[:, n], one[1])


def test_evolution_moves_towards_the_better_of_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    made, where = learner(method="evolution", learning_rate=0.1), world()
    seen: dict[str, Tensor] = {}

    def draw(rule: Rule, pairs: int, generator: torch.Generator) -> Any:
        noise = draw_noise(rule, pairs, generator)
        seen["bias"] = noise["policy_out.bias"].flatten()
        return noise

    def judge(*_: Any) -> Tensor:
        return torch.cat([seen["bias"], -seen["bias"]])  # The larger bias always wins.

    monkeypatch.setattr("rlbench.agents.lpg_meta.final_reward", judge)
    monkeypatch.setattr("rlbench.agents.lpg_meta.draw_noise", draw)
    for _ in range(3):
        made.learn(where)
    assert float(made.rule.policy_out.bias.detach()) > 0.1
    levels = where.worlds.levels  # type: ignore[attr-defined]
    assert torch.equal(levels.wall[:2], levels.wall[2:])


def test_pairs_of_rules_have_opposite_perturbations() -> None:
    rule, generator = Rule(3, 6), torch.Generator().manual_seed(0)
    noise = draw_noise(rule, 2, generator)
    columns = [torch.rand(5, 4, 2) for _ in range(3)]
    columns += [torch.randn(5, 4, 2, 3), torch.randn(5, 4, 2, 3)]
    reward, over, *rest = columns
    with torch.no_grad():
        pi, _ = changed_rules(rule, noise, 0.1)(reward, over.round(), 0.9, *rest)
        for n, sign in enumerate((1, 1, -1, -1)):
            changed = {k: x + sign * 0.1 * noise[k][n % 2] for k, x in rule.named_parameters()}
            own = (reward[:, n], over[:, n].round(), 0.9, *(x[:, n] for x in rest))
            torch.testing.assert_close(pi[:, n], functional_call(rule, changed, own)[0])


def test_evaluations_use_the_settings_and_not_those_that_the_bandit_chose() -> None:
    made = learner(bandit=True, bandit_rates=(1.0,), policy_rate=40.0)
    assert (made._steps(made.spec).rates["policy"] == 40).all()
    assert (made._chosen_steps(made.spec).rates["policy"] == 1).all()


def test_the_loss_is_minus_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlbench.agents.lpg_meta.normalised", torch.ones_like)
    none: dict[str, Any] = dict.fromkeys(
        ("policy_entropy", "prediction_entropy", "policy_penalty"), 0.0
    )
    made = learner(prediction_penalty=0.0, **none)
    # A new rule moves no policy, so each of the five actions has the log-probability -ln 5.
    assert float(made.learn(world())["loss"]) == pytest.approx(np.log(5), abs=1e-5)


def run(folder: Path, updates: int, **settings: Any) -> Run:
    config = RunConfig(
        env="grid-levels-small", updates=updates, eval_every=0, eval_episodes=3, log_every=1,
        checkpoint_every=2, out=folder,
    )  # fmt: skip
    return Run("lpg-meta", LPGMetaConfig(**SMALL | settings), config)


@pytest.mark.parametrize("settings", [{}, {"bandit": True}, {"method": "evolution"}])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole = run(tmp_path / "whole", 4, **settings)
    whole.start()
    half = run(tmp_path / "half", 4, **settings)
    driver = half.make_driver()
    description = half.description()
    half.folder.start(description)
    for update in (1, 2):
        half.folder.log(update, {k: float(x) for k, x in driver.update().items()}, {}, 1.0)
    half.folder.save_checkpoint(
        2, {"learner": half.learner.state_dict(), "driver": driver.state_dict()}
    )
    Run.resume(tmp_path / "half").finish()
    one, two = (RunFolder(tmp_path / x) for x in ("whole", "half"))
    a, b = one.last_evaluation(), two.last_evaluation()
    assert all(np.array_equal(a[key], b[key]) for key in a)
    state = [tensors_of(x.load_checkpoint("cpu")["learner"]) for x in (one, two)]  # type: ignore[index]
    assert all(torch.equal(state[0][key], state[1][key]) for key in state[0])
    assert {x.split("/")[0] for x in a if "/" in x} == {"grid-levels-long", "grid-levels-sparse"}


def test_a_report_draws_no_test_examples_for_it(tmp_path: Path) -> None:
    run(tmp_path / "run", 1).start()
    report.make(ReportConfig((tmp_path / "run",), out=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "<td>lpg-meta</td>" in page
    assert "Test examples" not in page


def test_other_tasks_are_refused_in_one_sentence(tmp_path: Path) -> None:
    config = RunConfig(env="CartPole-v1", updates=1, out=tmp_path / "x")
    with pytest.raises(UserError, match="CartPole-v1 has no lifetimes"):
        Run("lpg-meta", LPGMetaConfig(), config).start()
    assert not (tmp_path / "x").exists()


def test_values_are_read_from_features_that_encode_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FIT_STEPS", 1_000)
    where = world(count=10)
    generator = torch.Generator().manual_seed(0)
    states = where.spec.states or 0
    agents = Tables.new(10, states, {"policy": 5, "prediction": 3, "value": 1}, 0.1, generator)
    exact = probe.exact_values(where, agents, (0.0, 0.9))
    assert exact.shape == (2, 10, states)
    visits = torch.ones(10, states)
    known = probe.read_values(exact.movedim(0, -1).float(), exact, visits, generator)
    noise = probe.read_values(
        torch.randn(10, states, 2, generator=generator), exact, visits, generator
    )
    assert known.shape == (10, 2)
    # The last two levels are for the test.
    assert known[8:].mean() < 0.1
    assert noise[8:].mean() > 0.8


def test_only_predictions_and_values_learn_while_they_settle() -> None:
    made, where = trained(1), world()
    agents = made.population
    found, visits = probe.settled(
        made.rule, where, agents, 0.9, 0.95, 0.1, 5, made._steps(where.spec), torch.Generator()
    )
    assert torch.equal(found.tensors()["policy"], agents.tensors()["policy"])
    assert not torch.equal(found.tensors()["prediction"], agents.tensors()["prediction"])
    assert visits.sum() % (4 * 3 * 5) == 0


def test_settings_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    save_rule(Rule(4, 6, "mse"), tmp_path / "other.safetensors", {})
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("grid-levels-small", {"rule": str(tmp_path / "other.safetensors")},
         "--prediction-size 4 --prediction mse, but this run has --hidden 6 --prediction-size 3 --prediction kl"),
        ("chain-short", {"probe": True}, "probe is True, but it needs exact values"),
        ("grid-rand-small", {"probe": True}, "probe is True, but it needs exact values"),
    )  # fmt: skip
    for task, settings, message in cases:
        config = RunConfig(env=task, updates=1, out=tmp_path / "x")
        with pytest.raises(UserError, match=message):
            Run("lpg-meta", LPGMetaConfig(**SMALL | settings), config).start()
    with pytest.raises(UserError, match="data is generated, but lpg-meta learns in lifetimes"):
        Run(
            "lpg-meta", LPGMetaConfig(),
            RunConfig(env="grid-levels-small", data="generated", out=tmp_path / "x"),
        ).start()  # fmt: skip
    assert not (tmp_path / "x").exists()
    with pytest.raises(UserError, match="evolution compares pairs of agents with the same"):
        LPGMetaConfig(method="evolution", bandit=True)


def test_lifetimes_may_be_shorter_than_a_rollout() -> None:
    made = trained(2, rollout_steps=100)
    assert made.measure(world())["curve"].shape == (4, 10)


def test_a_probe_of_one_lifetime_finds_nothing() -> None:
    made = trained(1, probe=True)
    columns = made.measure(world(count=1))
    assert columns["predictions_error"].isnan().all()
    assert columns["reward"].isfinite().all()


def test_a_measurement_does_not_use_what_the_bandit_chose() -> None:
    made = trained(2, bandit=True, bandit_rates=(1.0, 2.0))
    found = made._steps(world().spec)
    assert found.rates["policy"].tolist() == [40.0] * 4
    made.measure_generator.manual_seed(3)
    first = made.measure(world())["curve"]
    made.arm = (made.arm + 1) % 6
    made.measure_generator.manual_seed(3)
    assert torch.equal(made.measure(world())["curve"], first)


def test_a_request_to_stop_is_seen_within_a_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlbench.benchmarks.training.evaluation.look", stop)
    with pytest.raises(KeyboardInterrupt):
        LifetimesEvaluator(find_task("grid-levels-small"), 2).columns(trained(1), 0)
    with pytest.raises(UserError, match="0 lifetimes cannot be evaluated"):
        LifetimesEvaluator(find_task("grid-levels-small"), 0)
