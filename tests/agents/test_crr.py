"""CRR: filters, baselines and targets by hand, acting, choices, and what it shares with BC."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from rlbench.agents._values import likelihood_loss
from rlbench.agents.bc import BC, BCConfig
from rlbench.agents.crr import CRR, CRRConfig, advantage, advantage_weight, conservative_loss
from rlbench.backbones.heads.categorical_q import CategoricalQ
from rlbench.errors import UserError
from rlbench.experience import Transitions
from rlbench.interface import Spec
from tests.agents.case import Case
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, random_batch, reward_is_action, transitions

CATEGORICAL = {"critic": "categorical", "value_range": (-5.0, 5.0)}
CASE = Case(
    "crr",
    small={"hidden": (16,)},
    changes={
        "hidden": ((32,), {}),
        "layers": ("mlp", {}),
        "policy": ("mixture", {}),
        "gradient_clip": (1e-3, {}),
        "normalise_obs": (False, {}),
        "weight": ("binary", {}),
        "baseline": ("max", {}),
        "max_weight": (0.5, {}),
        "critic": ("categorical", {}),
        "critics": (1, {}),
        "atoms": (11, CATEGORICAL),
        "value_range": ((-10.0, 10.0), CATEGORICAL),
        "target_actions": ("policy", {}),
        "target_update": ("hard", {"target_every": 2}),
        "target_every": (1, {"target_update": "hard", "target_rate": 0.01}),
        "act_mode": ("sample", {}),
        "act_temperature": (1e-3, {}),
    },
    fast={"hidden": (32, 32), "learning_rate": 5e-3, "target_rate": 0.1, "beta": 0.1},
)

CHOICES = Spec(Box(-1, 1, (2,)), Discrete(3, start=5), discount=0.5)


def agent(spec: Spec = UNIT, **settings: Any) -> CRR:
    return CRR(CRRConfig(**{"hidden": (8,), **settings}), spec)


class Stub(nn.Module):
    """A critic whose two members both say f(action)."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        value = self.function(action)
        return torch.stack([value, value])


def test_weights_by_hand() -> None:
    better = torch.tensor([-1.0, 0.0, 1e-9, 2.0, 1e6])
    binary = advantage_weight(better, CRRConfig(weight="binary"))
    assert binary.tolist() == [0, 0, 1, 1, 1]
    exp = advantage_weight(better, CRRConfig(beta=0.5))
    torch.testing.assert_close(exp, torch.tensor([math.exp(-2), 1, 1, 20, 20]))
    assert advantage_weight(better, CRRConfig(weight="all")).tolist() == [1] * 5


def test_advantages_by_hand() -> None:
    value, others = torch.tensor([1.0]), torch.tensor([[0.0, 4.0]])
    even, uneven = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    by = {kind: CRRConfig(baseline=kind) for kind in ("mean", "max", "min")}
    assert advantage(value, others, even, by["mean"]).item() == pytest.approx(-1)
    assert advantage(value, others, uneven, by["mean"]).item() == pytest.approx(0)
    assert advantage(value, others, even, by["max"]).item() == -3
    assert advantage(value, others, even, by["min"]).item() == 1


def test_likelihood_loss_by_hand() -> None:
    # (1 * -2 + 3 * -1) / 2 = -2.5
    got = likelihood_loss(torch.tensor([-2.0, -1.0]), torch.tensor([1.0, 3.0]))
    assert got.item() == 2.5


def test_conservative_loss_by_hand() -> None:
    every = torch.tensor([[[0.0, math.log(3.0)]]])
    assert conservative_loss(every, torch.tensor([[0.5]])).item() == pytest.approx(
        math.log(4) - 0.5
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: likelihood_loss(torch.zeros(4), torch.zeros(4, 1)),
        lambda: advantage(torch.zeros(4, 1), torch.zeros(4, 2), torch.zeros(4, 2), CRRConfig()),
        lambda: advantage(torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 1), CRRConfig()),
        lambda: conservative_loss(torch.zeros(2, 4, 3), torch.zeros(2, 1)),
    ],
)
def test_losses_reject_columns(call: Any) -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        call()


