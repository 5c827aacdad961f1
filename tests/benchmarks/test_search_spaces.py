"""Search spaces follow from the type, the default and the valid range of a setting; what the user gives is checked."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import pytest

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS
from rlbench.backbones.ranges import check
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.tuning.spaces import (
    Choice,
    Interval,
    Searched,
    default_space,
    searched,
)
from rlbench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: tuple[int, ...] = (100, 2)
    batch_size: int = 100
    critics: int = 1
    discount: float = 0.99
    gae_lambda: float = 1.0
    expectile: float = 0.7
    dropout: float = 0.2
    learning_rate: float = 3e-4
    alpha: float = 0.0
    max_weight: float = float("inf")
    clip_range: float | None = None
    target_kl: float | None = 0.02
    kind: Literal["a", "b", 3] = "a"
    switch: bool = False
    encoder: str = "grid"
    new: float = 40.0

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("hidden", Choice(((25, 1), (50, 1), (100, 2), (200, 4), (400, 8)))),
        ("batch_size", Choice((32, 64, 100, 128, 256))),
        ("critics", Choice((1, 2, 4))),
        ("discount", Interval(0.9, 0.999, from_one=True)),
        ("gae_lambda", None),
        ("expectile", Interval(0.1, 0.97, from_one=True)),
        ("dropout", Interval(0.02, 0.6)),
        ("learning_rate", Interval(3e-5, 3e-3)),
        ("alpha", None),
        ("max_weight", None),
        ("clip_range", None),
        ("target_kl", Interval(0.002, 0.2)),
        ("kind", Choice(("a", "b", 3))),
        ("switch", Choice((False, True))),
        ("encoder", None),
        ("new", Interval(4.0, 400.0)),
    ],
)
def test_a_default_decides_the_space(name: str, space: object) -> None:
    assert default_space(Config(), name) == space


@pytest.mark.parametrize("learner", [*AGENTS, *META_LEARNERS, *MODELS])
def test_every_learner_has_valid_spaces_around_its_defaults(learner: str) -> None:
    try:
        settings = load_learner(learner).Config()
    except UserError as error:
        assert "install" in str(error)  # noqa: PT017  (An optional package.)
        return
    for field in fields(settings):
        space = default_space(settings, field.name)
        if space is None:
            continue
        assert getattr(settings, field.name) in space
        for value in space.values if isinstance(space, Choice) else (space.low, space.high):
            try:
                replace(settings, **{field.name: value})
            except UserError as error:  # It depends on other settings too.
                assert field.name not in str(error).partition(";")[0].split(" is ")[0] or "," in str(error)  # noqa: PT017  # fmt: skip
    if any(field.name.endswith("learning_rate") for field in fields(settings)):
        assert searched((), learner, settings, settings)


def test_learning_rates_discount_and_batch_size_are_searched_unless_they_are_given() -> None:
    found = searched((), "td3", Config(), Config())
    assert [one.name for one in found] == ["batch_size", "discount", "learning_rate"]
    given = Config(discount=0.9)
    assert [one.name for one in searched((), "td3", given, Config())] == [
        "batch_size",
        "learning_rate",
    ]


@pytest.mark.parametrize(
    ("entry", "space"),
    [
        ("learning-rate=1e-5..1e-2", Interval(1e-5, 1e-2)),
        ("learning_rate=0..0.5", Interval(0, 0.5)),
        ("discount=0.9..0.99", Interval(0.9, 0.99, from_one=True)),
        ("discount=0.9..1", Interval(0.9, 1.0)),
        ("batch-size=8..500", Interval(8, 500, whole=True)),
        ("batch-size=64,128,64", Choice((64, 128))),
        ("hidden=64x64,32", Choice(((64, 64), (32,)))),
        ("clip-range=none,0.2", Choice((None, 0.2))),
        ("kind=a,3", Choice(("a", 3))),
        ("switch", Choice((False, True))),
        ("encoder=grid,impala", Choice(("grid", "impala"))),
    ],
)
def test_the_user_gives_values(entry: str, space: object) -> None:
    (one,) = searched((entry,), "td3", Config(), Config())
    assert one.space == space


def test_a_range_of_a_decade_or_more_is_logarithmic() -> None:
    assert Interval(1.0, 10.0).log
    assert not Interval(1.0, 9.9).log
    assert not Interval(0.0, 9.9).log
    assert str(Interval(1e-5, 1e-2)) == "1e-05..0.01 (logarithmic)"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("learning-rat=1..2",), "td3 has no setting 'learning_rat'; did you mean learning_rate?"),
        (("zzz",), "td3 has no setting 'zzz'; give one of hidden, batch_size"),
        (("learning-rate=1e-3..1e-3",), "this is no range; give two finite numbers, the smaller one first"),
        (("learning-rate=1e-2..1e-3",), "this is no range"),
        (("learning-rate=nan..1",), "this is no range"),
        (("learning-rate=1e-3..inf",), "this is no range"),
        (("learning-rate=0.1..5",), "learning_rate is 5.0; give a number from 0 to 1"),
        (("batch-size=0,8",), "batch_size is 0; give 1 or more"),
        (("batch-size=8",), "a search needs two values or more"),
        (("batch-size=",), "a search needs two values or more"),
        (("batch-size=1.5..8",), "'1.5' is not a value of this setting; give a whole number"),
        (("learning-rate=low..high",), "'low' is not a value of this setting; give a number"),
        (("clip-range=off,1",), "'off' is not a value of this setting; give a number or none"),
        (("kind=a,c",), "'c' is not a value of this setting; give one of a, b, 3"),
        (("switch=1,0",), "'1' is not a value of this setting; give true or false"),
        (("hidden=1..2",), "this setting is not a number; give values with commas"),
        (("hidden=8,8",), "a search needs two values or more; give them with commas"),
        (("encoder",), "no values to search can be derived from encoder = grid; give some, as in --search encoder=A,B,C"),
        (("alpha",), "no values to search can be derived from alpha = 0.0; give some, as in --search alpha=A,B,C or alpha=LOW..HIGH"),
        (("discount", "discount=0.9,0.99"), "--search names discount twice; give it once"),
    ],
)  # fmt: skip
def test_senseless_searches_are_refused(entries: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError) as error:
        searched(entries, "td3", Config(), Config())
    assert words in str(error.value)
    assert "--search" in str(error.value)
    if entries[0].startswith(("hidden", "encoder")):
        assert "LOW..HIGH" not in str(error.value)


class Fixed:
    """A trial that returns given parameters, and whether the scale was logarithmic."""

    def __init__(self, value: Any) -> None:
        self.value, self.asked = value, {}  # type: ignore[var-annotated]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> Any:
        self.asked = {"name": name, "low": low, "high": high, "log": log}
        return self.value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> Any:
        return self.suggest_float(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        self.asked = {"name": name, "choices": choices}
        return self.value


@pytest.mark.parametrize(
    ("one", "stored", "value", "asked"),
    [
        (
            Searched("lr", Interval(1e-5, 1e-2), 1e-3), 0.00123456, 0.00123,
            {"name": "lr", "low": 1e-5, "high": 1e-2, "log": True},
        ),
        (Searched("lr", Interval(0.1234, 0.2), 0.15), 0.1234, 0.1234, {"log": False}),
        (Searched("lr", Interval(1e-5, 1e-2), 0.00123456), 0.00123456, 0.00123456, {}),
        (
            Searched("discount", Interval(0.9, 0.999, from_one=True), 0.99), 0.0123456, 0.9877,
            {"name": "1 - discount", "high": pytest.approx(0.1), "log": True},
        ),
        (Searched("n", Interval(8, 500, whole=True), 64), 77, 77, {"low": 8, "log": True}),
        (
            Searched("hidden", Choice(((64, 64), (32,))), (32,)), "64x64", (64, 64),
            {"choices": ["64x64", "32"]},
        ),
        (Searched("clip", Choice((None, 0.2)), None), "none", None, {}),
    ],
)  # fmt: skip
def test_what_is_stored_becomes_the_value(
    one: Searched, stored: object, value: object, asked: dict[str, object]
) -> None:
    trial = Fixed(stored)
    assert one.suggest(trial) == value
    assert {name: trial.asked[name] for name in asked} == asked
    assert one.suggest(Fixed(one.start)) == one.default
