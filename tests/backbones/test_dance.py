"""Everybody Dance Now: losses and measures by hand, smoothing, the face, and what each update changes."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlbench.backbones.layers.similarity import ssim
from rlbench.backbones.layers.translation import (
    MultiScale,
    Residual,
    discriminator_loss,
    feature_matching,
    judgement,
    make_generator,
    perceptual_loss,
)
from rlbench.backbones.models._clips import CROP, crops, moved, pasted, scores
from rlbench.backbones.models.dance import Dance, DanceConfig
from rlbench.backbones.optim import Adam
from rlbench.envs.examples import Arrays
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.networks import copies, unchanged

SIDE, FRAMES, PARTS = 32, 3, 2
SMALL: dict[str, Any] = {
    "width": 4, "halvings": 1, "blocks": 1, "judge_width": 4, "encoder": "vgg:width=4,blocks=2", "learning_rate": 0.01, "batch_size": 2,
}  # fmt: skip
NETWORKS = ("network", "judge", "face_network", "face_judge")


def fields(side: int = SIDE, frames: int = FRAMES) -> dict[str, Any]:
    picture = (frames, side, side)
    return {
        "obs": spaces.Box(0, 255, (*picture, PARTS), np.uint8),
        "frames": spaces.Box(0, 255, (*picture, 3), np.uint8),
        "mask": spaces.Box(0, 1, picture, np.uint8),
        "face": spaces.Box(-np.inf, np.inf, (frames, 2)),
    }


def batch(seed: int, count: int = 2) -> Examples:
    """Squares that move to the right: in the first channel of the sticks, and red in pictures."""
    rng = np.random.default_rng(seed)
    sticks = np.zeros((count, FRAMES, SIDE, SIDE, PARTS), np.uint8)
    pictures = np.full((count, FRAMES, SIDE, SIDE, 3), 60, np.uint8)
    face = np.zeros((count, FRAMES, 2), np.float32)
    for n in range(count):
        row, column = rng.integers(4, 16, size=2)
        for t in range(FRAMES):
            where = slice(row, row + 8), slice(column + 2 * t, column + 2 * t + 8)
            sticks[n, t][where] = 255, 0
            pictures[n, t][where] = 250, 20, 20
            face[n, t] = column + 2 * t + 4, row + 4
    mask = (sticks[..., 0] > 0).astype(np.uint8)
    columns = {"obs": sticks, "frames": pictures, "mask": mask, "face": face}
    return Examples({name: torch.from_numpy(x) for name, x in columns.items()})


def source() -> Arrays:
    """Such clips as examples."""
    return Arrays(*({k: x.numpy() for k, x in batch(seed, 4).columns.items()} for seed in range(2)))


def make(**changes: Any) -> Dance:
    return Dance(DanceConfig(**{**SMALL, **changes}), fields())


def test_losses_by_hand() -> None:
    real = [
        [torch.tensor([1.0, 3.0]), torch.tensor([0.5])],
        [torch.tensor([2.0]), torch.tensor([1.0])],
    ]
    fake = [
        [torch.tensor([2.0, 1.0]), torch.tensor([0.25])],
        [torch.tensor([5.0]), torch.tensor([-1.0])],
    ]
    assert float(judgement(fake, 1.0)) == pytest.approx(0.75**2 + 4)
    assert float(discriminator_loss(real, fake)) == pytest.approx((0.25 + 0.25**2 + 1) / 2)
    # Scores do not count: 4 / (4 * 2) times the means 1.5 and 3.
    assert float(feature_matching(real, fake)) == pytest.approx(0.5 * 4.5)
    assert float(perceptual_loss([x[0] for x in real], [x[0] for x in fake])) == pytest.approx(
        1.5 / 4 + 3
    )
    leaf = torch.ones(2, requires_grad=True)
    for loss in (feature_matching([[leaf, leaf]], [[2 * leaf.detach(), leaf.detach()]]), perceptual_loss([leaf], [leaf.detach()])):  # fmt: skip
        assert not loss.requires_grad


def test_shapes_of_the_networks() -> None:
    network = make_generator(5, 3, 4, 2, 1)
    found = network(torch.randn(2, 5, 16, 12))
    assert found.shape == (2, 3, 16, 12)
    assert found.abs().max() < 1
    block, x = Residual(3), torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(block(x) - x, block.layers(x))
    judged = MultiScale(5, 4, 2)(torch.randn(1, 5, 32, 32))
    assert [[x.shape[1] for x in each] for each in judged] == [[4, 8, 16, 1]] * 2
    assert [each[-1].shape[2] for each in judged] == [11, 7]
    constant = MultiScale(1, 4, 2)
    constant.scales[1] = constant.scales[0]
    flat = constant(torch.ones(1, 1, 64, 64))  # Padding is not averaged into the smaller picture.
    middle = [x[0][0, :, 10, 10] for x in flat]
    torch.testing.assert_close(middle[0], middle[1])
    edge = torch.nn.functional.avg_pool2d(torch.ones(1, 1, 4, 4), 3, 2, 1, count_include_pad=False)
    assert (edge == 1).all()


def test_similarity_by_hand_and_by_scikit_image() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((2, 3, 20, 24)).astype(np.float32)
    other = (0.7 * one + 0.3 * rng.random(one.shape)).astype(np.float32)
    found = ssim(*map(torch.from_numpy, (one, other)))
    assert ssim(torch.from_numpy(one), torch.from_numpy(one)).tolist() == pytest.approx([1, 1])
    dark, bright = torch.zeros(1, 1, 12, 12), torch.ones(1, 1, 12, 12)
    assert float(ssim(dark, bright)) == pytest.approx(0.01**2 / (1 + 0.01**2), abs=1e-6)
    metrics = pytest.importorskip("skimage.metrics")
    for n in range(2):
        whole = metrics.structural_similarity(
            one[n], other[n], channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True,
        )[1]  # fmt: skip
        inside = whole[:, 5:-5, 5:-5].mean()
        assert float(found[n]) == pytest.approx(inside, abs=1e-4)


def test_squares_around_faces_are_cut_and_pasted() -> None:
    pictures = torch.arange(2 * 3 * 32 * 32.0).view(2, 3, 32, 32)
    face = torch.tensor([[16.0, 12.0], [31.0, 0.0]])
    found = crops(pictures, face)
    assert torch.equal(found[0], pictures[0, :, 4:20, 8:24])
    assert torch.equal(found[1], pictures[1, :, :CROP, 32 - CROP :])
    back = pasted(pictures, face, -found)
    assert torch.equal(crops(back, face), -found)
    assert torch.equal(pasted(pictures, face, found), pictures)
    assert torch.equal(back[0, :, 20:], pictures[0, :, 20:])


def test_measures_of_the_truth_and_of_a_brighter_and_of_a_flickering_clip() -> None:
    given = batch(0)
    true = moved(given["frames"])
    perfect = scores(true, given)
    assert perfect["ssim"].tolist() == pytest.approx([1, 1])
    assert all(float(perfect[x].max()) < 1e-6 for x in ("l1", "flicker", "face_error"))
    brighter = scores(true + 0.2, given)
    assert brighter["l1"].tolist() == pytest.approx([0.1, 0.1], abs=1e-5)
    assert float(brighter["flicker"].max()) < 1e-6
    flickering = true.clone()
    flickering[:, 1] += 0.2
    found = scores(flickering, given)
    assert found["l1"].tolist() == pytest.approx([0.1 / 3] * 2, abs=1e-5)
    assert found["flicker"].tolist() == pytest.approx([0.1, 0.1], abs=1e-5)
    far = true.clone()
    far[:, 1, :, -1] += 0.2  # The last row is far from the body and from the face.
    found = scores(far, given)
    assert float(found["flicker"].max()) < 1e-6
    assert float(found["l1"].min()) > 1e-4
    assert float(found["face_error"].max()) < 1e-6


def test_a_frame_is_drawn_with_the_one_before_it_only_with_smoothing() -> None:
    sticks = torch.randn(2, PARTS, SIDE, SIDE)
    before = torch.randn(2, 3, SIDE, SIDE)
    for smoothing in (True, False):
        model = make(smoothing=smoothing)
        first, later = model.drawn(sticks, None), model.drawn(sticks, before)
        assert torch.equal(first, later) != smoothing
        zeros = model.network(torch.cat([sticks, torch.zeros_like(before)], dim=1))
        assert torch.equal(first, zeros)
    model = make()
    obs = batch(1)["obs"]
    clip = model.clip(obs)
    own = model.drawn(moved(obs)[:, 1], clip[:, 0])
    torch.testing.assert_close(clip[:, 1], own)
    drawn = model.decide(obs)
    assert drawn.shape == (2, FRAMES, SIDE, SIDE, 3)
    torch.testing.assert_close(moved(drawn), clip, atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_the_frame_before() -> None:
    model, grads = make(), list[Tensor]()
    sticks = moved(batch(0)["obs"])
    first = model.drawn(sticks[:, 0], None)
    first.register_hook(grads.append)
    torch.autograd.grad(model.drawn(sticks[:, 1], first).sum(), list(model.network.parameters()))
    assert grads[0].abs().sum() > 0


def test_the_face_is_learned_after_everything_else() -> None:
    model = make(face_after=2)
    for update in range(4):
        before = {name: copies(getattr(model, name)) for name in NETWORKS}
        frozen = copy.deepcopy(model.encoder.state_dict())
        metrics = model.learn(batch(update))
        changed = {name for name in NETWORKS if not unchanged(getattr(model, name), before[name])}
        assert changed == ({"network", "judge"} if update < 2 else {"face_network", "face_judge"})
        assert all(torch.isfinite(x) for x in metrics.values())
        assert all(torch.equal(x, frozen[k]) for k, x in model.encoder.state_dict().items())
        found = {k: x.detach() for k, x in model.measure(batch(9)).items()}
        assert torch.equal(found["face_error"], found["face_before"]) == (update < 2)


def test_it_learns_to_draw() -> None:
    for smoothing in (True, False):
        model = make(smoothing=smoothing)
        with torch.no_grad():
            first = {k: float(x.mean()) for k, x in model.measure(batch(99, 4)).items()}
        for update in range(60):
            model.learn(batch(update))
        with torch.no_grad():
            after = {k: float(x.mean()) for k, x in model.measure(batch(99, 4)).items()}
        assert after["l1"] < 0.5 * first["l1"]
        assert after["ssim"] > first["ssim"] + 0.2


def test_adam_with_another_momentum() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = Adam([weight], 1.0, momentum=0.5)
    optimizer.step((torch.tensor([1.0]),))
    optimizer.step((torch.tensor([-1.0]),))
    # First moments 0.5, -0.25, corrected by 1 - 0.5^t; second moments are 1 after correction.
    assert float(weight.detach()) == pytest.approx(-1 + 0.25 / 0.75, abs=1e-4)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("halvings", 0),
        ("scales", 0),
        ("judge_width", 0),
        ("face_after", 0),
        ("matching_weight", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{setting} is {value}; give"):
        DanceConfig(**{setting: value})


def test_other_examples_and_pictures_that_are_too_small_are_refused() -> None:
    config = DanceConfig(**SMALL)
    with pytest.raises(UserError, match="give a source such as motion-pairs:halfcheetah"):
        Dance(config, {"obs": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    with pytest.raises(UserError, match="needs clips of 2 or more"):
        Dance(config, fields(frames=1))
    with pytest.raises(UserError, match="cannot be halved 5 times"):
        make(halvings=5)
    with pytest.raises(UserError, match="too few for 3 discriminators"):
        make(scales=3)
    with pytest.raises(UserError, match="no pyramid"):
        make(encoder="flatten")
