"""Claims of the papers on sequences and memories, judged on made-up results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import (
    PAPERS,
    bert,
    big_bird,
    fast_weights,
    load_paper,
    mann,
    recurrent_batch_norm as rbn,
)
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training import run_folder
from rlbench.benchmarks.training.analysing import Analysed
from tests.benchmarks.test_claims_of_papers import result, verdict

NAMES = ("bert", "big-bird", "fast-weights", "mann", "recurrent-batch-norm")


def searched(
    task: str, means: Mapping[str, float], step_sizes: tuple[float, ...], measure: str = "accuracy"
) -> list[Result]:
    """Two seeds of each network with each step size; the last step size is the best, and the others are hopeless."""
    return [
        result(name(network, size), task, seed, **{measure: [mean if size == step_sizes[-1] else 0.0]})
        for network, mean in means.items()
        for size in step_sizes
        for seed in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("paper", NAMES)
def test_every_grid_has_three_seeds_and_the_same_search_for_all(paper: str) -> None:
    found = load_paper(paper)
    assert paper in PAPERS
    assert set(found.grids) == {"small", "full"}
    for scale, grids in found.grids.items():
        assert all(grid.seeds == 3 for grid in grids)
        columns = [
            (x, method.name) for grid in grids for x in grid.tasks for method in grid.methods
        ]
        assert len(set(columns)) == len(columns)
        known = {method for _, method in columns}
        assert found.method in known
        assert "untrained" in known
        for analysis in found.analyses.get(scale, ()):
            assert set(analysis.methods) <= known
    assert found.minutes["small"] <= 30
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def pretrained(masked: float, past: float, scratch: float = 0.5) -> Results:
    means = {
        bert.tuned(start, labels): mean
        for start, mean in (
            (bert.SCRATCH, scratch),
            (bert.MASKED, masked),
            (bert.LEFT_TO_RIGHT, past),
        )
        for labels in bert.LABELS
    }
    untrained = [result(bert.UNTRAINED, bert.TASK, accuracy=[0.1])]
    return Results(searched(bert.TASK, means, bert.STEP_SIZES) + untrained)


@pytest.mark.parametrize(
    ("masked", "past", "holds"), [(0.61, 0.6, True), (0.59, 0.4, False), (0.61, 0.62, False)]
)
def test_hidden_words_must_help_by_ten_points_and_beat_the_next_word(
    masked: float, past: float, holds: bool
) -> None:
    found = verdict(bert.PAPER, "W1", pretrained(masked, past))
    assert found.holds == holds
    assert f"hidden words, 50 labels, 0.0003: {100 * masked:.1f}" in found.evidence
    assert "untrained: 10.0" in found.evidence


def test_every_classifier_starts_from_the_language_model_of_its_seed() -> None:
    jobs = dict(bert.PAPER.jobs("small", Path("runs")))
    _, later, *_ = (x.jobs for x in bert.PAPER.stages("small", Path("runs")))
    assert len(later) == 18
    for method, job in jobs.items():
        form = next((x for x in bert.FORMS if method.startswith(f"{x},")), None)
        assert (job.config.pretrained is None) == (form is None)
        if form is not None:
            assert form.replace(" ", "-") in str(job.config.pretrained)
            assert f"-s{job.config.seed}" in str(job.config.pretrained)
            assert job.settings["encoder"] == bert.FORMS[form]


def patterns(sparse: float, window: float, full: float = 0.9) -> Results:
    means = {
        big_bird.FULL: full,
        big_bird.WINDOW: window,
        big_bird.BIG_BIRD: sparse,
        big_bird.ETC: 0.7,
    }
    tasks = {big_bird.task(form): sizes for form, sizes in big_bird.STEP_SIZES.items()}
    runs = [x for task, sizes in tasks.items() for x in searched(task, means, sizes)]
    runs += [result(big_bird.UNTRAINED, task, accuracy=[0.1]) for task in tasks]
    return Results(runs)


@pytest.mark.parametrize(
    ("sparse", "window", "holds"), [(0.86, 0.24, True), (0.84, 0.24, False), (0.86, 0.26, False)]
)
def test_sparse_attention_must_match_full_and_a_window_must_not(
    sparse: float, window: float, holds: bool
) -> None:
    assert verdict(big_bird.PAPER, "G1", patterns(sparse, window)).holds == holds
    assert verdict(big_bird.PAPER, "G2", patterns(sparse, window)).holds is None


@pytest.mark.parametrize(("ratio", "holds"), [(5.9, True), (6.1, False)])
def test_the_cost_must_be_nearly_linear(ratio: float, holds: bool) -> None:
    numbers = {f"{kind}: ms at {x}": 1.0 for kind in ("big-bird", "full") for x in big_bird.LENGTHS}
    numbers |= {"big-bird: ratio": ratio, "full: ratio": 13.0}
    method, task = (
        name(big_bird.BIG_BIRD, big_bird.STEP_SIZES[big_bird.NEAR][0]),
        big_bird.task(big_bird.NEAR),
    )
    found = Results([], [(method, task, Analysed("attention-cost", numbers, (), {}))])
    assert verdict(big_bird.PAPER, "G3", found).holds == holds


@pytest.mark.parametrize(
    ("fast", "lstm", "holds"), [(0.96, 0.75, True), (0.94, 0.4, False), (0.96, 0.77, False)]
)
def test_fast_weights_must_be_nearly_perfect_and_twenty_points_better(
    fast: float, lstm: float, holds: bool
) -> None:
    means = {fast_weights.FAST: fast, fast_weights.LSTM: lstm}
    runs = searched(fast_weights.TASK, means, fast_weights.STEP_SIZES)
    runs.append(result(fast_weights.UNTRAINED, fast_weights.TASK, accuracy=[0.1]))
    assert verdict(fast_weights.PAPER, "F1", Results(runs)).holds == holds


def shots(table: float, lstm: float = 0.6, first: float = 0.22, neighbour: float = 0.5) -> Results:
    def row(method: str, second: float, seed: int = 0) -> Result:
        columns: dict[str, Any] = {f"instance_{k}": [0.9] for k in (3, 4, 5, 10)}
        return result(method, mann.TASK, seed, instance_1=[first], instance_2=[second], **columns)

    means = {mann.MANN: table, mann.SHARP: 0.99, mann.LSTM: lstm}
    runs = [
        row(name(memory, size), mean if size == mann.STEP_SIZES[-1] else 0.0, seed)
        for memory, mean in means.items()
        for size in mann.STEP_SIZES
        for seed in range(2)
    ]
    return Results(
        [*runs, row(mann.UNTRAINED, 0.2), *(row(x, neighbour) for x in mann.NEIGHBOURS.values())]
    )


@pytest.mark.parametrize(
    ("table", "first", "holds"), [(0.66, 0.5, True), (0.64, 0.22, False), (0.66, 0.51, False)]
)
def test_a_table_must_beat_an_lstm_without_knowing_new_classes(
    table: float, first: float, holds: bool
) -> None:
    assert verdict(mann.PAPER, "M1", shots(table, first=first)).holds == holds


@pytest.mark.parametrize(("neighbour", "holds"), [(0.65, True), (0.67, False)])
def test_a_table_must_beat_nearest_neighbours(neighbour: float, holds: bool) -> None:
    assert verdict(mann.PAPER, "M2", shots(0.66, neighbour=neighbour)).holds == holds


def test_the_lstm_has_as_many_parameters_as_the_table() -> None:
    from rlbench.backbones.memories import make_memory

    counts = []
    for settings in (mann.MEMORIES[mann.MANN], mann.MEMORIES[mann.LSTM]):
        memory = make_memory(settings["memory"], 64, settings["memory_size"], more=5)
        counts.append(sum(p.numel() for p in memory.parameters()) + 5 * settings["memory_size"])
    assert counts[1] == pytest.approx(counts[0], rel=0.01)


def learning(
    monkeypatch: pytest.MonkeyPatch, curves: Mapping[str, tuple[float, float, float]]
) -> Results:
    """Runs with an accuracy at each of three evaluations; the first step size learns nothing."""
    of = {name(network, size): x for network, x in curves.items() for size in rbn.STEP_SIZES}

    class Folder:
        def __init__(self, path: Path) -> None:
            method = path.name.rpartition("-")[0]
            share = 1.0 if method.endswith(f"{rbn.STEP_SIZES[-1]:g}") else 0.1
            self.accuracy = share * np.array(of[method])

        def evaluations(self) -> dict[str, Any]:
            return {"update": np.array([50, 100, 150]), "accuracy": self.accuracy[:, None]}

    monkeypatch.setattr(run_folder, "RunFolder", Folder)
    runs = [
        result(method, rbn.TASK, seed, accuracy=[x[-1]])
        for method, x in of.items()
        for seed in range(2)
    ]
    return Results([*runs, result(rbn.UNTRAINED, rbn.TASK, accuracy=[0.1])])


@pytest.mark.parametrize(("ours", "holds"), [(0.66, True), (0.64, False)])
def test_batch_normalisation_must_be_ahead_when_the_lstm_reaches_the_reference(
    ours: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = rbn.normalised(1.0)
    rows = {
        rbn.LSTM: (0.2, 0.61, 0.9), rbn.BN: (0.3, ours, 0.7), large: (0.1, 0.2, 0.3),
        rbn.FAST: (0.1, 0.5, 0.99),
    }  # fmt: skip
    found = verdict(rbn.PAPER, "N1", learning(monkeypatch, rows))
    assert found.holds == holds
    assert f"after 100 updates, LSTM, 0.003: {100 * 0.61:.1f}" in found.evidence
    assert (
        f"{rbn.FAST}, 0.003: 99.0 (99.0/99.0)" in found.evidence.partition("after 150 updates")[2]
    )
    with pytest.raises(Missing, match="has not reached"):
        verdict(rbn.PAPER, "N1", learning(monkeypatch, rows | {rbn.LSTM: (0.1, 0.2, 0.5)}))


@pytest.mark.parametrize(
    ("small", "large", "holds"),
    [(0.4, 1.6, True), (-0.4, -1.6, True), (0.6, 1.6, False), (0.4, 1.4, False)],
)
def test_gradients_must_keep_their_scale_only_with_a_small_gamma(
    small: float, large: float, holds: bool
) -> None:
    numbers = {f"gamma 0.1, network {i}: log10 ratio": small * (1 - 0.01 * i) for i in range(3)}
    numbers |= {f"gamma 1, network {i}: log10 ratio": large * (1 + 0.01 * i) for i in range(3)}
    numbers["trained memory: log10 ratio"] = 0.3
    method = name(rbn.BN, rbn.STEP_SIZES[0])
    found = Results([], [(method, rbn.TASK, Analysed("gradient-norms", numbers, (), {}))])
    assert verdict(rbn.PAPER, "N2", found).holds == holds


@pytest.mark.parametrize(("averages", "holds"), [(0.781, True), (0.779, False), (0.821, False)])
def test_both_statistics_must_give_nearly_the_same_accuracy(averages: float, holds: bool) -> None:
    runs = searched(rbn.TASK, {rbn.BN: 0.8, rbn.FAST: 0.9}, rbn.STEP_SIZES)
    numbers = {"running averages": averages, "statistics of the batch": 0.8}
    other = {"running averages": 0.9, "statistics of the batch": 0.9}
    analysed = [
        (name(network, rbn.STEP_SIZES[-1]), rbn.TASK, Analysed("batch-statistics", x, (), {}))
        for network, x in ((rbn.BN, numbers), (rbn.FAST, other))
    ]
    found = verdict(rbn.PAPER, "N3", Results(runs, analysed * 3))
    assert found.holds == holds
    assert found.evidence.endswith("90.0 and 90.0; 90.0 and 90.0; 90.0 and 90.0")
