"""The variational information bottleneck: a noisy code of features with a penalty on its information.

    (mu, rho) = W e + b,   sigma = softplus(rho + offset) + 1e-6,   z = mu + sigma * noise
    KL(N(mu, sigma^2) | N(0, I)) = sum_j (mu_j^2 + sigma_j^2 - 1) / 2 - log sigma_j

z is the stochastic code, mu the deterministic one. The caller draws the noise.

Alemi et al., 2017, https://arxiv.org/abs/1612.00410; in reinforcement learning Igl et al., 2019,
https://arxiv.org/abs/1910.12911.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.checks import same_shape

SMALLEST_SIGMA = 1e-6
"""Added to every sigma: softplus underflows to 0, and the divergence needs the logarithm of sigma."""


class Bottleneck(nn.Module):
    """One linear layer from features to mean and standard deviation of a Gaussian code."""

    def __init__(self, in_size: int, size: int, offset: float = 0.0) -> None:
        """Initialises weights as in the authors' code: Glorot uniform for ReLU, biases 0.

        Args:
            in_size: Length of the features.
            size: Length of the code, Z.
            offset: Added before the softplus; at -5, as for CoinRun, the code begins almost
                without noise.
        """
        super().__init__()
        self.layer = nn.Linear(in_size, 2 * size)
        nn.init.xavier_uniform_(self.layer.weight, nn.init.calculate_gain("relu"))
        nn.init.zeros_(self.layer.bias)
        self.offset = offset

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code, [B, Z] each, of features [B, D]."""
        mu, rho = self.layer(features).chunk(2, dim=-1)
        return mu, F.softplus(rho + self.offset) + SMALLEST_SIGMA


def sample(mu: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """K codes of each row, [K, B, Z]; `mu` and `sigma` are [B, Z].

    Args:
        mu: Means.
        sigma: Standard deviations.
        noise: Standard normal, [K, B, Z].
    """
    same_shape(mu, sigma, noise[0])
    return mu + sigma * noise


def unit_kl(mu: Tensor, sigma: Tensor) -> Tensor:
    """Divergence of each unit of the code from N(0, 1) in nats, [B, Z] like `mu` and `sigma`."""
    same_shape(mu, sigma)
    return 0.5 * (mu.square() + sigma.square() - 1) - sigma.log()


def kl(mu: Tensor, sigma: Tensor) -> Tensor:
    """Divergence of the code from N(0, I) in nats, [B]: a bound on its information about each row."""
    return unit_kl(mu, sigma).sum(dim=-1)
