"""PPO rewarded by a classifier of success: rewards by hand, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.success_ppo import SuccessPPO, SuccessPPOConfig
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import same, weights

CLASSES = "classes:of=mlp/units=6,classes=3"
CASE = Case(
    "success-ppo",
    small={"hidden": (8,), "batch_size": 8, "epochs": 2, "reward_encoder": CLASSES, **ROLLOUT},
    changes={
        **test_ppo.CASE.changes, "success": (2, {}), "reward_encoder": ("classes:of=mlp/units=7,classes=3", {}),
    },
    spaces=(Box, Discrete),
)  # fmt: skip
SPEC = Spec(Box(-np.inf, np.inf, (2,)), Discrete(3))
SMALL: dict[str, Any] = {"hidden": (8,), **ROLLOUT}


def make(**settings: Any) -> SuccessPPO:
    given = {**SMALL, "reward_encoder": CLASSES, **settings}
    return SuccessPPO(SuccessPPOConfig(**given), SPEC)


@pytest.mark.parametrize("success", [1, 2])
def test_the_reward_grows_with_the_probability_of_the_class_after_each_step(success: int) -> None:
    agent, plain = make(success=success), PPO(PPOConfig(**SMALL), SPEC)
    given = experience(agent, 0)
    assert isinstance(given, Trajectories)
    with torch.no_grad():
        after = given.final_obs.flatten(0, 1)
        p = agent.classifier.layers.classifier(after).softmax(-1)[:, success]  # type: ignore[operator]
    p = p.view_as(given.reward)
    reward = torch.maximum(p.log() / np.log(1_000), torch.tensor(-1.0))
    metrics = agent.learn(given)
    assert metrics["success"] == p.mean()
    plain.learn(replace(given, reward=reward))
    assert same(weights(agent), {**weights(agent), **weights(plain)})


def test_the_rewards_of_the_environment_do_not_matter() -> None:
    agent, twin = make(), make()
    given = experience(agent, 0)
    assert isinstance(given, Trajectories)
    agent.learn(given)
    twin.learn(replace(given, reward=given.reward + 9))
    assert same(weights(agent), weights(twin))


def test_the_classifier_does_not_learn() -> None:
    agent = make(learning_rate=0.1)
    before = {k: x.clone() for k, x in agent.classifier.state_dict().items()}
    for seed in range(3):
        given = experience(agent, seed)
        assert isinstance(given, Trajectories)
        agent.learn(given)
    assert same(agent.classifier.state_dict(), before)
    assert not list(agent.classifier.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"success": 3}, r"success is class 3, but the classifier has the classes 0 to 2; give one"),
        ({"reward_encoder": "mlp"}, r"reward_encoder is mlp; this agent needs the encoder classes, such as classes:RUN"),
        ({"success": -1}, r"success is -1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)
