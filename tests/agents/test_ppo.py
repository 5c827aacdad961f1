"""PPO and IBAC-SNI: rollouts and losses by hand, exactness, and that they learn."""

import copy
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.agents._on_policy import decay, policy_loss, value_clip, value_loss
from rlbench.agents._values import normalise_advantage
from rlbench.agents.ibac_sni import IBACSNI, IBACSNIConfig
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.recurrent_ppo import RecurrentPPO, RecurrentPPOConfig
from rlbench.backbones.layers.normalise import RewardScaler, RunningNormaliser
from rlbench.benchmarks.commands import listing as catalog
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Agent, Spec
from rlbench.state import capture
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import assert_close

CASE = Case(
    "ppo",
    small={"hidden": (8,), "batch_size": 8, "epochs": 2, **ROLLOUT},
    changes={
        "batch_size": (6, {}), "decay_updates": (4, {}), "epochs": (3, {}),
        "weight_decay": (0.1, {}), "entropy_coefficient": (0.5, {}), "gae_lambda": (0.5, {}),
        "clip_range": (1e-3, {"learning_rate": 0.1, "epochs": 3}), "max_grad_norm": (1e-3, {}),
        "value_clip_range": (1e-3, {"epochs": 3}), "target_kl": (1e-9, {"epochs": 3}),
        "kl_limit": (1e-9, {}),
    },
    spaces=(Box, Discrete),
)  # fmt: skip

OBS = Box(-np.inf, np.inf, (2,))
SPEC = Spec(OBS, Discrete(3))


def ppo(**settings: Any) -> PPO:
    return PPO(PPOConfig(**{"hidden": (8,), **ROLLOUT, **settings}), SPEC)


def ibac_sni(**settings: Any) -> IBACSNI:
    small = {"encoder": "flatten", "code_size": 6, "batch_size": 24, "epochs": 1, **ROLLOUT}
    return IBACSNI(IBACSNIConfig(**small | settings), SPEC)


def recurrent_ppo(**settings: Any) -> RecurrentPPO:
    small = {"hidden": (8,), "memory_size": 5, "batch_size": 24, "epochs": 1, **ROLLOUT}
    return RecurrentPPO(RecurrentPPOConfig(**small | settings), SPEC)


def played(agent: Agent, seed: int = 0) -> Trajectories:
    given = experience(agent, seed)
    assert isinstance(given, Trajectories)
    return given


EACH = pytest.mark.parametrize("make", [ppo, ibac_sni, recurrent_ppo])


def test_the_clip_takes_the_reason_to_move_further() -> None:
    log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5]).log().requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = policy_loss(log_ratio, advantage, torch.tensor(0.2))
    assert loss.item() == pytest.approx((-1.2 + 1.5 - 0.5 + 0.8) / 4)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert (gradient != 0).tolist() == [False, True, True, False]


def test_a_held_value_counts_with_the_larger_error() -> None:
    value, old = torch.tensor([1.0, 0.1, 1.0]), torch.zeros(3)
    target = torch.tensor([1.0, 1.0, 0.0])
    assert value_loss(value, old, target, None).item() == pytest.approx((0.81 + 1) / 3)
    # Held within 0.2 of the old one the first is 0.8 off, the last 0.2; the second is not held.
    assert value_loss(value, old, target, 0.2).item() == pytest.approx((0.64 + 0.81 + 1) / 3)


def rollout(agent: PPO, **columns: Any) -> Trajectories:
    """Four steps of one environment: an end after the second, a cut after the third."""
    steps = [agent.act(torch.randn(1, 2), explore=True) for _ in range(4)]
    given: dict[str, Any] = {
        "obs": torch.arange(8.0).view(4, 1, 2) / 8,
        "action": torch.stack([x.action for x in steps]),
        "reward": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        "terminated": torch.tensor([[0.0], [1.0], [0.0], [0.0]]),
        "truncated": torch.tensor([[0.0], [0.0], [1.0], [0.0]]),
        "final_obs": torch.arange(8.0, 16.0).view(4, 1, 2) / 8,
        "extras": {"sample": torch.stack([x.extras["sample"] for x in steps])},
    }
    return Trajectories(**given | columns)


