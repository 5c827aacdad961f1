"""CRR with discrete actions: baselines over samples, the filter that keeps actions, several target samples."""

import dataclasses
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.agents import AWAC, AWACConfig
from rlbench.agents.crr import CRR, CRRConfig
from rlbench.agents.recurrent_crr import RecurrentCRR, RecurrentCRRConfig
from rlbench.backbones.heads.categorical_q import CategoricalQ, project
from rlbench.backbones.heads.policies import Choice
from rlbench.backbones.layers.noise import gumbel
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Spec
from tests.probe_envs import UNIT, random_batch, transitions

CHOICES = Spec(Box(-1, 1, (2,)), Discrete(3, start=5), discount=0.5)


def agent(spec: Spec = CHOICES, **settings: Any) -> CRR:
    return CRR(CRRConfig(**{"hidden": (8,), **settings}), spec)


def batch(rows: int = 96) -> Transitions:
    """Choice 6 earns 1, the others nothing; each is taken equally often."""
    number = torch.arange(rows) % 3
    obs = torch.rand(rows, 2, generator=torch.Generator().manual_seed(0))
    return transitions(obs, number + 5, (number == 1).float())


def test_choices_are_sampled_with_their_probabilities() -> None:
    policy = Choice(2, 3, (8,))
    params = (torch.tensor([[0.2, 0.5, 0.3]]).log(),)
    noise = torch.randn(1, 20_000, 3, generator=torch.Generator().manual_seed(0))
    actions, log_weights = policy.samples(params, noise)
    assert actions.shape == (1, 20_000, 3)
    assert (actions.sum(-1) == 1).all()
    torch.testing.assert_close(actions.mean(1), params[0].exp(), atol=0.01, rtol=0)
    torch.testing.assert_close(log_weights.exp(), torch.full((1, 20_000), 1 / 20_000))


