"""Claims of the table of DQN, judged on made-up results; its settings are those of the other libraries."""

import pytest

from rlbench.benchmarks.papers import dqn, load_paper
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


def found(plain: float) -> Results:
    returns = {dqn.PLAIN: plain, dqn.DOUBLE: 490.0, dqn.SB3: 480.0}
    runs = [
        result(name, dqn.POLE, seed, **{"return": [x - 10.0, x + 10.0]})
        for name, x in returns.items() for seed in range(2)
    ]  # fmt: skip
    breakout = {dqn.PLAIN: 5.0, dqn.DOUBLE: 6.0}
    runs += [
        result(name, dqn.BREAKOUT, seed, **{"return": [x]})
        for name, x in breakout.items() for seed in range(2)
    ]  # fmt: skip
    return Results(runs)


@pytest.mark.parametrize(("plain", "holds"), [(457.0, True), (456.0, False)])
def test_returns_must_be_within_two_deviations_of_the_other_library(
    plain: float, holds: bool
) -> None:
    judged = verdict(dqn.PAPER, "N1", found(plain))
    assert judged.holds == holds
    assert f"DQN {plain:.1f}" in judged.evidence
    assert "CleanRL's 488.69 ± 16.11" in judged.evidence
    with pytest.raises(Missing):
        verdict(dqn.PAPER, "N1", Results([]))


def test_extensions_are_only_reported() -> None:
    judged = verdict(dqn.PAPER, "N2", found(480.0))
    assert judged.holds is None
    assert "MinAtar/Breakout-v1: DQN 5.0" in judged.evidence


def test_the_runs_have_the_steps_that_the_notes_name() -> None:
    steps = {dqn.POLE: 500_000, dqn.BREAKOUT: 165_000}
    for grid in load_paper("dqn").grids["small"]:
        for method in grid.methods:
            config = load_learner(method.learner).Config(**method.settings)
            updates = grid.run["updates"]
            assert config.random_steps + config.steps_per_update * updates == steps[grid.tasks[0]]
