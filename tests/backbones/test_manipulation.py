"""Manipulated explanations: the loss, the search, its bounds, targets and similarities."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlbench.backbones.layers.attributions import Explained, explanation, saliency
from rlbench.backbones.layers.manipulation import (
    Search,
    corner,
    correlation,
    manipulated,
    manipulation_loss,
    mean_square,
    structural_similarity,
)

SEARCH = Search(steps=60, learning_rate=0.01, map_weight=1.0, answer_weight=100.0, betas=(10.0, 100.0), radius=1.0)  # fmt: skip


def maps(count: int = 3, side: int = 8, seed: int = 0) -> Tensor:
    found = torch.rand(count, side, side, generator=torch.Generator().manual_seed(seed))
    return found / found.sum((1, 2), keepdim=True)


def test_the_loss_weighs_maps_of_mean_one_and_answers() -> None:
    found, target = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
    answer, original = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.9, 0.1]])
    weights = dataclasses.replace(SEARCH, map_weight=3.0, answer_weight=10.0)
    # Maps times 2 differ by 1 in both pixels; answers differ by 0.1.
    loss = manipulation_loss(found, target, answer, original, weights)
    torch.testing.assert_close(loss, torch.tensor([3.0 + 10.0 * 0.01]))
    with pytest.raises(ValueError, match="one shape"):
        manipulation_loss(found, target[0], answer, original, weights)


def test_a_map_moves_to_its_target_and_the_answer_stays() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    index = network(x).argmax(1)

    def answers(z: Tensor) -> Tensor:
        found: Tensor = network(z).softmax(1)
        return found

    def found(z: Tensor, beta: float | None) -> Tensor:
        return saliency(explanation("gradient", Explained(network, beta=beta), z, index), 1)

    target = maps(seed=5)
    before = found(x, None)
    first, moved = (manipulated(found, answers, x, target, s) for s in (dataclasses.replace(SEARCH, steps=0), SEARCH))  # fmt: skip
    assert torch.equal(first, x)
    after = found(moved, None)
    assert (correlation(after, target) > correlation(before, target) + 0.1).all()
    assert torch.equal(network(moved).argmax(1), index)
    assert ((moved - x).flatten(1).norm(dim=1) <= 1 + 1e-5).all()
    # Each image alone has the same result.
    (alone,) = manipulated(
        lambda z, beta: saliency(explanation("gradient", Explained(network, beta=beta), z, index[1:2]), 1),
        answers, x[1:2], target[1:2], SEARCH,
    )  # fmt: skip
    torch.testing.assert_close(alone, moved[1], rtol=0, atol=2e-3)
    # Without a weight, answers change more.
    free = manipulated(found, answers, x, target, dataclasses.replace(SEARCH, answer_weight=0.0))
    change, kept_change = ((answers(z) - answers(x)).abs().max() for z in (free, moved))
    assert kept_change < change


def test_the_betas_of_the_search_grow_geometrically() -> None:
    used: list[float] = []

    def found(z: Tensor, beta: float) -> Tensor:
        used.append(beta)
        return z[:, 0] / z.sum((1, 2, 3))[:, None, None]

    x = torch.rand(2, 1, 4, 4)
    search = dataclasses.replace(SEARCH, steps=3, betas=(1.0, 100.0))
    manipulated(found, lambda z: z.flatten(1), x, x[:, 0], search)
    assert used == pytest.approx([1.0, 10.0, 100.0])


def test_the_corner_is_the_emptiest_one() -> None:
    given = torch.ones(2, 8, 8)
    given[0, -2:, :2] = 0
    given[1, :2, -2:] = 0
    found = corner(given / given.sum((1, 2), keepdim=True))
    assert found.sum((1, 2)).tolist() == [1.0, 1.0]
    assert found[0, -2:, :2].sum() == 1
    assert found[1, :2, -2:].sum() == 1


def test_similarities_of_equal_and_of_different_maps() -> None:
    one, other = maps(seed=1), maps(seed=2)
    for similarity, best in ((correlation, 1.0), (structural_similarity, 1.0), (mean_square, 0.0)):
        torch.testing.assert_close(similarity(one, one), torch.full((3,), best))
        torch.testing.assert_close(similarity(one, other), similarity(other, one))
    wanted = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(one, other, strict=True)]
    assert correlation(one, other).tolist() == pytest.approx(wanted, abs=1e-5)
    assert mean_square(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])).tolist() == [1.0]
    assert correlation(one, torch.ones_like(one)).abs().max() < 1e-3


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    one, other = maps(side=16, seed=1), maps(side=16, seed=2)
    found = structural_similarity(one, other).tolist()
    for a, b, mine in zip(one.double().numpy(), other.double().numpy(), found, strict=True):
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        wanted = metrics.structural_similarity(a, b, data_range=span, use_sample_covariance=False)
        assert mine == pytest.approx(wanted, abs=1e-4)
