"""NAS: the controller step by step, its update written out, and that it finds good architectures."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents.nas import NAS, PAPER, NASConfig, controller_loss
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from rlbench.tokens import OneHotTokens, TokenNumbers
from tests.agents.case import Case
from tests.networks import equal
from tests.searches import Search, landscape, searches_of

CASE = Case(
    "nas",
    small={"envs": 4, "embedding_size": 4, "memory_size": 6},
    changes={
        "clip_range": (1e-3, {"learning_rate": 0.1}), "ratio": ("sequence", {}), "baseline": ("moving", {}),
        "baseline_decay": (0.1, {"baseline": "moving"}), "max_grad_norm": (1e-6, {}),
        "entropy_coefficient": (1.0, {}),
    },
    spaces=(Discrete,),
    observations=OneHotTokens((3,) * 6),
)  # fmt: skip
CHOICES = (3, 2, 4, 2)
SPEC = Spec(OneHotTokens(CHOICES), Discrete(4))


def nas(**settings: Any) -> NAS:
    return NAS(NASConfig(**{**CASE.small, **settings}), SPEC)


def sharpened(agent: NAS) -> NAS:
    """An agent whose probabilities are far from uniform."""
    for parameter in agent.network.parameters():
        parameter.data.mul_(20)
    return agent


def sequences(count: int = 5, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed).integers(CHOICES, size=(count, 4))
    return torch.from_numpy(drawn)


def episodes(tokens: Tensor, reward: Tensor) -> Trajectories:
    """A rollout of these sequences."""
    steps, space = tokens.shape[1], OneHotTokens(CHOICES)
    prefixes = [tokens.clone() for _ in range(steps + 1)]
    for t, prefix in enumerate(prefixes):
        prefix[:, t:] = -1
    obs = torch.stack([torch.from_numpy(space.encode(x.numpy())) for x in prefixes])
    rewards = torch.zeros(steps, len(tokens))
    rewards[-1] = reward
    ends = torch.zeros(steps, len(tokens))
    ends[-1] = 1
    return Trajectories(obs[:-1], tokens.T, rewards, ends, torch.zeros_like(ends), obs[1:])


def test_acting_on_prefixes_equals_an_lstm_with_a_state() -> None:
    agent, tokens = sharpened(nas()), sequences()
    network, rollout = agent.network, episodes(tokens, torch.zeros(5))
    state = network.memory.initial_state(5, torch.device("cpu"))
    row = torch.zeros(5, dtype=torch.int64)
    for t, n in enumerate(CHOICES):
        hidden, state = network.memory.step(network.embedding(row), state)
        wanted = hidden @ network.weight[t].T + network.bias[t]
        found = agent.next_logits(rollout.obs[t])
        torch.testing.assert_close(found[:, :n], wanted[:, :n], rtol=0, atol=1e-6)
        assert found.softmax(-1)[:, n:].sum() == 0
        assert torch.equal(agent.act(rollout.obs[t]).action, wanted[:, :n].argmax(-1))
        row = 1 + 4 * t + tokens[:, t]
    assert network.embedding.num_embeddings == 1 + 4 * 4


def test_tokens_are_drawn_with_their_probabilities() -> None:
    agent = sharpened(nas())
    tokens = sequences(1).expand(20_000, -1)
    obs = episodes(tokens, torch.zeros(20_000)).obs[2]
    shares = agent.act(obs, explore=True).action.bincount(minlength=4) / 20_000
    wanted = agent.next_logits(obs[:1])[0].softmax(-1).detach()
    assert wanted.max() < 0.95
    torch.testing.assert_close(shares, wanted, rtol=0, atol=0.015)


def test_both_observations_lead_to_the_same_actions_and_updates() -> None:
    numbers = NAS(nas().config, Spec(TokenNumbers(CHOICES), Discrete(4)))
    agent, tokens = nas(), sequences()
    rollout = episodes(tokens, torch.randn(5))
    prefix = tokens.clone()
    prefix[:, 2:] = -1
    obs = torch.from_numpy(TokenNumbers(CHOICES).encode(prefix.numpy())).float()
    assert torch.equal(agent.next_logits(rollout.obs[2]), numbers.next_logits(obs))


def test_all_weights_begin_between_minus_and_plus_a_tenth() -> None:
    agent = NAS(NASConfig(), SPEC)
    assert agent.network.embedding.embedding_dim == 32
    assert agent.network.memory.size == 100
    for parameter in agent.network.parameters():
        assert parameter.abs().max() <= 0.1
        assert parameter.numel() < 100 or float(parameter.detach().std()) == pytest.approx(
            0.2 / 12**0.5, rel=0.1
        )


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("max_norm", [0.02, 1e9])
def test_an_update_is_that_of_the_equations(ratio: Any, max_norm: float) -> None:
    """The loss written out for every token, with PyTorch's own distributions, Adam and clipping of gradients."""
    settings: dict[str, Any] = {
        "ratio": ratio, "max_grad_norm": max_norm, "epochs": 3, "entropy_coefficient": 0.3, "learning_rate": 0.02,
    }  # fmt: skip
    agent, twin = (sharpened(nas(**settings)) for _ in range(2))
    tokens, reward = sequences(), torch.tensor([0.1, 0.9, 0.3, 0.5, 0.2])
    optimizer = torch.optim.Adam(twin.network.parameters(), 0.02)
    old: list[list[Tensor]] = []
    clipped = 0
    for _ in range(3):
        logits, losses, entropies = twin.network(tokens), [], []
        policies = [
            [
                torch.distributions.Categorical(logits=logits[i, t, :n])
                for t, n in enumerate(CHOICES)
            ]
            for i in range(5)
        ]
        logs = [[p.log_prob(tokens[i, t]) for t, p in enumerate(policies[i])] for i in range(5)]
        old = old or [[x.detach() for x in row] for row in logs]
        for i in range(5):
            a = (reward[i] - reward.mean()) / reward.std()
            ratios = [(x - y).exp() for x, y in zip(logs[i], old[i], strict=True)]
            if ratio == "sequence":
                ratios = [torch.stack(ratios).prod()]
            for r in ratios:
                clipped += int(abs(r.item() - 1) > 0.2)
                losses.append(-torch.minimum(r * a, r.clamp(0.8, 1.2) * a))
            entropies += [p.entropy() for p in policies[i]]
        loss = torch.stack(losses).mean() - 0.3 * torch.stack(entropies).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.network.parameters(), max_norm)
        optimizer.step()
    metrics = agent.learn(episodes(tokens, reward))
    assert clipped > 0
    for mine, wanted in zip(agent.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-5)
    share = clipped / (3 * 5 * (4 if ratio == "token" else 1))
    assert metrics["clip_fraction"] == pytest.approx(share)


