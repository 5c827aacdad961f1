"""Advantage-weighted actor-critic (AWAC).

CRR exp whose baseline is one sample of the policy, with a lower temperature and a larger bound of the
weight, no slow copy of the policy, and one standard deviation for all states:

    pi : maximise  E[ min(exp((Q(s, a) - Q(s, a')) / beta), 100) log pi(a | s) ],   a' ~ pi(s)

Nair et al., 2020, https://arxiv.org/abs/2006.09359; settings as in CORL (beta 1/3 on locomotion).

Differences from the sources: CORL's mean is not squashed and its networks have three hidden layers
without the LayerNorm of CRR. The paper's online phase is a second run with `--data none
--pretrained RUN`. With discrete actions the baseline is the exact expectation, as in CRR.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlbench.agents.crr import CRR, CRRConfig
from rlbench.backbones.heads.policies import PolicyKind


@dataclass(frozen=True, kw_only=True)
class AWACConfig(CRRConfig):
    """Settings of AWAC: those of CRR with other defaults."""

    policy: PolicyKind = "free-gaussian"
    advantage_samples: int = 1
    beta: float = 1 / 3
    max_weight: float = 100.0
    target_actions: Literal["target-policy", "policy"] = "policy"
    act_mode: Literal["critic-weighted", "argmax-q", "mode", "sample"] = "mode"
    random_steps: int = 5_000
    """Online: environment steps before the first update, with uniform actions unless --pretrained gives it a policy."""
    replay_size: int = 1_000_000
    """Online: transitions that the replay buffer keeps."""


class AWAC(CRR):
    """AWAC as a setting of CRR."""

    Config: ClassVar[type] = AWACConfig
    explores = True
