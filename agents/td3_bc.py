"""TD3 with behaviour cloning (TD3+BC).

TD3 on data whose policy also stays near the actions of the data:

    pi : maximise  lambda Q_1(s, pi(s)) - |pi(s) - a|^2,   lambda = alpha / mean |Q_1|

Fujimoto & Gu, 2021, https://arxiv.org/abs/2106.06860, equations 3 to 5

Differences from the paper: none.
"""

from dataclasses import dataclass
from typing import ClassVar

from rlbench.agents.td3 import TD3, TD3Config


@dataclass(frozen=True, kw_only=True)
class TD3BCConfig(TD3Config):
    """Settings of TD3+BC: those of TD3 with the paper's two additions."""

    cloning_alpha: float | None = 2.5
    normalise_obs: bool = True


class TD3BC(TD3):
    """TD3+BC as a setting of TD3."""

    Config: ClassVar[type] = TD3BCConfig