def test_returns_and_advantages_by_hand() -> None:
    """A true end stops the bootstrap, a cut and the last step bootstrap from what came after."""
    agent = ppo(envs=1, rollout_steps=4, discount=0.5, gae_lambda=0.5)
    batch = rollout(agent)
    with torch.no_grad():
        v = agent.network.value(batch.obs[:, 0])
        after = agent.network.value(batch.final_obs[:, 0])
    flat = agent._batch(batch)
    last = 4 + 0.5 * after[3]
    cut = 3 + 0.5 * after[2]
    end = torch.tensor(2.0)
    first = 1 + 0.5 * (0.5 * v[1] + 0.5 * end)
    torch.testing.assert_close(flat.target, torch.stack([first, end, cut, last]))
    torch.testing.assert_close(flat.advantage, flat.target - v)


def test_nothing_leaks_across_the_end_of_an_episode() -> None:
    agent = ppo(envs=1, rollout_steps=4)
    batch = rollout(agent)
    changed = rollout(agent, extras=batch.extras)
    changed.reward[2:] += 100
    changed.obs[2:] += 1
    one, other = agent._batch(batch), agent._batch(changed)
    assert torch.equal(one.target[:2], other.target[:2])
    assert not torch.equal(one.target[2:], other.target[2:])


def test_rewards_after_a_cut_change_nothing_before_it() -> None:
    agent = ppo(envs=1, rollout_steps=4)
    batch = rollout(agent)
    changed = rollout(agent, extras=batch.extras)
    changed.reward[3] += 100
    assert torch.equal(agent._batch(batch).target[:3], agent._batch(changed).target[:3])


@pytest.mark.parametrize("normalised", [False, True])
def test_at_the_first_pass_the_ratio_is_one(normalised: bool) -> None:
    agent = ppo(batch_size=None, epochs=1, normalise_obs=normalised, normalise_reward=normalised)
    for seed in range(3):
        metrics = agent.learn(played(agent, seed))
        assert abs(float(metrics["kl"])) < 1e-12
        assert float(metrics["clip_fraction"]) == 0


def test_the_ratio_of_sni_is_one_without_noise_alone() -> None:
    agent = ibac_sni(sigma_offset=0.0)
    metrics = agent.learn(played(agent, 0))
    assert abs(float(metrics["kl"])) < 1e-12
    assert float(metrics["kl_stochastic"]) > 1e-4


def test_without_sni_noise_is_in_the_rollout_and_drawn_anew_in_the_update() -> None:
    agent = ibac_sni(mixture=None, sigma_offset=0.0)
    given = played(agent, 0)
    assert {"log_prob", "value"} <= set(given.extras)
    assert float(agent.learn(given)["kl"]) > 1e-4


def test_a_mixture_of_one_ignores_the_noise_of_the_bottleneck() -> None:
    one, other = ibac_sni(mixture=1.0, beta=0.0), ibac_sni(mixture=1.0, beta=0.0)
    other.generator.manual_seed(99)
    before = other.network.bottleneck.layer.weight.detach().clone()  # type: ignore[union-attr]
    batch = played(one, 0)
    for agent in (one, other):
        agent.learn(batch)
    after = other.network.bottleneck.layer.weight.detach()  # type: ignore[union-attr]
    size = len(after) // 2
    assert not torch.equal(before[:size], after[:size])
    assert torch.equal(before[size:], after[size:]), "sigma has no part in the deterministic code"


def test_sigma_learns_from_the_stochastic_term() -> None:
    agent = ibac_sni(mixture=0.5, beta=0.0)
    before = agent.network.bottleneck.layer.weight.detach().clone()  # type: ignore[union-attr]
    agent.learn(played(agent, 0))
    after = agent.network.bottleneck.layer.weight.detach()  # type: ignore[union-attr]
    assert not torch.equal(before[6:], after[6:])


