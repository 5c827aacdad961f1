"""TD3: the target by hand, the delay of the policy, and what may move what."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.agents.td3 import TD3, TD3Config, cloning_loss
from rlbench.agents.td3_bc import TD3BC, TD3BCConfig
from tests.agents.case import Case, Change
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, action_is_observation, random_batch

FAST = {"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1}
CLIP: dict[str, Change] = {"target_noise_clip": (0.01, {})}
CASES = (
    Case(
        "td3",
        small={"hidden": (16,)},
        changes={**CLIP, "cloning_alpha": (2.5, {}), "normalise_obs": (True, {})},
        fast=FAST,
    ),
    Case(
        "td3-bc",
        small={"hidden": (16,)},
        changes={**CLIP, "cloning_alpha": (1.0, {}), "normalise_obs": (False, {})},
        fast={**FAST, "cloning_alpha": 25.0},
    ),
)


def agent(**settings: Any) -> TD3:
    return TD3(TD3Config(hidden=(8,), **settings), UNIT)


def target_of(td3: TD3, **changes: Tensor) -> Tensor:
    td3.generator.manual_seed(0)
    return td3._target(dataclasses.replace(random_batch(UNIT), **changes))


def scaled(network: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)


@pytest.mark.parametrize(("noise", "clip"), [(0.0, 0.5), (5.0, 0.25), (0.1, 0.5)])
def test_target_by_hand(noise: float, clip: float) -> None:
    td3, batch = agent(target_noise=noise, target_noise_clip=clip), random_batch(UNIT)
    scaled(td3.target_policy, 3.0)  # actions near the bound, so that its clip is seen
    got = target_of(td3, terminated=torch.zeros(32))
    drawn = torch.randn(32, 2, generator=torch.Generator().manual_seed(0)) * noise
    with torch.no_grad():
        action = (td3.target_policy(batch.next_obs).tanh() + drawn.clamp(-clip, clip)).clamp(-1, 1)
        value = td3.target_critic(batch.next_obs, action).min(dim=0).values
    torch.testing.assert_close(got, batch.reward + 0.5 * value)


def test_an_end_stops_the_bootstrap_and_a_time_limit_does_not() -> None:
    td3, none, all_ = agent(), torch.zeros(32), torch.ones(32)
    assert torch.equal(target_of(td3, terminated=all_), random_batch(UNIT).reward)
    running = target_of(td3, terminated=none, truncated=none)
    assert torch.equal(running, target_of(td3, terminated=none, truncated=all_))


@pytest.mark.parametrize("network", ["policy", "critic"])
def test_the_target_comes_from_the_target_networks(network: str) -> None:
    td3 = agent()
    before = target_of(td3)
    scaled(getattr(td3, network), 0.0)
    assert torch.equal(before, target_of(td3))
    scaled(getattr(td3, f"target_{network}"), 0.0)
    assert not torch.equal(before, target_of(td3))


def test_policy_and_targets_move_every_third_update_only() -> None:
    td3 = agent(policy_every=3)
    slow = ("policy", "target_policy", "target_critic")
    before = {name: copies(getattr(td3, name)) for name in slow}
    for update in range(1, 4):
        critic = copies(td3.critic)
        td3.learn(random_batch(UNIT, seed=update))
        assert not unchanged(td3.critic, critic)
        for name in slow:
            assert unchanged(getattr(td3, name), before[name]) == (update < 3)


def test_the_policy_climbs_the_first_critic_alone() -> None:
    climbing, still = agent(policy_every=1), agent(policy_every=1)
    for td3, flat in ((climbing, 1), (still, 0)):
        td3.critic_optimizer.learning_rate.zero_()
        scaled(td3.critic.members[flat], 0.0)
        before = copies(td3.policy)
        value = td3.critic.first(random_batch(UNIT).obs, td3.policy(random_batch(UNIT).obs).tanh())
        metrics = td3.learn(random_batch(UNIT))
        assert unchanged(td3.policy, before) == (td3 is still)
        torch.testing.assert_close(metrics["q_policy"], value.mean().detach())


def test_the_policy_step_raises_its_value() -> None:
    td3 = agent(policy_every=1)
    td3.critic_optimizer.learning_rate.zero_()
    values = [float(td3.learn(random_batch(UNIT))["q_policy"]) for _ in range(50)]
    assert values[-1] > values[0]


def test_exploring_adds_noise_within_the_box() -> None:
    td3, obs = agent(exploration_noise=0.5), torch.zeros(2000, 2)
    scaled(td3.policy, 0.0)  # pi(s) = 0
    action = td3.act(obs, explore=True).action
    assert td3.act(obs).action.eq(0).all()
    assert action.abs().max() <= 1
    # Standard deviation of N(0, 0.5) clipped at 1: 0.472 by integration.
    assert action.std().item() == pytest.approx(0.472, abs=0.02)


def test_cloning_loss_by_hand() -> None:
    value, action = torch.tensor([2.0, -4.0]), torch.tensor([[0.5], [1.0]])
    # Mean |Q| = 3: 0.3 / 3 = 0.1. Squared error (0.25 + 1) / 2 less 0.1 times the mean value -1.
    got = cloning_loss(value, action, torch.zeros(2, 1), 0.3)
    assert got.item() == pytest.approx(0.625 + 0.1)
    with pytest.raises(ValueError, match="expected one shape"):
        cloning_loss(value, action, torch.zeros(2, 2), 0.3)
    with pytest.raises(ValueError, match="expected one shape"):
        cloning_loss(value[:, None], action, torch.zeros(2, 1), 0.3)


def test_only_the_squared_error_remains_if_all_values_are_zero() -> None:
    value = torch.zeros(2, requires_grad=True)
    loss = cloning_loss(value, torch.full((2, 1), 0.5), torch.zeros(2, 1), 2.5)
    assert loss.item() == 0.25
    loss.backward()
    assert value.grad is not None
    assert value.grad.isfinite().all()


def test_the_scale_of_the_value_does_not_matter_to_cloning_nor_get_a_gradient() -> None:
    action, data = torch.zeros(2, 1), torch.ones(2, 1)
    gradients = []
    for scale in (1.0, 1000.0):
        value = torch.tensor([scale, 3 * scale], requires_grad=True)
        cloning_loss(value, action, data, 2.5).backward()
        assert value.grad is not None
        gradients.append(value.grad * scale)
    torch.testing.assert_close(gradients[0], gradients[1])
    # -alpha / mean |Q| / B, and nothing through the mean.
    torch.testing.assert_close(gradients[0], torch.full((2,), -2.5 / 2 / 2))


def test_td3_bc_stays_with_the_demonstrator_where_the_value_weighs_little() -> None:
    probe = action_is_observation()
    settings = {"hidden": (32,), "learning_rate": 1e-2, "policy_every": 1}
    td3 = TD3BC(TD3BCConfig(**settings, cloning_alpha=1e-3), UNIT)  # type: ignore[arg-type]
    for _ in range(200):
        td3.learn(probe.data)
    got = td3.act(probe.data.obs).action
    torch.testing.assert_close(got, probe.data.action, atol=0.1, rtol=0)