def test_weights_send_no_gradient_to_the_critic() -> None:
    better, log_prob = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    likelihood_loss(log_prob, advantage_weight(better, CRRConfig())).backward()
    assert better.grad is None
    assert log_prob.grad is not None


@pytest.mark.parametrize("policy", ["gaussian", "free-gaussian", "tanh-gaussian", "mixture"])
def test_weight_all_equals_bc_bit_for_bit(policy: Any) -> None:
    spec = dataclasses.replace(UNIT, obs_mean=torch.ones(2), obs_std=torch.ones(2))
    bc = BC(BCConfig(hidden=(8,), policy=policy), spec, seed=3)
    config = CRRConfig(hidden=(8,), policy=policy, layers="mlp", weight="all", act_mode="mode")
    crr = CRR(config, spec, seed=3)
    for seed in range(20):
        batch = random_batch(spec, seed=seed)
        bc.learn(batch)
        crr.learn(batch)
    assert unchanged(crr.policy, copies(bc.policy))
    obs = torch.randn(5, 2)
    assert torch.equal(bc.act(obs).action, crr.act(obs).action)


@pytest.mark.parametrize("samples", [1, 3])
def test_target_by_hand(samples: int) -> None:
    crr, batch = agent(target_samples=samples), random_batch(UNIT)
    with torch.no_grad():
        for parameter in crr.target_policy.parameters():
            parameter.mul_(3.0)
    crr.generator.manual_seed(0)
    got = crr._target(batch.reward, batch.terminated, batch.next_obs, batch.next_obs)
    noise = torch.randn(32, samples, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, log_std = crr.target_policy(batch.next_obs)
        actions = (mean[:, None] + log_std.exp()[:, None] * noise).clamp(-1, 1)
        value = crr.target_critic(batch.next_obs, actions).min(0).values.mean(1)
    expected = batch.reward + 0.5 * (1 - batch.terminated) * value
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", ["target-policy", "policy"])
def test_the_target_s_actions_come_from_the_policy_of_the_setting(kind: Any) -> None:
    crr, batch = agent(target_actions=kind), random_batch(UNIT)

    def target() -> Tensor:
        crr.generator.manual_seed(0)
        return crr._target(batch.reward, torch.zeros(32), batch.next_obs, batch.next_obs)

    before = target()
    moved = crr.policy if kind == "target-policy" else crr.target_policy
    with torch.no_grad():
        next(iter(moved.parameters())).add_(1.0)
    assert torch.equal(before, target())
    used = crr.target_policy if kind == "target-policy" else crr.policy
    with torch.no_grad():
        next(iter(used.parameters())).add_(1.0)
    assert not torch.equal(before, target())


def test_the_policy_step_uses_critic_and_weights_as_the_equation_says() -> None:
    crr, batch = agent(beta=0.3, advantage_samples=2), random_batch(UNIT)
    crr.generator.manual_seed(0)
    noise = torch.randn(32, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, log_std = crr.policy(batch.obs)
        actions = (mean[:, None] + log_std.exp()[:, None] * noise).clamp(-1, 1)
        others = crr.critic(batch.obs, actions).min(0).values.mean(1)
        value = crr.critic(batch.obs, batch.action).min(0).values
        weight = ((value - others) / 0.3).exp().clamp(max=20)
        density = torch.distributions.Normal(mean, log_std.exp()).log_prob(batch.action).sum(-1)
    metrics = crr._update_policy(batch.obs, batch.obs, batch.action)
    torch.testing.assert_close(metrics["policy_loss"], -(weight * density).mean())
    torch.testing.assert_close(metrics["weight_mean"], weight.mean())


def test_policy_steps_leave_the_critic_alone_and_the_other_way_round() -> None:
    crr, batch = agent(), random_batch(UNIT)
    critic, policy = copies(crr.critic), copies(crr.policy)
    crr._update_policy(batch.obs, batch.obs, batch.action)
    assert unchanged(crr.critic, critic)
    assert not unchanged(crr.policy, policy)
    policy = copies(crr.policy)
    crr._update_critic(batch.obs, batch.action, batch.reward)
    assert unchanged(crr.policy, policy)
    assert not unchanged(crr.critic, critic)


def test_hard_targets_are_copies_every_third_update_and_not_before() -> None:
    crr = agent(target_update="hard", target_every=3)
    first = copies(crr.target_critic)
    for update in range(1, 4):
        crr.learn(random_batch(UNIT, seed=update))
        assert unchanged(crr.target_critic, first) == (update < 3)
    assert unchanged(crr.target_critic, copies(crr.critic))
    assert unchanged(crr.target_policy, copies(crr.policy))


def test_the_largest_gradient_is_that_of_the_setting() -> None:
    moved: list[float] = []
    for clip in (None, 1e-9):
        crr = agent(gradient_clip=clip)
        before = copies(crr.policy)
        crr.learn(random_batch(UNIT))
        steps = [p.detach() - q for p, q in zip(crr.policy.parameters(), before, strict=True)]
        moved.append(max(float(step.abs().max()) for step in steps))
    # Adam's first step is the learning rate, unless its epsilon of 1e-8 is larger than the gradient.
    assert moved[0] == pytest.approx(3e-4, rel=0.01)
    assert moved[1] < 3e-5


def test_critic_weighted_acting_takes_what_the_critic_prefers_by_far() -> None:
    crr, obs = agent(), torch.zeros(200, 2)
    crr.critic = Stub(lambda action: 1e4 * action[..., 0])  # type: ignore[assignment]
    noise = torch.randn(200, 16, 3)
    actions = crr.policy.actions(crr.policy(obs), noise[..., :-1])
    torch.testing.assert_close(crr.decide(obs, noise)[:, 0], actions[..., 0].amax(1))
    greedy = agent(act_mode="argmax-q")
    greedy.critic = crr.critic
    torch.testing.assert_close(greedy.decide(obs, noise)[:, 0], actions[..., 0].amax(1))


def test_critic_weighted_acting_is_even_where_the_critic_is_indifferent() -> None:
    crr, obs = agent(act_samples=4), torch.zeros(2000, 2)
    crr.critic = Stub(lambda action: 0 * action[..., 0])  # type: ignore[assignment]
    noise = torch.randn(2000, 4, 3, generator=torch.Generator().manual_seed(0))
    actions = crr.policy.actions(crr.policy(obs), noise[..., :-1])
    chosen = (crr.decide(obs, noise)[:, None] - actions).abs().sum(-1).argmin(1)
    counts = torch.bincount(chosen, minlength=4)
    # Chi-square with 3 degrees of freedom is above 16.3 once in a thousand.
    assert float(((counts - 500) ** 2 / 500).sum()) < 16.3


def test_critic_weights_follow_the_softmax_at_the_temperature() -> None:
    crr, obs = agent(act_samples=2, act_temperature=2.0), torch.zeros(4000, 2)
    crr.critic = Stub(lambda action: torch.where(action[..., 0] > 0, 3.0, 0.0))  # type: ignore[assignment]
    noise = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(0))
    positive = crr.policy.actions(crr.policy(obs), noise[..., :-1])[..., 0] > 0
    mixed = positive.sum(1) == 1
    share = (crr.decide(obs, noise)[mixed, 0] > 0).float().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-1.5)), abs=0.03)


