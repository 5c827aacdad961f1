"""Trained policies: logits and samples, the shipped policies, and how policies are made from runs."""

import json
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rlbench.agents import load_agent
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.social import chance
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.scripted import Scripted
from rlbench.envs.social.single import SingleAgentVector, SingleAgentView
from rlbench.envs.social.trained import POLICIES, Trained, card, logits, names, pool, sample
from rlbench.envs.social.views import vectors
from rlbench.errors import UserError
from rlbench.offline_data.recording import social_policies
from tests.run_files import edit

NAMES = names()


def test_logits_and_samples_by_hand() -> None:
    layers = [
        (np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.0, 1.0])),
        (np.array([[1.0, -1.0], [3.0, 0.0]]), np.array([0.5, 0.0])),
    ]
    first, second = np.tanh([0.5, 2.0])
    found = logits(layers, np.array([[0.5, 0.5]]))
    assert found[0] == pytest.approx([first + 3 * second + 0.5, -first])
    probabilities = np.array([0.2, 0.5, 0.3])
    drawn = np.array([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 2.0**-53])
    rows = np.log(probabilities)[None].repeat(6, 0) + 100
    assert sample(rows, drawn).tolist() == [0, 0, 1, 1, 2, 2]


def test_actions_are_drawn_with_the_probabilities_of_the_policy() -> None:
    game = GridGame("stag-hunt-4p", 1)
    policy = Trained("stag-hunt-4p", [[0]] * 4)
    score = logits(policy.pool[0], vectors(game, [1])[0])[0]
    probabilities = np.exp(score - score.max())
    probabilities /= probabilities.sum()
    many = GridGame("stag-hunt-4p", 4000)
    many.cells[:], many.available[:] = game.cells, game.available
    counts = np.bincount(policy(many)[:, 1], minlength=5) / 4000
    assert counts == pytest.approx(probabilities, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_the_same_alone_and_in_a_batch(name: str) -> None:
    many, one, policy = GridGame(name, 7, seed=40), GridGame(name, 1, seed=43), Trained(name)
    for _ in range(GAMES[name].limit - 1):
        actions = policy(one)
        assert np.array_equal(policy(many)[3:4], actions)
        many.step(policy(many))
        one.step(actions)
        assert np.array_equal(many.cells[3], one.cells[0])


def test_each_agent_plays_a_policy_of_the_pool_during_an_episode() -> None:
    game, policy = GridGame("stag-hunt-4p", 4000), Trained("stag-hunt-4p")
    playing, count = policy.playing(game), len(policy.pool)
    shares = [np.bincount(column, minlength=count) / 4000 for column in playing.T]
    assert np.array(shares) == pytest.approx(np.full((4, count), 1 / count), abs=0.04)
    assert 0.1 < (playing[:, 0] == playing[:, 1]).mean() < 0.9, "each agent draws its own"
    game.step(policy(game))
    assert np.array_equal(policy.playing(game), playing)
    game.reset()
    assert not np.array_equal(policy.playing(game), playing)
    last = count - 1
    chosen = Trained("stag-hunt-4p", [[last], [0], [0, last], [1]])
    where = chosen.playing(game)
    assert [{*column.tolist()} for column in where.T] == [{last}, {0}, {0, last}, {1}]
    seen, layers = vectors(game, [3])[:, 0], chosen.pool[1]
    drawn = chance.uniform(game.key, game.steps, chance.SAMPLED, 4)[:, 3]
    assert np.array_equal(chosen(game)[:, 3], sample(logits(layers, seen), drawn))


def test_unsuitable_arguments_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no policies were trained for 'chess'; .*coin"):
        Trained("chess")
    for among in ([[0]] * 3, [[0]] * 3 + [[]], [[0]] * 3 + [[99]]):
        with pytest.raises(UserError, match="expected one or more numbers from 0 to"):
            Trained("stag-hunt-4p", among)
    with pytest.raises(UserError, match="the policies of coin do not play"):
        Trained("coin")(GridGame("stag-hunt", 1))
    assert Trained("coin")(GridGame("coin-squared", 2)).shape == (2, 2), "only rewards differ"


def test_trained_policies_control_the_partners() -> None:
    vector, policy = SingleAgentVector("coin", 3, partners="trained"), Trained("coin")
    vector.reset(seed=[1, 2, 3])
    partner = policy(vector.game)[:, 1]
    vector.step(np.array([0, 1, 2]))
    assert vector.game.last.tolist() == [[a, b] for a, b in zip([0, 1, 2], partner, strict=True)]
    with pytest.raises(UserError, match="no policies were trained for 'markov-stag-hunt'"):
        SingleAgentView("markov-stag-hunt", partners="trained")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_policies_have_the_returns_on_their_card(name: str) -> None:
    told = card(name)
    assert told["game"] == name
    assert len(told["policies"]) == len(pool(name)) >= 2
    found = social_policies.measured(name, Trained(name))
    # Rounding differs between machines and may change an action in rare cases.
    assert found["return_mean"] == pytest.approx(told["pool"]["return_mean"], rel=0.05)
    assert all(f" --env shared:{name} " in each["command"] for each in told["policies"])
    assert len({each["seed"] for each in told["policies"]}) == len(told["policies"])
    if name == "stag-hunt-4p":
        assert min(each["stags"] for each in told["policies"]) >= 1


def test_the_shipped_policies_are_small() -> None:
    assert {"stag-hunt-4p", "stag-hunt", "coin", "coopnav"} <= {*NAMES}
    assert sum(file.stat().st_size for file in POLICIES.iterdir()) < 1_000_000


def trained_run(
    folder: Path, name: str = "ppo", env: str = "shared:stag-hunt", **settings: Any
) -> Path:
    kind = load_agent(name)
    options: dict[str, Any] = {"eval_every": 0, "eval_episodes": 1, "checkpoint_every": 1}
    chosen = kind.Config(envs=4, rollout_steps=16, hidden=(8, 6), **settings)
    run = Run(
        name, chosen, RunConfig(env=env, updates=2, out=folder, **options), Console(quiet=True)
    )
    run.start()
    return folder


@pytest.mark.parametrize("normalise", [False, True])
def test_policies_made_from_runs_equal_the_agents(normalise: bool, tmp_path: Path) -> None:
    runs = [
        trained_run(tmp_path / f"run{i}", learning_rate=0.01 * (i + 1), normalise_obs=normalise)
        for i in range(2)
    ]
    made = social_policies.make(runs, "too young", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "stag-hunt.json").read_text()) == made
    assert (made["note"], made["policies"][0]["environment_steps"]) == ("too young", 128)
    expected = "rlbench run ppo --env shared:stag-hunt --updates 2 --seed 0 --hidden 8 6 --envs 4"
    flag = " --normalise-obs" if normalise else ""
    assert (
        made["policies"][1]["command"]
        == f"{expected} --rollout-steps 16 --learning-rate 0.02{flag}"
    )
    policy, game = Trained("stag-hunt", folder=tmp_path / "out"), GridGame("stag-hunt", 5)
    seen = vectors(game, [0])[:, 0]
    for number, run in enumerate(runs):
        agent = load_run(run)[0].agent_0
        with torch.no_grad():
            wanted = agent.network.policy(agent.normaliser(torch.from_numpy(seen))).numpy()
        assert logits(policy.pool[number], seen) == pytest.approx(wanted, abs=1e-4)


