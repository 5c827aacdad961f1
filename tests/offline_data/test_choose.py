"""A behaviour policy is chosen from a run's snapshots by what they really score."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from safetensors.torch import load_file

from rlbench import checkpoint
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data.recording import policy_cards as cards, select_policies as choose
from rlbench.offline_data.recording.behaviour import Sampled
from rlbench.offline_data.recording.policy_cards import Weights

COMMAND = (
    "rlbench run sac --env Hopper-v4 --updates 30 --seed 5 --snapshot-every 10 "
    "--hidden 8 8 --batch-size 16 --random-steps 20"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAC run with the snapshots 10, 20 and 30."""
    folder = tmp_path_factory.mktemp("runs") / "sac"
    main([*shlex.split(COMMAND)[1:], "--eval-episodes", "1", "--out", str(folder)])
    return folder


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "EPISODES", 3)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """What the snapshots seem to score, in place of the little that 30 updates teach."""
    told = {10: 30.0, 20: 44.0, 30: 60.0}
    measure = choose._measure

    def measured(*arguments: object) -> cards.Card:
        card = measure(*arguments)  # type: ignore[arg-type]
        return cards.Card(**{**vars(card), "score": told[card.updates]})

    monkeypatch.setattr(choose, "_measure", measured)
    return told


def test_the_card_has_the_measurements_and_the_command(run: Path, tmp_path: Path) -> None:
    card = choose.choose(run, "hopper-medium", high=np.inf, after=25, out=tmp_path)
    assert (card.updates, card.episodes, card.seed) == (30, 3, 5)
    assert card.environment == "Hopper-v4"
    assert card.command == COMMAND
    low, high = find_task("hopper-medium").reference_returns or (0.0, 0.0)
    assert card.score == pytest.approx(100 * (card.stochastic["mean"] - low) / (high - low))
    written = cards.card(tmp_path / "hopper-medium.safetensors")
    assert vars(written) == json.loads(json.dumps(vars(card)))


def test_a_policy_of_another_task_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained on Hopper-v4, whose observations or actions have"):
        choose.choose(run, "ant-medium", high=np.inf, after=0, out=tmp_path)


def test_the_weights_are_those_of_the_snapshot_and_record_data(
    run: Path, scores: dict[int, float], tmp_path: Path
) -> None:
    choose.choose(run, "hopper-medium", high=45, after=0, out=tmp_path)
    file = tmp_path / "hopper-medium.safetensors"
    expected = checkpoint.load(run / "snapshots" / "update-000000020")["learner"]["policy"]
    weights = load_file(file)
    assert set(weights) == set(expected)
    assert all(weights[key].equal(expected[key]) for key in weights)
    env = find_task("hopper-medium").make()
    assert isinstance(env.action_space, spaces.Box)
    behaviour = Sampled(Weights(file), env.observation_space, env.action_space)
    noise = behaviour.draw(np.random.default_rng(0), 4)
    assert behaviour.act(np.zeros((4, 11)), noise).shape == (4, 3)


@pytest.mark.parametrize(("high", "after", "chosen"), [(45, 0, 20), (35, 0, 10), (np.inf, 0, 30)])
def test_the_best_of_those_before_the_bound_is_taken(
    run: Path, scores: dict[int, float], tmp_path: Path, high: float, after: int, chosen: int
) -> None:
    assert choose.choose(run, "hopper-medium", high, after, out=tmp_path).updates == chosen


def test_a_worse_one_after_the_best_is_not_taken(
    run: Path, scores: dict[int, float], tmp_path: Path
) -> None:
    scores[30] = 20.0
    assert choose.choose(run, "hopper-medium", high=45, after=0, out=tmp_path).updates == 20


def test_nothing_is_written_where_nothing_fits(
    run: Path, scores: dict[int, float], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no snapshot in .* scores at most 10"):
        choose.choose(run, "hopper-medium", high=10, after=0, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not the folder of a SAC run"):
        choose.choose(tmp_path, "hopper-medium", high=45, after=0)
