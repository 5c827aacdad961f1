"""SAC: losses by hand, and what may and may not reach the target."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.agents._values import critic_loss
from rlbench.agents.sac import SAC, SACConfig, policy_loss, temperature_loss
from tests.agents.case import Case
from tests.probe_envs import UNIT, random_batch

CASE = Case(
    "sac",
    small={"hidden": (16,)},
    fast={
        "hidden": (32, 32), "learning_rate": 1e-2, "target_rate": 0.1,
        "initial_temperature": 1e-3, "target_entropy_scale": 3.0,
    },
)  # fmt: skip


def agent(**settings: Any) -> SAC:
    return SAC(SACConfig(hidden=(8,), **settings), UNIT)


def test_critic_loss_by_hand() -> None:
    # critic 1: (1 + 4) / 2, critic 2: (0 + 9) / 2
    values, target = torch.tensor([[1.0, 2.0], [2.0, 7.0]]), torch.tensor([2.0, 4.0])
    torch.testing.assert_close(critic_loss(values, target), torch.tensor(7.0))


def test_policy_loss_by_hand() -> None:
    # (0.5 * -2 - 3 + 0.5 * 4 - 1) / 2
    got = policy_loss(torch.tensor([-2.0, 4.0]), torch.tensor([3.0, 1.0]), torch.tensor(0.5))
    torch.testing.assert_close(got, torch.tensor(-1.5))


def test_losses_reject_columns() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        policy_loss(torch.zeros(4), torch.zeros(4, 1), torch.ones(()))
    with pytest.raises(ValueError, match="expected one shape"):
        critic_loss(torch.zeros(2, 4), torch.zeros(4, 1))


@pytest.mark.parametrize(("log_prob", "falls"), [(-5.0, True), (5.0, False)])
def test_temperature_follows_the_entropy(log_prob: float, falls: bool) -> None:
    # Entropy -log_prob against a target of -2: 5 is enough, -5 is too little.
    log_temperature = torch.zeros((), requires_grad=True)
    samples = torch.full((3,), log_prob, requires_grad=True)
    temperature_loss(log_temperature, samples, -2.0).backward()
    assert samples.grad is None
    assert log_temperature.grad is not None
    torch.testing.assert_close(log_temperature.grad, torch.tensor(-(log_prob - 2.0)))
    assert (log_temperature.grad > 0) == falls


def target_of(sac: SAC, **changes: Tensor) -> Tensor:
    sac.generator.manual_seed(0)
    batch = dataclasses.replace(random_batch(UNIT), **changes)
    return sac._target(batch, torch.tensor(0.3))


def test_target_by_hand() -> None:
    sac, batch = agent(), random_batch(UNIT)
    got = target_of(sac, terminated=torch.zeros(32))
    sac.generator.manual_seed(0)
    with torch.no_grad():
        action, log_prob = sac.policy.sample(batch.next_obs, sac.generator)
        value = sac.target_critic(batch.next_obs, action).min(dim=0).values
    torch.testing.assert_close(got, batch.reward + 0.5 * (value - 0.3 * log_prob))


def test_an_end_stops_the_bootstrap_and_a_time_limit_does_not() -> None:
    sac, none, all_ = agent(), torch.zeros(32), torch.ones(32)
    assert torch.equal(target_of(sac, terminated=all_), random_batch(UNIT).reward)
    running = target_of(sac, terminated=none, truncated=none)
    assert torch.equal(running, target_of(sac, terminated=none, truncated=all_))


def test_the_target_comes_from_the_target_critic() -> None:
    sac = agent()
    before = target_of(sac)
    with torch.no_grad():
        for parameter in sac.critic.parameters():
            parameter.zero_()
    assert torch.equal(before, target_of(sac))


def test_the_policy_climbs_the_smaller_critic() -> None:
    sac, batch = agent(), random_batch(UNIT)
    sac.critic_optimizer.learning_rate.zero_()
    start = sac.generator.get_state()
    with torch.no_grad():
        sac._target(batch, torch.tensor(1.0))
        action, log_prob = sac.policy.sample(batch.obs, sac.generator)
        smaller = sac.critic(batch.obs, action).min(dim=0).values
    sac.generator.set_state(start)
    expected = policy_loss(log_prob, smaller, torch.tensor(1.0))
    torch.testing.assert_close(sac.learn(batch)["policy_loss"], expected)


def test_the_policy_step_moves_no_critic_and_the_critic_step_no_policy() -> None:
    frozen_critic, frozen_policy = agent(), agent()
    frozen_critic.critic_optimizer.learning_rate.zero_()
    frozen_policy.policy_optimizer.learning_rate.zero_()
    for sac, name in ((frozen_critic, "critic"), (frozen_policy, "policy")):
        network = getattr(sac, name)
        before = [p.detach().clone() for p in network.parameters()]
        sac.learn(random_batch(UNIT))
        assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_target_critics_follow_slowly() -> None:
    sac = agent(target_rate=0.25)
    before = [p.clone() for p in sac.target_critic.parameters()]
    sac.learn(random_batch(UNIT))
    for old, new, source in zip(
        before, sac.target_critic.parameters(), sac.critic.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * source)


def test_target_entropy_and_first_temperature() -> None:
    sac = agent(target_entropy_scale=0.5, initial_temperature=0.2)
    assert sac.target_entropy == -1.0
    assert math.isclose(sac.learn(random_batch(UNIT))["temperature"].item(), 0.2, rel_tol=1e-6)
