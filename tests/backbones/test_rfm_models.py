"""Models of multi-agent episodes: measures by hand, gradients, exact resume, every setting, bad input."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.relational import NETWORKS
from rlbench.backbones.models._relational import RelationalConfig, RelationalModel, alive_means
from rlbench.backbones.models.rfm_predictor import (
    RFMPredictor,
    action_losses,
    calibration,
    first_run,
    mean_run,
)
from rlbench.backbones.models.rfm_returns import RFMReturns, returns_to_come
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.examples.episodes import Episodes
from rlbench.envs.social.scripted import Scripted
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

EACH = pytest.mark.parametrize("name", NETWORKS)
KINDS = pytest.mark.parametrize("kind", [RFMPredictor, RFMReturns])


def episodes(game: str = "coin", size: int = 8, seed: int = 0, **policy: Any) -> Examples:
    source = Episodes(game, Scripted(**policy) if policy else None)
    columns = source.sample("train", size, seed)
    return Examples({name: torch.from_numpy(x) for name, x in columns.items()})


def make(
    kind: type[RelationalModel] = RFMPredictor, game: str = "coin", seed: int = 0, **settings: Any
) -> Any:
    return kind(RelationalConfig(**settings), Episodes(game).fields, seed=seed)


def bits(rows: list[str]) -> Tensor:
    """One row of 0 and 1 for each episode, as bool [T, B]."""
    return torch.tensor([[x == "1" for x in row] for row in rows]).T


def test_runs_of_correct_predictions_by_hand() -> None:
    right, alive = bits(["11011", "01110", "11111"]), bits(["11111", "11111", "11000"])
    assert first_run(right & alive).tolist() == [2, 0, 2]
    # Runs from each step: 2 1 0 2 1; 0 3 2 1 0; in the third episode, of two steps, 2 1.
    torch.testing.assert_close(mean_run(right, alive), torch.tensor([6 / 5, 6 / 5, 3 / 2]))


def test_cross_entropies_by_hand() -> None:
    logits = torch.zeros(1, 1, 2, 5)
    logits[0, 0, 0, 3] = math.log(4)
    found = action_losses(logits, torch.tensor([[[3, 1]]]))
    torch.testing.assert_close(found, torch.tensor([[[math.log(2), math.log(5)]]]))


def test_returns_to_come_by_hand() -> None:
    reward = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-1.0, 5.0]]])
    expected = torch.tensor([[[0.0, 7.0]], [[-1.0, 7.0]], [[-1.0, 5.0]]])
    torch.testing.assert_close(returns_to_come(reward), expected)


def test_means_leave_out_steps_after_the_end() -> None:
    values = torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]], [[100.0, 100.0]]])
    torch.testing.assert_close(alive_means(values, torch.tensor([[1, 1, 0]])), torch.tensor([3.5]))


def test_calibration_by_hand() -> None:
    logits = torch.full((1, 1, 2, 5), -100.0)
    logits[0, 0, 0, 0] = 0.0  # Confidence 1.
    logits[0, 0, 1, :2] = 0.0  # Confidence 1/2.
    bins = calibration(logits, torch.tensor([[[True, False]]]), torch.ones(1, 1, dtype=torch.bool))
    assert bins[0, 9].tolist() == [1, 1, 1]
    assert bins[0, 5].tolist() == [1, 0.5, 0]
    columns = {"calibration": bins.numpy(), "taken_actions": np.array([[3, 1, 0, 0, 0]])}
    assert make().summary(columns) == {"ece": pytest.approx(0.25), "majority": 0.75}


def test_measures_of_a_model_that_always_predicts_one_action() -> None:
    model, given = make(), episodes()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        model.network.decoder.of_nodes[-1].bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0]))
        found = model.measure(given)
    down = given["action"] == 2
    torch.testing.assert_close(found["accuracy"], down.float().mean((1, 2)))
    together = down.all(-1)
    assert found["perfect_steps"].tolist() == [
        next((t for t, x in enumerate(row) if not x), len(row)) for row in together.tolist()
    ]
    repeated = given["action"][:, 1:] == given["action"][:, :-1]
    torch.testing.assert_close(found["last_action"], repeated.sum((1, 2)) / 20)


def test_the_action_to_predict_is_not_in_the_observation() -> None:
    given = episodes("stag-hunt", 20)
    last = given["obs"][:, :, :2, -5:]
    assert not last[:, 0].any()
    assert torch.equal(last[:, 1:].argmax(-1), given["action"][:, :-1])


@KINDS
@EACH
def test_every_network_learns(kind: type[RelationalModel], name: str) -> None:
    model, given = make(kind, network=name, learning_rate=3e-3), episodes(size=16)
    with torch.no_grad(), evaluating(model):
        before = model.measure(given)["loss"].mean()
        for _ in range(15):
            with torch.enable_grad():
                metrics = model.learn(given)
        assert model.measure(given)["loss"].mean() < before
    assert ("divergence" in metrics) == (name == "nri")
    assert all(x.ndim == 0 and not x.requires_grad for x in metrics.values())


@KINDS
def test_later_actions_and_rewards_change_no_prediction(kind: type[RelationalModel]) -> None:
    """Neither targets nor rewards are inputs."""
    model, given = make(kind), episodes()
    other = Examples(
        {**given.columns, "action": 0 * given["action"], "reward": 0 * given["reward"]}
    )
    torch.testing.assert_close(model.predict(given).out, model.predict(other).out)


def test_returns_in_the_unit_of_rewards() -> None:
    model, given = make(RFMReturns), episodes(size=64)
    model.learn(given)
    target = returns_to_come(given["reward"])
    moments = model.normaliser.moments
    torch.testing.assert_close(moments.mean, target.mean())
    normalised = model.predict(given).out.squeeze(-1)
    torch.testing.assert_close(
        model.returns(given), normalised * target.std(correction=0) + target.mean()
    )
    with torch.no_grad():
        found = model.measure(given)
    error = model.returns(given).detach() - target
    torch.testing.assert_close(found["error"], error.abs().mean((0, 2)))
    torch.testing.assert_close(found["loss"], error.square().mean((0, 2)) / moments.variance)


def test_a_trained_model_of_two_hunters_reads_four_and_six() -> None:
    model = make(game="stag-hunt")
    for game, agents in (("stag-hunt", 2), ("stag-hunt-4p", 4), ("stag-hunt-6p", 6)):
        assert model.predict(episodes(game)).out.shape == (32, 8, agents, 5)


@KINDS
def test_resume_is_exact(kind: type[RelationalModel]) -> None:
    for name in ("rfm", "nri"):
        whole, half, rest = (make(kind, network=name, decay_updates=4) for _ in range(3))
        for update in range(4):
            whole.learn(episodes(seed=update))
        for update in range(2):
            half.learn(episodes(seed=update))
        rest.load_state_dict(half.state_dict())
        for update in (2, 3):
            rest.learn(episodes(seed=update))
        assert equal(whole, rest)


@pytest.mark.parametrize(
    ("setting", "value", "network"),
    [
        ("network", "rfm-ff", "rfm"), ("reducer", "mean", "rfm"), ("learning_rate", 1e-2, "rfm"),
        ("final_learning_rate", 1e-2, "rfm"), ("decay_updates", 1, "rfm"), ("max_grad_norm", 1e-3, "rfm"),
        ("divergence_weight", 9.0, "nri"),
    ],
)  # fmt: skip
def test_every_setting_has_an_effect(setting: str, value: Any, network: str) -> None:
    usual = {"network": network, "decay_updates": 9}
    states = []
    for settings in (usual, {**usual, setting: value}):
        model = make(**settings)
        for _ in range(3):
            model.learn(episodes())
        states.append(tensors(model.state_dict()))
    assert not same(*states)


def test_the_step_size_falls_along_half_a_cosine() -> None:
    model = make(learning_rate=1.0, final_learning_rate=0.2, decay_updates=2, max_grad_norm=1e-9)
    found = []
    for _ in range(4):
        model.learn(episodes(size=2))
        found.append(round(float(model.optimizer.learning_rate), 4))
    assert found == [1.0, 0.6, 0.2, 0.2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": "gat"}, "network is 'gat'; give one of rfm"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; give a number from 0 to 1"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"divergence_weight": -1.0}, "divergence_weight is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RelationalConfig(**settings)


def test_other_examples_are_refused() -> None:
    with pytest.raises(UserError, match=r"needs recorded episodes with obs \[T, N, D\]"):
        RFMPredictor(RelationalConfig(), {"obs": Box(0, 1, (8, 8)), "label": Box(0, 1, ())})


@KINDS
def test_a_stopped_run_is_resumed_bit_for_bit(
    kind: type[RelationalModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {RFMPredictor: "rfm-predictor", RFMReturns: "rfm-returns"}[kind]
    config = RunConfig(
        env="episodes-coopnav", updates=4, data_size=32, eval_every=2, checkpoint_every=2, log_every=1
    )  # fmt: skip
    settings = RelationalConfig(batch_size=16)
    quiet = Console(quiet=True)
    Run(name, settings, dataclasses.replace(config, out=tmp_path / "whole"), quiet).start()
    learn = kind.learn
    calls = iter(range(3))

    def broken(model: Any, given: Examples) -> Any:
        if next(calls) == 2:
            raise RuntimeError
        return learn(model, given)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "learn", broken)
        run = Run(name, settings, dataclasses.replace(config, out=tmp_path / "broken"), quiet)
        with pytest.raises(RuntimeError):
            run.start()
    assert Run.resume(tmp_path / "broken", quiet).finish() == 2
    assert_equal(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_model_of_two_agents_learns_what_they_do() -> None:
    """Cooperative Navigation: better than the most frequent action, and better with training."""
    given, unseen = episodes("coopnav", 1_000), episodes("coopnav", 300, seed=1)
    model = make(game="coopnav", learning_rate=3e-3)
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(3):
        for _ in range(100):
            model.learn(given.take(torch.randint(1_000, (64,), generator=generator)))
        with torch.no_grad():
            columns = model.measure(unseen)
        found.append(float(columns["accuracy"].mean()))
    majority = model.summary({k: x.numpy() for k, x in columns.items()})["majority"]
    assert found[0] < found[2]
    assert found[2] > majority + 0.2


@pytest.mark.slow
def test_a_model_can_memorise_eight_episodes() -> None:
    given = episodes("coopnav", 8, name="assignment", epsilon=0.0)
    model = make(game="coopnav", learning_rate=3e-3)
    for _ in range(800):
        loss = model.learn(given)["loss"]
    assert loss < 0.05
