"""Claims of papers, judged on made-up results."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import (
    _segmentation as segmentation,
    batch_norm,
    fc_densenet,
    fcn,
    mobilenet_v2,
    policy_encoders,
    rfm,
    spp,
)
from rlbench.benchmarks.tables.paper import Paper, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training import run_folder
from rlbench.benchmarks.training.analysing import Analysed


def result(method: str, task: str, seed: int = 0, **columns: Any) -> Result:
    config = {
        "learner": {"name": method, "settings": {}}, "run": {"env": task, "seed": seed}, "data": None,
        "reference_returns": None, "measures": [{"name": "x", "unit": "", "higher_is_better": True}],
    }  # fmt: skip
    arrays = {name: np.asarray(x, dtype=float) for name, x in columns.items()}
    return Result(method, task, seed, Path(f"{method}-{seed}"), config, arrays, 1.0)


def verdict(paper: Paper, claim: str, results: Results) -> Verdict:
    (found,) = [x for x in paper.claims if x.name == claim]
    return found.judge(results)


def networks(accuracy: dict[str, float]) -> Results:
    """RFM with an accuracy of 0.6 and all others with 0.5, except those that are given."""
    chance: dict[str, Any] = {"majority": [0.2], "last_action": [0.1]}
    return Results(
        result(name, task, accuracy=[x], perfect_steps_any=[x], **chance)
        for task in (rfm.COIN, rfm.STAG)
        for name, x in (dict.fromkeys(rfm.NETWORKS, 0.5) | {"RFM": 0.6} | accuracy).items()
    )


def test_rfm_must_be_at_least_as_good_as_each_network_on_both_games() -> None:
    assert verdict(rfm.PAPER, "R1", networks({})).holds
    assert verdict(rfm.PAPER, "R1", networks({"NRI": 0.6})).holds
    assert not verdict(rfm.PAPER, "R1", networks({"VAIN": 0.61})).holds
    with pytest.raises(Missing):
        verdict(rfm.PAPER, "R1", Results([]))


@pytest.mark.parametrize(("without", "holds"), [(0.05, True), (0.09, False)])
def test_memory_must_help_late_in_the_episode(without: float, holds: bool) -> None:
    rows = {"RFM": 0.1, "RFM, no memory": without}
    steps = np.linspace(0, 1, 4)[
        None
    ]  # The last third of four steps is one step, and so is the first third.
    found = Results(
        result(name, rfm.SCRIPTED_COIN, seed, accuracy_by_step=0.4 + gain * steps)
        for name, gain in rows.items()
        for seed in range(2)
    )
    assert verdict(rfm.PAPER, "R2", found).holds == holds


@pytest.mark.parametrize(
    ("together", "contested", "holds"), [(0.1, -0.1, True), (0.1, 0.1, False), (-0.1, -0.1, False)]
)
def test_the_value_of_company_must_have_both_signs(
    together: float, contested: float, holds: bool
) -> None:
    columns: dict[str, Any] = {}
    for name, value in (
        ("taken together", together),
        ("taken alone", 0.0),
        ("taken alone, contested", contested),
    ):
        column = f"value of company: {name}, before"
        columns |= {f"{column}, sums": np.full(20, value), f"{column}, counts": np.ones(20)}
    found = Results([], [(rfm.RETURNS, rfm.STAG, Analysed("company", {}, (), columns))])
    assert verdict(rfm.PAPER, "R4", found).holds == holds


def curves(monkeypatch: pytest.MonkeyPatch, reached: dict[str, int]) -> Results:
    """Runs of batch-norm that reach the target after the given numbers of updates."""

    class Folder:
        def __init__(self, path: Path) -> None:
            self.first = reached[path.name.rpartition("-")[0]]

        def evaluations(self) -> dict[str, Any]:
            update = np.arange(25, 3_001, 25)
            return {
                "update": update,
                "accuracy": np.where(update >= self.first, 0.96, 0.94)[:, None],
            }

    monkeypatch.setattr(run_folder, "RunFolder", Folder)
    return Results(result(name, "digits", seed, x=[1]) for name in reached for seed in range(2))


@pytest.mark.parametrize(
    ("slowest", "plain", "holds"), [(500, 1_000, True), (500, 900, False), (9_999, 1_000, False)]
)
def test_normalised_networks_must_be_five_times_as_fast_with_any_step_size(
    slowest: int, plain: int, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = {batch_norm.name("no normalisation", size): plain for size in batch_norm.STEP_SIZES}
    reached |= {
        batch_norm.name("batch normalisation", size): count
        for size, count in zip(batch_norm.STEP_SIZES, (200, 225, slowest), strict=True)
    }
    assert verdict(batch_norm.PAPER, "B1", curves(monkeypatch, reached)).holds == holds


def segmented(means: dict[str, float]) -> Results:
    """Runs with the given mean IoU in % at the better step size, and half of it at the other."""
    return Results(
        result(segmentation.name(method, size), segmentation.TASK, seed, miou=[x / 100 * share])
        for method, x in means.items()
        for size, share in zip(segmentation.STEP_SIZES, (0.5, 1.0), strict=True)
        for seed in range(2)
    )


def test_heads_and_networks_are_compared_with_their_best_step_size() -> None:
    assert verdict(
        fcn.PAPER, "F1", segmented(dict(zip(fcn.HEADS, (30, 33, 36), strict=True)))
    ).holds
    assert not verdict(
        fcn.PAPER, "F1", segmented(dict(zip(fcn.HEADS, (30, 33, 34), strict=True)))
    ).holds
    assert not verdict(
        fcn.PAPER, "F1", segmented(dict(zip(fcn.HEADS, (30, 31, 36), strict=True)))
    ).holds
    ours, *others = fc_densenet.METHODS
    for mean, holds in ((40.0, True), (39.6, True), (39.4, False)):
        found = segmented({ours: mean, **dict.fromkeys(others, 40.0)})
        assert verdict(fc_densenet.PAPER, "D1", found).holds == holds


def classified(means: dict[str, float]) -> Results:
    """Runs of mobilenet-v2 with the given accuracy in % at the better step size (80 by default), and half of it at the other."""
    every = dict.fromkeys(mobilenet_v2.NETWORKS, 80.0) | means
    return Results(
        result(mobilenet_v2.name(network, size), mobilenet_v2.TASK, seed, accuracy=[x / 100 * share])
        for network, x in every.items()
        for size, share in zip(mobilenet_v2.STEP_SIZES, (0.5, 1.0), strict=True)
        for seed in range(2)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "network", "allowed"),
    [
        ("M2", mobilenet_v2.RELU6, 0.5),
        ("M3", mobilenet_v2.EXPANSION, 0.5),
        ("M3", mobilenet_v2.NO_SHORTCUT, 0.5),
        ("M4", mobilenet_v2.RESNET, 2.0),
    ],
)
def test_networks_other_than_mobilenet_may_be_better_by_the_tolerance_only(
    claim: str, network: str, allowed: float
) -> None:
    for more, holds in ((allowed - 0.1, True), (allowed + 0.1, False)):
        found = classified({network: 80 + more})
        assert verdict(mobilenet_v2.PAPER, claim, found).holds == holds


def test_a_relu_loses_less_of_a_spiral_the_more_dimensions_there_are() -> None:
    shares = [mobilenet_v2.lost(n, draws=20) for n in (2, 3, 5, 15)]
    assert shares == sorted(shares, reverse=True)
    # A ReLU of one dimension keeps half of a line, so of the plane it loses at least the other axis.
    assert mobilenet_v2.lost(1, draws=20) > 0.4
    assert verdict(mobilenet_v2.PAPER, "M1", classified({})).holds


def sized(means: dict[str, tuple[float, float]]) -> Results:
    """Analyses of spp: accuracy in % at the training sizes and at the others, by head."""
    found = []
    for head in spp.HEADS:
        for label in spp.LABELS:
            for step, share in zip(spp.STEP_SIZES, (0.5, 1.0), strict=True):
                numbers = {
                    f"{spp.size_task(size)}: accuracy": means[head][0 if mine else 1] / 100 * share
                    for size, mine in spp.SIZES.items()
                }
                analysed = Analysed("other-tasks", numbers, (), {})
                found.append((spp.name(head, label, step), spp.TASK, analysed))
    return Results([], found)


@pytest.mark.parametrize(
    ("known", "new", "holds"),
    [(99.1, 80.1, True), (98.9, 80.1, False), (99.1, 79.9, False)],
)
def test_a_pyramid_must_be_as_good_at_known_sizes_and_better_at_others(
    known: float, new: float, holds: bool
) -> None:
    others = {spp.GAP: (50.0, 90.0), spp.RESIZED: (100.0, 70.0), spp.CROPPED: (90.0, 60.0)}
    found = sized({spp.SPP: (known, new), **others})
    assert verdict(spp.PAPER, "S1", found).holds == holds
    # The mean of the map is compared over all sizes: (2 * 50 + 3 * 90) / 5 = 74.
    assert verdict(spp.PAPER, "S2", sized({spp.SPP: (74.1, 74.1), **others})).holds
    assert not verdict(spp.PAPER, "S2", sized({spp.SPP: (73.9, 73.9), **others})).holds


@pytest.mark.parametrize(
    ("same", "other", "holds"), [(0.0, 1e-3, True), (1e-5, 1e-3, False), (0.0, 1e-5, False)]
)
def test_only_statistics_of_the_batch_may_change_the_first_ratio(
    same: float, other: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"Nature, batch norm": same, policy_encoders.OF_BATCH: other}
    monkeypatch.setattr(
        Results, "metric", lambda _, method, *__: np.array([values[method], values[method]])
    )
    assert verdict(policy_encoders.PAPER, "P3", Results([])).holds == holds


def test_a_pretrained_encoder_is_compared_seed_by_seed() -> None:
    runs = [
        result(name, policy_encoders.TASK, seed, **{"return": [x], "held_out/return": [2 * x]})
        for name, returns in (("IMPALA", (1.0, 5.0)), (policy_encoders.PRETRAINED, (2.0, 6.0)))
        for seed, x in enumerate(returns)
    ]
    runs.append(result(policy_encoders.SEGMENTER, policy_encoders.FRAMES, miou=[0.5]))
    found = verdict(policy_encoders.PAPER, "P4", Results(runs)).evidence
    assert "training levels +1.00 [+1.00, +1.00]; held-out levels +2.00 [+2.00, +2.00]" in found
    assert "mean IoU is 50.0 %" in found