@pytest.mark.parametrize("max_norm", [0.05, 1e9])
def test_a_gradient_step_is_that_of_the_whole_loss(max_norm: float) -> None:
    """Equation 9 written out, with PyTorch's own Adam and clipping of gradients."""
    settings = {"entropy_coefficient": 0.3, "value_coefficient": 0.7, "max_grad_norm": max_norm}
    agent = ppo(batch_size=None, epochs=1, **settings)
    twin = ppo(**settings)
    for each in (agent, twin):  # Far from uniform, where the gradient of the entropy is 0.
        each.network.head.out.weight.data.mul_(100)
    batch = played(agent, 0)
    flat = agent._batch(batch)
    params, value = twin.network(flat.obs)
    policy = torch.distributions.Categorical(logits=params)
    a = flat.advantage
    a = (a - a.mean()) / (a.std() + 1e-8)
    ratio = (policy.log_prob(flat.sample) - flat.log_prob).exp()
    loss = -(ratio * a).mean() - 0.3 * policy.entropy().mean()
    loss = loss + 0.7 * (value - flat.target).square().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.network.parameters(), max_norm)
    torch.optim.Adam(twin.network.parameters(), 3e-4, eps=1e-5).step()
    agent.learn(batch)
    for mine, wanted in zip(agent.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)


def test_advantages_small_compared_with_the_returns_are_not_blown_up() -> None:
    advantage, target = torch.tensor([-1e-3, 0.0, 1e-3]), torch.tensor([0.9, 1.0, 1.1])
    floor = 0.03 * math.sqrt((0.81 + 1 + 1.21) / 3)
    torch.testing.assert_close(normalise_advantage(advantage, target), advantage / floor)
    torch.testing.assert_close(
        normalise_advantage(advantage + 7, target), advantage / floor, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        normalise_advantage(1000 * advantage, target), torch.tensor([-1.0, 0, 1])
    )
    # The scale of the rewards does not matter.
    torch.testing.assert_close(normalise_advantage(9 * advantage, 9 * target), advantage / floor)


def test_a_last_minibatch_of_one_step_leaves_all_weights_finite() -> None:
    agent = ppo(batch_size=23)  # Of 24 steps.
    metrics = agent.learn(played(agent))
    assert all(x.isfinite() for x in metrics.values())
    assert all(x.isfinite().all() for x in agent.network.parameters())
    assert normalise_advantage(torch.tensor([3.0]), torch.tensor([9.0])).tolist() == [0.0]


@pytest.mark.parametrize(
    "settings", [{"batch_size": 1}, {"envs": 1, "rollout_steps": 1}, {"clip_range": 0.0}]
)
def test_settings_that_would_divide_by_zero_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give"):
        PPOConfig(**settings)
    PPOConfig(batch_size=1, normalise_advantage=False)
    RecurrentPPOConfig(batch_size=1)  # A column has more than one step.


@EACH
def test_statistics_are_those_of_the_observations_that_were_acted_on(make: Any) -> None:
    agent = make(normalise_obs=True)
    batch = played(agent, 0)
    agent.learn(batch)
    torch.testing.assert_close(agent.normaliser.moments.mean, batch.obs.flatten(0, 1).mean(0))


@EACH
def test_gradients_are_shortened_and_rewards_scaled(make: Any) -> None:
    agent = make(max_grad_norm=1e-9, normalise_reward=True)
    before = [x.detach().clone() for x in agent.network.parameters()]
    batch = dataclasses.replace(played(agent), terminated=torch.ones(6, 4))
    agent.learn(batch)
    # Adam's epsilon is far above such a gradient.
    for old, new in zip(before, agent.network.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old, rtol=0, atol=1e-6)
    # Every step is an episode, so its return is its reward.
    wanted = batch.reward / batch.reward.std(correction=0)
    torch.testing.assert_close(agent._batch(batch).target.view(6, 4), wanted)


