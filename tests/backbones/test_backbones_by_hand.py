"""What the agents share, by hand: updates, heads, spaces, cut-out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rlbench.agents._values import best_value, clipped_exp, critic_loss
from rlbench.backbones.encoders.impala import impala_layers
from rlbench.backbones.heads.distributions import Categorical, Gaussian
from rlbench.backbones.heads.policies import best_action
from rlbench.backbones.layers.augment import cut_out, draw_rectangles
from rlbench.backbones.layers.normalise import ObsNormaliser
from rlbench.backbones.optim import SGD, gradient_step, polyak
from rlbench.backbones.spaces import action_form
from rlbench.interface import Spec

CPU = torch.device("cpu")


def test_the_best_value_lies_between_the_critics_of_each_sample() -> None:
    values = torch.tensor([[[1.0, 4.0]], [[3.0, 0.0]]])  # Two critics, one state, two samples.
    # 0.75 * 1 + 0.25 * 3 and 0.75 * 0 + 0.25 * 4, of which the larger.
    assert best_value(values, 0.75).tolist() == [1.5]
    assert best_value(values, 0.0).tolist() == [4.0]


def test_the_critics_errors_are_added_up_and_averaged_over_the_batch() -> None:
    values, target = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([0.0, 1.0])
    assert critic_loss(values, target).item() == (1 + 4) / 2 + (0 + 1) / 2


@pytest.mark.parametrize(("bound", "moved"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0), (None, 1.0)])
def test_a_gradient_is_shortened_where_it_is_longer_than_the_bound(
    bound: float | None, moved: float
) -> None:
    parameters = [nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([2.0]))]
    optimizer = SGD(parameters, learning_rate=1.0)
    loss = 3 * parameters[0].sum() + 4 * parameters[1].sum()  # Its gradient has length 5.
    assert gradient_step(optimizer, loss, bound).item() == 11
    torch.testing.assert_close(parameters[0].detach(), torch.tensor([1 - 3 * moved]))
    torch.testing.assert_close(parameters[1].detach(), torch.tensor([2 - 4 * moved]))


def test_gradient_descent_keeps_its_momentum_and_decays_weights() -> None:
    weight = nn.Parameter(torch.tensor([10.0]))
    optimizer = SGD([weight], learning_rate=0.1, momentum=0.6, weight_decay=0.2)
    # v = 1 + 0.2 * 10 = 3, then v = 0.6 * 3 + 1 + 0.2 * 9.7 = 4.74.
    for wanted in (9.7, 9.7 - 0.474):
        gradient_step(optimizer, weight.sum())
        assert weight.item() == pytest.approx(wanted)


def test_an_exponential_is_bounded_before_it_overflows() -> None:
    x = torch.tensor([0.0, 1.0, 5.0, 1e6], requires_grad=True)
    got = clipped_exp(x, 20.0)
    torch.testing.assert_close(got, torch.tensor([1, math.e, 20, 20]))
    (gradient,) = torch.autograd.grad(got.sum(), x)
    assert gradient.isfinite().all()


def test_a_target_moves_by_the_rate() -> None:
    target, source = nn.Linear(1, 1), nn.Linear(1, 1)
    for network, value in ((target, 1.0), (source, 5.0)):
        for parameter in network.parameters():
            parameter.data.fill_(value)
    polyak(target, source, 0.25)
    assert [x.item() for x in target.parameters()] == [2.0, 2.0]
    assert [x.item() for x in source.parameters()] == [5.0, 5.0]


def test_the_best_action_is_that_of_the_highest_score() -> None:
    actions = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    scores = torch.tensor([[0.0, 9.0, 1.0], [7.0, 1.0, 2.0]])
    assert best_action(actions, scores).tolist() == [[2.0], [4.0]]


def test_a_gaussian_head_is_a_normal_distribution() -> None:
    head = Gaussian(3, 2)
    head.log_std.data.copy_(torch.tensor([-1.0, 0.5]))
    mean, sample = torch.randn(2, 7, 2)
    normal = torch.distributions.Normal(mean, torch.tensor([-1.0, 0.5]).exp())
    torch.testing.assert_close(head.log_prob(mean, sample), normal.log_prob(sample).sum(-1))
    torch.testing.assert_close(head.entropy(mean), normal.entropy().sum(-1))
    noise = torch.randn(7, 2)
    torch.testing.assert_close(head.draw(mean, noise), mean + normal.stddev * noise)
    assert torch.equal(head.mode(mean), mean)


def test_a_categorical_head_is_a_categorical_distribution() -> None:
    head, logits = Categorical(3, 4), 2 * torch.randn(7, 4)
    sample = torch.randint(4, (7,))
    wanted = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(head.log_prob(logits, sample), wanted.log_prob(sample))
    torch.testing.assert_close(head.entropy(logits), wanted.entropy())
    assert torch.equal(head.mode(logits), logits.argmax(-1))


def test_choices_are_counted_from_where_their_space_begins() -> None:
    form = action_form(Discrete(3, start=5), CPU)
    numbers = torch.tensor([5, 7, 6])
    hot = form.to_unit(numbers)
    assert hot.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert torch.equal(form.from_unit(hot), numbers)


def test_a_box_is_scaled_about_its_centre() -> None:
    space = Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32))
    form = action_form(space, CPU)
    units = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]])
    wanted = torch.tensor([[-2.0, 0.0], [2.0, 5.0], [1.0, 2.5]])
    torch.testing.assert_close(form.from_unit(units), wanted)
    torch.testing.assert_close(form.to_unit(wanted), units)


def test_observations_are_normalised_by_mean_and_deviation() -> None:
    space = Box(-np.inf, np.inf, (2,))
    spec = Spec(space, space, obs_mean=torch.tensor([1.0, -2.0]), obs_std=torch.tensor([0.5, 3.0]))
    got = ObsNormaliser(spec, 2)(torch.tensor([[2.0, 4.0]]))
    torch.testing.assert_close(got, torch.tensor([[1 / 0.501, 6 / 3.001]]))
    assert torch.equal(ObsNormaliser(spec, 2, enabled=False)(got), got)


def test_a_residual_block_adds_to_its_input() -> None:
    block: Any = impala_layers(1, (4,))[2]
    x = torch.randn(2, 4, 5, 5)
    inner = block.second(block.first(x.relu()).relu())
    torch.testing.assert_close(block(x), x + inner)
    assert inner.abs().max() > 0.01


def test_an_image_has_none_to_five_rectangles_alike_often() -> None:
    rectangles = draw_rectangles(6_000, 3, torch.Generator().manual_seed(0))
    top, left, bottom, right = rectangles[..., :4].unbind(-1)
    drawn = (bottom > top) & (right > left)
    counts = drawn.sum(1).bincount()
    assert len(counts) == 6
    torch.testing.assert_close(counts / 6_000, torch.full((6,), 1 / 6), atol=0.02, rtol=0)
    sides = torch.stack([bottom - top, right - left])[:, drawn]
    assert sides.min() >= 0.10 - 1e-6
    assert sides.max() <= 0.35 + 1e-6
    assert rectangles.min() >= 0
    assert rectangles.max() <= 1


def test_a_rectangle_is_painted_from_its_first_pixel_up_to_its_last() -> None:
    image = torch.full((1, 1, 4, 4), 7, dtype=torch.uint8)
    # Rows 1 and 2, column 3 and no further, in the colour 0.4 * 255.
    got = cut_out(image, torch.tensor([[[0.25, 0.75, 0.75, 1.0, 0.4]]]))
    assert got[0, 0].tolist() == [[7] * 4, [7, 7, 7, 102], [7, 7, 7, 102], [7] * 4]
