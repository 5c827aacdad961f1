"""Linear probes: how well a feature can be read from activations by a linear function.

    classes      multinomial logistic regression: min_W,b  mean -log softmax(W z + b)_y + c/2 |W|^2
    numbers      ridge regression:                min_w,b  mean (w z + b - y)^2 / 2 + c/2 |w|^2

Activations z are first standardised by their mean and deviation in the training rows, and units that never change are 0.

Alain and Bengio, 2016, https://arxiv.org/abs/1610.01644
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ITERATIONS = 100
"""Largest number of iterations of L-BFGS."""


def standardised(z: Tensor, train: int) -> Tensor:
    """Activations [N, D] with mean 0 and deviation 1 in the first `train` rows."""
    rows = z.float()
    known = rows[:train]
    deviation = known.std(dim=0, correction=0)
    centred = rows - known.mean(dim=0)
    # Rounding gives a unit that never changes a deviation just above 0.
    changes = deviation > 1e-6 * known.abs().amax(dim=0)
    return torch.where(changes, centred / deviation.clamp(min=1e-30), 0.0)


@torch.enable_grad()
def class_probe(z: Tensor, label: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights [C, D] and biases [C] of a logistic regression.

    Args:
        z: Standardised activations, [N, D].
        label: Classes, int64 [N].
        classes: C.
        penalty: c.
    """
    weight = z.new_zeros(classes, z.shape[1], requires_grad=True)
    bias = z.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(F.linear(z, weight, bias), label)
        found = found + penalty / 2 * weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def number_probe(z: Tensor, value: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights [D] and bias [] of a ridge regression; see `class_probe`."""
    mean = value.mean()
    rows = len(z)
    if z.shape[1] <= rows:
        matrix = z.T @ z / rows + penalty * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        weight = torch.linalg.solve(matrix, z.T @ (value - mean) / rows)
    else:
        # The same solution by a matrix of the smaller size.
        matrix = z @ z.T / rows + penalty * torch.eye(rows, dtype=z.dtype, device=z.device)
        weight = z.T @ torch.linalg.solve(matrix, (value - mean) / rows)
    return weight, mean


def decoded(z: Tensor, feature: Tensor, train: int, penalty: float) -> Tensor:
    """How well a probe that learns from the first `train` rows reads the others, [N - train].

    Args:
        z: Activations, [N, D].
        feature: Classes, int64 [N], or numbers, [N].
        train: Rows to learn from.
        penalty: c.

    Returns:
        For classes 1 where the probe is right and 0 elsewhere. For numbers 1 minus the squared error divided by the variance of the
        feature in these rows, so that the mean is R^2.
    """
    rows = standardised(z, train)
    if feature.is_floating_point():
        known, wanted = feature[:train].double(), feature[train:].double()
        mean, deviation = known.mean(), known.std(correction=0)
        # R^2 does not depend on the unit, but the squares of very large or small numbers are not float32.
        weight, bias = number_probe(rows[:train], ((known - mean) / deviation).float(), penalty)
        found = (rows[train:] @ weight + bias).double() * deviation + mean
        return 1 - (found - wanted).square() / wanted.var(correction=0)
    classes = int(feature.max()) + 1
    weights, biases = class_probe(rows[:train], feature[:train], classes, penalty)
    return (F.linear(rows[train:], weights, biases).argmax(1) == feature[train:]).double()
