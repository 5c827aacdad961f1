"""Claims of the papers on embeddings and debiasing, judged on made-up results."""

from collections.abc import Mapping
from typing import Any

import pytest

from rlbench.benchmarks.papers import (
    PAPERS,
    facenet,
    load_paper,
    prototypical,
    scene_debiasing as scenes,
)
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training.learners import load_learner
from tests.benchmarks.test_claims_of_papers import result, verdict


@pytest.mark.parametrize("paper", ["facenet", "prototypical", "scene-debiasing"])
def test_every_grid_has_three_seeds_and_the_same_search_for_all(paper: str) -> None:
    found = load_paper(paper)
    assert paper in PAPERS
    assert set(found.grids) == {"small", "full"}
    for grids in found.grids.values():
        assert all(grid.seeds == 3 for grid in grids)
        columns = [
            (x, method.name) for grid in grids for x in grid.tasks for method in grid.methods
        ]
        assert len(set(columns)) == len(columns)
        known = {method for _, method in columns}
        assert {found.method, "untrained"} <= known
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert found.minutes["small"] <= 30
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def searched(
    task: str, networks: Mapping[str, Mapping[str, float]], step_sizes: tuple[float, ...]
) -> list[Result]:
    """Two seeds of each network with each step size; the last step size is the best, and the others are hopeless."""
    return [
        result(
            name(network, size), task, seed, **{k: [x * (size == step_sizes[-1])] for k, x in columns.items()}
        )
        for network, columns in networks.items()
        for size in step_sizes
        for seed in range(2)
    ]  # fmt: skip


def shots(euclid: tuple[float, float], cosine: float = 0.7, pixels: float = 0.3) -> Results:
    def both(one: float, five: float) -> dict[str, float]:
        return {"accuracy_1": one, "accuracy_5": five}

    networks = {
        prototypical.EUCLID: both(*euclid),
        prototypical.COSINE: both(cosine, cosine),
        prototypical.SCALED: both(0.99, 0.99),
        prototypical.FEW: both(0.5, 0.5),
    }
    fixed: dict[str, dict[str, Any]] = {
        title: {"accuracy_1": [mean], "accuracy_5": [mean]}
        for title, mean in ((prototypical.PIXELS, pixels), (prototypical.UNTRAINED, 0.2))
    }
    rows = [result(x, prototypical.TASK, **y) for x, y in fixed.items()]
    return Results(searched(prototypical.TASK, networks, prototypical.STEP_SIZES) + rows)


@pytest.mark.parametrize(
    ("results", "holds"),
    [
        (shots((0.86, 0.94)), True),
        (shots((0.84, 0.94)), False),
        (shots((0.86, 0.92)), False),
        (shots((0.86, 0.94), cosine=0.82), False),
        (shots((0.86, 0.94), pixels=0.57), False),
    ],
)
def test_prototypes_must_recognise_new_classes_better_than_cosines_and_pixels(
    results: Results, holds: bool
) -> None:
    found = verdict(prototypical.PAPER, "Q1", results)
    assert found.holds == holds
    assert "untrained 20.0/20.0" in found.evidence
    assert verdict(prototypical.PAPER, "Q2", results).holds is None
    assert "Euclid, 5-way training, 0.003 50.0/50.0" in verdict(prototypical.PAPER, "Q3", results).evidence  # fmt: skip


def test_fewer_classes_see_as_many_drawings() -> None:
    for grids in prototypical.SCALES.values():
        drawings = {
            method.settings.get("batch_size", 20) * grid.run["updates"]
            for grid in grids[:2]
            for method in grid.methods
        }
        assert len(drawings) == 1


def areas(task: str, semi: float, random: float = 0.9, softmax: float = 0.96) -> Results:
    networks = {
        facenet.SEMI: semi, facenet.RANDOM: random, facenet.HARDEST: 0.5, facenet.SOFTMAX: softmax,
    }  # fmt: skip
    rows = searched(
        task, {x: {"auc": y, "spread": 0.6} for x, y in networks.items()}, facenet.STEP_SIZES
    )
    rows += [result(x, task, auc=[0.7], spread=[0.1]) for x in (facenet.UNTRAINED, facenet.PIXELS)]
    return Results(rows)


@pytest.mark.parametrize(
    ("claim", "task", "semi", "random", "softmax", "holds"),
    [
        ("N1", facenet.GLYPHS, 0.96, 0.9, 0.96, True),
        ("N1", facenet.GLYPHS, 0.94, 0.9, 0.5, False),
        ("N1", facenet.GLYPHS, 0.96, 0.97, 0.96, False),
        ("N1", facenet.GLYPHS, 0.96, 0.9, 0.98, False),
        ("N2", facenet.LEVELS, 0.91, 0.9, 0.91, True),
        ("N2", facenet.LEVELS, 0.89, 0.8, 0.5, False),
    ],
)
def test_semi_hard_triplets_must_verify_and_beat_random_ones(
    claim: str, task: str, semi: float, random: float, softmax: float, holds: bool
) -> None:
    found = verdict(facenet.PAPER, claim, areas(task, semi, random, softmax))
    assert found.holds == holds
    assert f"semi-hard, 0.003 {semi:.3f} (spread 0.60)" in found.evidence


def debiased(adversary: float, both: float) -> Results:
    rest = {"adversary": 0.3, "probe": 0.9, "confidence": 0.5}
    means = {scenes.PLAIN: 0.4, scenes.ADVERSARY: adversary, scenes.BOTH: both}
    rows = searched(
        scenes.TASK, {x: {"accuracy": y, **rest} for x, y in means.items()}, scenes.STEP_SIZES
    )
    columns: dict[str, Any] = {k: [v] for k, v in rest.items()}
    rows.append(result(scenes.UNTRAINED, scenes.TASK, accuracy=[0.25], **columns))
    rows += [
        result(x, task, accuracy=[0.26], **columns) for x in scenes.FROM_SCRATCH for task in scenes.TRAPS
    ]  # fmt: skip
    return Results(rows)


@pytest.mark.parametrize(
    ("adversary", "both", "holds"), [(0.49, 0.61, True), (0.47, 0.61, False), (0.49, 0.59, False)]
)
def test_debiasing_must_help_where_scenes_mislead(
    adversary: float, both: float, holds: bool
) -> None:
    results = debiased(adversary, both)
    found = verdict(scenes.PAPER, "G1", results)
    assert found.holds == holds
    assert "classifier, 0.003 40.0/30.0/90.0/50.0" in found.evidence
    trap = verdict(scenes.PAPER, "G2", results)
    assert trap.holds is None
    assert "scenes-95: adversary from scratch 26.0" in trap.evidence
