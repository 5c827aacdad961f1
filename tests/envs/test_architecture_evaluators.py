"""Tables and surrogates of architectures: files, lookups, and ridge regression."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.envs.architectures.surrogate import (
    Additive,
    SurrogateEvaluator,
    fit,
    one_hot,
    predict,
)
from rlbench.envs.architectures.tabulated import Table, TabulatedEvaluator, read_table
from rlbench.errors import UserError
from tests.searches import SMALL

ALL = [t for t in itertools.product(*map(range, SMALL.choices)) if SMALL.canonical(t) == t]


def columns() -> dict[str, Any]:
    numbers = list(range(len(ALL)))
    return {
        "space": "fake", "tokens": [list(t) for t in ALL], "accuracy": [n / 100 for n in numbers],
        "latency_ms": [1.0 + n for n in numbers], "parameters": numbers, "multiply_adds": numbers,
        "seconds": [0.5] * len(ALL),
    }  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "table.json"
    path.write_text(json.dumps({**columns(), **changes}))
    return path


def test_architectures_are_looked_up_by_their_canonical_tokens(tmp_path: Path) -> None:
    evaluator = TabulatedEvaluator(SMALL, read_table(written(tmp_path), SMALL))
    one, other, third = evaluator.evaluate([(0, 1, 2, 0), (0, 1, 2, 1), (2, 1, 3, 1)])
    row = ALL.index((0, 1, 2, 0))
    assert one == other
    assert (one.accuracy, one.latency_ms) == (row / 100, 1.0 + row)
    assert (one.parameters, one.multiply_adds, one.seconds, one.cached) == (row, row, 0.5, True)
    assert third.parameters == len(ALL) - 1


def test_a_missing_architecture_is_named(tmp_path: Path) -> None:
    table = read_table(written(tmp_path), SMALL)
    short = Table(**{name: column[1:] for name, column in vars(table).items()})
    with pytest.raises(UserError, match=r"lacks the architecture \[0, 0, 0, 0\]"):
        TabulatedEvaluator(SMALL, short).evaluate([(0, 0, 0, 0)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "other"}, "of the space 'other'"),
        ({"space": None}, "of the space None"),
        ({"accuracy": None}, "not a table of architectures"),
        ({"accuracy": ["high"] * len(ALL)}, "not a table of architectures"),
        ({"latency_ms": [float("nan")] * len(ALL)}, "latency_ms is not finite"),
        ({"seconds": [0.5]}, "columns of"),
        ({"tokens": [[0, 0, 0, 1], *map(list, ALL[1:])]}, "not canonical tokens"),
        ({"tokens": [[0, 0, 9, 0], *map(list, ALL[1:])]}, "not canonical tokens"),
        ({"tokens": [[0, 0, 0]] * len(ALL)}, "not canonical tokens"),
        ({"tokens": [list(ALL[0])] * len(ALL)}, "1 different architectures"),
        ({"tokens": []}, "0 different architectures"),
    ],
)
def test_faulty_tables_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_table(written(tmp_path, **changes), SMALL)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]"])
def test_files_that_are_no_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    for given in (path, tmp_path / "none.json"):
        with pytest.raises(UserError, match="is not a table of architectures"):
            read_table(given, SMALL)


def drawn(rows: int = 60, noise: float = 0.0) -> tuple[Any, Any]:
    """Tokens, and values to which each of them contributes."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(SMALL.choices, size=(rows, 4))
    effects = rng.normal(size=(sum(SMALL.choices), 2))
    values = 3 + one_hot(tokens, SMALL.choices) @ effects
    return tokens, values + noise * rng.normal(size=values.shape)


def test_additive_values_are_found() -> None:
    tokens, values = drawn()
    model = fit(tokens[:40], values[:40], SMALL.choices, 1e-9)
    np.testing.assert_allclose(predict(model, tokens[40:]), values[40:], atol=1e-6)


def test_the_fit_minimises_the_penalised_error() -> None:
    tokens, values = drawn(noise=1.0)
    model = fit(tokens, values, SMALL.choices, 2.0)

    def loss(bias: Any, weight: Any) -> float:
        error = predict(Additive(SMALL.choices, bias, weight), tokens) - values
        return float((error**2).sum() + 2.0 * (weight**2).sum())

    least = loss(model.bias, model.weight)
    rng = np.random.default_rng(1)
    for _ in range(50):
        bias = model.bias + 0.01 * rng.normal(size=2)
        assert loss(bias, model.weight) > least
        assert loss(model.bias, model.weight + 0.01 * rng.normal(size=model.weight.shape)) > least


def test_predictions_do_not_depend_on_the_batch() -> None:
    tokens, values = drawn(noise=1.0)
    model = fit(tokens, values, SMALL.choices, 1.0)
    alone = np.concatenate([predict(model, row[None]) for row in tokens])
    np.testing.assert_array_equal(predict(model, tokens), alone)
    np.testing.assert_allclose(alone, model.bias + one_hot(tokens, SMALL.choices) @ model.weight)


def table() -> Table:
    found = columns()
    return Table(**{k: np.array(found[k]) for k in Table.__dataclass_fields__})


def test_a_surrogate_predicts_accuracy_and_log_latency() -> None:
    evaluator = SurrogateEvaluator(SMALL, table(), penalty=3.0)
    values = np.stack([table().accuracy, np.log(table().latency_ms)], axis=1)
    model = fit(table().tokens, values, SMALL.choices, 3.0)
    ((accuracy, log_latency),) = predict(model, np.array([[0, 1, 2, 0]]))
    (found,) = evaluator.evaluate([(0, 1, 2, 1)])
    assert found.accuracy == pytest.approx(accuracy)
    assert found.latency_ms == pytest.approx(np.exp(log_latency))
    assert not found.cached


def test_the_noise_of_an_architecture_is_always_the_same() -> None:
    exact = SurrogateEvaluator(SMALL, table())
    noisy, twin = (SurrogateEvaluator(SMALL, table(), noise=0.02, seed=1) for _ in range(2))
    other = SurrogateEvaluator(SMALL, table(), noise=0.02, seed=2)
    found = [x.accuracy for x in noisy.evaluate(ALL[8:])]
    assert found == [twin.evaluate([t])[0].accuracy for t in ALL[8:]]
    assert found != [x.accuracy for x in other.evaluate(ALL[8:])]
    errors = np.subtract(found, [x.accuracy for x in exact.evaluate(ALL[8:])])  # type: ignore[arg-type]
    assert 0.012 < errors.std() < 0.028
    assert len(set(errors.round(9).tolist())) > 20


def test_predicted_accuracies_stay_between_0_and_1() -> None:
    for sign in (100.0, -100.0):
        found = table()
        wide = Table(**{**vars(found), "accuracy": sign * found.accuracy})
        evaluations = SurrogateEvaluator(SMALL, wide).evaluate(ALL)
        assert {0 <= (x.accuracy or 0.0) <= 1 for x in evaluations} == {True}


@pytest.mark.parametrize("options", [{"penalty": 0.0}, {"noise": -1.0}, {"penalty": float("nan")}])
def test_senseless_surrogates_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="give a penalty above 0"):
        SurrogateEvaluator(SMALL, table(), **options)  # type: ignore[arg-type]
