"""Returns of TD(lambda) by hand."""

from typing import Any

import pytest
import torch

from rlbench.agents._values import lambda_returns


def returns(reward: list[float], next_value: list[float], **given: Any) -> list[float]:
    length = len(reward)
    flags = {
        name: torch.tensor(given.get(name, [0.0] * length))[:, None]
        for name in ("terminated", "truncated")
    }
    got = lambda_returns(
        torch.tensor(reward, dtype=torch.float32)[:, None], flags["terminated"], flags["truncated"],
        torch.tensor(next_value, dtype=torch.float32)[:, None], given.get("discount", 0.5), given.get("mixing", 1.0),
    )  # fmt: skip
    return got[:, 0].tolist()


def test_one_sums_discounted_rewards_and_the_last_value() -> None:
    # 3 + 8 / 2 = 7, 2 + 7 / 2 = 5.5, 1 + 5.5 / 2 = 3.75
    assert returns([1, 2, 3], [100, 100, 8]) == [3.75, 5.5, 7]


def test_zero_takes_one_step() -> None:
    assert returns([1, 2, 3], [4, 6, 8], mixing=0.0) == [3, 5, 7]


def test_between_them_both_are_mixed() -> None:
    # 2 + (0.5 * 6 + 0.5 * 7) / 2 = 5.25, 1 + (0.5 * 4 + 0.5 * 5.25) / 2 = 3.3125
    assert returns([1, 2, 3], [4, 6, 8], mixing=0.5) == [3.3125, 5.25, 7]


def test_an_end_stops_everything_and_a_time_limit_leaves_the_value() -> None:
    assert returns([1, 2, 3], [4, 6, 8], terminated=[0.0, 1, 0]) == [2, 2, 7]
    assert returns([1, 2, 3], [4, 6, 8], truncated=[0.0, 1, 0]) == [3.5, 5, 7]


def test_columns_do_not_mix_and_shapes_are_checked() -> None:
    x = torch.rand(4, 3)
    zeros = torch.zeros(4, 3)
    both = lambda_returns(x, zeros, zeros, x, 0.9, 0.8)
    alone = lambda_returns(x[:, 1:2], zeros[:, :1], zeros[:, :1], x[:, 1:2], 0.9, 0.8)
    assert torch.equal(both[:, 1:2], alone)
    with pytest.raises(ValueError, match="expected one shape"):
        lambda_returns(x, zeros, zeros, x[:, :1], 0.9, 0.8)
