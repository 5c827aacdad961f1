"""A2C with a relational forward model: its inputs, predictions, updates and memory."""

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.agents.rfm import (
    RFM,
    RFMConfig,
    egocentric,
    egocentric_size,
    prediction_accuracy,
    prediction_loss,
)
from rlbench.backbones.memories import forget
from rlbench.backbones.optim import gradient_step
from rlbench.benchmarks.commands.watch import frames
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run, task_of
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.benchmarks.training.runner import Run
from rlbench.entities import Entities
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES
from rlbench.envs.social.picture import draw
from rlbench.envs.social.scripted import Scripted
from rlbench.envs.social.views import observe, vectors
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec, State
from rlbench.seeding import derive
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import assert_close, copies, equal, same, unchanged, weights

COIN = GridGame("coin", 1).layout(observed=True)
CASE = Case(
    "rfm",
    small={"hidden": (8,), "predictor": "vain", **ROLLOUT},
    changes={
        **test_ppo.CASE.changes, "predictor": ("mlp-lstm", {}), "predictor_max_grad_norm": (1e-3, {}),
    },
    spaces=(Discrete,),
    observations=Entities(COIN),
)  # fmt: skip
KINDS = ["rfm", "rfm-ff", "rfm-norel", "rfm-noaa", "mlp-lstm", "vain", "uniform", "oracle", "none"]
LEARNED = KINDS[:6]


def agent(game: str = "coin", **settings: Any) -> RFM:
    config = RFMConfig(**{"hidden": (8,), "envs": 3, "rollout_steps": 6, **settings})
    return RFM(config, Spec.of(task_of(game, RFM, config).make()))


def driven(player: RFM, game: str = "coin") -> RolloutDriver:
    return RolloutDriver(player, task_of(game, RFM, player.config), seed=0)


def rollout(player: RFM, game: str = "coin", count: int = 1) -> Trajectories:
    driver = driven(player, game)
    return [driver._rollout() for _ in range(count)][-1]


def nodes_of(game: GridGame, observer: int = 0) -> Tensor:
    return torch.from_numpy(observe(game, "graph", [observer])[:, 0])


@pytest.mark.parametrize("name", GAMES)
def test_the_vector_made_from_nodes_equals_the_vector_of_the_game(name: str) -> None:
    game, team = GridGame(name, 40), Scripted("random")
    layout = game.layout(observed=True)
    for _ in range(9):
        seen = egocentric(torch.from_numpy(observe(game, "graph")), layout)
        assert torch.equal(seen, torch.from_numpy(vectors(game, range(game.agents))))
        assert seen.shape[-1] == egocentric_size(layout)
        game.step(team(game))


def test_losses_by_hand() -> None:
    q = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]])
    moves = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    expected = (np.log(2) + np.log(10)) / 2
    assert float(prediction_loss(q.log(), moves)) == pytest.approx(expected)
    assert float(prediction_loss(q.log() + 3, moves)) == pytest.approx(expected), "logits"
    assert float(prediction_accuracy(q, moves)) == 0.5


