"""The nearest frame: which one is copied, and what is forgotten."""

from typing import Any

import pytest
import torch

from rlbench.backbones.models.nearest_frame import NearestFrame, NearestFrameConfig
from rlbench.errors import UserError
from tests.backbones.test_dance import FRAMES, batch, fields


def make(**changes: Any) -> NearestFrame:
    return NearestFrame(NearestFrameConfig(**{"memory": 4, "batch_size": 2, **changes}), fields())


def test_frames_that_were_seen_are_copied_without_error() -> None:
    model, given = make(), batch(0)
    assert float(model.learn(batch(1))["stored"]) == 2 * FRAMES
    first = model.measure(given)
    assert float(model.learn(given)["stored"]) == 4 * FRAMES
    found = model.measure(given)
    assert float(found["l1"].max()) == 0
    assert float(first["l1"].max()) > 0
    assert torch.equal(model.decide(given["obs"]), given["frames"])


def test_the_nearest_of_all_frames_is_copied() -> None:
    model = make()
    model.learn(batch(1))
    model.learn(batch(2))
    asked = batch(5)["obs"]
    every = torch.cat([batch(1)["obs"], batch(2)["obs"]]).flatten(0, 1)
    pictures = torch.cat([batch(1)["frames"], batch(2)["frames"]]).flatten(0, 1)

    def means(x: torch.Tensor) -> torch.Tensor:
        return x.float().view(-1, 8, 4, 8, 4, x.shape[-1]).mean((2, 4)).flatten(1)

    for n, frame in enumerate(asked.flatten(0, 1)):
        distance = (means(frame[None]) - means(every)).square().sum(1)
        assert torch.equal(model.decide(asked).flatten(0, 1)[n], pictures[distance.argmin()])


def test_the_oldest_clips_are_forgotten() -> None:
    model = make(memory=2)
    model.learn(batch(0))
    model.learn(batch(1))
    assert float(model.stored.sum()) == 2 * FRAMES
    assert float(model.measure(batch(0))["l1"].min()) > 0
    assert float(model.measure(batch(1))["l1"].max()) == 0
    with pytest.raises(UserError, match="batch_size is 5, but memory is 4"):
        make(batch_size=5)
