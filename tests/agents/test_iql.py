"""IQL: its losses by hand, the order of its steps, what it never asks."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from rlbench.agents.iql import IQL, IQLConfig, advantage_weight, expectile_loss
from rlbench.interface import Spec
from tests.agents.case import Case
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, random_batch

CASE = Case(
    "iql",
    small={"hidden": (16,), "policy_decay_updates": 100},
    changes={
        "scale_rewards": (False, {}), "normalise_obs": (False, {}), "max_weight": (0.5, {}),
    },
    fast={
        "hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1, "beta": 20.0,
        "max_weight": 1e6, "policy_decay_updates": 1_000_000,
    },
)  # fmt: skip


def agent(spec: Spec = UNIT, **settings: Any) -> IQL:
    return IQL(IQLConfig(hidden=(8,), **settings), spec)


def test_expectile_loss_by_hand() -> None:
    # (0.7 * 4 + 0.3 * 1) / 2
    assert expectile_loss(torch.tensor([2.0, -1.0]), 0.7).item() == pytest.approx(1.55)
    assert expectile_loss(torch.tensor([2.0, -1.0]), 0.5).item() == pytest.approx(1.25)


def test_an_expectile_is_what_the_loss_finds() -> None:
    samples = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    value = torch.tensor(0.0, requires_grad=True)
    for _ in range(500):
        (gradient,) = torch.autograd.grad(expectile_loss(samples - value, 0.9), value)
        value = (value - 0.5 * gradient).detach().requires_grad_()
    # Of a uniform number: tau (1 - v)^2 = (1 - tau) v^2, so v = 3 / 4 at 0.9.
    assert value.item() == pytest.approx(0.75, abs=0.01)


def test_weights_by_hand() -> None:
    got = advantage_weight(torch.tensor([0.0, 1.0, -1.0, 1e6]), 3.0, 100.0)
    torch.testing.assert_close(got, torch.tensor([1, math.exp(3), math.exp(-3), 100]))


def test_weights_send_no_gradient() -> None:
    assert not advantage_weight(torch.zeros(3, requires_grad=True), 3.0, 100.0).requires_grad


def test_a_value_of_another_shape_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        agent()._value_loss(torch.zeros(4, 2), torch.zeros(4, 1))


def test_the_critic_s_target_is_the_value_of_the_next_state_after_its_step() -> None:
    iql, batch = agent(), random_batch(UNIT)
    with torch.no_grad():
        values = iql.critic(batch.obs, batch.action)
    loss = iql.learn(batch)["critic_loss"]
    with torch.no_grad():
        following = iql.value(batch.next_obs)[:, 0]
    target = batch.reward + 0.5 * (1 - batch.terminated) * following
    torch.testing.assert_close(loss, (values - target).square().mean(1).sum(), atol=1e-4, rtol=1e-4)


def test_the_value_looks_at_the_slow_critics() -> None:
    iql, batch = agent(), random_batch(UNIT)
    with torch.no_grad():
        slow = iql.target_critic(batch.obs, batch.action).min(0).values
        difference = slow - iql.value(batch.obs)[:, 0]
        for parameter in iql.critic.parameters():
            parameter.mul_(3.0)
    torch.testing.assert_close(iql.learn(batch)["value_loss"], expectile_loss(difference, 0.7))


def test_the_policy_clones_with_the_weights_of_the_new_value() -> None:
    iql, batch = agent(), random_batch(UNIT)
    with torch.no_grad():
        slow = iql.target_critic(batch.obs, batch.action).min(0).values
        mean, log_std = iql.policy(batch.obs)
        density = torch.distributions.Normal(mean, log_std.exp()).log_prob(batch.action).sum(-1)
    loss = iql.learn(batch)["policy_loss"]
    with torch.no_grad():
        weight = (3 * (slow - iql.value(batch.obs)[:, 0])).exp().clamp(max=100)
    torch.testing.assert_close(loss, -(weight * density).mean(), atol=1e-4, rtol=1e-4)


def test_steps_move_their_own_network_alone() -> None:
    for still, moving in (("policy", "value"), ("value", "policy"), ("critic", "policy")):
        iql = agent()
        getattr(iql, f"{still}_optimizer").learning_rate.zero_()
        if still == "policy":
            iql.config = dataclasses.replace(iql.config, learning_rate=0.0)
        before = {name: copies(getattr(iql, name)) for name in (still, moving)}
        iql.learn(random_batch(UNIT))
        assert unchanged(getattr(iql, still), before[still])
        assert not unchanged(getattr(iql, moving), before[moving])


def test_rewards_are_scaled_by_the_range_of_returns() -> None:
    spec = dataclasses.replace(UNIT, return_range=(-100.0, 1900.0))
    assert agent(spec).reward_scale == 0.5
    assert agent(spec, scale_rewards=False).reward_scale == 1.0
    assert agent(UNIT).reward_scale == 1.0
    assert agent(dataclasses.replace(UNIT, return_range=(3.0, 3.0))).reward_scale == 1.0


def test_the_policy_s_step_size_falls_along_a_cosine() -> None:
    iql, rates = agent(policy_decay_updates=4), []
    for seed in range(6):
        iql.learn(random_batch(UNIT, seed=seed))
        rates.append(float(iql.policy_optimizer.learning_rate) / 3e-4)
    wanted = [0.5 * (1 + math.cos(math.pi * min(1, k / 4))) for k in range(6)]
    assert rates == pytest.approx(wanted)
    assert IQL.preset("hopper-medium", 1234) == {"policy_decay_updates": 1234}


def test_actions_on_the_bound_are_moved_inside_by_the_authors_limit() -> None:
    iql, batch, asked = agent(), random_batch(UNIT), []
    bounds = torch.tensor([[1.0, -1.0], [1 - 1e-6, -(1 - 1e-6)], [0.99998, -0.5]])
    batch = dataclasses.replace(batch, action=bounds.repeat(11, 1)[:32])
    for network in (iql.critic, iql.target_critic):
        network.register_forward_pre_hook(lambda module, given: asked.append(given[1]))
    cloned = iql.policy.log_prob
    iql.policy.log_prob = (  # type: ignore[method-assign]
        lambda params, action: asked.append(action) or cloned(params, action)  # type: ignore[func-returns-value]
    )
    iql.learn(batch)
    wanted = torch.tensor([[0.99999, -0.99999], [0.99999, -0.99999], [0.99998, -0.5]])
    assert len(asked) == 3
    for action in asked:
        torch.testing.assert_close(action, wanted.repeat(11, 1)[:32], atol=1e-7, rtol=0)


def test_returns_that_differ_only_by_rounding_do_not_scale_rewards() -> None:
    for low, high in ((3.0, 3.0000005), (-1000.0, -999.9999), (0.0, 0.0)):
        assert agent(dataclasses.replace(UNIT, return_range=(low, high))).reward_scale == 1.0
    spec = dataclasses.replace(UNIT, return_range=(-1000.0, -999.0))
    assert agent(spec).reward_scale == 1000.0


def test_a_run_without_updates_has_a_step_size() -> None:
    assert IQL.preset("hopper-medium", 0) == {"policy_decay_updates": 1}


def test_the_critics_evaluate_only_actions_of_the_data() -> None:
    iql, batch, asked = agent(), random_batch(UNIT), []
    for network in (iql.critic, iql.target_critic):
        network.register_forward_pre_hook(lambda module, given: asked.append(given[1]))
    iql.learn(batch)
    assert len(asked) == 2
    assert all(torch.equal(action, batch.action.clamp(-1 + 1e-5, 1 - 1e-5)) for action in asked)
