"""Attacks: optima of linear functions by hand, balls and boxes, noise of equal norm, L-BFGS at a known boundary, and foolbox."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from rlbench.backbones.layers.attacks import (
    Ball,
    Norm,
    displacing,
    distortion,
    fgsm,
    input_gradient,
    lbfgs,
    lengths,
    log_odds,
    pgd,
    targeted,
    untargeted,
)
from rlbench.errors import UserError

W = torch.tensor([3.0, 0.0, -4.0])
BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])


def linear(x: Tensor) -> Tensor:
    """Logits of two classes with the margin W x."""
    return torch.stack([torch.zeros(len(x)), x @ W], dim=1)


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(inputs: int, outputs: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


@pytest.mark.parametrize(
    ("norm", "change"), [("linf", [-0.1, 0.0, 0.1]), ("l2", [-0.06, 0.0, 0.08])]
)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_the_worst_change_for_a_linear_classifier(
    norm: Norm, change: list[float], attack: str
) -> None:
    x, ball = torch.full((2, 3), 0.5), Ball(norm, 0.1, low=0.0, high=1.0)
    answer = torch.tensor([1, 0])
    for objective, sign in ((untargeted, 1.0), (targeted, -1.0)):
        against = objective(linear, answer)
        moved = fgsm(against, x, ball) if attack == "fgsm" else pgd(against, x, ball, 20)
        wanted = sign * torch.tensor([change, [-c for c in change]])
        assert torch.allclose(moved - x, wanted, atol=1e-6)


def test_the_box_stops_an_attack_that_goes_on_in_the_other_values() -> None:
    x = torch.tensor([[0.05, 0.5, 0.5]])
    against = untargeted(linear, torch.tensor([1]))
    for norm, wanted in (("linf", [0.0, 0.5, 0.6]), ("l2", [0.0, 0.5, 0.5 + (0.01 - 0.0025) ** 0.5])):  # fmt: skip
        moved = pgd(against, x, Ball(norm, 0.1, low=0.0, high=1.0), 200)  # type: ignore[arg-type]
        assert torch.allclose(moved, torch.tensor([wanted]), atol=2e-3)
    # An input outside of the box may stay where it is, and may come back.
    outside, ball = torch.tensor([[1.5, -0.5, 1.5]]), Ball("linf", 0.1, low=0.0, high=1.0)
    assert torch.allclose(fgsm(against, outside, ball), torch.tensor([[1.4, -0.5, 1.5]]))
    assert torch.equal(ball.projected(outside, outside), outside)


@BOTH
@pytest.mark.parametrize("unit", [1.0, torch.tensor([0.5, 2.0, 0.0, 1.0])])
def test_all_changes_stay_in_the_ball_and_in_the_box(norm: Norm, unit: Any) -> None:
    x, scores, generator = torch.rand(40, 4, generator=drawing()), network(4, 3), drawing(1)
    ball = Ball(norm, 0.3, unit, low=0.0, high=1.0)
    against = untargeted(scores, scores(x).argmax(dim=1))
    points = [
        fgsm(against, x, ball), pgd(against, x, ball, 7), pgd(against, x, ball, 7, generator),
        ball.start(x, generator), ball.noise(x, generator),
    ]  # fmt: skip
    for moved in points:
        away = moved - x
        assert ((moved >= 0) & (moved <= 1)).all()
        if isinstance(unit, Tensor):
            assert (away[:, 2] == 0).all()
            away = (away / unit)[:, [0, 1, 3]]
        far = away.abs().amax(dim=1) if norm == "linf" else away.norm(dim=1)
        assert (far <= 0.3 + 1e-6).all()
        assert far.max() > 0.25
        assert not moved.requires_grad


@BOTH
def test_a_ball_without_a_radius_changes_nothing(norm: Norm) -> None:
    x, ball, scores = torch.rand(5, 3), Ball(norm, 0.0), network(3, 2)
    against = untargeted(scores, torch.zeros(5, dtype=torch.int64))
    generator = drawing()
    for moved in (
        fgsm(against, x, ball), pgd(against, x, ball, 3, generator), ball.noise(x, generator), ball.start(x, generator),
    ):  # fmt: skip
        assert torch.equal(moved, x)


def test_steps_and_radii_by_hand() -> None:
    gradient = torch.tensor([[3.0, -4.0]])
    assert Ball("linf", 1.0).step(gradient, 0.1).tolist() == [pytest.approx([0.1, -0.1])]
    assert Ball("l2", 1.0).step(gradient, 0.1).tolist() == [pytest.approx([0.06, -0.08])]
    unit = torch.tensor([4.0, 3.0])
    assert Ball("linf", 1.0, unit).step(gradient, 0.1).tolist() == [pytest.approx([0.4, -0.3])]
    # In units the gradient is (12, -12), so the step of length 0.1 is 0.1 / sqrt 2 units in each.
    step = Ball("l2", 1.0, unit).step(gradient, 0.1)
    assert (step / unit).tolist() == [pytest.approx([0.0707107, -0.0707107])]
    x = torch.zeros(2, 2)
    radii = torch.tensor([[0.5], [5.0]])
    moved = Ball("l2", radii).projected(x, torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    assert torch.allclose(moved, torch.tensor([[0.3, 0.4], [3.0, 4.0]]))
    assert torch.equal(Ball("l2", 1.0).step(torch.zeros(1, 2), 0.5), torch.zeros(1, 2))


@pytest.mark.parametrize(("norm", "total"), [("linf", 2.5), ("l2", 2.0)])
def test_the_steps_of_pgd_have_the_usual_lengths(norm: Norm, total: float) -> None:
    seen: list[float] = []

    def objective(x: Tensor) -> Tensor:
        seen.append(x.item())
        return x[:, 0]

    pgd(objective, torch.zeros(1, 1), Ball(norm, 1.0), 10)
    assert seen[:3] == pytest.approx([0.0, total / 10, 2 * total / 10])
    assert seen[-1] == pytest.approx(1.0)


@BOTH
def test_noise_has_the_norm_of_an_attack_and_no_direction(norm: Norm) -> None:
    x = torch.full((4_000, 2), 0.5)
    away = Ball(norm, 0.1, low=0.0, high=1.0).noise(x, drawing()) - x
    far = away.abs() if norm == "linf" else away.norm(dim=1)
    assert torch.allclose(far, torch.full_like(far, 0.1), atol=1e-6)
    assert away.mean(dim=0).abs().max() < 0.005
    # At the edge of the box, changes turn back into it and keep their length.
    edge = torch.tensor([[0.0, 1.0]]).expand(50, -1)
    back = Ball(norm, 0.1, low=0.0, high=1.0).noise(edge, drawing()) - edge
    assert (back[:, 0] > 0).all()
    assert (back[:, 1] < 0).all()
    length = back.abs().amax(dim=1) if norm == "linf" else back.norm(dim=1)
    assert torch.allclose(length, torch.full((50,), 0.1), atol=1e-6)


@BOTH
def test_starts_are_uniform_in_the_ball(norm: Norm) -> None:
    x = torch.zeros(8_000, 3)
    away = Ball(norm, 2.0).start(x, drawing()) / 2
    far = away.abs().amax(dim=1) if norm == "linf" else away.norm(dim=1)
    # The share of the volume within a radius r is r^3.
    for share in (0.25, 0.5, 0.75):
        assert (far**3 < share).float().mean().item() == pytest.approx(share, abs=0.02)
    assert away.mean(dim=0).abs().max() < 0.02


def test_log_odds_are_those_of_the_softmax_and_do_not_saturate() -> None:
    scores, answer = torch.randn(6, 4, generator=drawing()), torch.tensor([0, 1, 2, 3, 0, 1])
    p = scores.softmax(dim=1)[torch.arange(6), answer]
    assert torch.allclose(log_odds(scores, answer), (p / (1 - p)).log(), atol=1e-5)
    x = torch.full((1, 3), 0.5)
    moved = pgd(untargeted(lambda z: 1e4 * linear(z + 1), torch.tensor([1])), x, Ball("linf", 0.1), 5)  # fmt: skip
    assert torch.allclose(moved - x, torch.tensor([[-0.1, 0.0, 0.1]]), atol=1e-6)


def test_continuous_actions_are_moved_from_a_start_in_the_ball() -> None:
    def scores(z: Tensor) -> Tensor:
        return z @ W[:, None]

    x = torch.zeros(8, 3)
    against = displacing(scores, scores(x))
    ball = Ball("linf", 0.1)
    assert torch.equal(fgsm(against, x, ball), x)
    for moved in (fgsm(against, x, ball, drawing()), pgd(against, x, ball, 20, drawing())):
        assert torch.allclose(scores(moved).abs(), torch.full((8, 1), 0.7), atol=1e-6)
    two = displacing(lambda z: torch.cat([z, 2 * z], dim=1), torch.tensor([[1.0, 1.0]]))
    assert two(torch.tensor([[3.0]])).tolist() == [2.0**2 + 5.0**2]


def test_gradients_of_inputs_leave_weights_and_the_graph_alone() -> None:
    scores, x = network(3, 2), torch.rand(4, 3)
    with torch.no_grad():
        gradient = input_gradient(untargeted(scores, torch.zeros(4, dtype=torch.int64)), x)
    assert gradient.shape == x.shape
    assert gradient.abs().min() > 0
    assert not x.requires_grad
    assert all(weight.grad is None for weight in scores.parameters())
    alone = input_gradient(untargeted(scores, torch.zeros(1, dtype=torch.int64)), x[:1])
    assert torch.allclose(alone, gradient[:1])


def test_the_gradient_can_be_differentiated_only_if_its_input_is() -> None:
    x = torch.tensor([[1.0, 3.0]])
    assert not input_gradient(lambda x: (x**3).sum(1), x).requires_grad
    start = x.clone().requires_grad_()
    (second,) = torch.autograd.grad(input_gradient(lambda x: (x**3).sum(1), start).sum(), start)
    assert second.tolist() == [[6.0, 18.0]]


def test_lbfgs_finds_the_nearest_point_of_the_other_class() -> None:
    x, target = torch.tensor([[0.6, 0.5, 0.2], [0.3, 0.1, 0.8]]), torch.tensor([0, 1])
    with torch.no_grad():  # As in `rlbench analyse`.
        found, reached = lbfgs(linear, x, target)
    assert reached.tolist() == [True, True]
    assert linear(found).argmax(dim=1).tolist() == [0, 1]
    # The distance to the plane W x = 0 is |W x| / 5: 0.2 and 0.46, and the way is along W.
    far, nearest = lengths(found - x)[:, 0], (x @ W).abs() / 5
    assert (far >= nearest - 1e-6).all()
    assert (far <= 1.03 * nearest).all()
    assert torch.allclose(found[:, 1], x[:, 1], atol=1e-4)
    assert ((found >= 0) & (found <= 1)).all()


def test_lbfgs_without_success_returns_the_input() -> None:
    x = torch.tensor([[0.5, 0.5, 0.5]])
    found, reached = lbfgs(lambda z: linear(z) + torch.tensor([0.0, 9.0]), x, torch.tensor([0]))
    assert reached.tolist() == [False]
    assert torch.equal(found, x)
    # In a larger box there is one, and few iterations or halvings find a worse one.
    far, reached = lbfgs(
        lambda z: linear(z) + torch.tensor([0.0, 9.0]), x, torch.tensor([0]), low=-9.0, high=9.0
    )
    assert reached.item()
    crude, _ = lbfgs(
        lambda z: linear(z) + torch.tensor([0.0, 9.0]), x, torch.tensor([0]), low=-9.0, high=9.0, halvings=3
    )  # fmt: skip
    assert distortion(x, crude) > 1.01 * distortion(x, far)


def test_lbfgs_needs_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(UserError, match="pip install 'rlbench\\[transfers\\]'"):
        lbfgs(linear, torch.rand(1, 3), torch.tensor([0]))


def test_distortion_by_hand() -> None:
    assert distortion(torch.zeros(1, 2, 2), torch.tensor([[[0.0, 0.6], [0.8, 0.0]]])).tolist() == [
        0.5
    ]


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.15), ("l2", 0.5)])
def test_accuracies_are_those_of_foolbox(norm: Literal["linf", "l2"], radius: float) -> None:
    foolbox = pytest.importorskip("foolbox")
    x = torch.rand(300, 8, generator=drawing())
    scores = network(8, 4)
    answer = scores(8 * x).argmax(dim=1)

    class Scaled(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return scores(8 * z)  # type: ignore[no-any-return]

    name, total = ("Linf", 2.5) if norm == "linf" else ("L2", 2.0)
    theirs = (
        getattr(foolbox.attacks, f"{name}FastGradientAttack")(),
        getattr(foolbox.attacks, f"{name}ProjectedGradientDescentAttack")(rel_stepsize=total / 20, steps=20),
    )  # fmt: skip
    model, ball = (
        foolbox.PyTorchModel(Scaled().eval(), bounds=(0, 1)),
        Ball(norm, radius, low=0.0, high=1.0),
    )
    against = untargeted(Scaled(), answer)
    ours = (fgsm(against, x, ball), pgd(against, x, ball, 20, drawing()))
    torch.manual_seed(0)
    for attack, moved, apart in zip(theirs, ours, (0.02, 0.04), strict=True):
        changed = attack(model, x, answer, epsilons=radius)[2].float().mean().item()
        here = (scores(8 * moved).argmax(dim=1) != answer).float().mean().item()
        assert 0.1 < here < 0.9
        assert here == pytest.approx(changed, abs=apart)
