"""How AWAC, which is CRR with other settings, is tested; test_agents_by_hand.py tests its constants."""

from tests.agents import test_crr
from tests.agents.case import Case

CASE = Case(
    "awac",
    small={"hidden": (16,)},
    changes={
        **test_crr.CASE.changes,
        "target_actions": ("target-policy", {}),
        "act_mode": ("sample", {}),
        "baseline": ("max", {"advantage_samples": 4}),
        "act_samples": (5, {"act_mode": "critic-weighted"}),
        "act_temperature": (1e-3, {"act_mode": "critic-weighted"}),
    },
    fast={"hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1, "beta": 0.1},
)
