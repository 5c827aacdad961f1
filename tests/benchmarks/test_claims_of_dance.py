"""Claims of Everybody Dance Now, judged on made-up results."""

from typing import Any

import pytest

from rlbench.benchmarks.papers import everybody_dance_now as dance, load_paper
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


def test_the_table_has_three_seeds_and_settings_that_exist() -> None:
    found = load_paper("everybody-dance-now")
    for grids in found.grids.values():
        assert all(grid.seeds == 3 for grid in grids)
        for method in (x for grid in grids for x in grid.methods):
            load_learner(method.learner).Config(**method.settings)
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def results(**changes: float) -> Results:
    """Networks of two step sizes, of which the second is better, a copy and an untrained network."""
    usual = {
        "flicker": 0.08, "ssim": 0.90, "face": 0.09, "single_ssim": 0.90, "single_flicker": 0.1, "copies": 0.8, "untrained": 0.3,
    } | changes  # fmt: skip
    rows: list[Any] = []
    for size, loss in zip(dance.STEP_SIZES, (0.1, 0.0), strict=True):
        rows.append(
            result(name(dance.SMOOTHED, size), dance.TASK, 0, ssim=[usual["ssim"] - loss], flicker=[usual["flicker"] - loss],
                   face_error=[usual["face"] + loss], face_before=[0.1])
        )  # fmt: skip
        rows.append(
            result(name(dance.SINGLE, size), dance.TASK, 0, ssim=[usual["single_ssim"] - loss], flicker=[usual["single_flicker"]])
        )  # fmt: skip
    for method in ("copies", "untrained"):
        title = dance.COPIES if method == "copies" else dance.UNTRAINED
        rows.append(
            result(title, dance.TASK, 0, ssim=[usual[method]], flicker=[0.2], face_error=[0.3])
        )
    return Results(rows)


@pytest.mark.parametrize(
    ("claim", "changes", "holds"),
    [
        ("E1a", {}, True),
        ("E1a", {"flicker": 0.091}, False),
        ("E1a", {"ssim": 0.896}, True),
        ("E1a", {"ssim": 0.894}, False),
        ("E1b", {}, True),
        ("E1b", {"face": 0.096}, False),
        ("E1c", {}, None),
    ],
)
def test_verdicts(claim: str, changes: Any, holds: bool | None) -> None:
    assert verdict(dance.PAPER, claim, results(**changes)).holds == holds


def test_copies_and_an_untrained_network_are_reported() -> None:
    shown = verdict(dance.PAPER, "E1c", results()).evidence
    assert "smoothed, 0.001 0.900, 0.0900; nearest frame 0.800, 0.3000; untrained 0.300" in shown
