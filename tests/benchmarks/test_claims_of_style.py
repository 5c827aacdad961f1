"""Claims of style transfer, and of PPO in several styles, judged on made-up results."""

from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import load_paper, policy_style, style_transfer
from rlbench.benchmarks.papers.style_transfer import METHOD, STRIDES, STYLES, TASK, WEIGHTS
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


@pytest.mark.parametrize("paper", ["style-transfer", "policy-style"])
def test_the_tables_have_three_seeds_and_settings_that_exist(paper: str) -> None:
    found = load_paper(paper)
    for scale, grids in found.grids.items():
        assert all(grid.seeds == 3 for grid in grids), scale
        for method in (x for grid in grids for x in grid.methods):
            load_learner(method.learner).Config(**method.settings)
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def analysed(**changes: Any) -> Any:
    """A made-up analysis: three styles, then the other weights, then the other strides; the columns can be changed row by row."""
    weights = [*[WEIGHTS[0]] * 3, *WEIGHTS[1:], *[WEIGHTS[0]] * 2]
    strides = [STRIDES[0]] * 6 + list(STRIDES[1:])
    columns: dict[str, Any] = {
        "style": np.array([*STYLES, *[STYLES[0]] * 5]), "content_weight": np.array(weights), "stride": np.array(strides),
        "start_loss": np.full(8, 20.0), "style_loss": 0.01 * np.sqrt(weights), "content_loss": 1 / (2 + np.array(weights)),
        "distances": np.where(np.eye(3, dtype=bool)[[0, 1, 2, *[0] * 5]], 0.01, 0.2), "layout": np.full(8, 0.8),
        "correlation": 1 - 0.1 * np.array(strides),
    }  # fmt: skip
    for name, (row, value) in changes.items():
        columns[name][row] = value
    return METHOD, TASK, Analysed("style", {}, (), columns)


@pytest.mark.parametrize(
    ("claim", "changes", "holds"),
    [
        ("Y1a", {}, True),
        ("Y1a", {"start_loss": (1, 9.9)}, False),
        ("Y1a", {"distances": (2, [0.2, 0.09, 0.01])}, False),
        ("Y1a", {"layout": (0, 0.69)}, False),
        ("Y1a", {"layout": (5, 0.1)}, True),
        ("Y1b", {}, True),
        ("Y1b", {"content_loss": (5, 0.5)}, False),
        ("Y1b", {"style_loss": (3, 0.02)}, False),
        ("Y1b", {"style_loss": (7, 0.0)}, True),
        ("Y1c", {}, True),
        ("Y1c", {"correlation": (6, 0.6)}, False),
        ("Y1c", {"correlation": (4, 0.99)}, True),
    ],
)
def test_verdicts(claim: str, changes: Any, holds: bool) -> None:
    results = Results([], analyses=[analysed(), analysed(**changes)])
    assert verdict(style_transfer.PAPER, claim, results).holds == holds


def test_the_evidence_is_in_order() -> None:
    results = Results([], analyses=[analysed()])
    assert (
        "brick 2,000 times, 20 times, 0.80"
        in verdict(style_transfer.PAPER, "Y1a", results).evidence
    )
    shown = verdict(style_transfer.PAPER, "Y1b", results).evidence
    assert "weights 0.1, 1, 10, 100: content losses 0.48, 0.33, 0.083, 0.0098" in shown
    assert "style losses 0.0032, 0.01, 0.032, 0.1" in shown
    assert verdict(style_transfer.PAPER, "Y1c", results).evidence.endswith(
        "1, 2, 4: 0.90, 0.80, 0.60"
    )


def test_styles_are_compared_on_training_and_on_held_out_levels() -> None:
    runs = [
        result(method.name, policy_style.TASK, seed, **{"return": [k], "held_out/return": [2 * k]})
        for k, method in enumerate(policy_style.METHODS) for seed in range(2)
    ]  # fmt: skip
    runs += [result(policy_style.NETWORK, policy_style.FRAMES, 0, style_loss=[0.5], start=[4.0])]
    found = verdict(policy_style.PAPER, "Y2", Results(runs))
    assert found.holds is None
    assert "training levels: PPO 0.00 [0.00, 0.00], style PPO 1.00" in found.evidence
    assert "held-out levels +2.00 [+2.00, +2.00]" in found.evidence
    assert "from 4 to 0.5" in found.evidence


def test_policies_start_from_the_style_network_of_their_seed(tmp_path: Any) -> None:
    networks, policies = load_paper("policy-style").grids["small"]
    folders = {job.config.seed: str(job.config.out) for _, job in networks.jobs(tmp_path)}
    for method, job in policies.jobs(tmp_path):
        expected = folders[job.config.seed] if method == policy_style.STYLED else None
        assert job.config.pretrained == expected