def test_acting_values_are_those_of_the_choice() -> None:
    for mode in ("critic-weighted", "argmax-q", "sample"):
        crr, obs = agent(act_mode=mode), torch.randn(20, 2)
        assert crr.acting_noise is not None
        noise = torch.randn(20, *crr.acting_noise)
        _, scores = crr._scores(obs, obs, mode, noise)
        value = crr.acting_value(obs, crr.decide(obs, noise), noise)
        assert value is not None
        torch.testing.assert_close(value, scores.amax(1))
    assert agent(act_mode="mode").acting_noise is None


def test_authors_profile_is_a_residual_network_with_a_distribution() -> None:
    from rlbench.agents.crr import PROFILES

    small = PROFILES["authors"] | {"hidden": (8, 8)}
    crr = CRR(CRRConfig(**small), UNIT)
    metrics = crr.learn(random_batch(UNIT))
    assert isinstance(crr.critic, CategoricalQ)
    assert crr.critic.logits(torch.zeros(3, 2), torch.zeros(3, 2)).shape == (1, 3, 21)
    assert all(value.isfinite() for value in metrics.values())


def test_residual_layers_need_equal_sizes() -> None:
    with pytest.raises(UserError, match="sizes that are all the same"):
        agent(layers="residual", hidden=(8, 16))


