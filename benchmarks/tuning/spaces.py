"""What is searched: the values that the settings of a learner may take in a study.

A space follows from the type of a setting, its default and its valid range, so every learner has one, custom ones too:

- a number is searched on a logarithmic scale, from a tenth of its default to ten times its default;
- a number that may not exceed 1 and is nearer to 1 than to 0, such as a discount, by its distance from 1 on such a scale;
- a whole number among the powers of two from a quarter of its default to four times its default, and the default itself;
- layer sizes, with all of them multiplied by a power of two, from a quarter to four;
- a Literal or a switch among its values.

All of them end where the valid range ends. Texts, and numbers that are 0 or None by default, have no scale and need values from the user.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlbench.backbones.ranges import ranges_of
from rlbench.benchmarks.training.settings_file import no_setting
from rlbench.errors import UserError
from rlbench.fields import PLAIN

FACTORS = (10, 5, 3, 2)
"""How far a number is searched from its default: by the largest of these factors that its valid range allows."""
SCALES = (0.25, 0.5, 1, 2, 4)
"""Multiples of the default of a size."""
DECADE = 10
"""Ratio of the ends of an interval from which on its logarithm is searched."""
DIGITS = 3
"""Significant digits of a number that is tried, so that commands and tables show it exactly."""
ENDS = ("learning_rate", "discount", "batch_size")
"""Ends of the names of the settings that are searched if the user names none."""


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers are searched."""
    from_one: bool = False
    """Whether the logarithm of the distance from 1 is searched."""

    @property
    def log(self) -> bool:
        """Whether the scale is logarithmic."""
        return self.from_one or (self.low > 0 and self.high / self.low >= DECADE)

    def __contains__(self, value: object) -> bool:
        """Whether a value is in the interval."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        """The ends and the scale, as in `1e-05..0.01 (logarithmic)`."""
        of = " in the distance from 1" if self.from_one else ""
        return f"{self.low:g}..{self.high:g}" + (f" (logarithmic{of})" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """Some values."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    def __str__(self) -> str:
        """The values, as in `64, 128, 256`."""
        return ", ".join(map(written, self.values))


@dataclass(frozen=True)
class Searched:
    """A setting that a study searches."""

    name: str
    space: Interval | Choice
    default: Any
    """Its value without a search."""

    @property
    def parameter(self) -> str:
        """Its name in the study; a discount is stored as `1 - discount`."""
        return f"1 - {self.name}" if _from_one(self.space) else self.name

    @property
    def start(self) -> float | str:
        """What the study stores for the default."""
        if isinstance(self.space, Choice):
            return written(self.default)
        return 1 - self.default if self.space.from_one else self.default  # type: ignore[no-any-return]

    def suggest(self, trial: Any) -> Any:
        """The value of the setting in a trial, an `optuna.Trial`."""
        space = self.space
        if isinstance(space, Choice):
            texts = [written(value) for value in space.values]
            return space.values[texts.index(trial.suggest_categorical(self.parameter, texts))]
        if space.whole:
            return trial.suggest_int(self.parameter, int(space.low), int(space.high), log=space.log)
        low, high = (1 - space.high, 1 - space.low) if space.from_one else (space.low, space.high)
        number = trial.suggest_float(self.parameter, low, high, log=space.log)
        if number == self.start:
            return self.default
        value = round(1 - _short(number), 12) if space.from_one else _short(number)
        return min(max(value, space.low), space.high)


