"""CQL: the penalty by hand and in the limit, the target without entropy, the learned weight."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.agents.cql import CQL, CQLConfig, log_sum_exp, penalty, weight_loss
from rlbench.agents.sac import SAC, SACConfig
from tests.networks import copies
from tests.probe_envs import UNIT, random_batch


def agent(**settings: Any) -> CQL:
    return CQL(CQLConfig(hidden=(8,), **settings), UNIT)


class Stub(nn.Module):
    """Two critics that say f(action)."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        value = self.function(action)
        return torch.stack([value, 2 * value])


def test_penalty_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0]]])
    densities = torch.tensor([[math.log(0.5), math.log(0.25)]])
    sums = log_sum_exp(values, densities)
    # log((e / 0.5 + e^2 / 0.25) / 2)
    assert sums.item() == pytest.approx(math.log((2 * math.e + 4 * math.e**2) / 2), rel=1e-6)
    assert penalty(sums, torch.tensor([[0.5]])).item() == pytest.approx(sums.item() - 0.5)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        log_sum_exp(torch.zeros(2, 4, 3), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="expected one shape"):
        penalty(torch.zeros(2, 4), torch.zeros(2, 1))


def test_samples_estimate_the_integral() -> None:
    cql, batch = agent(penalty_samples=4000), random_batch(UNIT, rows=2)
    cql.critic = Stub(lambda action: action[..., 0])  # type: ignore[assignment]
    gap, values = cql._penalty(batch)
    torch.testing.assert_close(values[0], batch.action[:, 0])
    # Integral of exp(a_1) over [-1, 1]^2 = 2 (e - 1/e), and of exp(2 a_1) = e^2 - e^-2.
    exact = torch.tensor([math.log(2 * (math.e - 1 / math.e)), math.log(math.e**2 - math.e**-2)])
    expected = exact - torch.stack([batch.action[:, 0], 2 * batch.action[:, 0]]).mean(1)
    # The policy hardly visits the corners, so its weights there have heavy tails.
    torch.testing.assert_close(gap, expected, atol=0.1, rtol=0)


def test_the_target_is_without_entropy() -> None:
    cql, batch = agent(), random_batch(UNIT)
    cql.generator.manual_seed(0)
    got = cql._target(batch, torch.tensor(1e6))
    cql.generator.manual_seed(0)
    with torch.no_grad():
        action, _ = cql.policy.sample(batch.next_obs, cql.generator)
        value = cql.target_critic(batch.next_obs, action).min(0).values
    torch.testing.assert_close(got, batch.reward + 0.5 * (1 - batch.terminated) * value)


def test_the_critic_s_loss_is_error_and_penalty() -> None:
    cql, batch = agent(conservatism=3.0), random_batch(UNIT)
    cql.generator.manual_seed(0)
    target = cql._target(batch, torch.tensor(1.0))
    gap, values = cql._penalty(batch)
    expected = (values - target).square().mean(1).sum() + 3.0 * gap.sum()
    cql.generator.manual_seed(0)
    torch.testing.assert_close(cql.learn(batch)["critic_loss"], expected.detach())


def test_the_penalty_moves_the_critic_and_not_the_policy() -> None:
    cql, batch = agent(), random_batch(UNIT)
    gap, _ = cql._penalty(batch)
    assert all(
        x is None
        for x in torch.autograd.grad(
            gap.sum(), list(cql.policy.parameters()), allow_unused=True, retain_graph=True
        )
    )
    moved = torch.autograd.grad(gap.sum(), list(cql.critic.parameters()))
    assert all(x.abs().sum() > 0 for x in moved[::2])  # the biases of last layers cancel


def test_the_penalty_lowers_unseen_actions() -> None:
    gaps = []
    for conservatism in (1e-6, 5.0):
        cql = agent(conservatism=conservatism, learning_rate=1e-2)
        batch = random_batch(UNIT)
        batch = dataclasses.replace(batch, action=torch.full_like(batch.action, 0.5))
        for _ in range(100):
            metrics = cql.learn(batch)
        gaps.append(float(metrics["penalty"]))
    assert gaps[1] < gaps[0] - 0.5


def test_the_policy_s_step_is_that_of_sac() -> None:
    cql, sac = agent(policy_learning_rate=3e-4), SAC(SACConfig(hidden=(8,)), UNIT)
    obs, temperature = random_batch(UNIT).obs, torch.tensor(0.5)
    for one in (cql, sac):
        one.generator.manual_seed(1)
        one._update_policy(obs, temperature)
    assert all(
        torch.equal(p, q) for p, q in zip(copies(cql.policy), copies(sac.policy), strict=True)
    )


def test_a_learned_weight_grows_above_the_threshold() -> None:
    log_weight = torch.zeros((), requires_grad=True)
    loss = weight_loss(log_weight, torch.tensor([3.0, 5.0]), 1.0)
    assert loss.item() == -3.0
    for threshold, rises in ((-100.0, True), (100.0, False)):
        cql = agent(gap_threshold=threshold)
        first = cql.log_weight.item()
        cql.learn(random_batch(UNIT))
        assert (cql.log_weight.item() > first) == rises
    fixed = agent()
    fixed.learn(random_batch(UNIT))
    assert fixed.log_weight.exp().item() == pytest.approx(5.0)
