"""Capture and restore of everything that changes while learning."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlbench.state import capture, restore


class Buffer:
    """An object with a state of its own."""

    def __init__(self) -> None:
        self.size = 0

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def load_state_dict(self, state: Any) -> None:
        self.size = state["size"]


class Learner:
    """One attribute of each kind."""

    def __init__(self, seed: int, width: int = 3) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.noise = torch.Generator().manual_seed(seed)
        self.draws = np.random.default_rng(seed)
        self.level = torch.zeros((), requires_grad=True)
        self.buffer = Buffer()
        self.steps, self.rate, self.done, self.phase = 0, 1.0, False, "first"
        self.unsaved = [1, 2]

    def step(self) -> None:
        obs = torch.randn(4, 2, generator=self.noise) + float(self.draws.normal())
        self.network(obs).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.level += 1
        self.buffer.size += 1
        self.steps += 1
        self.rate /= 2
        self.done, self.phase = True, "later"
        self.optimizer.param_groups[0]["lr"] *= 0.9


def weights(learner: Learner) -> list[Tensor]:
    return [x.clone() for x in learner.network.state_dict().values()]


def test_a_restored_object_goes_on_bit_for_bit() -> None:
    original = Learner(0)
    original.step()
    original.step()
    copy = Learner(1)
    restore(copy, capture(original))
    assert (copy.steps, copy.rate, copy.done, copy.phase) == (2, 0.25, True, "later")
    assert copy.buffer.size == 2
    for _ in range(3):
        original.step()
        copy.step()
    assert all(torch.equal(a, b) for a, b in zip(weights(original), weights(copy), strict=True))
    assert copy.optimizer.param_groups[0]["lr"] == original.optimizer.param_groups[0]["lr"]


def test_moments_of_the_optimiser_are_restored() -> None:
    original, copy = Learner(0), Learner(1)
    original.step()
    restore(copy, capture(original))
    parameter, twin = next(original.network.parameters()), next(copy.network.parameters())
    for key in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(
            original.optimizer.state[parameter][key], copy.optimizer.state[twin][key]
        )


def test_tensors_stay_the_same_objects() -> None:
    learner, other = Learner(0), Learner(1)
    other.step()
    level, optimizer, network = learner.level, learner.optimizer, learner.network
    restore(learner, capture(other))
    assert learner.level is level
    assert level.item() == 1.0
    assert level.requires_grad
    assert learner.optimizer is optimizer
    assert learner.network is network


def test_what_has_no_state_is_left_out() -> None:
    assert "unsaved" not in capture(Learner(0))


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_other_parts_are_refused(change: str) -> None:
    learner, state = Learner(0), capture(Learner(0))
    if change == "more":
        state["extra"] = 1
    else:
        del state["noise"]
    with pytest.raises(ValueError, match="the state has the parts"):
        restore(learner, state)


def test_another_shape_is_refused_and_named() -> None:
    with pytest.raises(ValueError, match="'network' does not fit"):
        restore(Learner(0), capture(Learner(0, width=5)))
