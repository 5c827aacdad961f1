"""LPG: the agent that learns by a learned rule."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rlbench.agents import _lifetimes as lifetimes
from rlbench.agents._lifetimes import Steps
from rlbench.agents._populations import Part, Tables
from rlbench.agents._rule import Rule, save_rule
from rlbench.agents.lpg import LPG, LPGConfig
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents.case import ROLLOUT, Case, experience

CASE = Case(
    "lpg",
    small={"hidden": (8,), "scale_rewards": False, **ROLLOUT},
    changes={
        "hidden": ((16,), {}),
        "optimizer": ("sgd", {"policy_rate": 1.0, "prediction_rate": 1.0}),
        "prediction_spread": (2.0, {"hidden": ()}),
        "max_norm": (1e-4, {"optimizer": "sgd"}),
        "prediction_weight": (50.0, {"optimizer": "sgd"}),
        "rule": ("lpg-short", {}),
    },
    spaces=(Discrete,),
    driver_settings=("envs", "rollout_steps"),
)
STATES = 5


def agent(**settings: Any) -> LPG:
    spec = Spec(Box(0.0, 1.0, (STATES,)), Discrete(3, start=2))
    return LPG(LPGConfig(**{**CASE.small, **settings}), spec)


def on_states(made: LPG, seed: int = 0) -> Trajectories:
    """Steps among one-hot states."""
    generator = torch.Generator().manual_seed(seed)
    data = experience(made, seed)
    assert isinstance(data, Trajectories)
    states = torch.randint(STATES, (7, 4), generator=generator)
    eye = torch.eye(STATES)
    return dataclasses.replace(data, obs=eye[states[:-1]], final_obs=eye[states[1:]])


def test_a_linear_agent_on_states_learns_like_the_tables_of_meta_training() -> None:
    made = agent(
        hidden=(), optimizer="sgd", policy_rate=7.0, prediction_rate=3.0, prediction_weight=0.3,
        max_norm=0.01, scale_rewards=False,
    )  # fmt: skip
    data = on_states(made)
    kind = made.rule.kind
    start = Tables({
        "policy": made.policy[0].weight.detach().T[None].clone(),  # type: ignore[index, operator]
        "prediction": made.prediction[0].weight.detach().T[None].clone(),  # type: ignore[index, operator]
    })  # fmt: skip
    over = torch.maximum(data.terminated, data.truncated)
    table = Trajectories(
        data.obs.argmax(-1)[:, None], data.action[:, None] - 2, data.reward[:, None],
        over[:, None], torch.zeros_like(over)[:, None], data.final_obs.argmax(-1)[:, None],
    )  # fmt: skip
    with torch.no_grad():
        pi, y = lifetimes.targets(made.rule, start, table, made.discount)
        rates: dict[Part, torch.Tensor] = {
            "policy": torch.tensor([7.0]), "prediction": torch.tensor([3.0])
        }  # fmt: skip
        # The agent clips the weighted loss, as tables do.
        steps = Steps(rates, torch.tensor([0.3]), 0.01)
        wanted = lifetimes.updated(start, table, pi, y, kind, steps).tensors()
    made.learn(data)
    for name in ("policy", "prediction"):
        found = getattr(made, name)[0].weight.detach().T[None]
        torch.testing.assert_close(found, wanted[name], rtol=1e-4, atol=1e-6)


def test_the_rule_is_kept_and_not_trained() -> None:
    made = agent()
    before = [x.clone() for x in made.rule.parameters()]
    for seed in range(3):
        made.learn(on_states(made, seed))
    assert all(torch.equal(a, b) for a, b in zip(before, made.rule.parameters(), strict=True))
    assert any(name.startswith("rule") for name in made.state_dict())


def test_policies_follow_the_sign_of_their_targets() -> None:
    made = agent(policy_rate=0.01)
    nn.init.zeros_(made.rule.policy_out.weight)
    nn.init.constant_(made.rule.policy_out.bias, 1.0)
    data = on_states(made)
    action = data.action - 2
    before = lifetimes.chosen(made.policy(data.obs).log_softmax(-1), action).mean()
    for _ in range(20):
        made.learn(data)
    after = lifetimes.chosen(made.policy(data.obs).log_softmax(-1), action).mean()
    assert after > before + 0.02


def test_a_rule_is_loaded_from_its_file(tmp_path: Path) -> None:
    save_rule(Rule(3, 6, "mse"), tmp_path / "mine.safetensors", {})
    made = agent(rule=str(tmp_path / "mine.safetensors"))
    assert made.rule.kind == "mse"
    assert made.learn(on_states(made))["prediction_entropy"] <= 3 * np.log(2) + 1e-6


def test_continuous_actions_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="lpg needs a Discrete space"):
        LPG(LPGConfig(), Spec(Box(0.0, 1.0, (2,)), Box(-1.0, 1.0, (2,))))


def test_grids_are_learned_by_tables() -> None:
    for task in ("grid-dense", "grid-levels-small-level-3", "chain-short"):
        assert LPG.preset(task, 10)["hidden"] == ()
    for task in ("CartPole-v1", "grid-rand-small", "chain-distractor"):
        assert LPG.preset(task, 10) == {}


def test_tables_begin_with_uniform_policies() -> None:
    made = agent(hidden=())
    assert torch.equal(made.policy(torch.eye(STATES)), torch.zeros(STATES, 3))
    assert made.prediction(torch.eye(STATES)).std() > 0.5