@EACH
def test_step_size_and_clip_fall_to_zero(make: Any) -> None:
    agent, seen = make(decay_updates=4, learning_rate=3e-4, value_clip_range=0.5), []
    for seed in range(5):
        agent.learn(played(agent, seed))
        limit = value_clip(agent.config, agent.clip_range)
        assert limit is not None
        now = agent.optimizer.learning_rate, agent.clip_range, limit
        seen += [float(x) for x in now]
    shares = [1, 0.75, 0.5, 0.25, 0.0]
    wanted = [x for s in shares for x in (3e-4 * s, 0.2 * s, 0.5 * s)]
    assert seen == pytest.approx(wanted, abs=1e-7)
    assert value_clip(PPOConfig(), agent.clip_range) is None


@pytest.mark.parametrize("make", [ppo, ibac_sni])
def test_values_are_clipped_by_the_current_range(make: Any) -> None:
    agent = make(decay_updates=4, value_clip_range=0.4)
    agent.updates = 3
    decay(agent.config, agent.updates, agent.optimizer, agent.clip_range)
    flat = agent._batch(played(agent))
    target = flat.value
    # A quarter of 0.4 is left, so a value 1 above the old one counts as 0.1 above it.
    loss = agent.gradient_step(dataclasses.replace(flat, value=target - 1, target=target))
    torch.testing.assert_close(loss["value_loss"], torch.tensor(0.81))


def test_an_update_that_ends_far_from_the_old_policy_is_undone() -> None:
    agent, free = (ppo(learning_rate=0.05, kl_limit=x) for x in (1e-3, 1e9))
    for each in (agent, free):
        each.learn(played(each, 0))
    before = copy.deepcopy(capture(agent))
    for each in (agent, free):
        metrics = each.learn(played(each, 1))
        assert metrics["kl_update"] > 1e-3
        assert metrics["undone"] == float(each is agent)
    after = capture(agent)
    assert all(torch.equal(before["network"][k], after["network"][k]) for k in before["network"])
    assert all(
        torch.equal(before["optimizer"][k], after["optimizer"][k])
        for k in ("means", "squares", "steps")
    )
    assert not torch.equal(agent.network.head.out.weight, free.network.head.out.weight)
    near = ppo()
    assert near.learn(played(near, 0))["undone"] == 0


@EACH
def test_without_a_limit_the_divergence_is_not_measured(make: Any) -> None:
    agent, free = make(kl_limit=1e9), make(kl_limit=None)
    limited, unlimited = (each.learn(played(each, 0)) for each in (agent, free))
    assert limited.keys() - unlimited.keys() == {"kl_update", "undone"}
    assert torch.equal(agent.network.head.out.weight, free.network.head.out.weight)


@pytest.mark.parametrize("limit", [0.5, 1e9])
def test_an_update_that_moves_the_policy_far_is_named_in_the_log(
    limit: float, tmp_path: Path
) -> None:
    settings = PPOConfig(rollout_steps=32, learning_rate=1.0, kl_limit=limit)
    config = RunConfig(env="CartPole-v1", updates=1, eval_episodes=1, out=tmp_path / "run")
    console = Console(file=io.StringIO(), width=100)
    Run("ppo", settings, config, console).start()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "update 1 moved the policy far (KL " in text
    assert (", so it was undone" in text) == (limit < 1e9)


def test_the_divergence_of_an_update_is_estimated_from_its_samples() -> None:
    agent, old = ppo(learning_rate=0.01), ppo(learning_rate=0.01)
    batch = played(agent, 0)
    found = agent.learn(batch)["kl_update"]
    sample, logs = batch.extras["sample"], []
    for each in (old, agent):
        params = each.network.policy(batch.obs)
        logs.append(each.network.head.log_prob(params, sample))
    torch.testing.assert_close(found, 0.5 * (logs[0] - logs[1]).square().mean())
    assert found > 1e-3


