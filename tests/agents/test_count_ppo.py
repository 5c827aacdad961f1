"""PPO with pseudo-counts: the bonus by hand and by the definition of the gain, its decay with visits, and the rewards."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.count_ppo import CountPPO, CountPPOConfig, count_bonus
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.layers.density import EPSILON
from rlbench.backbones.layers.pixels import log_probability
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import same, weights

OBS = Box(0, 255, (5, 4, 2), np.uint8)
CASE = Case(
    "count-ppo",
    small={
        "hidden": (8,), "encoder": "flatten", "batch_size": 8, "epochs": 2, "levels": 4, "quantise": False, "density_width": 4,
        "density_batch_size": 8, "density_layers": 1, **ROLLOUT,
    },
    changes={
        **test_ppo.CASE.changes, "quantise": (True, {}), "gain": (1e-3, {}), "gain_scale": (1.0, {}),
    },
    spaces=(Box, Discrete),
    observations=OBS,
)  # fmt: skip
SPEC = Spec(OBS, Discrete(3))


def make(**settings: Any) -> CountPPO:
    return CountPPO(CountPPOConfig(**{**CASE.small, **settings}), SPEC)


def test_the_bonus_by_hand() -> None:
    # c n^-1/2 PG = 0.5 * 0.5 * 2: N = 1 / (exp(0.5) - 1).
    found = count_bonus(torch.tensor([[2.0], [0.0], [-1.0]]), 0.5, 4)
    assert found.flatten().tolist() == pytest.approx([math.sqrt(math.exp(0.5) - 1), 0, 0])


def test_the_gain_is_that_of_a_step_on_the_observation_alone() -> None:
    agent = make(gain=0.002)
    agent._learn_density(torch.randint(4, (4, 4, *OBS.shape)))
    agent.seen = 9
    obs = torch.randint(4, (2, 3, *OBS.shape))
    obs[1, 2] = obs[0, 0]
    before = copy.deepcopy(agent.density.state_dict())
    found = agent.bonus(obs)
    assert same(before, agent.density.state_dict())
    for place in np.ndindex(2, 3):
        x = agent.reading.read(obs[place][None])
        twin = copy.deepcopy(agent.density)
        log_p = log_probability(twin(x), x)[0]
        gradients = torch.autograd.grad(log_p / 40, list(twin.parameters()))
        moments = agent.density_optimizer.second_moments
        with torch.no_grad():
            for p, gradient, v in zip(twin.parameters(), gradients, moments, strict=True):
                p.add_(0.002 * gradient / (v.sqrt() + EPSILON))
            gain = log_probability(twin(x), x)[0] - log_p
        assert float(found[place]) == pytest.approx(math.sqrt(math.expm1(0.1 / 3 * gain)), rel=1e-2)
    assert found[1, 2] == found[0, 0]


def test_what_was_seen_often_has_a_smaller_bonus_than_what_was_not() -> None:
    agent = make(density_learning_rate=1e-2)
    drawn = torch.Generator().manual_seed(0)
    old, new = (torch.randint(4, OBS.shape, generator=drawn) for _ in range(2))
    assert agent.bonus(old[None]) == 0  # Nothing was learned yet.
    agent._learn_density(torch.randint(4, (2, 8, *OBS.shape), generator=drawn))
    before = float(agent.bonus(old[None]))
    for _ in range(60):
        agent._learn_density(old.expand(2, 8, *OBS.shape))
    assert agent.seen == 61 * 16
    agent.seen = 16
    familiar, novel = agent.bonus(torch.stack([old, new])).tolist()
    assert familiar < 0.3 * min(before, novel)


def test_the_bonus_of_the_observation_after_the_step_is_added_to_the_reward() -> None:
    agent = make(bonus=0.5)
    plain = PPO(PPOConfig(hidden=(8,), encoder="flatten", batch_size=8, epochs=2, **ROLLOUT), SPEC)
    first, batch = experience(agent, 1), experience(agent, 0)
    assert isinstance(first, Trajectories)
    assert isinstance(batch, Trajectories)
    agent.learn(first)
    plain.learn(first)  # The density has not learned yet, so there is no bonus.
    assert same(weights(agent), weights(plain))
    plain.generator.set_state(agent.generator.get_state())  # The density has drawn from it.
    bonus = agent.bonus(batch.final_obs)
    assert not torch.equal(bonus, agent.bonus(batch.obs))
    metrics = agent.learn(batch)
    assert metrics["bonus"] == bonus.mean() > 0
    assert metrics["bits"] == pytest.approx(2.0, abs=0.2)  # Four values.
    assert agent.seen == 48
    plain.learn(replace(batch, reward=batch.reward + 0.5 * bonus))
    assert same(weights(agent), weights(plain))


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UserError, match="needs images of whole numbers"):
        CountPPO(CountPPOConfig(), Spec(Box(-1, 1, (3,)), Discrete(2)))
    with pytest.raises(UserError, match="density_width is 1, but observations have 2 channels"):
        make(density_width=1)
    agent = make()
    agent.seen = 1
    with pytest.raises(UserError, match="values from 0 to 9, but levels is 4"):
        agent.bonus(torch.arange(10).repeat(4).view(1, *OBS.shape))
    with pytest.raises(UserError, match="gain is 0"):
        CountPPOConfig(gain=0.0)
