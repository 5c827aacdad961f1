"""BCQ: the perturbation, the target by hand, what may move what."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.agents.bcq import BCQ, BCQConfig, perturbation_loss
from tests.agents.case import Case
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, random_batch

CASE = Case(
    "bcq",
    small={"hidden": (16,), "vae_hidden": (16,), "act_samples": 5},
    fast={
        "hidden": (32, 32), "vae_hidden": (32,), "learning_rate": 5e-3, "target_rate": 0.1,
        "perturbation": 0.5,
    },
)  # fmt: skip


def agent(**settings: Any) -> BCQ:
    return BCQ(BCQConfig(hidden=(8,), vae_hidden=(8,), **settings), UNIT)


def test_perturbation_loss_by_hand() -> None:
    assert perturbation_loss(torch.tensor([1.0, 4.0])).item() == -2.5


@pytest.mark.parametrize("phi", [0.05, 0.5])
def test_perturbations_are_small_and_stay_in_the_box(phi: float) -> None:
    bcq, obs = agent(perturbation=phi), torch.randn(50, 2)
    with torch.no_grad():
        for parameter in bcq.policy.parameters():
            parameter.mul_(50.0)
    action = 2 * torch.rand(50, 7, 2) - 1
    moved = bcq.perturb(bcq.policy, obs, action)
    assert moved.abs().max() <= 1
    assert (moved - action).abs().max() <= phi + 1e-6
    assert (moved - action).abs().max() > 0.9 * phi
    torch.testing.assert_close(bcq.perturb(bcq.policy, obs, action[:, 0]), moved[:, 0])


def test_target_by_hand() -> None:
    bcq, batch = agent(target_samples=3, soft_clip=0.6), random_batch(UNIT)
    bcq.generator.manual_seed(0)
    got = bcq._target(batch)
    latent = torch.randn(32, 3, 4, generator=torch.Generator().manual_seed(0)).clamp(-0.5, 0.5)
    with torch.no_grad():
        action = bcq.vae.decode_raw(batch.next_obs, latent).tanh()
        shift = 0.05 * bcq.target_policy.conditioned(batch.next_obs, action).tanh()
        one, two = bcq.target_critic(batch.next_obs, (action + shift).clamp(-1, 1))
    best = (0.6 * torch.minimum(one, two) + 0.4 * torch.maximum(one, two)).max(1).values
    torch.testing.assert_close(got, batch.reward + 0.5 * (1 - batch.terminated) * best)


@pytest.mark.parametrize("network", ["policy", "critic"])
def test_the_target_comes_from_the_target_networks(network: str) -> None:
    bcq, batch = agent(perturbation=0.5), random_batch(UNIT)

    def target() -> Tensor:
        bcq.generator.manual_seed(0)
        return bcq._target(batch)

    before = target()
    with torch.no_grad():
        next(iter(getattr(bcq, network).parameters())).add_(1.0)
    assert torch.equal(before, target())
    with torch.no_grad():
        next(iter(getattr(bcq, f"target_{network}").parameters())).add_(1.0)
    assert not torch.equal(before, target())


def test_each_optimiser_moves_its_own_network() -> None:
    for name in ("vae", "policy", "critic"):
        bcq = agent()
        for other in {"vae", "policy", "critic"} - {name}:
            getattr(bcq, f"{other}_optimizer").learning_rate.zero_()
        before = {other: copies(getattr(bcq, other)) for other in ("vae", "policy", "critic")}
        bcq.learn(random_batch(UNIT))
        for other, parameters in before.items():
            assert unchanged(getattr(bcq, other), parameters) == (other != name)


def test_the_perturbation_climbs_the_first_critic_alone() -> None:
    for flat in (0, 1):
        bcq = agent()
        bcq.critic_optimizer.learning_rate.zero_()
        with torch.no_grad():
            for parameter in bcq.critic.members[flat].parameters():
                parameter.zero_()
        before = copies(bcq.policy)
        bcq.learn(random_batch(UNIT))
        assert unchanged(bcq.policy, before) == (flat == 0)


def test_acting_takes_the_best_of_the_perturbed_samples() -> None:
    bcq, obs = agent(act_samples=6), torch.randn(9, 2)
    noise = 3 * torch.randn(9, 6, 4)
    with torch.no_grad():
        likely = bcq.vae.decode_raw(obs, noise.clamp(-0.5, 0.5)).tanh()
        actions = bcq.perturb(bcq.policy, obs, likely)
        best = bcq.critic.first(obs, actions).max(1).values
        chosen = bcq.decide(obs, noise)
    torch.testing.assert_close(bcq.acting_value(obs, chosen, noise), best)
