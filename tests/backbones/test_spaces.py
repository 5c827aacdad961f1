"""Action boxes scaled to [-1, 1] and back: values by hand, and boxes that cannot be scaled."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.backbones.spaces import ActionBox
from rlbench.errors import UserError

FLOAT = np.finfo(np.float32)


def box(low: Any, high: Any, dtype: Any = np.float32) -> tuple[Box, ActionBox]:
    space = Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
    return space, ActionBox.of(space, torch.device("cpu"))


def test_networks_neither_choose_nor_see_a_dimension_whose_bounds_are_equal() -> None:
    _, form = box([0.5, -1, 2, 0], [0.5, 3, 2, 4])
    assert form.size == 2
    assert form.space == Box(-1, 1, (2,))
    # Middles 1 and 2, half widths 2 and 2.
    assert form.from_unit(torch.tensor([[0.5, -1.0]])).tolist() == [[0.5, 2.0, 2.0, 0.0]]
    assert form.to_unit(torch.tensor([[0.5, 2.0, 2.0, 0.0]])).tolist() == [[0.5, -1.0]]
    many = torch.rand(3, 4, 2) * 2 - 1
    assert form.from_unit(many).shape == (3, 4, 4)
    torch.testing.assert_close(form.to_unit(form.from_unit(many)), many)


def test_a_box_whose_bounds_all_differ_is_scaled_as_before() -> None:
    _, form = box([0, -3], [5, -1])
    assert form.free is None
    assert form.from_unit(torch.tensor([-1.0, 0.5])).tolist() == [0.0, -1.5]
    assert form.to_unit(torch.tensor([0.0, -1.5])).tolist() == [-1.0, 0.5]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0.1, 0.7, np.float32), (-0.1, 0.7, np.float64), (-1e-6, 1e-6, np.float32),
        (1.0, 1.0 + 1e-6, np.float32), (-1e15, 3e15, np.float32), (-0.1, 0.7, np.float16),
    ],
)  # fmt: skip
def test_rounding_never_moves_actions_out_of_the_box(low: float, high: float, dtype: Any) -> None:
    space, form = box([low] * 2, [high] * 2, dtype)
    unit = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [0.3, -0.7]])
    action = form.from_unit(unit)
    assert (action >= torch.as_tensor(space.low, dtype=torch.float32)).all()
    assert (action <= torch.as_tensor(space.high, dtype=torch.float32)).all()
    assert form.to_unit(action).isfinite().all()


def test_an_action_rounded_beyond_a_bound_is_clipped() -> None:
    space, form = box([-0.1], [0.7])
    middle, half = form.centre, form.half
    assert (middle - half < torch.as_tensor(space.low)).all(), "it would be outside"
    assert form.from_unit(torch.tensor([-1.0])).item() == space.low.item()


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [([0, -1], [1e-40, 1], np.float32), ([1, -1], [1 + 1e-9, 1], np.float64)],
)
def test_a_width_too_small_for_float32_counts_as_zero(low: Any, high: Any, dtype: Any) -> None:
    _, form = box(low, high, dtype)
    assert form.size == 1
    unit: Tensor = form.to_unit(torch.tensor([[low[0], 0.25]]))
    assert unit.tolist() == [[0.25]]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Box(FLOAT.min, FLOAT.max, (1,)), "bounded Box"),
        (Box(0, FLOAT.max, (1,)), "bounded Box"),
        (Box(-1e300, 1e300, (1,), np.float64), "bounded Box"),
        (Box(-np.inf, np.inf, (1,)), "bounded Box"),
        (Box(0, np.inf, (1,)), "bounded Box"),
        (Box(-np.inf, 0, (1,)), "bounded Box"),
        (Box(-1, 1, ()), "one dimension"),
        (Box(-1, 1, (2, 2)), "one dimension"),
        (Box(0, 10, (2,), np.int32), "whole numbers"),
        (Box(0, 255, (2,), np.uint8), "whole numbers"),
        (Box(1, 1, (2,)), "contains a single action"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_box_that_cannot_be_scaled_is_refused(space: Box, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        ActionBox.of(space, torch.device("cpu"))
    assert "\n" not in str(error.value)
