"""Adversarial examples: small changes to an input that change an answer.

    FGSM      x' = P( x + eps u(g(x)) )
    PGD       x' <- P( x' + a u(g(x')) ),   a = 2.5 eps / T in the largest norm, 2 eps / T in the Euclidean norm
    L-BFGS    minimise over r   c |r|^2 + loss(x + r, l),   x + r in the box,   for the largest c whose minimum has the answer l

g is the gradient of an objective, u(g) the step of length 1 that increases it most (its sign, or g / |g|), and P the projection into the ball around x and into
the box of valid inputs. The network reads projected points; a clamp in the differentiated function would have no gradient for values that it clamps.

Szegedy et al., 2014, https://arxiv.org/abs/1312.6199, section 4.1; FGSM: Goodfellow et al., 2015, https://arxiv.org/abs/1412.6572, section 4; PGD: Madry
et al., 2018, https://arxiv.org/abs/1706.06083, section 2.1

Differences from the papers: L-BFGS penalises the square of |r|, which is smooth. Answers are attacked by their log-odds, a monotone function of the
cross-entropy: u(g) is the same, but the gradient does not vanish for confident answers, such as Q-values with large differences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rlbench.checks import same_shape
from rlbench.errors import UserError

Scores = Callable[[Tensor], Tensor]
"""From inputs [B, ...] to logits, Q-values or actions [B, K]."""
Objective = Callable[[Tensor], Tensor]
"""What an attack increases, from inputs [B, ...] to [B]; it treats examples independently."""
Norm = Literal["linf", "l2"]
STEP = {"linf": 2.5, "l2": 2.0}
"""Length of all steps of PGD together, in radii."""
WEIGHTS = (1e-3, 10.0)
"""Smallest and largest weight of |r|^2 in L-BFGS."""


@dataclass(frozen=True)
class Ball:
    """The changes to an input that an attack may make."""

    norm: Norm
    """The largest change of a value, or the Euclidean norm."""
    radius: float | Tensor
    """Largest norm of a change (eps); for radii of each example, [B, 1, ...]."""
    unit: float | Tensor = 1.0
    """Unit in which changes are measured, for example the standard deviation of each value; values with the unit 0 are not changed."""
    low: float | Tensor = -torch.inf
    """Lower bounds of valid inputs. An input that is outside the bounds may stay there."""
    high: float | Tensor = torch.inf
    """Upper bounds of valid inputs."""

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        """The change of norm `size` along which a function with this gradient increases most, [B, ...]."""
        if self.norm == "linf":
            return size * self.unit * gradient.sign()
        towards = self.unit * gradient
        return size * towards / lengths(towards).clamp(min=1e-12) * self.unit

    def projected(self, x: Tensor, moved: Tensor) -> Tensor:
        """Points [B, ...] after they have been put into the box, and then into the ball around `x`."""
        same_shape(x, moved)
        away = self._boxed(x, moved) - x
        # Both sets are convex and contain x, so shortening the way keeps it in the box.
        if self.norm == "linf":
            reach: Any = self.radius * self.unit
            return x + away.clamp(-reach, reach)
        measured = away / (self.unit + (self.unit == 0))
        found: Tensor = x + away * (self.radius / lengths(measured).clamp(min=1e-12)).clamp(max=1.0)
        return found

    def start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniformly drawn points of the ball around `x`, projected into the box."""
        drawn = torch.rand(x.shape, generator=generator, device=x.device)
        if self.norm == "linf":
            return self.projected(x, x + self.radius * self.unit * (2 * drawn - 1))
        share = drawn.flatten(1)[:, 0].view(_row(x)) ** (1 / x[0].numel())
        return self.projected(x, x + self.step(_normal(x, generator), self.radius * share))

    def noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Points at the surface of the ball: random signs in the largest norm, a Gaussian direction in the Euclidean one.

        Changes that would leave the box are reversed, so that the norm equals the norm of an attack.
        """
        away = self.step(_normal(x, generator), self.radius)
        outside = self._boxed(x, x + away) != x + away
        return self.projected(x, x + torch.where(outside, -away, away))

    def _boxed(self, x: Tensor, moved: Tensor) -> Tensor:
        # Of each bound, what is further from the other: the box then contains x.
        boxed: Tensor = moved.clamp(x.clamp(max=self.low), x.clamp(min=self.high))
        return boxed


def fgsm(
    objective: Objective, x: Tensor, ball: Ball, generator: torch.Generator | None = None
) -> Tensor:
    """The fast gradient sign method: one step to the surface of the ball, [B, ...].

    Args:
        objective: What the attack increases.
        x: Inputs, [B, ...].
        ball: The allowed changes; in the Euclidean norm the step has the direction of the gradient.
        generator: Draws a point of the ball where the gradient is taken, as an objective with the gradient 0 at `x` needs; None: at `x`.
    """
    gradient = input_gradient(objective, x if generator is None else ball.start(x, generator))
    return ball.projected(x, x + ball.step(gradient, ball.radius))


def pgd(
    objective: Objective,
    x: Tensor,
    ball: Ball,
    steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent, [B, ...].

    Args:
        objective: What the attack increases.
        x: Inputs, [B, ...].
        ball: The allowed changes.
        steps: Number of steps (paper: T).
        generator: Draws a start in the ball; None: `x` is the start.
    """
    moved = x if generator is None else ball.start(x, generator)
    size = STEP[ball.norm] * ball.radius / steps
    for _ in range(steps):
        gradient = input_gradient(objective, moved)
        moved = ball.projected(x, moved + ball.step(gradient, size))
    return moved


