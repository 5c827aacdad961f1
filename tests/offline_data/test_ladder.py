"""Replay data: a ladder is chosen from a run's snapshots and records whole episodes of each."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlbench import checkpoint
from rlbench.cli import main
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import data_info, list_data, open_data
from rlbench.offline_data.recording import (
    generate,
    policy_cards as cards,
    select_policies as choose,
)
from rlbench.offline_data.recording.behaviour import Sampled, load
from rlbench.offline_data.recording.policy_cards import Rung, Weights
from rlbench.seeding import derive
from tests.data_files import columns_of

COMMAND = (
    "rlbench run sac --env Hopper-v4 --updates 60 --seed 5 --snapshot-every 10 "
    "--hidden 8 8 --batch-size 16 --random-steps 20"
)
NAME = "hopper-medium-replay"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAC run with the snapshots 10, 20, ..., 60."""
    folder = tmp_path_factory.mktemp("runs") / "sac"
    main([*shlex.split(COMMAND)[1:], "--eval-episodes", "1", "--out", str(folder)])
    return folder


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Path) -> Path:
    """A folder with the medium policy of update 40, in place of the shipped ones."""
    monkeypatch.setattr(choose, "EPISODES", 2)
    monkeypatch.setattr(choose, "RUNG_EPISODES", 2)
    folder = tmp_path / "policies"
    folder.mkdir()
    monkeypatch.setattr(cards, "POLICIES", folder)
    found = choose._snapshots
    monkeypatch.setattr(choose, "_snapshots", lambda run: [40])
    choose.choose(run, "hopper-medium", high=np.inf, after=0, out=folder)
    monkeypatch.setattr(choose, "_snapshots", found)
    return folder


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Lets the snapshots seem to score what a test says."""

    def tell(told: dict[int, float]) -> None:
        monkeypatch.setattr(choose, "_rung", lambda *x: Rung(x[-1], 0.0, 0.0, told[x[-1]]))

    return tell


def updates_of(ladder: cards.Ladder) -> list[int]:
    return [rung.updates for rung in ladder.rungs]


def test_a_ladder_ends_with_the_medium_policy(run: Path, policies: Path) -> None:
    ladder = choose.choose_ladder(run, NAME, policies)
    assert updates_of(ladder) == [10, 20, 30, 40]
    assert (ladder.seed, ladder.episodes, ladder.command) == (5, 2, COMMAND)
    file = policies / f"{NAME}.safetensors"
    assert cards.card(file) == ladder
    for rung in ladder.rungs:
        snapshot = checkpoint.load(run / "snapshots" / f"update-{rung.updates:09}")
        weights = load(Weights(file, rung.updates))
        assert choose._equal(weights, snapshot["learner"]["policy"])
        assert rung.score == pytest.approx(find_task(NAME).score(rung.mean), abs=0.01)


def test_a_long_ladder_is_thinned_evenly(
    run: Path, policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "RUNGS", 2)
    assert updates_of(choose.choose_ladder(run, NAME, policies)) == [10, 40]


def test_another_run_gives_a_ladder_up_to_the_medium_score(
    run: Path, policies: Path, scores: Callable[[dict[int, float]], None]
) -> None:
    shipped = cards.card(policies / "hopper-medium.safetensors")
    assert isinstance(shipped, cards.Card)
    weights = load(Weights(policies / "hopper-medium.safetensors"))
    other = {key: value + 1 for key, value in weights.items()}
    choose._write(policies, "hopper-medium", other, shipped)
    scores({10: 1.0, 20: 2.0, 30: shipped.score - 1, 40: 0.0, 50: shipped.score, 60: 99.0})
    assert updates_of(choose.choose_ladder(run, NAME, policies)) == [10, 20, 30, 40, 50]
    scores(dict.fromkeys(range(10, 70, 10), shipped.score - 1))
    with pytest.raises(UserError, match=r"ends before hopper-medium: none of its 6 snapshots"):
        choose.choose_ladder(run, NAME, policies)


def test_a_ladder_needs_the_medium_policy(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ends with the policy of hopper-medium, and there is none"):
        choose.choose_ladder(run, NAME, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_line_makes_a_ladder(
    run: Path, policies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["choose", str(run), NAME, "--out", str(policies)]
    monkeypatch.setattr("sys.argv", command)
    choose.main()
    assert capsys.readouterr().out.endswith(f"{NAME}: 4 rungs, the last of update 40\n")
    (policies / "hopper-medium.safetensors").unlink()
    with pytest.raises(SystemExit) as stopped:
        choose.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_come_from_each_rung_in_order(run: Path, policies: Path) -> None:
    ladder = choose.choose_ladder(run, NAME, policies)
    said: list[str] = []
    data = open_data(find_task(NAME), "generated", size=2000, jobs=1, notify=said.append)
    assert "by uniform, a ladder of 4 (scores " in said[0]
    got, bounds = columns_of(data), data.episode_bounds.tolist()
    env = find_task(NAME).make()
    assert isinstance(env.action_space, spaces.Box)
    names = ["random", *(f"update-{u}" for u in updates_of(ladder))]
    starts = got["obs"][bounds[:-1]]
    for p, name in enumerate(names):
        first_obs, _ = env.reset(seed=derive(0, "generate", f"hopper-{name}", "start", 0))
        (first,) = np.flatnonzero((starts == first_obs.astype(np.float32)).all(axis=1))
        # The episode that would cross the end of a share is not recorded.
        assert 400 * p - 100 < bounds[first] <= 400 * p
        if p == 0:
            continue
        weights = Weights(policies / f"{NAME}.safetensors", updates_of(ladder)[p - 1])
        behaviour = Sampled(weights, env.observation_space, env.action_space)
        for e in range(3):  # the actions are those of the rung
            seed = derive(0, "generate", f"hopper-{name}", "noise", e)
            noise = behaviour.draw(np.random.default_rng(seed), 1000)
            row = bounds[first + e]
            expected = behaviour.act(got["obs"][row : row + 1], noise[:1])
            np.testing.assert_allclose(got["action"][row], expected[0], atol=1e-5)
    details = data.provenance.details
    assert list(details["policies"]) == names
    assert data.provenance.source == f"uniform then {NAME}"
    assert details["policy_scores"] == {f"update-{r.updates}": r.score for r in ladder.rungs}
    assert details["algorithm"] == "random and SAC"


def test_what_is_known_of_a_ladder_is_shown(
    run: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = choose.choose_ladder(run, NAME, policies)
    low, high = (f(rung.score for rung in ladder.rungs) for f in (min, max))
    words = f"uniform, a ladder of 4 (scores {low:.1f} to {high:.1f})"
    assert data_info(NAME)["generated_by"] == words
    assert {row.name: row.generated_by for row in list_data()}[NAME] == words
    capsys.readouterr()
    assert main(["data", "info", NAME]) == 0
    shown = capsys.readouterr().out
    first = ladder.rungs[0]
    assert f"generated_by: {words}\n" in shown
    assert f"1: updates 10, mean {first.mean}, std {first.std}, score {first.score}\n" in shown
    assert f"command: {COMMAND}\n" in shown


@pytest.mark.slow
def test_a_ladder_does_not_depend_on_the_number_of_workers(
    run: Path, policies: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose.choose_ladder(run, NAME, policies)
    monkeypatch.setattr(generate, "ROWS_PER_WORKER", 1000)
    found = []
    for jobs in (1, 2):
        monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path / str(jobs)))
        found.append(open_data(find_task(NAME), "generated", size=5000, jobs=jobs))
    assert torch.equal(found[0].rows, found[1].rows)
    assert found[0].provenance == found[1].provenance