@pytest.mark.parametrize(
    ("agent_class", "settings"),
    [
        (PPO, {"normalise_obs": True, "decay_updates": 9, "weight_decay": 0.01}),
        (IBACSNI, {"encoder": "flatten", "samples": 3, "mixture": 0.5}),
        (IBACSNI, {"encoder": "flatten", "noise": "dropout", "slow_mask": True}),
        (IBACSNI, {"encoder": "flatten", "mixture": None}),
    ],
)
def test_recorded_gradient_steps_equal_those_of_learn(
    agent_class: type[Agent], settings: dict[str, Any]
) -> None:
    shape: dict[str, Any] = {"batch_size": 8, "epochs": 2, **ROLLOUT}
    agent, twin = (agent_class(agent_class.Config(**shape | settings), SPEC) for _ in range(2))
    learn = compiled_learn(twin, interpreted)
    for seed in range(3):
        agent.learn(played(agent, seed))
        learn(played(twin, seed))
    assert_close(agent, twin)


def test_running_statistics_are_those_of_all_that_was_seen() -> None:
    normaliser, all_obs = RunningNormaliser(OBS, enabled=True), 3 + 2 * torch.randn(50, 4, 2)
    assert torch.equal(normaliser(torch.ones(2)), torch.ones(2)), "before the first update"
    for part in all_obs.split(20):
        normaliser.update(part)
    seen = all_obs.flatten(0, 1)
    scaled = normaliser(seen)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(2), rtol=1e-4, atol=0)


def test_rewards_are_divided_by_the_deviation_of_discounted_returns() -> None:
    scaler = RewardScaler(1, enabled=True)
    batch = rollout(ppo(envs=1, rollout_steps=4))
    # Sums with discount 1/2 that begin anew after the end and after the cut: 1, 2.5, 3, 4.
    deviation = float(np.std([1.0, 2.5, 3.0, 4.0]))
    scaled = scaler(batch, 0.5)
    torch.testing.assert_close(scaled, batch.reward / deviation)
    assert float(scaler.returns) == 4.0, "the last episode goes on"


def test_samples_of_a_box_are_clipped_when_they_act_and_not_when_they_are_judged() -> None:
    agent = PPO(PPOConfig(hidden=(8,), **ROLLOUT), Spec(OBS, Box(-2.0, 2.0, (1,))))
    step = agent.act(torch.randn(500, 2), explore=True)
    sample = step.extras["sample"]
    assert float(sample.abs().max()) > 1
    assert torch.equal(step.action, 2 * sample.clamp(-1, 1))
    params = agent.network.policy(torch.zeros(1, 2)).detach()
    density = agent.network.head.log_prob(params, params + 1.0)
    assert density.item() == pytest.approx(-0.5 - 0.5 * math.log(2 * math.pi))


def test_choices_are_drawn_with_their_probabilities() -> None:
    agent, logits = ppo(), torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    noise = torch.randn(20_000, 3, generator=agent.act_generator)
    shares = agent.network.head.draw(logits, noise).bincount() / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "ibac-sni"])
def test_cart_pole_is_learned(name: str, tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "envs": 8, "rollout_steps": 128, "batch_size": 256, "epochs": 10, "learning_rate": 1e-3,
    }  # fmt: skip
    settings = (
        PPOConfig(**shape)
        if name == "ppo"
        else IBACSNIConfig(encoder="flatten", hidden=(64,), act_mode="mode", **shape)
    )
    config = RunConfig(env="CartPole-v1", updates=50, eval_every=50, out=tmp_path / "run")
    run = Run(name, settings, config)
    run.start()
    assert run.folder.evaluations()["return"][-1].mean() > 400


def test_a_run_has_the_agents_default_length_unless_another_is_given() -> None:
    _, defaults, settings = catalog.preset("ppo", "CartPole-v1", None)
    assert defaults["updates"] == 500
    assert settings == PPOConfig()
    _, _, settings = catalog.preset("ibac-sni", "coinrun", 99)
    assert settings.decay_updates == 99
    assert settings.encoder == "impala"
