"""CQL: the penalty by hand and in the limit, the target without entropy, the learned weight."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.agents.cql import CQL, PROFILES, CQLConfig, log_sum_exp, penalty, weight_loss
from rlbench.agents.sac import SAC, SACConfig
from rlbench.errors import UserError
from tests.agents.case import Case
from tests.networks import copies
from tests.probe_envs import UNIT, random_batch

CASE = Case(
    "cql",
    small={"hidden": (16,), "penalty_samples": 3},
    changes={"gap_threshold": (5.0, {}), "target_entropy_scale": (-5.0, {})},
    fast={
        "hidden": (32, 32), "policy_learning_rate": 5e-3, "learning_rate": 5e-3,
        "target_rate": 0.1, "conservatism": 1e-3, "initial_temperature": 1e-3,
        "target_entropy_scale": 3.0,
    },
)  # fmt: skip


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
    # log(e / 0.5 + e^2 / 0.25), a sum as in the authors' code and not a mean
    assert sums.item() == pytest.approx(math.log(2 * math.e + 4 * math.e**2), rel=1e-6)
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
    mean = torch.stack([batch.action[:, 0], 2 * batch.action[:, 0]]).mean(1)
    expected = exact + math.log(3 * 4000) - mean
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


def test_the_gap_threshold_is_the_authors_tau() -> None:
    # If all values are 0 and densities are uniform, the gap is the log of 3 x 10 samples times the
    # volume 2^2 of the box; a nearly uniform policy comes close to that.
    cql, batch = agent(), random_batch(UNIT, rows=512)
    cql.critic = Stub(lambda action: 0 * action[..., 0])  # type: ignore[assignment]
    gap, _ = cql._penalty(batch)
    torch.testing.assert_close(gap, torch.full((2,), math.log(30 * 4)), atol=0.3, rtol=0)
    for threshold, rises in ((gap.max().item() - 0.1, True), (gap.min().item() + 0.1, False)):
        loss = weight_loss(cql.log_weight, gap, threshold)
        (gradient,) = torch.autograd.grad(loss, cql.log_weight)
        assert (gradient.item() < 0) == rises


def test_a_learned_weight_stops_at_the_authors_bound() -> None:
    cql = agent(gap_threshold=-100.0)
    cql.weight_optimizer.learning_rate.fill_(100.0)
    for seed in range(2):
        metrics = cql.learn(random_batch(UNIT, seed=seed))
    assert metrics["conservatism"].item() == pytest.approx(1e6)
    assert metrics["critic_loss"].isfinite()


def test_a_weight_of_zero_may_be_fixed_but_not_learned() -> None:
    cql = agent(conservatism=0.0)
    metrics = cql.learn(random_batch(UNIT))
    assert all(value.isfinite() for value in (*metrics.values(), cql.log_weight))
    assert cql.log_weight.exp() < 1e-30
    with pytest.raises(UserError, match="conservatism is 0, whose logarithm cannot be learned"):
        agent(conservatism=0.0, gap_threshold=5.0)


def test_the_authors_profile_has_three_layers() -> None:
    config = CQLConfig(**PROFILES["authors"])
    assert CQL(config, UNIT).learn(random_batch(UNIT, rows=4))["critic_loss"].isfinite()
    assert config.hidden == (256, 256, 256)