def test_runs_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run of a2c or ppo"):
        social_policies.make([tmp_path])
    encoding = trained_run(tmp_path / "encoding", encoder="flatten")
    with pytest.raises(UserError, match="without an encoder"):
        social_policies.make([encoding])
    alone = trained_run(tmp_path / "alone", env="stag-hunt")
    with pytest.raises(UserError, match="the runs are on stag-hunt; expected one game"):
        social_policies.make([alone], out=tmp_path / "out")
    run = json.loads((alone / "config.json").read_text())["run"] | {"env": "shared:stag-hunt"}
    for updates, emptied in ((3, False), (2, True)):
        edit(alone, methodcaller("update", {"run": run | {"updates": updates}}))
        for file in (alone / "checkpoint").iterdir() if emptied else ():
            file.unlink()
        with pytest.raises(UserError, match="is not complete; finish it with"):
            social_policies.make([alone], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stags_and_apples_are_counted_until_an_episode_ends() -> None:
    found = social_policies.measured("stag-hunt-4p", Scripted("stay"))
    assert found == {"return_mean": 0, "return_std": 0, "stags": 0, "apples": 0}
    many = social_policies.measured("stag-hunt-4p", Scripted("apples"))
    assert many["apples"] > 10 * many["stags"] > 0
    assert social_policies.measured("coopnav", Scripted("assignment"))["return_mean"] == 1