@pytest.mark.parametrize("game", ["coin", "stag-hunt-4p", "markov-stag-hunt"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_predictor_acts_and_learns(kind: str, game: str) -> None:
    player = agent(game, predictor=kind)
    given = rollout(player, game)
    q = given.extras["q"]
    assert q.shape == (6, 3, GAMES[game].agents - 1, 0 if kind == "none" else 5)
    if kind != "none":
        torch.testing.assert_close(q.sum(-1), torch.ones(q.shape[:-1]))
    metrics = player.learn(given)
    assert ("predictor_loss" in metrics) == (kind != "none")
    assert abs(float(metrics["first_kl"])) < 1e-12, "learning reads what acting read"


def test_targets_are_the_actions_of_the_others_and_never_its_own() -> None:
    player = agent("stag-hunt-4p", rollout_steps=40)
    driver = driven(player, "stag-hunt-4p")
    game, taken = cast(Any, driver)._env.vector.game, []
    step = game.step

    def watched(actions: Any) -> Any:
        taken.append(actions.copy())
        return step(actions)

    game.step = watched
    given = driver._rollout()
    done = torch.from_numpy(np.stack(taken))
    assert given.truncated.any(), "also at the end of episodes"
    assert torch.equal(player._moves(given).argmax(-1), done[..., 1:])
    assert torch.equal(given.action, done[..., 0])


def test_an_oracle_shows_what_partners_then_do() -> None:
    player = agent("stag-hunt-4p", predictor="oracle", rollout_steps=40)
    given = rollout(player, "stag-hunt-4p")
    assert torch.equal(given.extras["q"], player._moves(given))
    assert float(player.learn(given)["predictor_accuracy"]) == 1


def test_constants_and_the_loss_of_constants() -> None:
    player = agent(predictor="uniform")
    metrics = player.learn(rollout(player))
    assert float(metrics["predictor_loss"]) == pytest.approx(np.log(5))


@pytest.mark.parametrize("kind", ["rfm", "mlp-lstm", "vain"])
def test_predictions_equal_those_of_the_unrolled_model(kind: str) -> None:
    """Learning predicts in one pass what acting predicted step by step, even across ends of episodes."""
    player = agent(predictor=kind, rollout_steps=14)
    given = rollout(player, count=2)
    over = torch.maximum(given.terminated, given.truncated)
    reset = torch.cat([torch.zeros(1, 3), over[:-1]])
    state = {x.removeprefix("before "): given.extras[x][0] for x in given.extras if " " in x}
    assert player.predictor is not None
    assert all(float(x.abs().sum()) > 0 for x in state.values()), (
        "the rollout starts in the middle of an episode"
    )
    assert reset.any()
    q = player.predictor(given.obs, reset, state).out[:, :, 1:].softmax(-1)
    torch.testing.assert_close(q, given.extras["q"])
    wrong = player.predictor(given.obs, 0 * reset, state).out[:, :, 1:].softmax(-1)
    assert not torch.allclose(wrong, given.extras["q"], atol=1e-4)


def test_final_values_read_the_prediction_after_the_last_step() -> None:
    player = agent(rollout_steps=12)
    given = rollout(player)
    read = player._read(given.obs, given.extras["q"])
    after = player._read_after(given, read)
    # The episodes end after 10 steps, the rollout after 12.
    assert [bool(x.any()) for x in after] == [t in (9, 11) for t in range(12)]
    for end, begin in ((9, 0), (11, 10)):
        state: State | None = None
        for obs in (*given.obs[begin : end + 1], given.final_obs[end]):
            step = player.act(obs, state=state)
            state = step.state
        torch.testing.assert_close(after[end], player._read(given.final_obs[end], step.extras["q"]))


def test_the_state_of_the_predictor_is_reset_in_each_episode() -> None:
    player = agent()
    given = rollout(player)
    used = player.act(given.obs[0]).state
    assert used is not None
    forgotten = forget(used, torch.tensor([1.0, 0.0, 1.0]))
    one, other = (player.act(given.obs[1], state=x).extras["q"] for x in (None, forgotten))
    assert (one == other).all(-1).all(-1).tolist() == [True, False, True]


def test_no_gradient_of_the_policy_reaches_the_predictor() -> None:
    player = agent(predictor_learning_rate=0.0, learning_rate=0.1)
    assert player.predictor is not None
    before = copies(player.predictor)
    policy = copies(player.network)
    player.learn(rollout(player))
    assert unchanged(player.predictor, before)
    assert not unchanged(player.network, policy)
    player = agent(learning_rate=0.0)
    assert player.predictor is not None
    before, policy = copies(player.predictor), copies(player.network)
    player.learn(rollout(player))
    assert not unchanged(player.predictor, before)
    assert unchanged(player.network, policy)


def test_the_policy_reads_the_observation_and_the_predictions() -> None:
    player, game = agent("stag-hunt-4p"), GridGame("stag-hunt-4p", 6)
    q = torch.rand(6, 3, 5)
    read = player._read(nodes_of(game), q)
    wanted = torch.cat([torch.from_numpy(vectors(game, [0])[:, 0]), q.flatten(1)], dim=1)
    assert torch.equal(read, wanted)
    assert player.read_space.shape == wanted[0].shape


def test_the_predictor_learns_from_whole_rollouts_and_their_first_states() -> None:
    player, twin = (agent(predictor="vain", predictor_updates=2, rollout_steps=12) for _ in "ab")
    given = rollout(player, count=2)
    assert twin.predictor is not None
    # Episodes end after 10 steps: the first 12 steps leave 8 of the second episode.
    reset = torch.zeros(12, 3)
    reset[8] = 1
    state = {"hidden": given.extras["before hidden"][0]}
    assert state["hidden"].any()
    for _ in range(2):
        logits = twin.predictor(given.obs, reset, state).out[:, :, 1:]
        loss = prediction_loss(logits, given.final_obs[:, :, 1:2, 8:13])
        gradient_step(twin.predictor_optimizer, loss, 5.0)
    player.learn(given)
    assert player.predictor is not None
    assert unchanged(player.predictor, copies(twin.predictor))


@pytest.mark.parametrize("kind", LEARNED)
def test_the_goal_of_another_agent_never_reaches_it(kind: str) -> None:
    player, game = agent(predictor=kind), GridGame("coin", 1)
    game.goals[0] = (0, 1, 2)
    q = player.act(nodes_of(game)).extras["q"]
    game.goals[0] = (0, 2, 1)
    assert torch.equal(player.act(nodes_of(game)).extras["q"], q)
    game.goals[0] = (1, 0, 2)
    heard = kind not in ("rfm-norel", "rfm-noaa")
    assert torch.equal(player.act(nodes_of(game)).extras["q"], q) != heard, "its own goal may"


@pytest.mark.parametrize("kind", ["rfm", "rfm-ff", "vain"])
def test_the_order_of_items_does_not_matter(kind: str) -> None:
    player, game, state, other = agent(predictor=kind), GridGame("coin", 8), None, None
    order = torch.cat([torch.arange(2), 2 + torch.randperm(12)])
    for _ in range(4):
        nodes = nodes_of(game)
        one, two = player.act(nodes, state=state), player.act(nodes[:, order], state=other)
        torch.testing.assert_close(one.extras["q"], two.extras["q"], atol=1e-5, rtol=0)
        state, other = one.state, two.state
        game.step(Scripted("own-colour")(game))


def test_agents_see_their_own_node_first_and_can_share_weights() -> None:
    """Rows may be the agents of one game; each sees the others in cyclic order of their numbers."""
    player, game = agent("stag-hunt-4p"), GridGame("stag-hunt-4p", 5)
    rows = torch.from_numpy(observe(game, "graph")).flatten(0, 1)
    both = player.act(rows).extras["q"].view(5, 4, 3, 5)
    alone = player.act(nodes_of(game, 2)).extras["q"]
    torch.testing.assert_close(both[:, 2], alone)
    turned = nodes_of(game, 2)
    place = player.layout.place
    assert torch.equal(turned[:, :4, place], nodes_of(game)[:, [2, 3, 0, 1], place])


@pytest.mark.parametrize(("game", "kind"), [("coin", "rfm"), ("stag-hunt", "oracle")])
def test_a_resumed_run_continues_its_predictions(game: str, kind: str) -> None:
    whole, half, rest = (agent(game, predictor=kind, rollout_steps=7) for _ in range(3))
    one, begun, resumed = driven(whole, game), driven(half, game), driven(rest, game)
    for _ in range(6):
        one.update()
    for _ in range(3):
        begun.update()
    rest.load_state_dict(half.state_dict())
    resumed.load_state_dict(begun.state_dict())
    for _ in range(3):
        resumed.update()
    assert equal(whole, rest)


def test_recorded_updates_equal_those_of_learn() -> None:
    whole, twin = (agent(predictor="mlp-lstm", rollout_steps=3) for _ in range(2))
    one, other = driven(whole), driven(twin)
    other._learn = compiled_learn(twin, interpreted)
    for _ in range(3):
        one.update()
        other.update()
    assert_close(whole, twin)


def test_a_run_is_loaded_in_its_view(tmp_path: Path) -> None:
    config = RunConfig(env="coin", updates=2, eval_episodes=2, out=tmp_path / "run")
    run = Run("rfm", RFMConfig(hidden=(8,), envs=2, predictor="oracle"), config)
    run.start()
    player, task = load_run(tmp_path / "run")
    space = task.make().observation_space
    assert isinstance(space, Entities)
    assert space.layout.oracle
    assert same(weights(player), weights(run.learner))
    assert player.act(torch.zeros(1, *space.shape)).extras["q"].shape == (1, 1, 5)


def test_an_agent_without_predictions_is_filmed(tmp_path: Path) -> None:
    config = RunConfig(env="stag-hunt", updates=1, eval_episodes=1, out=tmp_path / "run")
    Run("rfm", RFMConfig(hidden=(8,), envs=2, predictor="none"), config).start()
    pictures, _ = frames(tmp_path / "run", 1, 1, 144)
    assert len(list(pictures)) == 33


def test_films_show_its_predictions(tmp_path: Path) -> None:
    config = RunConfig(env="stag-hunt-4p", updates=1, eval_episodes=1, out=tmp_path / "run")
    Run("rfm", RFMConfig(hidden=(8,), envs=2, predictor="vain"), config).start()
    pictures, _ = frames(tmp_path / "run", 1, 1, 144)
    player, task = load_run(tmp_path / "run")
    env: Any = task.make()
    obs, _ = env.reset(seed=derive(1, "episode", 0))
    state, plain = None, True
    for picture in (shot.picture for shot in islice(pictures, 5)):
        chosen = player.act(torch.from_numpy(obs)[None], state=state)
        state = chosen.state
        plain &= np.array_equal(picture, env.render())
        assert np.array_equal(picture, draw(env.game, predictions=chosen.extras["q"][0].numpy()))
        obs, *_ = env.step(int(chosen.action))
    assert not plain


def test_films_show_agents_that_predict_nothing(tmp_path: Path) -> None:
    config = RunConfig(env="coin", updates=1, eval_episodes=1, out=tmp_path / "run")
    Run("rfm", RFMConfig(hidden=(8,), envs=2, predictor="none"), config).start()
    assert len(list(frames(tmp_path / "run", 1, 1, 144)[0])) == 11


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("CartPole-v1", {}, "RFM needs observations of the kind 'graph', which CartPole-v1"),
        ("digits", {}, "give a multi-agent game"),
        ("coin", {"encoder": "flatten"}, "encoder is flatten and freeze is False, but rfm reads"),
    ],
)
def test_what_it_cannot_read_is_refused_before_anything_is_written(
    name: str, settings: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        Run("rfm", RFMConfig(**settings), RunConfig(env=name, out=tmp_path / "run")).start()
    assert not (tmp_path / "run").exists()


def test_spaces_without_nodes_are_refused() -> None:
    vectors_only = Spec.of(find_task("coin").make())
    graph = dataclasses.replace(vectors_only, observation_space=Entities(COIN))
    with pytest.raises(
        UserError, match="rfm with the predictor rfm needs the nodes of a multi-agent game"
    ):
        RFM(RFMConfig(), vectors_only)
    with pytest.raises(UserError, match="in the view oracle"):
        RFM(RFMConfig(predictor="oracle"), graph)
    with pytest.raises(
        UserError, match="cannot be exported, because exports do not support its network"
    ):
        RFM(RFMConfig(), graph).decide(torch.zeros(1, *graph.observation_space.shape or ()))


@pytest.mark.slow
def test_a_killed_run_equals_one_that_was_not(tmp_path: Path) -> None:
    arguments = ["rfm", "--env", "coin", "--updates", "60", "--eval-every", "20"]
    arguments += ["--checkpoint-every", "10", "--log-every", "5", "--rollout-steps", "7"]
    killed_equals_unkilled(arguments, tmp_path, kills=4, seed=0)


@pytest.mark.slow
def test_it_learns_to_predict_and_to_act() -> None:
    player = RFM(RFMConfig(), Spec.of(task_of("stag-hunt", RFM, RFMConfig()).make()))
    driver = driven(player, "stag-hunt")
    metrics = [driver.update() for _ in range(60)]
    first, last = (
        {key: float(torch.stack([x[key] for x in part]).mean()) for key in part[0]}
        for part in (metrics[:10], metrics[-10:])
    )
    assert last["predictor_accuracy"] > first["predictor_accuracy"] + 0.1