@pytest.mark.parametrize("baseline", ["max", "min"])
def test_extreme_baselines_use_the_given_number_of_samples(baseline: Any) -> None:
    crr, given = agent(baseline=baseline, advantage_samples=2, weight="exp", beta=0.5), batch()
    action = crr.form.to_unit(given.action)
    with torch.no_grad():
        for parameter in crr.policy.parameters():
            parameter.mul_(3.0)  # so that some choices are likelier than others
    crr.generator.manual_seed(0)
    noise = torch.randn(96, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        log_prob = crr.policy(given.obs)[0]
        every = crr.critic(given.obs, torch.eye(3).expand(96, 3, 3)).min(0).values
        drawn = (log_prob[:, None] + gumbel(noise)).argmax(-1)
        compared = every.gather(1, drawn)
        best = compared.max(1).values if baseline == "max" else compared.min(1).values
        weight = (((every * action).sum(1) - best) / 0.5).exp().clamp(max=20)
        loss = -(weight * (log_prob * action).sum(1)).mean()
    metrics = crr._update_policy(given.obs, given.obs, action)
    torch.testing.assert_close(metrics["weight_mean"], weight.mean())
    torch.testing.assert_close(metrics["policy_loss"], loss)
    torch.testing.assert_close(metrics["q_policy"], compared.mean())


@pytest.mark.parametrize("baseline", ["mean", "max", "min"])
def test_metrics_are_detached_finite_scalars(baseline: Any) -> None:
    for value in agent(baseline=baseline).learn(batch()).values():
        assert value.shape == ()
        assert value.isfinite()
        assert not value.requires_grad


def test_the_mean_baseline_is_an_expectation_for_any_number_of_samples() -> None:
    losses = []
    for samples in (1, 4):
        crr = agent(advantage_samples=samples)
        crr.generator.manual_seed(samples)
        losses.append([float(x) for x in crr.learn(batch()).values()])
    assert losses[0] == losses[1]
    awac, given = AWAC(AWACConfig(hidden=(8,)), CHOICES), batch()
    params = awac.policy(given.obs)
    assert torch.equal(awac._others(params, 96)[1], params[0])


@pytest.mark.parametrize(
    "settings",
    [{"weight": "binary", "baseline": "max"}]
    + [{"beta": 0.2, "baseline": baseline} for baseline in ("max", "min")],
)
def test_the_best_choice_is_found_with_either_extreme_baseline(settings: Any) -> None:
    crr = agent(hidden=(32,), learning_rate=1e-2, act_mode="mode", **settings)
    kept = [float(crr.learn(batch())["weight_nonzero"]) for _ in range(150)]
    assert max(kept) > 0.02
    assert (crr.act(torch.rand(50, 2)).action == 6).all()


def test_binary_max_keeps_no_action_that_is_worse_than_a_sample() -> None:
    crr = agent(weight="binary", baseline="max", advantage_samples=50)
    # Fifty samples of a nearly uniform policy hold all three choices, so none beats the best of them.
    assert crr.learn(batch())["weight_nonzero"] == 0
    few = agent(weight="binary", baseline="max", advantage_samples=1)
    assert few.learn(batch())["weight_nonzero"] > 0.1


def test_binary_max_also_learns_with_memory() -> None:
    config = RecurrentCRRConfig(
        hidden=(16,), memory_size=8, weight="binary", baseline="max", learning_rate=1e-2
    )
    crr = RecurrentCRR(config, dataclasses.replace(CHOICES, action_space=Discrete(3)))
    kept = []
    for seed in range(60):
        noise = torch.Generator().manual_seed(seed)
        number = torch.randint(3, (6, 16), generator=noise)
        obs, none = torch.rand(6, 16, 2, generator=noise), torch.zeros(6, 16)
        reward = (number == 1).float()
        metrics = crr.learn(Trajectories(obs, number, reward, none + 1, none, obs))
        kept.append(float(metrics["weight_nonzero"]))
    assert max(kept) > 0.02
    assert (crr.policy.log_prob(crr.policy(torch.zeros(1, 8)), torch.eye(3)[1:2]).exp() > 0.6).all()


def atoms_target(crr: CRR, given: Transitions, actions: Tensor, weights: Tensor) -> Tensor:
    """Projection of the weighted mean of the distributions of N actions, by loops over them."""
    critic = crr.target_critic
    assert isinstance(critic, CategoricalQ)
    mixed = torch.zeros(len(actions), len(critic.atoms))
    for n in range(actions.shape[1]):
        probabilities = critic.logits(given.next_obs, actions[:, n]).softmax(-1)
        for row, member in enumerate((probabilities @ critic.atoms).argmin(0).tolist()):
            mixed[row] += weights[row, n] * probabilities[member, row]
    return project(mixed, given.reward, given.terminated, critic.atoms, 0.5)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_categorical_target_is_the_mean_over_all_samples(samples: int) -> None:
    settings: dict[str, Any] = {"critic": "categorical", "value_range": (-2.0, 2.0), "atoms": 5}
    crr, given = agent(UNIT, target_samples=samples, **settings), random_batch(UNIT)
    with torch.no_grad():
        for network in (crr.target_policy, crr.target_critic):
            for parameter in network.parameters():
                parameter.mul_(3.0)  # so that samples differ in what they are worth
        crr.generator.manual_seed(0)
        got = crr._target(given.reward, given.terminated, given.next_obs, given.next_obs)
        noise = torch.randn(32, samples, 2, generator=torch.Generator().manual_seed(0))
        actions = crr.target_policy.actions(crr.target_policy(given.next_obs), noise)
        wanted = atoms_target(crr, given, actions, torch.full((32, samples), 1 / samples))
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(got.sum(1), torch.ones(32))


def test_a_categorical_target_weighs_choices_by_their_probabilities() -> None:
    crr = agent(critic="categorical", value_range=(-2.0, 2.0), atoms=5)
    given = dataclasses.replace(batch(32), terminated=torch.zeros(32))
    with torch.no_grad():
        got = crr._target(given.reward, given.terminated, given.next_obs, given.next_obs)
        weights = crr.target_policy(given.next_obs)[0].exp()
        wanted = atoms_target(crr, given, torch.eye(3).expand(32, 3, 3), weights)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("baseline", ["mean", "max"])
def test_traced_updates_equal_those_of_learn(baseline: Any) -> None:
    config = CRRConfig(hidden=(8,), baseline=baseline, conservatism=0.5)
    agent, twin = (CRR(config, CHOICES, seed=0) for _ in range(2))
    learn = compiled_learn(twin, interpreted)
    for seed in range(3):
        rows = torch.Generator().manual_seed(seed)
        obs, next_obs = torch.randn(2, 32, 2, generator=rows)
        reward = torch.randn(32, generator=rows)
        batch = Transitions(
            obs, torch.randint(5, 8, (32,), generator=rows), reward, next_obs,
            torch.zeros(32), torch.zeros(32),
        )  # fmt: skip
        agent.learn(batch)
        learn(batch)
    for mine, theirs in zip(agent.policy.parameters(), twin.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
