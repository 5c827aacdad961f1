"""Baselines of architecture search: each rule by hand, and that they beat random search."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rlbench.agents.nas_evolution import NASEvolution, NASEvolutionConfig
from rlbench.agents.nas_local import NASLocal, NASLocalConfig
from rlbench.agents.nas_random import NASRandom, NASRandomConfig
from rlbench.cli import main
from rlbench.interface import Spec
from rlbench.tokens import OneHotTokens
from tests.agents.case import Case
from tests.agents.test_nas import CHOICES, SPEC, episodes, sequences
from tests.searches import Search, landscape, searches_of

OPTIONS: dict[str, Any] = {"spaces": (Discrete,), "observations": OneHotTokens((3,) * 6)}
CASES = (
    Case("nas-random", {"envs": 4}, **OPTIONS),
    Case("nas-evolution", {"envs": 4, "population": 6, "tournament": 2}, **OPTIONS),
    Case("nas-local", {"envs": 4}, **OPTIONS),
)


def evolution(**settings: Any) -> NASEvolution:
    return NASEvolution(NASEvolutionConfig(**settings), SPEC)


def local(**settings: Any) -> NASLocal:
    return NASLocal(NASLocalConfig(**settings), SPEC)


def worth(tokens: Tensor) -> Tensor:
    """A reward with one optimum, the largest tokens; without ties between neighbours."""
    return (tokens * torch.tensor([1.0, 2.5, 1.25, 3.1])).sum(1)


def learnt(agent: Any, updates: int) -> Tensor:
    """All sequences that an agent proposes, [N, L], when they get their worth."""
    proposed = []
    for _ in range(updates):
        proposed.append(agent.proposals.clone())
        agent.learn(episodes(agent.proposals, worth(agent.proposals)))
    return torch.cat(proposed)


def distances(tokens: Tensor, others: Tensor) -> Tensor:
    """Number of different tokens, [N, M]."""
    return (tokens[:, None] != others).sum(-1)


def test_proposals_are_written_token_by_token() -> None:
    agent = NASRandom(NASRandomConfig(envs=3), SPEC)
    wanted = agent.proposals.clone()
    obs = episodes(wanted, torch.zeros(3)).obs
    for t in range(4):
        assert torch.equal(agent.act(obs[t], explore=True).action, wanted[:, t])
    mixed = torch.stack([obs[2, 0], obs[0, 1], obs[3, 2]])
    assert agent.act(mixed, explore=True).action.tolist() == [
        wanted[0, 2], wanted[1, 0], wanted[2, 3],
    ]  # fmt: skip


def test_without_exploration_the_best_sequence_is_chosen() -> None:
    agent = NASRandom(NASRandomConfig(envs=5), SPEC)
    learnt(agent, 3)
    obs = episodes(sequences(), torch.zeros(5)).obs
    best = torch.stack([agent.act(obs[t]).action for t in range(4)], 1)
    assert torch.equal(best, agent.best.expand(5, -1))
    assert agent.best_reward == worth(agent.best[None])[0]


def test_random_tokens_are_uniform() -> None:
    tokens = learnt(NASRandom(NASRandomConfig(envs=1000), SPEC), 3)
    assert not torch.equal(tokens[:1000], tokens[1000:2000])
    for t, n in enumerate(CHOICES):
        shares = tokens[:, t].bincount() / 3000
        torch.testing.assert_close(shares, torch.full((n,), 1 / n), rtol=0, atol=0.04)


def test_a_population_is_random_until_it_is_complete() -> None:
    agent = evolution(envs=4, population=10, tournament=3)
    first = learnt(agent, 2)
    assert torch.equal(agent.members[:8], first)
    assert torch.equal(agent.rewards[:8], worth(first))
    assert (distances(agent.proposals[2:], first).min(1).values == 1).all(), "two mutants"
    young = evolution(envs=300, population=600, tournament=1000)
    learnt(young, 1)
    assert distances(young.proposals, young.best[None]).float().mean() > 2, "no mutants yet"


def test_the_oldest_member_dies() -> None:
    agent = evolution(envs=3, population=5, tournament=2)
    proposed = learnt(agent, 4)
    kept = {tuple(x) for x in proposed[-5:].tolist()}
    assert {tuple(x) for x in agent.members.tolist()} == kept
    assert torch.equal(agent.rewards, worth(agent.members))


def test_mutants_differ_in_one_uniformly_drawn_token() -> None:
    agent = evolution()
    start = torch.tensor([1, 1, 2, 0]).expand(6000, -1)
    mutants = agent.mutated(start)
    assert (distances(mutants, start[:1]) == 1).all()
    changed = (mutants != start).float().mean(0)
    torch.testing.assert_close(changed, torch.full((4,), 0.25), rtol=0, atol=0.03)
    third = mutants[mutants[:, 2] != 2, 2].bincount(minlength=4)
    torch.testing.assert_close(
        third / third.sum(), torch.tensor([1, 1, 0, 1]) / 3, rtol=0, atol=0.06
    )


def test_tokens_without_choice_are_never_mutated() -> None:
    spec = Spec(OneHotTokens((1, 3)), Discrete(3))
    agent = NASEvolution(NASEvolutionConfig(), spec)
    start = torch.zeros(50, 2, dtype=torch.int64)
    assert (agent.mutated(start) != start).tolist() == [[False, True]] * 50


def test_the_best_of_the_tournament_is_mutated() -> None:
    for size, share in ((1, 1 / 4), (2, 7 / 16), (100, 1.0)):
        agent = evolution(envs=2000, population=4, tournament=size)
        agent.members = torch.tensor([[0, 0, 0, 0], [2, 1, 3, 1], [1, 0, 2, 1], [0, 0, 1, 1]])
        agent.rewards, agent.born = torch.tensor([0.1, 0.4, 0.2, 0.3]), 4
        near = distances(agent.propose(), agent.members[1:2]) == 1
        assert near.float().mean().item() == pytest.approx(share, abs=0.05)


def test_neighbours_have_one_other_token_and_occur_once() -> None:
    agent = local()
    agent.centre = torch.tensor([2, 0, 1, 1])
    found = agent.neighbours(torch.arange(agent.moves))
    assert agent.moves == 2 + 1 + 3 + 1
    assert (distances(found, agent.centre[None]) == 1).all()
    assert len({tuple(x) for x in found.tolist()}) == 7
    assert all((found[:, t] < n).all() for t, n in enumerate(CHOICES))


def test_with_one_environment_the_first_better_neighbour_is_taken() -> None:
    agent = local(envs=1)
    proposed = learnt(agent, 300)
    values = worth(proposed)
    centre, tried, restart, restarts = 0, 0, False, 0
    for i in range(1, 300):
        if restart:
            centre, tried, restart = i, 0, False
            continue
        assert distances(proposed[i : i + 1], proposed[centre : centre + 1]) == 1
        tried += 1
        if values[i] > values[centre]:
            centre, tried = i, 0
        elif tried == 7:
            best = torch.tensor([2, 1, 3, 1])
            assert torch.equal(proposed[centre], best), "the only local optimum"
            restart, restarts = True, restarts + 1
    assert restarts > 3


def test_in_a_batch_the_best_neighbour_is_taken_and_the_rest_is_random() -> None:
    agent = local(envs=3)
    proposed = learnt(agent, 1)
    top = int(worth(proposed).argmax())
    assert torch.equal(agent.centre, proposed[top])
    assert agent.pending == 3
    seen = set()
    for _ in range(40):
        before, near = agent.centre.clone(), agent.proposals[: agent.pending].clone()
        value = agent.centre_reward.clone()
        seen.add(agent.pending)
        if agent.pending:
            assert (distances(near, before[None]) == 1).all()
        given = agent.proposals.clone()
        learnt(agent, 1)
        if agent.pending and len(near) and worth(near).max() > value:
            assert torch.equal(agent.centre, near[worth(near).argmax()])
        elif len(near) < 3:
            far = given[len(near) :]
            assert torch.equal(agent.centre, far[worth(far).argmax()]), "a new start"
        else:
            assert torch.equal(agent.centre, before)
    assert seen == {3, 1}, "seven neighbours in three batches"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "margin"), [("nas-evolution", 0.1), ("nas-local", 0.02)])
def test_they_find_better_architectures_than_random_search(
    name: str, margin: float, seed: int
) -> None:
    found, random_found = searches_of((name, "nas-random"), seed)
    assert found.best > random_found.best
    assert found.last > random_found.last + margin  # Local search is often at a new start.


@pytest.mark.parametrize(
    ("name", "changes"),
    [("nas-evolution", {"population": 40}), ("nas-evolution", {"tournament": 3})],
)
def test_settings_have_an_effect(name: str, changes: dict[str, int]) -> None:
    usual, changed = (Search(name, landscape(), **x).update(4) for x in ({}, changes))
    assert not np.array_equal(usual.rewards, changed.rewards)


def test_ppo_of_sb3_searches_too() -> None:
    settings: dict[str, Any] = {
        "envs": 20, "rollout_steps": 18, "discount": 1.0, "learning_rate": 3e-3, "entropy_coefficient": 0.01,
        "batch_size": 90, "epochs": 5,
    }  # fmt: skip
    search = Search("sb3-ppo", landscape(), **settings).update(15)
    rewards = search.rewards.reshape(15, 20).mean(1)
    assert rewards[-3:].mean() > rewards[:3].mean() + 0.05


@pytest.mark.parametrize("name", ["nas", "nas-random", "nas-evolution", "nas-local"])
def test_a_run_on_a_custom_environment(name: str, in_folder: Path) -> None:
    words = ["run", name, "--env", "tests.searches:env", "--updates", "15", "--out", "run"]
    assert main(words) == 0
    lines = [json.loads(x) for x in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, 16))
    # The best architecture is (2, 1, 3, 1), with accuracy 0.45 and latency 3.
    assert lines[-1]["best_reward"] == pytest.approx(0.45 * 1.5**-0.07)
    assert main(["run", "--resume", "run", "--trust"]) == 0
