"""Local training of many clients as one batch, and the average of their weights.

McMahan et al., 2017, https://arxiv.org/abs/1602.05629, algorithm 1
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import grad, vmap

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Mapping[str, Tensor], Tensor], Tensor]
"""From weights, rows [b, ...] of one client and their shares in the mean [b] to a number."""


def local_weights(
    loss: Loss,
    start: Weights,
    rows: Mapping[str, Tensor],
    count: Tensor,
    *,
    epochs: int,
    batch_size: int | None,
    learning_rate: float,
    generator: torch.Generator,
) -> Weights:
    """Weights of each client after its own gradient descent, [M, ...] each.

    All clients begin with the same weights, take one step for each batch of their own rows, and visit them in a new order in each epoch.

    Args:
        loss: See `Loss`.
        start: Weights of the server.
        rows: Examples of each client, [M, N, ...]; only the first `count` of a client are real.
        count: Number of examples of each client, int64 [M].
        epochs: Passes over the examples (paper: E).
        batch_size: Examples of a step (paper: B); None: all.
        learning_rate: Step size (paper: eta).
        generator: Draws the orders.
    """
    clients, most = next(iter(rows.values())).shape[:2]
    weights = {name: x.detach().expand(clients, *x.shape).clone() for name, x in start.items()}
    # The layers' noise differs between clients.
    gradient = vmap(grad(loss), randomness="different")
    real = torch.arange(most, device=count.device) < count[:, None]
    size, each = batch_size or most, torch.arange(clients, device=count.device)[:, None]
    for _ in range(epochs):
        noise = torch.rand(real.shape, generator=generator, device=count.device)
        order = noise.masked_fill(~real, 2.0).argsort(dim=1)  # Real examples first.
        for chosen in order.split(size, dim=1):
            counted = real.gather(1, chosen).float()
            # A client without further examples in this epoch has a gradient of 0.
            share = counted / counted.sum(dim=1, keepdim=True).clamp(min=1)
            batch = {name: x[each, chosen] for name, x in rows.items()}
            steps = gradient(weights, batch, share)
            weights = {name: x - learning_rate * steps[name] for name, x in weights.items()}
    return weights


def averaged(weights: Weights, count: Tensor) -> Weights:
    """The mean of the clients' weights [M, ...] in proportion to their examples [M].

    >>> averaged({"w": torch.tensor([[0.0], [4.0]])}, torch.tensor([3, 1]))
    {'w': tensor([1.])}
    """
    share = count / count.sum()
    return {name: torch.tensordot(share.to(x.dtype), x, dims=1) for name, x in weights.items()}
