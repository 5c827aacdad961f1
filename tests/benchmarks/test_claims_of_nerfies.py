"""Claims of Nerfies, judged on made-up results."""

from typing import Any

import pytest

from rlbench.benchmarks.papers import PAPERS, load_paper, nerfies
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


def made(psnr: dict[str, float], stretch: dict[str, float] | None = None) -> Results:
    """Two seeds of each network; the first step size is hopeless."""
    rows = []
    small, large = nerfies.STEP_SIZES
    for title in nerfies.NETWORKS:
        mean, log = psnr.get(title, 20.0), (stretch or {}).get(title, 0.1)
        for seed in range(2):
            for size, lower in ((small, 5.0), (large, 0.0)):
                columns: dict[str, Any] = {
                    "robot_psnr": [mean - lower], "psnr": [21.0], "stretch": [log + lower], "pose_r2": [0.5],
                }  # fmt: skip
                rows.append(result(name(title, size), nerfies.TASK, seed, **columns))
    rows += [result(nerfies.UNTRAINED, nerfies.TASK, s, robot_psnr=[8.0], psnr=[9.0]) for s in range(2)]  # fmt: skip
    return Results(rows)


def test_every_network_has_three_seeds_and_the_same_search() -> None:
    assert "nerfies" in PAPERS
    paper = load_paper("nerfies")
    for grids in paper.grids.values():
        assert all(grid.seeds == 3 for grid in grids)
        assert len(grids[0].methods) == len(nerfies.NETWORKS) * len(nerfies.STEP_SIZES)
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert paper.minutes["small"] <= 50
    for claim in paper.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


@pytest.mark.parametrize(
    ("motions", "codes", "static", "holds"),
    [
        (20.0, 19.0, 18.0, True),
        (20.0, 19.0, 18.1, False),
        (20.0, 20.5, 17.0, False),
        (20.0, 16.0, 17.0, False),
    ],
)
def test_motions_must_beat_a_static_field_with_codes_in_between(
    motions: float, codes: float, static: float, holds: bool
) -> None:
    psnr = {nerfies.MOTIONS: motions, nerfies.CODES: codes, nerfies.STATIC: static}
    found = verdict(nerfies.PAPER, "Z1", made(psnr))
    assert found.holds == holds
    assert f"motions, 0.01 {motions:.1f}" in found.evidence
    assert "untrained 8.0" in found.evidence


@pytest.mark.parametrize(
    ("annealing", "elastic", "stretches", "holds"),
    [
        (19.7, 19.7, (0.1, 0.1), True),
        (19.8, 19.7, (0.1, 0.1), False),
        (19.7, 19.8, (0.1, 0.1), False),
        (20.5, 20.5, (0.2, 0.11), True),
        (20.5, 20.5, (0.09, 0.2), False),
    ],
)
def test_both_parts_must_help(
    annealing: float, elastic: float, stretches: tuple[float, float], holds: bool
) -> None:
    psnr = {nerfies.NO_ANNEALING: annealing, nerfies.NO_ELASTIC: elastic}
    both = dict(zip((nerfies.NO_ANNEALING, nerfies.NO_ELASTIC), stretches, strict=True))
    found = verdict(nerfies.PAPER, "Z2", made(psnr, both))
    assert found.holds == holds
    assert "mean |log s|: motions 0.100" in found.evidence
    assert verdict(nerfies.PAPER, "Z3", made({})).holds is None
