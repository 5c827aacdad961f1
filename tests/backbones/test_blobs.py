"""Blobs: connected pixels, boxes and classes by hand, exact resume, bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlbench.backbones.models.blobs import Blobs, BlobsConfig, boxes_of
from rlbench.connected import connected
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.networks import equal
from tests.squares import SPEC, columns, examples

pytest.importorskip("pycocotools")


def make(spec: dict[str, Any] = SPEC, **settings: Any) -> Blobs:
    return Blobs(BlobsConfig(**settings), spec)


def test_a_part_may_wind() -> None:
    spiral = torch.tensor(
        [[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    )
    found = connected(torch.stack([spiral.bool(), torch.zeros(5, 5).bool()]))
    assert torch.equal(found[0], 25 * spiral)
    assert not found[1].any()


def test_boxes_of_masks() -> None:
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 3, 0] = True
    assert boxes_of(masks).tolist() == [[2, 1, 6, 3], [0, 3, 1, 4], [0, 0, 0, 0]]


def test_colours_are_counted_by_the_class_of_their_box() -> None:
    model, given = make(levels=2), examples(3)
    model.learn(given)
    red, green = 4, 2  # Bits of the three channels.
    area = {
        k: float(
            ((given["boxes"][..., 2] - given["boxes"][..., 0]) ** 2)[given["classes"] == k].sum()
        )
        for k in (1, 2)
    }
    assert model.counts.sum() == 3 * 32 * 32
    assert model.counts[green, 2] > 0.5 * area[2]
    assert model.counts[red, 2] == model.counts[green, 0] == model.counts[red, 0] == 0
    assert model.counts[red, 1] + model.counts[green, 1] + model.counts[0, 1] == area[1]


def test_squares_of_two_colours_are_found() -> None:
    model, given = make(), examples(20)
    assert not model.detect(given["obs"]).any()
    model.learn(given)
    apart = ((given["instances"] == 1).sum((1, 2)) == 64) & (
        (given["instances"] == 2).sum((1, 2)) % 144 == 0
    )
    found = model.detect(given["obs"])
    once = apart & ((found[..., 5] > 0).sum(1) == (given["classes"] > 0).sum(1))
    assert once.sum() > 5
    for image in torch.nonzero(once)[:, 0]:
        rows = {(*x[:4].tolist(), int(x[5])) for x in found[image] if x[5] > 0}
        true = zip(given["boxes"][image], given["classes"][image], strict=True)
        assert rows == {(*b.tolist(), int(k)) for b, k in true if k > 0}
    assert (found[found[..., 5] > 0][:, 4] > 0.99).all()
    shown = model.summary({k: x.numpy() for k, x in model.measure(given).items()})
    assert shown["map"] > 0.6
    error = model.measure(given)["count_error"]
    assert not error[once].any()
    assert (error[(found[..., 5] > 0).sum(1) != (given["classes"] > 0).sum(1)] >= 1).all()
    assert make(detections=1).detect(given["obs"]).shape == (20, 1, 6)


def test_channels_may_come_first() -> None:
    given, first = examples(4), columns(4, 0)
    spec = SPEC | {"obs": Box(0, 255, (3, 32, 32), np.uint8)}
    one, other = make(), make(spec)
    turned = Examples(
        {**given.columns, "obs": torch.from_numpy(np.moveaxis(first["obs"], -1, 1).copy())}
    )
    one.learn(given)
    other.learn(turned)
    assert torch.equal(one.counts, other.counts)


def test_resume_is_exact() -> None:
    whole, half, rest = make(), make(), make()
    for model in (whole, half):
        model.learn(examples(seed=0))
    whole.learn(examples(seed=1))
    rest.load_state_dict(half.state_dict())
    rest.learn(examples(seed=1))
    assert equal(whole, rest)


def test_other_frames_and_settings_are_refused() -> None:
    for space in (Box(0, 1, (32, 32, 3)), Box(0, 255, (32, 32, 1), np.uint8)):
        with pytest.raises(UserError, match="blobs are found by colours, so give frames of bytes"):
            make(SPEC | {"obs": space})
    with pytest.raises(UserError, match="levels is 1; give 2 or more, up to 32"):
        BlobsConfig(levels=1)
