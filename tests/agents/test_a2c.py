"""A2C: its gradient by hand."""

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.a2c import A2C, A2CConfig
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience

CASE = Case(
    "a2c",
    small={"hidden": (8,), **ROLLOUT},
    changes=test_ppo.CASE.changes,
    spaces=(Box, Discrete),
)
SPEC = Spec(Box(-np.inf, np.inf, (2,)), Discrete(3))


def test_the_first_gradient_step_of_a2c_follows_the_log_probability() -> None:
    agent = A2C(A2CConfig(hidden=(8,), value_coefficient=0.0, max_grad_norm=1e9, **ROLLOUT), SPEC)
    batch = experience(agent, 0)
    assert isinstance(batch, Trajectories)
    flat = agent._batch(batch)
    params = agent.network.policy(flat.obs)
    log_prob = agent.network.head.log_prob(params, flat.sample)
    loss = -(log_prob * flat.advantage).mean()
    weight = agent.network.head.out.weight
    (gradient,) = torch.autograd.grad(loss, weight)
    before = weight.detach().clone()
    agent.learn(batch)
    # The first step of Adam has the length of the step size, against the sign of the gradient.
    moved = (weight.detach() - before)[gradient.abs() > 1e-3]
    wanted = -7e-4 * gradient[gradient.abs() > 1e-3].sign()
    torch.testing.assert_close(moved, wanted, rtol=0.05, atol=0)
