"""Claims of the papers on attacks, judged on made-up results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlbench.benchmarks.papers import adversarial_examples as paper, load_paper, policy_attacks
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import verdict

NAMES = ("adversarial-examples", "policy-attacks")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["small", "full"])
def test_grids_have_three_seeds_and_settings_that_exist(name: str, scale: Any) -> None:
    found = load_paper(name)
    for grid in found.grids[scale]:
        assert grid.seeds == 3
        for method in grid.methods:
            load_learner(method.learner).Config(**method.settings)
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def test_attacks_transfer_to_the_next_seed_and_to_dqn() -> None:
    jobs = paper.PAPER.analysis_jobs("small", Path("table"))
    runs = {(method, task): [] for method, task, _ in jobs}  # type: ignore[var-annotated]
    for method, task, job in jobs:
        assert job.name == "adversarial"
        runs[method, task].append([path.name for path in job.runs])
    assert runs["CNN", "digits"] == [
        ["CNN-digits-s0", "CNN-digits-s1"], ["CNN-digits-s1", "CNN-digits-s2"], ["CNN-digits-s2", "CNN-digits-s0"],
    ]  # fmt: skip
    assert runs["PPO", "CartPole-v1"][2] == [
        "PPO-CartPole-v1-s2", "DQN-CartPole-v1-s2", "PPO-CartPole-v1-s0",
    ]  # fmt: skip
    folders = {job.folder.name for _, job in paper.PAPER.jobs("small", Path("table"))}
    assert {path.name for *_, job in jobs for path in job.runs} <= folders


def of_images(*seeds: Mapping[str, float]) -> Results:
    """Results on digits; each seed has the numbers that differ from usual ones."""
    usual = {
        "accuracy": 0.98, "L-BFGS: success": 1.0, "L-BFGS: distortion": 0.1, "noise of its norm: error": 0.04,
        "run 2: L-BFGS: error": 0.2, "run 2: noise of its norm: error": 0.05,
    }  # fmt: skip
    for prefix in ("", "run 2: "):
        for i, budget in enumerate(paper.BUDGETS):
            for name, accuracy in (("pgd", 0.6), ("fgsm", 0.7), ("noise", 0.9)):
                usual[f"{prefix}accuracy under {name} at {budget:g}"] = accuracy - 0.1 * i
    return Results([], [(paper.CNN, paper.DIGITS, Analysed("adversarial", {**usual, **x}, (), {})) for x in seeds])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("accuracy", 0.98, True), ("accuracy", 0.95, False), ("L-BFGS: success", 0.9, True), ("L-BFGS: success", 0.8, False),
        ("L-BFGS: distortion", 0.39, True), ("L-BFGS: distortion", 0.41, False), ("noise of its norm: error", 0.16, True),
        ("noise of its norm: error", 0.17, False),
    ],
)  # fmt: skip
def test_any_class_must_be_near(name: str, value: float, holds: bool) -> None:
    found = verdict(paper.PAPER, "A1", of_images({}, {name: value}))
    assert found.holds == holds


def test_transferred_errors_must_be_three_times_those_of_noise() -> None:
    assert verdict(paper.PAPER, "A2", of_images({}, {"run 2: L-BFGS: error": 0.11})).holds
    found = verdict(paper.PAPER, "A2", of_images({}, {"run 2: L-BFGS: error": 0.09}))
    assert found.holds is False
    assert (
        "14.5 (20.0/9.0) under L-BFGS, 5.0 (5.0/5.0) under noise of the same norm" in found.evidence
    )
    assert "60.0 (60.0/60.0) and 30.0 (30.0/30.0) with a budget of 0.2" in found.evidence


def test_pgd_must_be_stronger_than_fgsm_for_every_seed_and_budget() -> None:
    assert verdict(paper.PAPER, "A3", of_images({}, {})).holds
    for change in (
        {"accuracy under fgsm at 0.2": 0.3}, {"accuracy under pgd at 0.1": 0.61}, {"accuracy under pgd at 0.05": 0.49},
    ):  # fmt: skip
        assert not verdict(paper.PAPER, "A3", of_images({}, change)).holds


def of_agents(*seeds: Mapping[str, float]) -> Results:
    """Returns of agents, 100 but for those that a seed names."""
    usual = {f"{run}return{under}": 100.0 for run in ("", "run 2: ", "run 3: ") for under in ("", *(
        f" under {name} at {budget:g}" for name in ("pgd", "fgsm", "noise") for budget in paper.DEVIATIONS
    ))}  # fmt: skip
    return Results([], [(paper.PPO, paper.POLE, Analysed("adversarial", {**usual, **x}, (), {})) for x in seeds])  # fmt: skip


def test_an_attack_must_stop_every_agent_at_a_budget_whose_noise_does_not() -> None:
    one, other = {"return under pgd at 1": 50.0}, {"return under pgd at 2": 9.0}
    assert verdict(paper.PAPER, "A4", of_agents(one, other)).holds
    assert not verdict(paper.PAPER, "A4", of_agents(one, {})).holds
    assert not verdict(paper.PAPER, "A4", of_agents(one, {"return under pgd at 1": 51.0})).holds
    assert not verdict(paper.PAPER, "A4", of_agents(one, {**other, "return under noise at 2": 79.0})).holds  # fmt: skip
    assert verdict(paper.PAPER, "A4", of_agents({"return under pgd at 1": 150.0, "return": 300.0, "return under noise at 1": 240.0})).holds  # fmt: skip


def test_transfer_between_agents_is_reported() -> None:
    found = verdict(paper.PAPER, "A5", of_agents({}, {"run 2: return under pgd at 2": 20.0}))
    assert found.holds is None
    dqn, ppo = found.evidence.split("; PPO with another seed")
    assert "; 2: 60.00 [20.00, 100.00] under PGD" in dqn
    assert "; 2: 100.00 [100.00, 100.00] under PGD" in ppo


def test_attacks_on_pixels_are_reported() -> None:
    numbers = {"return": 0.9} | {
        f"return under {name} at {budget:g}": budget
        for name in ("pgd", "fgsm", "noise")
        for budget in policy_attacks.BUDGETS
    }
    rows = [("PPO", policy_attacks.ROOM, Analysed("adversarial", numbers, (), {}))] * 2
    found = verdict(policy_attacks.PAPER, "P1", Results([], rows))
    assert found.holds is None
    assert "0.90 [0.90, 0.90] without changes" in found.evidence