def test_without_advantage_and_entropy_weight_nothing_is_learned() -> None:
    agent, twin = (sharpened(nas(entropy_coefficient=0.0)) for _ in range(2))
    agent.learn(episodes(sequences(), torch.full((5,), 0.7)))
    pairs = zip(agent.network.parameters(), twin.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    log_prob = torch.randn(5, 4, requires_grad=True)
    loss = controller_loss(log_prob, log_prob.exp(), torch.zeros(5), torch.tensor(0.2), 0.0)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    assert not gradient.any()


def test_a_loss_of_other_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        controller_loss(
            torch.zeros(5, 4), torch.zeros(5, 4), torch.zeros(4), torch.tensor(0.2), 0.0
        )


def test_the_moving_average_begins_with_the_first_batch() -> None:
    agent = nas(baseline="moving")
    first, second = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 6.0])
    assert agent.advantage(first).tolist() == [-1.0, 1.0]
    agent.updates = 1
    assert agent.advantage(second).tolist() == [2.0, 4.0], "the average before this batch"
    assert agent.average.item() == pytest.approx(0.95 * 2 + 0.05 * 5)
    agent = nas(baseline="moving", baseline_decay=0.5)
    agent.learn(episodes(sequences(2), first))
    agent.learn(episodes(sequences(2), second))
    assert agent.average.item() == pytest.approx(3.5)


def test_standardised_advantages_by_hand() -> None:
    assert nas().advantage(torch.tensor([0.2, 0.4, 0.6])).tolist() == pytest.approx([-1, 0, 1])


