"""The claims of Decision Transformer's table, judged on made-up results."""

import pytest

from rlbench.agents import load_agent
from rlbench.benchmarks.papers import decision_transformer as paper, load_paper
from rlbench.benchmarks.tables.results import Missing, Results
from tests.benchmarks.test_claims_of_papers import result, verdict


def scores(cheetah: tuple[float, float], hopper: tuple[float, float]) -> Results:
    """Scores of the transformer and of cloning on both tasks; those of IQL are 50."""
    found = {
        task: dict(zip((paper.DT, paper.BC, paper.IQL), (*pair, 50.0), strict=True))
        for task, pair in zip(paper.TASKS, (cheetah, hopper), strict=True)
    }
    rows = [
        result(method, task, seed, x=[mean + seed])
        for task, means in found.items()
        for method, mean in means.items()
        for seed in range(3)
    ]
    return Results(rows)


@pytest.mark.parametrize(
    ("cheetah", "hopper", "holds"),
    [
        ((40.0, 40.0), (35.0, 30.0), True),
        ((39.0, 40.0), (35.0, 30.0), False),
        ((45.0, 40.0), (34.0, 30.0), False),
    ],
)
def test_the_transformer_must_be_better_than_cloning(
    cheetah: tuple[float, float], hopper: tuple[float, float], holds: bool
) -> None:
    found = verdict(paper.PAPER, "D1", scores(cheetah, hopper))
    assert found.holds == holds
    assert f"hopper-medium-replay: Decision Transformer {hopper[0] + 1:.1f}" in found.evidence


def test_iql_is_reported() -> None:
    found = verdict(paper.PAPER, "D2", scores((40.0, 40.0), (35.0, 30.0)))
    assert found.holds is None
    assert "IQL 51.0" in found.evidence
    with pytest.raises(Missing):
        verdict(paper.PAPER, "D2", Results([]))


def test_small_settings_are_settings_and_figures_are_of_the_tasks() -> None:
    found = load_paper("decision-transformer")
    assert found.minutes["small"] <= 30
    for grid in found.grids["small"]:
        for method in grid.methods:
            load_agent(method.learner).Config(**method.settings)
    assert {figure.method for figure in found.figures} == {paper.DT, paper.BC, paper.IQL}
    assert {figure.task.removesuffix("-v2") for figure in found.figures} == set(paper.TASKS)
