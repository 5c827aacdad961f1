"""Settings outside their ranges are refused in one sentence, whichever agent has them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rlbench.agents import AGENTS, META_LEARNERS, load_agent
from rlbench.backbones.ranges import (
    BELOW_ONE,
    BOUNDS,
    COUNT,
    FINITE,
    INSIDE,
    INTERVAL,
    LIMIT,
    NOT_NEGATIVE,
    POSITIVE,
    RANGES,
    SEVERAL,
    SHARE,
    TWO,
)
from rlbench.benchmarks.training.learners import load_learner
from rlbench.cli import main
from rlbench.errors import UserError

NAN, INF = float("nan"), float("inf")
WRONG: dict[Any, tuple[Any, ...]] = {
    COUNT: (0, -5),
    FINITE: (NAN, INF, -INF),
    NOT_NEGATIVE: (-1, NAN, INF),
    POSITIVE: (0.0, -1.0, NAN, INF),
    LIMIT: (0.0, -1.0, NAN),
    SHARE: (-0.1, 1.1, NAN),
    BELOW_ONE: (-0.1, 1.0, NAN),
    INSIDE: (0.0, 1.0, NAN),
    TWO: (1, 0),
    BOUNDS: ((2.0, -5.0), (NAN, 0.0)),
    INTERVAL: ((1.0, 1.0), (100.0, 0.0)),
    SEVERAL: ((), (1.0, -1.0), (NAN,), (INF,)),
}
RIGHT: dict[Any, tuple[Any, ...]] = {
    COUNT: (1,), FINITE: (-5.0,), NOT_NEGATIVE: (0,), POSITIVE: (1e-9,), LIMIT: (1e-9, INF), SHARE: (0.0, 1.0), BELOW_ONE: (0.0, 0.99),
    INSIDE: (0.01, 0.99), TWO: (2,), BOUNDS: ((-1.0, -1.0),), INTERVAL: ((0.0, 1.0),), SEVERAL: ((0.0,), (1.0, 2.0)),
}  # fmt: skip
NAMES = [*AGENTS, *META_LEARNERS]
# In these agents beta is a divisor.
POSITIVE_BETA = {"awac", "awr", "crr", "recurrent-crr"}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_among_the_settings_has_a_range(name: str) -> None:
    config = load_learner(name).Config()
    numbers = {
        field.name
        for field in dataclasses.fields(config)
        if isinstance(getattr(config, field.name), int | float | tuple)
        and not isinstance(getattr(config, field.name), bool)
    }
    assert numbers <= RANGES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_values_outside_their_ranges_are_refused(name: str) -> None:
    kind = load_learner(name).Config
    for field in (x.name for x in dataclasses.fields(kind) if x.name in RANGES):
        default = getattr(kind(), field)
        this = POSITIVE if field == "beta" and name in POSITIVE_BETA else RANGES[field]
        for value in WRONG[this]:
            given = (8, value) if this is COUNT and isinstance(default, tuple) else value
            with pytest.raises(UserError, match=rf"^{field} is .*; give "):
                kind(**{field: given})


@pytest.mark.parametrize("this", RIGHT)
def test_each_range_holds_the_right_values_and_no_wrong_ones(this: Any) -> None:
    assert all(this.holds(value) for value in RIGHT[this])
    assert not any(this.holds(value) for value in WRONG[this])


def test_bounds_of_bears_alpha_must_be_in_order() -> None:
    with pytest.raises(UserError, match=r"alpha_min is 3\.0 and alpha_max is 2\.0"):
        load_agent("bear").Config(alpha_min=3.0, alpha_max=2.0)


@pytest.mark.parametrize("layers", ["normed", "residual"])
def test_normalised_layers_need_a_hidden_layer(layers: str) -> None:
    with pytest.raises(UserError, match=r"hidden is \(\), but layers .* needs a hidden layer"):
        load_agent("crr").Config(hidden=(), layers=layers)
    load_agent("crr").Config(hidden=(), layers="mlp")


def test_the_command_line_reports_it_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        "iql",
        "--env",
        "point-random",
        "--expectile",
        "1.0",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err == "rlbench: expectile is 1.0; give a number above 0 and below 1\n"
    assert not (tmp_path / "x").exists()
