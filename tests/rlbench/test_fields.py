"""Types of settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from rlbench.agents.bear import BEARConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.errors import UserError
from rlbench.fields import check_types


@dataclass
class Settings:
    flag: bool = False
    count: int = 1
    rate: float | None = 0.5
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (2,)
    pair: tuple[float, float] = (0.0, 1.0)
    name: str = ""
    out: Path | None = None


@pytest.mark.parametrize(
    "given",
    [
        {"flag": True}, {"count": np.int64(3)}, {"rate": 2}, {"rate": np.float32(0.5)}, {"rate": None}, {"kind": "b"},
        {"sizes": ()}, {"sizes": [1, 2]}, {"pair": (1, 2.5)}, {"out": "here"}, {"out": Path("here")},
    ],
)  # fmt: skip
def test_values_of_the_right_type_are_accepted(given: dict[str, Any]) -> None:
    check_types(Settings(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flag": 1}, "flag is 1; give true or false"),
        ({"count": True}, "count is True; give a whole number"),
        ({"count": 2.0}, "count is 2.0; give a whole number"),
        ({"rate": "0.5"}, "rate is '0.5'; give a number or None"),
        ({"kind": "c"}, "kind is 'c'; give one of a, b"),
        ({"kind": ["a"]}, "kind is ['a']; give one of a, b"),
        ({"sizes": 3}, "sizes is 3; give a list with any number of: a whole number"),
        ({"sizes": (1, "2")}, "sizes is (1, '2'); give a list with any number of: a whole number"),
        ({"sizes": "12"}, "sizes is '12'; give a list with any number of: a whole number"),
        ({"pair": (1.0,)}, "pair is (1.0,); give a list with 2 of: a number"),
        ({"name": None}, "name is None; give a text"),
        ({"out": 3}, "out is 3; give a path or None"),
    ],
)
def test_values_of_another_type_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        check_types(Settings(**given))
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (BEARConfig, {"kernel": "lapalcian"}, "give one of laplacian, gaussian"),
        (BEARConfig, {"discount": -1}, "give a number from 0 to 1"),
        (RunConfig, {"env": "x", "updates": 20.5}, "updates is 20.5; give a whole number"),
        (RunConfig, {"env": "x", "compile": "maybe"}, "give one of auto, on, off"),
        *((RunConfig, {"env": "x", name: 0}, "give 1 or more")
          for name in ("updates", "data_size", "seeds", "eval_episodes", "log_every", "threads")),
        *((RunConfig, {"env": "x", name: -1}, "0 or more")
          for name in ("seed", "eval_every", "checkpoint_every", "snapshot_every")),
    ],
)  # fmt: skip
def test_settings_of_agents_and_runs_are_checked(
    kind: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        kind(**given)