def test_metrics_of_an_update() -> None:
    agent = nas(learning_rate=0.0)
    tokens, reward = sequences(), torch.tensor([0.1, 0.9, 0.3, 0.5, 0.2])
    metrics = agent.learn(episodes(tokens, reward))
    assert metrics["mean_reward"] == pytest.approx(0.4)
    assert metrics["best_reward"] == pytest.approx(0.9)
    assert metrics["kl"] == metrics["clip_fraction"] == 0
    each = [float(metrics[f"entropy_{t}"]) for t in range(4)]
    assert each == pytest.approx(np.log(CHOICES), rel=0.01)
    assert metrics["entropy"] == pytest.approx(np.mean(each))
    later = agent.learn(episodes(sequences(5, 1), reward - 0.3))
    assert later["best_reward"] == pytest.approx(0.9)
    assert torch.equal(agent.best, tokens[1])
    better = agent.learn(episodes(sequences(5, 2), reward + 0.3))
    assert better["best_reward"] == pytest.approx(1.2)
    assert torch.equal(agent.best, sequences(5, 2)[1])
    assert metrics["best_reward"] == pytest.approx(0.9)


def test_negative_rewards_have_a_best_one_too() -> None:
    agent = nas()
    assert agent.learn(episodes(sequences(2), torch.tensor([-3.0, -2.0])))["best_reward"] == -2


def test_a_single_architecture_cannot_be_standardised() -> None:
    with pytest.raises(UserError, match="envs is 1"):
        NASConfig(envs=1)
    NASConfig(envs=1, baseline="moving")


def test_observations_of_other_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="needs the tokens of a search"):
        NAS(NASConfig(), Spec(Box(0, 1, (24,)), Discrete(4)))


def test_papers_settings_differ_from_the_defaults() -> None:
    paper = NASConfig(**PAPER)
    assert (paper.learning_rate, paper.baseline, paper.entropy_coefficient) == (
        3.5e-4,
        "moving",
        1e-5,
    )
    changed = {k for k, v in dataclasses.asdict(NASConfig()).items() if getattr(paper, k) != v}
    assert changed == PAPER.keys()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_it_finds_better_architectures_than_random_search(seed: int) -> None:
    nas_found, random_found = searches_of(("nas", "nas-random"), seed)
    assert nas_found.best > random_found.best
    assert nas_found.last > random_found.last + 0.1


def test_a_soft_reward_keeps_slow_architectures_and_a_hard_one_does_not() -> None:
    shares = []
    for kind in ("soft", "hard"):
        search = Search("nas", landscape(kind), seed=0).update(10)
        shares.append(float(search.metrics["share_above_target"]))
    assert shares[0] > shares[1] + 0.3


def test_the_driver_plays_whole_episodes_and_logs_the_evaluations() -> None:
    search = Search("nas", landscape()).update()
    assert search.agent.rollout_steps == 18
    assert search.rewards.shape == (20,)
    assert search.metrics["episode_return"] == pytest.approx(search.rewards.mean(), rel=1e-5)
    assert search.metrics["mean_reward"] == pytest.approx(search.rewards.mean(), rel=1e-5)
    names = {"accuracy", "latency_ms", "share_above_target", "share_cached", "hypervolume"}
    assert names <= search.metrics.keys()
    assert 0 < search.metrics["hypervolume"] < 1


@pytest.mark.parametrize("name", ["nas", "nas-random", "nas-evolution", "nas-local"])
def test_a_resumed_search_equals_an_uninterrupted_one(name: str) -> None:
    settings = {"population": 30} if name == "nas-evolution" else {}
    whole = Search(name, landscape(), **settings).update(3)
    states = whole.agent.state_dict(), whole.driver.state_dict()
    resumed = Search(name, landscape(), seed=9, **settings)
    resumed.driver._seed = 0
    resumed.agent.load_state_dict(states[0])
    resumed.driver.load_state_dict(states[1])
    before = whole.rewards
    whole.update(2)
    resumed.update(2)
    np.testing.assert_array_equal(whole.rewards[len(before) :], resumed.rewards)
    assert equal(whole.agent, resumed.agent)
    assert {k: float(x) for k, x in whole.metrics.items()} == {
        k: float(x) for k, x in resumed.metrics.items()
    }
