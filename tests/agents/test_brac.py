"""BRAC: the divergence, its price in values and policy, and the weight that follows it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.agents.brac import BRAC, PROFILES, BRACConfig, alpha_loss, policy_loss
from rlbench.errors import UserError
from tests.agents.case import Case
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, action_is_observation, random_batch

LEARNED = {"alpha_mode": "learned"}
CASE = Case(
    "brac",
    small={"hidden": (16,), "warmup_updates": 1},
    changes={
        "penalty": ("policy", {}),
        "alpha_mode": ("learned", {}),
        "divergence_threshold": (100.0, LEARNED),
        "alpha_learning_rate": (1.0, LEARNED),
        "warmup_updates": (3, {}),
    },
    fast={
        "hidden": (32, 32), "policy_learning_rate": 5e-3, "learning_rate": 5e-3,
        "target_rate": 0.1, "alpha": 0.01,
    },
)  # fmt: skip


def agent(**settings: Any) -> BRAC:
    return BRAC(BRACConfig(**{"hidden": (8,), **settings}), UNIT)


def test_losses_by_hand() -> None:
    value, divergence = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 1.5])
    # ((2 * 0.5 - 1) + (2 * 1.5 - 3)) / 2
    assert policy_loss(value, divergence, torch.tensor(2.0)).item() == 0.0
    log_alpha = torch.tensor(math.log(2.0), requires_grad=True)
    loss = alpha_loss(log_alpha, divergence, 0.25)
    assert loss.item() == pytest.approx(-2 * 0.75)
    loss.backward()
    assert log_alpha.grad is not None
    assert log_alpha.grad.item() < 0  # a step down the loss raises alpha
    with pytest.raises(ValueError, match="expected one shape"):
        policy_loss(value, divergence[:, None], torch.tensor(2.0))


def test_a_policy_does_not_diverge_from_itself() -> None:
    brac, obs = agent(), torch.randn(20, 2)
    brac.behaviour = brac.policy
    _, divergence = brac._divergence(obs)
    torch.testing.assert_close(divergence, torch.zeros(20), atol=1e-3, rtol=0)


def test_the_divergence_is_that_of_two_gaussians() -> None:
    brac, obs = agent(divergence_samples=20_000), torch.zeros(1, 2)
    _, divergence = brac._divergence(obs)
    (mean, log_std), (other, other_log_std) = brac.policy(obs), brac.behaviour(obs)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()),
        torch.distributions.Normal(other, other_log_std.exp()),
    ).sum()
    assert divergence.item() == pytest.approx(exact.item(), rel=0.05)


@pytest.mark.parametrize(("penalty", "price"), [("value", 1.0), ("policy", 0.0)])
def test_target_by_hand(penalty: Any, price: float) -> None:
    brac, batch = agent(penalty=penalty), random_batch(UNIT)
    brac.generator.manual_seed(0)
    got = brac._target(batch, torch.tensor(0.5))
    brac.generator.manual_seed(0)
    with torch.no_grad():
        actions, log_prob = brac.policy.sample_many(batch.next_obs, 4, brac.generator)
        behaviour = brac.behaviour.log_prob(brac.behaviour(batch.next_obs), actions)
        value = brac.target_critic(batch.next_obs, actions[:, 0]).min(0).values
    following = value - price * 0.5 * (log_prob - behaviour).mean(1)
    torch.testing.assert_close(got, batch.reward + 0.5 * (1 - batch.terminated) * following)


def test_target_actions_come_from_the_policy_itself() -> None:
    brac, batch = agent(penalty="policy"), random_batch(UNIT)

    def target() -> Tensor:
        brac.generator.manual_seed(0)
        return brac._target(batch, torch.tensor(1.0))

    before = target()
    with torch.no_grad():
        next(iter(brac.policy.parameters())).add_(1.0)
    assert not torch.equal(before, target())
    assert not hasattr(brac, "target_policy")


def test_the_policy_obeys_the_behaviour_alone_during_the_warmup() -> None:
    moved = []
    for warmup in (5, 0):
        brac = agent(warmup_updates=warmup)
        brac.critic_optimizer.learning_rate.zero_()
        for parameter in brac.critic.parameters():
            parameter.data.mul_(100.0)
        brac.learn(random_batch(UNIT))
        moved.append(copies(brac.policy))
    quiet = agent(warmup_updates=5)
    quiet.critic_optimizer.learning_rate.zero_()
    quiet.learn(random_batch(UNIT))
    assert all(torch.equal(p, q) for p, q in zip(moved[0], copies(quiet.policy), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(*moved, strict=True))


def test_steps_of_the_policy_leave_behaviour_and_critic_alone() -> None:
    brac = agent(warmup_updates=0)
    brac.critic_optimizer.learning_rate.zero_()
    brac.behaviour_optimizer.learning_rate.zero_()
    before = {name: copies(getattr(brac, name)) for name in ("behaviour", "critic", "policy")}
    brac.learn(random_batch(UNIT))
    assert unchanged(brac.behaviour, before["behaviour"])
    assert unchanged(brac.critic, before["critic"])
    assert not unchanged(brac.policy, before["policy"])


def test_a_learned_weight_follows_the_divergence_and_a_fixed_one_stays() -> None:
    for threshold, rises in ((-100.0, True), (100.0, False)):
        brac = agent(alpha_mode="learned", divergence_threshold=threshold)
        brac.learn(random_batch(UNIT))
        assert (brac.log_alpha.item() > 0) == rises
    fixed = agent()
    fixed.learn(random_batch(UNIT))
    assert fixed.log_alpha.item() == 0.0


def test_a_learned_weight_stops_before_its_exponential_overflows() -> None:
    brac = agent(alpha_mode="learned", divergence_threshold=-100.0, alpha_learning_rate=100.0)
    for seed in range(2):
        metrics = brac.learn(random_batch(UNIT, seed=seed))
    assert metrics["alpha"].item() == pytest.approx(math.exp(10))
    assert metrics["policy_loss"].isfinite()


def test_a_weight_of_zero_may_be_fixed_but_not_learned() -> None:
    brac = agent(alpha=0.0, warmup_updates=0)
    metrics = brac.learn(random_batch(UNIT))
    assert all(value.isfinite() for value in (*metrics.values(), brac.log_alpha))
    assert brac.log_alpha.exp() < 1e-30
    with pytest.raises(UserError, match="alpha is 0, whose logarithm cannot be learned"):
        agent(alpha=0.0, alpha_mode="learned")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_each_profile_can_be_trained(profile: str) -> None:
    brac = BRAC(BRACConfig(**PROFILES[profile]), UNIT)
    assert brac.learn(random_batch(UNIT, rows=4))["critic_loss"].isfinite()


def test_a_heavy_weight_clones_the_demonstrator() -> None:
    probe = action_is_observation()
    brac = agent(alpha=100.0, policy_learning_rate=1e-2, learning_rate=1e-2)
    for _ in range(300):
        brac.learn(probe.data)
    got = brac.act(probe.data.obs).action
    assert (got - probe.data.action).abs().mean() < 0.08
