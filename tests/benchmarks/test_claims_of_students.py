"""Claims of the tables of ways of training in agents, judged on made-up results."""

from pathlib import Path
from typing import Any

import pytest

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.models.mixmatch import MixMatch
from rlbench.benchmarks.papers import (
    load_paper,
    policy_pretraining,
    policy_students as students,
    policy_success,
    policy_tickets as tickets,
)
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from rlbench.envs.examples import find_source
from tests.benchmarks.test_claims_of_papers import result, verdict

NAMES = ("policy-students", "policy-tickets", "policy-success", "policy-pretraining")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["small", "full"])
def test_grids_have_three_seeds_and_settings_that_exist(name: str, scale: Any) -> None:
    found = load_paper(name)
    folder = Path("table")
    runs = {job.folder for _, job in found.jobs(scale, folder)}
    for grid in found.grids[scale]:
        assert grid.seeds == 3
        for method in grid.methods:
            load_learner(method.learner).Config(**method.settings)
        for recording in grid.recordings:
            assert set(recording.agents(folder, 0)) <= runs
    for *_, job in found.analysis_jobs(scale, folder):
        assert set(job.runs) <= runs
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def acting(method: str, task: str, *returns: float, **more: float) -> list[Any]:
    """Analyses of one method, one for each seed."""
    return [(method, task, Analysed("acting", {"return": x, **more}, (), {})) for x in returns]


def distilled(**returns: float) -> Results:
    """PPO has 500; each student has 400, except those that are given."""
    found = {name: returns.get(name.replace(", ", "_"), 400.0) for name in students.STUDENTS}
    analyses = [x for name, mean in found.items() for x in acting(name, students.STEPS.name, mean - 1, mean + 1)]  # fmt: skip
    runs = [result(students.PPO, students.CART, seed, **{"return": [500.0]}) for seed in (0, 1)]
    return Results(runs, analyses)


@pytest.mark.parametrize(
    ("returns", "holds"),
    [
        ({"equal_probabilities": 476.0}, True), ({"equal_probabilities_T = 0.25": 476.0}, True), ({"equal_probabilities": 474.0}, False),
        ({"equal_probabilities": 480.0, "equal_actions": 481.0}, False), ({"small_probabilities": 500.0}, False),
    ],
)  # fmt: skip
def test_a_student_of_probabilities_must_act_like_its_teacher_and_not_worse_than_one_of_actions(
    returns: dict[str, float], holds: bool
) -> None:
    found = verdict(students.PAPER, "P1", distilled(**returns))
    assert found.holds == holds
    assert "small, actions: 400.00 [399.00, 401.00]" in found.evidence


def test_clients_and_certificates_are_reported() -> None:
    runs = [result(name, students.CART, 0, **{"return": [9.0]}) for name in (students.PPO, students.WEAK)]  # fmt: skip
    analyses = [
        x for k, task in enumerate(students.CLIENTS) for x in acting(students.SHARED, task, k)
    ]
    found = verdict(students.PAPER, "P3", Results(runs, analyses))
    assert found.holds is None
    assert "clients of both: 1.00 [1.00, 1.00]" in found.evidence
    analyses = [
        x for name in students.CERTIFIED for x in acting(name, students.PICTURES.name, 0.5, **{"certified radius": 0.25})
    ]  # fmt: skip
    found = verdict(students.PAPER, "P4", Results([], analyses))
    assert (
        "SmoothAdv: return 0.50 [0.50, 0.50], certified radius 0.25 [0.25, 0.25]" in found.evidence
    )


@pytest.mark.parametrize(
    ("ticket", "random", "whole", "holds"),
    [(0.9, 0.8, 0.91, True), (0.9, 0.88, 0.9, False), (0.9, 0.8, 0.93, False)],
)
def test_a_ticket_must_win_in_another_level(
    ticket: float, random: float, whole: float, holds: bool
) -> None:
    means = dict(zip(tickets.STARTS, (ticket, random, whole), strict=True))
    runs = [
        result(name, tickets.DOOR, seed, **{"return": [x]})
        for name, x in means.items()
        for seed in (0, 1)
    ]
    found = verdict(tickets.PAPER, "T2", Results(runs))
    assert found.holds == holds
    assert f"ticket {ticket:.2f}" in found.evidence


def test_policies_and_clones_start_from_the_tickets_of_their_seeds() -> None:
    _, policies, clones = tickets.PAPER.grids["small"]
    for grid in (policies, clones):
        starts = {
            (name, job.config.seed): job.config.pretrained for name, job in grid.jobs(Path("t"))
        }
        assert starts["whole encoder", 1] is None
        assert starts["ticket", 1] == f"t/PPO-that-prunes-{tickets.EMPTY}-s1"
        assert starts["random ticket", 2] == f"t/PPO-that-prunes-at-random-{tickets.EMPTY}-s2"


def test_rewards_come_from_the_classifiers_of_the_table() -> None:
    models, policies = policy_success.PAPER.grids["small"]
    source = find_source(policy_success.GOALS)
    assert source is not None
    fields = source().fields
    model = MixMatch(MixMatch.Config(**models.methods[0].settings), fields)
    encoder = make_encoder(policies.methods[0].settings["reward_encoder"], fields["obs"]).layers
    own = {k: x.shape for k, x in encoder.trained.state_dict().items()}  # type: ignore[union-attr]
    assert own == {k: x.shape for k, x in model.whole.state_dict().items()}
    given = [method.pretrained for method in policies.methods]
    assert given == [(x, policy_success.GOALS) for x in policy_success.CLASSIFIERS] + [None, None]


def test_pretrained_encoders_are_compared_with_and_without_learning() -> None:
    _, policies = policy_pretraining.PAPER.grids["small"]
    assert [(x.name, x.pretrained and x.pretrained[0], x.settings["freeze"]) for x in policies.methods] == [
        ("CPC", "CPC", False), ("WPC", "WPC", False), ("random weights", None, False), ("CPC, frozen", "CPC", True),
        ("WPC, frozen", "WPC", True), ("random weights, frozen", None, True),
    ]  # fmt: skip