@pytest.mark.parametrize("critic", ["scalar", "categorical"])
def test_categorical_and_scalar_critics_find_the_best_action(critic: Any) -> None:
    crr = agent(
        hidden=(32, 32), critic=critic, value_range=(-2.0, 2.0), learning_rate=5e-3, beta=0.1,
        target_rate=0.1,
    )  # fmt: skip
    probe = reward_is_action()
    for _ in range(250):
        crr.learn(probe.data)
    values = crr.critic(probe.data.obs, probe.data.action)
    torch.testing.assert_close(values, probe.value.expand(2, -1), atol=0.15, rtol=0)
    assert crr.act(probe.data.obs).action[:, 0].mean() > 0.6


def choices_batch(rows: int = 96) -> Transitions:
    """Choice 6 earns 1, the others nothing; each is taken as often."""
    number = torch.arange(rows) % 3
    obs = torch.rand(rows, 2, generator=torch.Generator().manual_seed(0))
    return transitions(obs, number + 5, (number == 1).float())


def test_choices_are_numbers_of_the_space() -> None:
    for mode in ("critic-weighted", "argmax-q", "mode", "sample"):
        crr = agent(CHOICES, act_mode=mode)
        crr.learn(choices_batch())
        for explore in (True, False):
            action = crr.act(torch.rand(7, 2), explore=explore).action
            assert action.shape == (7,)
            assert action.dtype == torch.int64
            assert all(CHOICES.action_space.contains(np.int64(a)) for a in action.tolist())


@pytest.mark.parametrize("settings", [{}, {"weight": "binary"}, {"conservatism": 0.1}])
def test_the_best_choice_is_found(settings: dict[str, Any]) -> None:
    crr = agent(CHOICES, hidden=(32,), learning_rate=1e-2, beta=0.2, **settings)
    for _ in range(150):
        crr.learn(choices_batch())
    assert (crr.act(torch.rand(50, 2)).action == 6).float().mean() > 0.95
    crr.config = dataclasses.replace(crr.config, act_mode="mode")
    assert (crr.act(torch.rand(50, 2)).action == 6).all()


def test_values_of_choices_are_exact_expectations() -> None:
    crr, batch = agent(CHOICES), choices_batch(3)
    obs = batch.obs
    with torch.no_grad():
        probabilities = crr.target_policy(obs)[0].exp()
        every = torch.eye(3).expand(3, 3, 3)
        value = (probabilities * crr.target_critic(obs, every).min(0).values).sum(1)
    got = crr._target(batch.reward, torch.zeros(3), obs, obs)
    torch.testing.assert_close(got, batch.reward + 0.5 * value)
    samples = agent(CHOICES, target_samples=4, advantage_samples=1)
    assert torch.equal(samples._target(batch.reward, torch.zeros(3), obs, obs), got)


def test_conservatism_lowers_the_other_choices() -> None:
    gaps = []
    for conservatism in (0.0, 5.0):
        crr = agent(CHOICES, conservatism=conservatism, learning_rate=1e-2)
        batch = choices_batch()
        only = dataclasses.replace(batch, action=torch.full((96,), 5))
        for _ in range(50):
            crr.learn(only)
        every = torch.eye(3).expand(96, 3, 3)
        values = crr.critic(batch.obs, every).min(0).values.mean(0)
        gaps.append(float((values[0] - values[1:].max()).detach()))
    assert gaps[1] > gaps[0] + 1


def test_conservatism_needs_choices() -> None:
    with pytest.raises(UserError, match="needs discrete actions"):
        agent(conservatism=1.0)