def input_gradient(output: Objective, x: Tensor) -> Tensor:
    """The gradient of outputs with respect to their inputs, like x; the gradients of weights are not changed.

    It can be differentiated again if x requires gradients.

    Args:
        output: From [B, ...] to [B]; an example's output depends on this example only.
        x: Inputs, [B, ...].

    >>> input_gradient(lambda x: (x**2).sum(1), torch.tensor([[1.0, 3.0]])).tolist()
    [[2.0, 6.0]]
    """
    again = x.requires_grad
    start = x if again else x.detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(output(start).sum(), start, create_graph=again)
    return found


def log_odds(scores: Tensor, answer: Tensor) -> Tensor:
    """Logarithm of p / (1 - p) for the softmax probability p of each answer, [B].

    Args:
        scores: Logits or Q-values, [B, K].
        answer: Classes or actions, int64 [B].

    >>> log_odds(torch.tensor([[3.0, 1.0]]), torch.tensor([0])).item()
    2.0
    """
    mine = F.one_hot(answer, scores.shape[1]).bool()
    return scores[mine] - scores.masked_fill(mine, -torch.inf).logsumexp(dim=1)


def untargeted(scores: Scores, answer: Tensor) -> Objective:
    """The objective of a change to any other answer than `answer`, int64 [B]."""
    return lambda x: -log_odds(scores(x), answer)


def targeted(scores: Scores, answer: Tensor) -> Objective:
    """The objective of a change to the answer `answer`, int64 [B]."""
    return lambda x: log_odds(scores(x), answer)


def displacing(scores: Scores, action: Tensor) -> Objective:
    """The objective of a continuous action far from `action`, [B, A]: the squared distance. Its gradient is 0 at first."""
    return lambda x: (scores(x) - action).square().sum(dim=1)


def lbfgs(
    scores: Scores,
    x: Tensor,
    target: Tensor,
    *,
    low: float = 0.0,
    high: float = 1.0,
    halvings: int = 8,
    iterations: int = 50,
) -> tuple[Tensor, Tensor]:
    """Close inputs with given answers, by box-constrained L-BFGS.

    Args:
        scores: The classifier.
        x: Inputs in the box, [B, ...].
        target: Answers to reach (paper: l), int64 [B].
        low: Lower bound of the box.
        high: Upper bound of the box.
        halvings: Halvings of the interval of the logarithm of c.
        iterations: Largest number of iterations of L-BFGS for each c.

    Returns:
        The inputs that were found, [B, ...], and whether they have the target's answer, bool [B]; an input without success is unchanged.
    """
    found, reached = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for i in range(len(x)):
        (least, most), one, label = WEIGHTS, x[i : i + 1], target[i : i + 1]
        for _ in range(halvings):
            weight = (least * most) ** 0.5
            near = _minimum(scores, one, label, weight, (low, high), iterations)
            if bool(scores(near).argmax(dim=1) == label):
                least, found[i], reached[i] = weight, near[0], True
            else:
                most = weight
    return found, reached


def _minimum(
    scores: Scores,
    x: Tensor,
    target: Tensor,
    weight: float,
    box: tuple[float, float],
    iterations: int,
) -> Tensor:
    """The input in the box with the smallest `weight` |r|^2 + loss, [1, ...]."""
    try:
        from scipy.optimize import minimize
    except ModuleNotFoundError:
        raise UserError(
            "the attack by L-BFGS needs the package scipy; install it with pip install 'rlbench[transfers]'"
        ) from None

    def at(flat: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(flat).to(x).view_as(x)

    @torch.enable_grad()
    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved = at(flat).requires_grad_()
        total = weight * (moved - x).square().sum() + F.cross_entropy(scores(moved), target)
        (gradient,) = torch.autograd.grad(total, moved)
        return total.item(), gradient.flatten().cpu().double().numpy()

    start = x.flatten().cpu().double().numpy()
    options = {"maxiter": iterations}
    found = minimize(loss, start, jac=True, bounds=[box] * start.size, method="L-BFGS-B", options=options)  # fmt: skip
    return at(found.x)


def distortion(x: Tensor, moved: Tensor) -> Tensor:
    """Root of the mean squared change of the values of each example, [B]."""
    same_shape(x, moved)
    return (moved - x).flatten(1).square().mean(dim=1).sqrt()


def lengths(x: Tensor) -> Tensor:
    """Euclidean norm of each example, [B, 1, ...]."""
    found: Tensor = x.flatten(1).norm(dim=1).view(_row(x))
    return found


def _row(x: Tensor) -> tuple[int, ...]:
    return (-1, *[1] * (x.dim() - 1))


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device)
