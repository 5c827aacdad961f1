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
    DECAYING,
    FEW,
    FINITE,
    INSIDE,
    INTERVAL,
    LIMIT,
    NOT_NEGATIVE,
    PERIOD,
    POSITIVE,
    RATE,
    SEED,
    SEVERAL,
    SHARE,
    SIZE,
    TWO,
    ranges_of,
)
from rlbench.benchmarks.training.learners import load_learner
from rlbench.cli import main
from rlbench.errors import UserError

NAN, INF = float("nan"), float("inf")
WRONG: dict[Any, tuple[Any, ...]] = {
    COUNT: (0, -5, 10**15 + 1),
    SIZE: (0, -5, 10**6 + 1),
    FEW: (0, 1001),
    SEED: (-1, 2**63),
    PERIOD: (-1, 10**15 + 1),
    FINITE: (NAN, INF, -INF, 1e7),
    NOT_NEGATIVE: (-1.0, NAN, INF, 1e7),
    POSITIVE: (0.0, -1.0, NAN, INF, 1e-10, 1e7),
    LIMIT: (0.0, -1.0, NAN, 1e-10),
    RATE: (-0.1, 1.1, NAN, INF),
    DECAYING: (0.0, 1.1, NAN, 1e-10),
    SHARE: (-0.1, 1.1, NAN),
    BELOW_ONE: (-0.1, 1.0, NAN),
    INSIDE: (0.0, 1.0, NAN),
    TWO: (1, 0, 10**6 + 1),
    BOUNDS: ((2.0, -5.0), (NAN, 0.0), (-31.0, 0.0), (0.0, 31.0)),
    INTERVAL: ((1.0, 1.0), (100.0, 0.0), (-1e7, 0.0), (0.0, 1e7), (0.0, NAN)),
    SEVERAL: ((), (1.0, -1.0), (NAN,), (INF,)),
}
RIGHT: dict[Any, tuple[Any, ...]] = {
    COUNT: (1, 10**15), SIZE: (1, 10**6), FEW: (1, 1000), SEED: (0, 2**63 - 1), PERIOD: (0, 10**15), FINITE: (-5.0,),
    NOT_NEGATIVE: (0, 1e6), POSITIVE: (1e-9, 1e6), LIMIT: (1e-9, INF), RATE: (0.0, 1.0), DECAYING: (1e-9, 1.0),
    SHARE: (0.0, 1.0), BELOW_ONE: (0.0, 0.99), INSIDE: (0.01, 0.99), TWO: (2,), BOUNDS: ((-1.0, -1.0), (-30.0, 30.0)),
    INTERVAL: ((0.0, 1.0),), SEVERAL: ((0.0,), (1.0, 2.0)),
}  # fmt: skip
NAMES = [*AGENTS, *META_LEARNERS]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_among_the_settings_has_a_range(name: str) -> None:
    config = load_learner(name).Config()
    numbers = {
        field.name
        for field in dataclasses.fields(config)
        if isinstance(getattr(config, field.name), int | float | tuple)
        and not isinstance(getattr(config, field.name), bool)
    }
    assert numbers <= ranges_of(type(config)).keys()


@pytest.mark.parametrize("name", NAMES)
def test_values_outside_their_ranges_are_refused(name: str) -> None:
    kind = load_learner(name).Config
    ranges = ranges_of(kind)
    for field in (x.name for x in dataclasses.fields(kind) if x.name in ranges):
        this, several = ranges[field], isinstance(getattr(kind(), field), tuple)
        for value in WRONG[this]:
            given = (8, value) if this is SIZE and several else value
            with pytest.raises(UserError, match=rf"^{field} is .*; give "):
                kind(**{field: given})


def test_a_divisor_has_a_range_of_its_own() -> None:
    for name in ("awac", "awr", "crr", "recurrent-crr"):
        assert ranges_of(load_agent(name).Config)["beta"] is POSITIVE
    assert ranges_of(load_agent("iql").Config)["beta"] is NOT_NEGATIVE


def test_stretches_that_need_a_successor_have_two_steps() -> None:
    with pytest.raises(UserError, match="sequence_length is 1; give 2 or more"):
        load_agent("recurrent-crr").Config(sequence_length=1)
    load_agent("awr").Config(sequence_length=1)


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
