"""Claims of SSD, FPN and Mask R-CNN, judged on made-up results."""

from typing import Any

import pytest

from rlbench.benchmarks.papers import PAPERS, fpn, load_paper, mask_rcnn, ssd
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


def found(**others: tuple[float, float]) -> Results:
    """Two seeds of each method: `map` and `map_small`; of the step sizes the last one is the best."""
    each = {ssd.FULL: (0.85, 0.7), ssd.ONE: (0.8, 0.5), ssd.ALL: (0.75, 0.6)} | others
    fixed = {ssd.BLOBS: (0.2, 0.1), ssd.UNTRAINED: (0.0, 0.0)}
    methods = {name(k, size): x for k, x in each.items() for size in ssd.STEP_SIZES} | fixed
    last = f"{ssd.STEP_SIZES[-1]:g}"
    results = []
    for method, (mean, small) in methods.items():
        columns: dict[str, Any] = {
            "map": mean,
            "map_small": small,
            "map_medium": mean,
            "map_large": mean,
        }
        usual = method in fixed or method.endswith(last)
        for seed in range(2):
            results.append(
                result(method, ssd.TASK, seed, **{k: [x * usual] for k, x in columns.items()})
            )
    return Results(results)


def test_ssd_must_be_precise_and_both_ablations_worse() -> None:
    judged = verdict(ssd.PAPER, "O1", found())
    assert judged.holds
    assert "SSD, 0.003 85.0/70.0/85.0/85.0; one map, 0.003 80.0/50.0" in judged.evidence
    assert "untrained 0.0/0.0/0.0/0.0; SSD by seed 85.0 (85.0/85.0)" in judged.evidence
    for worse in (
        {ssd.FULL: (0.79, 0.7), ssd.ALL: (0.7, 0.5)}, {ssd.ONE: (0.5, 0.56)}, {ssd.ALL: (0.81, 0.3)},
    ):  # fmt: skip
        assert not verdict(ssd.PAPER, "O1", found(**worse)).holds
    with pytest.raises(Missing):
        verdict(ssd.PAPER, "O1", Results([]))


def test_every_grid_has_three_seeds_and_settings_that_exist() -> None:
    paper = load_paper("ssd")
    assert "ssd" in PAPERS
    for grids in paper.grids.values():
        names = [method.name for grid in grids for method in grid.methods]
        assert len(set(names)) == len(names)
        assert {paper.method, ssd.BLOBS, ssd.UNTRAINED} <= set(names)
        for grid in grids:
            assert grid.seeds == 3
            assert grid.tasks == (ssd.TASK,)
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert paper.minutes["small"] <= 15


def masks(**others: tuple[float, float]) -> Results:
    """Two seeds of each form of Mask R-CNN: `mask_map` and `mask_map_75`; of the step sizes the last one is the best."""
    each = {
        mask_rcnn.ALIGN: (0.8, 0.5), mask_rcnn.MISALIGNED: (0.7, 0.3), mask_rcnn.POOL: (0.75, 0.44),
        mask_rcnn.SOFTMAX: (0.77, 0.4), mask_rcnn.WHOLE: (0.71, 0.3),
    } | others  # fmt: skip
    methods = {name(k, size): x for k, x in each.items() for size in mask_rcnn.STEP_SIZES}
    last = f"{mask_rcnn.STEP_SIZES[-1]:g}"
    results = []
    for method, (usual, strict) in {**methods, mask_rcnn.UNTRAINED: (0.0, 0.0)}.items():
        factor = 1.0 if method.endswith(last) else 0.5
        for seed in range(2):
            columns = {"mask_map": usual, "mask_map_75": strict, "map": usual}
            scaled = {k: [factor * x] for k, x in columns.items()}
            results.append(result(method, mask_rcnn.TASK, seed, **scaled))
    return Results(results)


def test_mask_rcnn_must_be_more_precise_than_its_ablations() -> None:
    judged = verdict(mask_rcnn.PAPER, "K1", masks())
    assert judged.holds
    assert "RoIPool, 0.003: 44.0 (44.0/44.0)" in judged.evidence
    assert not verdict(mask_rcnn.PAPER, "K1", masks(RoIPool=(0.75, 0.46))).holds
    assert not verdict(mask_rcnn.PAPER, "K1", masks(**{mask_rcnn.SOFTMAX: (0.79, 0.4)})).holds
    whole = verdict(mask_rcnn.PAPER, "K2", masks())
    assert whole.holds
    assert "of masks, both stages, 0.003: 71.0 (71.0/71.0); untrained: 0.0" in whole.evidence
    assert not verdict(mask_rcnn.PAPER, "K2", masks(**{mask_rcnn.WHOLE: (0.69, 0.3)})).holds


def test_every_form_of_mask_rcnn_has_settings_that_exist() -> None:
    for grids in load_paper("mask-rcnn").grids.values():
        names = [method.name for grid in grids for method in grid.methods]
        assert len(set(names)) == len(names) == 2 * (len(mask_rcnn.HEADS) + 1) + 1
        for grid in grids:
            assert grid.seeds == 3
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)


def recalls(**others: tuple[float, float]) -> Results:
    """Two seeds of each network: recall of small and of large objects; of the step sizes the last one is the best."""
    each = {
        fpn.FULL: (0.5, 0.8), fpn.SINGLE: (0.4, 0.81), fpn.LATERAL: (0.47, 0.8), fpn.TOP_DOWN: (0.6, 0.6), fpn.FINEST: (0.6, 0.5),
    } | others  # fmt: skip
    methods = {name(k, size): x for k, x in each.items() for size in fpn.STEP_SIZES}
    last = f"{fpn.STEP_SIZES[-1]:g}"
    results = []
    for method, (small, large) in {**methods, fpn.UNTRAINED: (0.1, 0.1)}.items():
        factor = 1.0 if method.endswith(last) or method == fpn.UNTRAINED else 0.5
        for seed in range(2):
            columns = dict(zip(fpn.SIZES, (0.7, small, 0.7, large), strict=True))
            scaled = {k: [factor * x] for k, x in columns.items()}
            results.append(result(method, fpn.TASK, seed, **scaled))
    return Results(results)


def test_a_pyramid_must_find_small_objects_and_miss_no_large_ones() -> None:
    judged = verdict(fpn.PAPER, "P1", recalls())
    assert judged.holds
    assert "FPN, 0.003 70.0/50.0/70.0/80.0, by seed 70.0 (70.0/70.0)" in judged.evidence
    for worse in ({fpn.SINGLE: (0.41, 0.8)}, {fpn.LATERAL: (0.48, 0.8)}, {fpn.SINGLE: (0.4, 0.83)}):
        assert not verdict(fpn.PAPER, "P1", recalls(**worse)).holds


def test_networks_of_the_pyramid_table_have_settings_that_exist() -> None:
    for grids in load_paper("fpn").grids.values():
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