def written(value: Any) -> str:
    """A value of a setting as it is given to `--search`.

    >>> written((64, 64)), written(None), written(1e-4)
    ('64x64', 'none', '0.0001')
    """
    if isinstance(value, tuple):
        return "x".join(map(written, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def searched(asked: Sequence[str], learner: str, settings: Any, usual: Any) -> list[Searched]:
    """The settings that a study searches.

    Args:
        asked: What the user gave, such as `learning-rate=1e-5..1e-2`, `batch-size=64,128` or `discount`; empty for the settings of
            `ENDS` whose value the user did not set.
        learner: Name of the learner.
        settings: Its settings without a search.
        usual: Its settings without anything that the user gave.

    Raises:
        UserError: There is no such setting, it needs values or has too few, or a value is out of range.
    """
    if not asked:
        names = [
            field.name
            for field in fields(settings)
            if field.name.endswith(ENDS)
            and getattr(settings, field.name) == getattr(usual, field.name)
        ]
        found = [(name, default_space(settings, name)) for name in names]
        if not any(space for _, space in found):
            raise UserError(
                f"{learner} has no learning rate, discount or batch size to search; name settings, as in --search "
                "discount=0.9,0.99"
            )
        return [_searched(settings, name, space) for name, space in found if space]
    given = list(_read(asked, learner, settings))
    names = [one.name for one in given]
    if len(set(names)) < len(names):
        raise UserError(f"--search names {max(names, key=names.count)} twice; give it once")
    return given


def _searched(settings: Any, name: str, space: Interval | Choice) -> Searched:
    return Searched(name, space, getattr(settings, name))


def _read(asked: Sequence[str], learner: str, settings: Any) -> Iterator[Searched]:
    known = [field.name for field in fields(settings)]
    hints = get_type_hints(type(settings))
    for entry in asked:
        word, equals, values = entry.partition("=")
        name = word.replace("-", "_")
        if name not in known:
            raise UserError(f"--search {entry}: {no_setting(learner, name, known)}")
        space = (
            _given_space(entry, values, hints[name]) if equals else default_space(settings, name)
        )
        if space is None:
            raise UserError(
                f"--search {entry}: no values to search can be derived from {name} = {written(getattr(settings, name))}; "
                f"give some, as in --search {word}=A,B,C"
                + (f" or {word}=LOW..HIGH" if _numbers(hints[name]) else "")
            )
        ends = space.values if isinstance(space, Choice) else (space.low, space.high)
        for value in ends:
            try:
                replace(settings, **{name: value})
            except UserError as error:
                raise UserError(f"--search {entry}: {error}") from None
        if isinstance(space, Interval) and not space.whole:
            space = replace(space, from_one=_is_share(settings, name) and 0.5 <= space.low < space.high < 1)  # fmt: skip
        yield _searched(settings, name, space)


def _given_space(entry: str, text: str, hint: Any) -> Interval | Choice:
    """The space that the user wrote after the name of a setting."""
    low, dots, high = text.partition("..")
    if dots:
        kinds = _numbers(hint)
        if not kinds:
            raise UserError(
                f"--search {entry}: this setting is not a number; give values with commas"
            )
        kind = float if float in kinds else int
        smaller, larger = (_value(entry, end, kind) for end in (low, high))
        if not smaller < larger < math.inf:
            raise UserError(
                f"--search {entry}: this is no range; give two finite numbers, the smaller one first"
            )
        return Interval(smaller, larger, whole=kind is int)
    values = dict.fromkeys(_value(entry, each, hint) for each in text.split(",") if each)
    if len(values) < 2:
        raise UserError(
            f"--search {entry}: a search needs two values or more; give them with commas"
            + (", or a range LOW..HIGH" if _numbers(hint) else "")
        )
    return Choice(tuple(values))


def _value(entry: str, text: str, hint: Any) -> Any:
    """A value of a type, from text."""
    for part in _parts(hint):
        if part is NoneType and text == "none":
            return None
        if part is bool and text in ("true", "false"):
            return text == "true"
        if get_origin(part) is Literal and text in (
            known := {written(x): x for x in get_args(part)}
        ):
            return known[text]
        if get_origin(part) is tuple:
            return tuple(_value(entry, each, get_args(part)[0]) for each in text.split("x"))
        if part in (int, float, str):
            try:
                return part(text)
            except ValueError:
                continue
    raise UserError(
        f"--search {entry}: {text!r} is not a value of this setting; give {' or '.join(_expected(hint))}"
    )


def _expected(hint: Any) -> Iterator[str]:
    for part in _parts(hint):
        if get_origin(part) is Literal:
            yield f"one of {', '.join(map(written, get_args(part)))}"
        elif get_origin(part) is tuple:
            yield "numbers such as 64x64"
        else:
            yield "none" if part is NoneType else PLAIN[part][1]


def default_space(settings: Any, name: str) -> Interval | Choice | None:
    """The space of a setting that follows from its type, value and valid range; None if it has no scale."""
    default = getattr(settings, name)
    holds = _holds(settings, name)
    for part in _parts(get_type_hints(type(settings))[name]):
        values: Sequence[Any] = ()
        if part is bool and isinstance(default, bool):
            values = (False, True)
        elif get_origin(part) is Literal and default in get_args(part):
            values = get_args(part)
        elif part is float and isinstance(default, float | int):
            return _around(float(default), holds, _is_share(settings, name))
        elif part is int and isinstance(default, int) and default > 0:
            powers = (2**n for n in range(int(math.log2(default)) - 2, int(math.log2(default)) + 4))
            near = {int(x) for x in powers if SCALES[0] <= x / default <= SCALES[-1] and x >= 1}
            values = sorted(near | {default})
        elif get_args(part) == (int, ...) and isinstance(default, tuple) and default:
            scaled = (tuple(max(1, round(x * scale)) for x in default) for scale in SCALES)
            values = tuple(dict.fromkeys(scaled))
        if len(valid := tuple(filter(holds, values))) > 1:
            return Choice(valid)
    return None


def _around(default: float, holds: Callable[[Any], bool], share: bool) -> Interval | None:
    """Numbers around a default, which has no scale if it is 0, or 1 and a share."""
    from_one = share and default > 0.5
    distance = 1 - default if from_one else default
    if not 0 < distance < math.inf:
        return None
    ends = []
    for sign in (-1, 1):
        tried = (_short(distance * factor**sign) for factor in (*FACTORS, 1))
        valued = (round(1 - x, 12) if from_one else x for x in tried)
        ends.append(next(x for x in valued if (x > 0 and holds(x)) or x == default))
    return Interval(min(ends), max(ends), from_one=from_one)


def _holds(settings: Any, name: str) -> Callable[[Any], bool]:
    """Whether a value of a setting is valid; for a tuple, in the valid range of each of its numbers."""
    each = ranges_of(type(settings)).get(name)
    return each.holds if each else lambda value: True


def _is_share(settings: Any, name: str) -> bool:
    """Whether the valid range of a number ends at 1."""
    holds = _holds(settings, name)
    return not holds(1.5) and holds(0.5)


def _from_one(space: Interval | Choice) -> bool:
    return isinstance(space, Interval) and space.from_one


def _parts(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the only type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _numbers(hint: Any) -> set[type[int] | type[float]]:
    """The types of numbers among the types of a setting."""
    return {part for part in _parts(hint) if part in (int, float)}


def _short(number: float) -> float:
    """A number with `DIGITS` significant digits."""
    return float(f"{number:.{DIGITS}g}")
