"""Details of several agents by hand: what they read, which constants they have, when targets move."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents import AGENTS, load_agent
from rlbench.agents.awac import AWACConfig
from rlbench.agents.awr import AWR, AWRConfig
from rlbench.agents.ibac_sni import IBACSNI, IBACSNIConfig
from rlbench.agents.recurrent_crr import RecurrentCRR, RecurrentCRRConfig
from rlbench.agents.td3_bc import TD3BCConfig
from rlbench.backbones.layers.bottleneck import kl
from rlbench.backbones.models.vib import VIB, VIBConfig
from rlbench.experience import Examples, Trajectories
from rlbench.interface import Spec
from tests.agents.case import experience, make
from tests.agents.test_every_agent import OFFLINE
from tests.networks import copies
from tests.probe_envs import UNIT, random_batch, random_trajectories

MEAN, STD = torch.tensor([3.0, -2.0]), torch.tensor([0.5, 4.0])
SPEC = dataclasses.replace(UNIT, obs_mean=MEAN, obs_std=STD)
"""Observations whose statistics are far from 0 and 1."""


def seen(obs: Tensor) -> Tensor:
    return (obs - MEAN) / (STD + 1e-3)


def test_constants_are_those_of_the_papers() -> None:
    td3_bc, awac = TD3BCConfig(), AWACConfig()
    assert (td3_bc.cloning_alpha, td3_bc.normalise_obs) == (2.5, True)
    assert (awac.advantage_samples, awac.max_weight) == (1, 100.0)
    assert awac.beta == pytest.approx(1 / 3)
    assert (awac.target_actions, awac.act_mode) == ("policy", "mode")


NORMALISING = sorted(
    name for name in AGENTS
    if name in OFFLINE and hasattr(load_agent(name).Config(), "normalise_obs")
)  # fmt: skip


@pytest.mark.parametrize("name", NORMALISING)
def test_an_agent_acts_on_the_observations_that_it_learns_from(name: str) -> None:
    """With statistics of the data it is the agent without them on normalised observations."""
    raw = make(name, UNIT, normalise_obs=False)
    agent = make(name, SPEC, normalise_obs=True)
    state = {k: x for k, x in raw.state_dict().items() if k != "normaliser"}
    agent.load_state_dict({**agent.state_dict(), **copy.deepcopy(state)})
    batch: Any = random_trajectories(UNIT)
    columns = ("obs", "final_obs")
    if agent.consumes is not Trajectories:
        batch, columns = random_batch(UNIT), ("obs", "next_obs")
    normalised = dataclasses.replace(batch, **{x: seen(getattr(batch, x)) for x in columns})
    one, other = agent.learn(batch), raw.learn(normalised)
    for metric in other:
        torch.testing.assert_close(one[metric], other[metric], rtol=1e-3, atol=1e-4)
    obs = 2 * torch.randn(9, 2)
    for explore in (False, True):
        mine, wanted = agent.act(obs, explore=explore), raw.act(seen(obs), explore=explore)
        torch.testing.assert_close(mine.action, wanted.action, rtol=1e-3, atol=1e-3)


def test_awr_values_the_end_of_a_stretch_by_its_normalised_observation() -> None:
    awr = AWR(AWRConfig(hidden=(8,), mixing=1.0), SPEC)
    batch = random_trajectories(SPEC, steps=1)
    with torch.no_grad():
        after = awr.value(seen(batch.final_obs))[..., 0]
        returns = batch.reward + 0.5 * (1 - batch.terminated) * after
    torch.testing.assert_close(awr.learn(batch)["return"], returns.mean())


def recurrent_crr(**settings: Any) -> RecurrentCRR:
    small: dict[str, Any] = {"hidden": (8,), "memory_size": 6, "policy": "gaussian"}
    return RecurrentCRR(RecurrentCRRConfig(**small | settings), SPEC)


def test_the_target_of_recurrent_crr_by_hand() -> None:
    """Slow memories of the next step, on normalised observations and the action before it."""
    crr, batch = recurrent_crr(), random_trajectories(SPEC, steps=3, envs=1)
    none = torch.zeros(3, 1)
    batch = dataclasses.replace(batch, terminated=none, truncated=none)
    for network in (crr.policy_memory, crr.critic_memory, crr.policy, crr.critic):
        for parameter in network.parameters():
            parameter.data.mul_(0.5)  # The slow ones differ from them now.
    before = torch.cat([torch.zeros(1, 1, 2), batch.action[:-1]])
    x = torch.cat([seen(batch.obs), before], dim=-1)
    noise = torch.randn(2, 1, 2, generator=copied(crr.generator))
    with torch.no_grad():
        policy_in, critic_in = (
            memory.unroll(x, memory.initial_state(1, crr.device), none)[0][1:, 0]
            for memory in (crr.target_policy_memory, crr.target_critic_memory)
        )
        mean, log_std = crr.target_policy(policy_in)
        action = (mean + log_std.exp() * noise[:, 0]).clamp(-1, 1)
        value = crr.target_critic(critic_in, action).min(0).values
    wanted = batch.reward[:-1, 0] + 0.5 * value
    torch.testing.assert_close(crr.learn(batch)["q_target"], wanted.mean())


def copied(generator: torch.Generator) -> torch.Generator:
    """Another generator that goes on from the same state."""
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


def test_the_memories_of_recurrent_crr_have_slow_copies_that_follow() -> None:
    crr = recurrent_crr(target_rate=0.25)
    names = ("policy", "critic", "policy_memory", "critic_memory")
    before = {name: copies(getattr(crr, f"target_{name}")) for name in names}
    crr.learn(random_trajectories(SPEC))
    for name in names:
        slow, live = copies(getattr(crr, f"target_{name}")), copies(getattr(crr, name))
        for old, new, source in zip(before[name], slow, live, strict=True):
            torch.testing.assert_close(new, 0.75 * old + 0.25 * source)
        assert any(not torch.equal(x, y) for x, y in zip(before[name], live, strict=True))


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_classifier_learns_from_a_noisy_code_that_costs_beta(beta: float) -> None:
    spec = {"obs": Box(-np.inf, np.inf, (12,)), "label": Discrete(5)}
    vib = VIB(VIBConfig(hidden=8, code=6, beta=beta, momentum=0.0, learning_rate=0.1), spec)
    twin = copy.deepcopy(vib.network)
    obs, label = torch.randn(4, 12), torch.arange(4)
    batch = Examples({"obs": obs, "label": label})
    mu, sigma = twin.code(twin.features(obs))
    noise = torch.randn(1, 4, 6, generator=copied(vib.generator))[0]
    loss = F.cross_entropy(twin.logits(mu + sigma * noise), label)
    (loss + beta * kl(mu, sigma).mean()).backward()
    metrics = vib.learn(batch)
    torch.testing.assert_close(metrics["loss"], loss.detach())
    torch.testing.assert_close(metrics["kl"], kl(mu, sigma).mean().detach())
    for mine, start in zip(vib.network.parameters(), twin.parameters(), strict=True):
        assert start.grad is not None
        torch.testing.assert_close(mine.detach(), start.detach() - 0.1 * start.grad)


def ibac_sni(**settings: Any) -> IBACSNI:
    small: dict[str, Any] = {"encoder": "flatten", "code_size": 6, "envs": 4, "rollout_steps": 6}
    return IBACSNI(IBACSNIConfig(**small | settings), Spec(UNIT.observation_space, Discrete(3)))


def test_without_sni_ibac_acts_by_one_code_and_keeps_means_over_all() -> None:
    agent, obs = ibac_sni(mixture=None, samples=5, sigma_offset=1.0), torch.randn(7, 2)
    generator = copied(agent.act_generator)
    step = agent.act(obs, explore=True)
    with torch.no_grad():
        code = agent.network.code(obs)
        params, values = agent.network.read(agent.network.noisy(code, 5, generator))
        log_prob = params.log_softmax(-1).gather(-1, step.action.expand(5, 7)[..., None])[..., 0]
    torch.testing.assert_close(step.extras["value"], values.mean(0))
    torch.testing.assert_close(step.extras["log_prob"], log_prob.exp().mean(0).log())
    assert values.std(0).min() > 1e-4


def test_a_slow_mask_is_drawn_anew_after_each_update_and_no_other_ever() -> None:
    for slow in (True, False):
        agent = ibac_sni(noise="dropout", dropout=0.5, slow_mask=slow)
        masks = [agent.network.mask.tolist()]
        for seed in range(4):
            agent.learn(experience(agent, seed))  # type: ignore[arg-type]
            masks.append(agent.network.mask.tolist())
        assert masks[0] == [1.0] * 6
        assert all(x in (0.0, 2.0) if slow else x == 1.0 for mask in masks[1:] for x in mask)
        assert len({tuple(mask) for mask in masks}) > (3 if slow else 0)


def test_the_mask_of_the_deterministic_code_is_that_of_policy_and_value() -> None:
    network = ibac_sni(noise="dropout", dropout=0.5, slow_mask=True).network
    network.mask.copy_(torch.tensor([0.0, 2.0, 0.0, 0.0, 2.0, 2.0]))
    obs = torch.randn(7, 2)
    params, value = network.read(network.code(obs).mean * network.mask)
    torch.testing.assert_close(network.policy(obs), params)
    torch.testing.assert_close(network.value(obs), value)


def test_the_constraint_of_bear_sees_noise_within_its_bound() -> None:
    bear: Any = make("bear", UNIT, noise_clip=0.3)
    drawn: list[Tensor] = []
    sample, obs = bear.policy.sample_raw, torch.randn(20, 2)

    def watched(*given: Any, **named: Any) -> Tensor:
        raw: Tensor = sample(*given, **named)
        mean, log_std = bear.policy(obs)
        drawn.append(((raw - mean[:, None]) / log_std.exp()[:, None]).abs().max())
        return raw

    bear.policy.sample_raw = watched
    bear._distance_and_value(obs)
    assert [x.item() for x in drawn] == [pytest.approx(0.3, abs=1e-3)]


@pytest.mark.parametrize("name", ["bcq", "brac", "bear", "iql"])
def test_slow_networks_move_towards_the_live_ones_and_these_by_their_losses_alone(
    name: str,
) -> None:
    settings: dict[str, Any] = {"target_actions": "target-policy"} if name == "bear" else {}
    agent: Any = make(name, UNIT, target_rate=0.25, **settings)
    slow = [x for x in ("policy", "critic") if getattr(agent, f"target_{x}", None) is not None]
    for network in slow:
        for parameter in getattr(agent, network).parameters():
            parameter.data.mul_(1.5)  # The slow ones differ from them now.
    frozen = copy.deepcopy(agent)
    for optimizer in (frozen.policy_optimizer, frozen.critic_optimizer):
        optimizer.learning_rate.zero_()
    frozen.config = dataclasses.replace(
        frozen.config, **({"learning_rate": 0.0} if name == "iql" else {})
    )
    before = {x: [copies(getattr(agent, y + x)) for y in ("", "target_")] for x in slow}
    frozen.learn(random_batch(UNIT))
    for network, (live, old) in before.items():
        now, after = (copies(getattr(frozen, x + network)) for x in ("", "target_"))
        assert all(torch.equal(x, y) for x, y in zip(live, now, strict=True))
        for first, new, source in zip(old, after, live, strict=True):
            torch.testing.assert_close(new, 0.75 * first + 0.25 * source)


def test_the_policy_of_brac_maximises_the_smaller_critic() -> None:
    brac: Any = make("brac", UNIT, warmup_updates=0, alpha=0.5)
    for parameter in brac.critic.members[1].parameters():
        parameter.data.mul_(-1.3)
    brac.critic_optimizer.learning_rate.zero_()
    brac.behaviour_optimizer.learning_rate.zero_()
    batch, generator = random_batch(UNIT), copied(brac.generator)
    with torch.no_grad():
        for obs in (batch.next_obs, batch.obs):  # The target draws first.
            actions, log_prob = brac.policy.sample_many(obs, 4, generator)
        behaviour = brac.behaviour.log_prob(brac.behaviour(batch.obs), actions)
        smaller = brac.critic(batch.obs, actions[:, 0]).min(0).values
        wanted = (0.5 * (log_prob - behaviour).mean(1) - smaller).mean()
    torch.testing.assert_close(brac.learn(batch)["policy_loss"], wanted)


def test_the_critics_of_iql_learn_from_scaled_rewards() -> None:
    iql: Any = make("iql", dataclasses.replace(UNIT, return_range=(-100.0, 400.0)))
    batch = dataclasses.replace(random_batch(UNIT), terminated=torch.ones(32))
    with torch.no_grad():
        error = iql.critic(batch.obs, batch.action) - 2 * batch.reward  # 1000 / 500
    got = iql.learn(batch)["critic_loss"]
    torch.testing.assert_close(got, error.square().mean(1).sum(), rtol=1e-3, atol=1e-3)


def sb3(name: str, space: Any, **settings: Any) -> Any:
    pytest.importorskip("stable_baselines3")
    agent_class = load_agent(name)
    spec = Spec(Box(-np.inf, np.inf, (2,)), space)
    return agent_class(agent_class.Config(hidden=(8,), **settings), spec)


def test_the_target_of_sb3_s_dqn_moves_with_every_third_update_before_it() -> None:
    dqn = sb3("sb3-dqn", Discrete(2), target_every=3, learning_rate=0.01)
    batch = random_batch(UNIT)
    batch = dataclasses.replace(batch, action=(batch.action[:, 0] > 0).long())
    moved = []
    for _ in range(7):
        online, slow = copies(dqn._dqn.q_net), copies(dqn._dqn.q_net_target)
        dqn.learn(batch)
        after = copies(dqn._dqn.q_net_target)
        same = all(torch.equal(x, y) for x, y in zip(slow, after, strict=True))
        moved.append(not same)
        assert same or all(torch.equal(x, y) for x, y in zip(online, after, strict=True))
    assert moved == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("name", ["sb3-sac", "sb3-td3"])
def test_sb3_s_critics_see_actions_of_the_unit_box_and_targets_move_by_the_rate(name: str) -> None:
    low, high = np.array([-2, 0], np.float32), np.array([2, 5], np.float32)
    agent, asked = sb3(name, Box(low, high), target_rate=0.25), []
    if name == "sb3-td3":
        agent.learn(random_batch(agent.spec))  # Targets move in every second update.
    critic, slow = agent.policy.critic, agent.policy.critic_target
    critic.register_forward_pre_hook(lambda module, given: asked.append(given[1].detach().clone()))
    before, batch = copies(slow), random_batch(agent.spec)
    agent.learn(batch)
    wanted = (batch.action - torch.tensor([0.0, 2.5])) / torch.tensor([2.0, 2.5])
    torch.testing.assert_close(asked[0], wanted)
    for old, new, source in zip(before, copies(slow), copies(critic), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * source)
