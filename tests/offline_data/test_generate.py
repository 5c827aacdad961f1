"""Generated data sets and the policies behind them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file, save_file

from rlbench.agents.sac import SAC, SACConfig
from rlbench.envs.d4rl import names as d4rl_names
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import file_hash
from rlbench.interface import Spec
from rlbench.offline_data import open_data, write_hdf5
from rlbench.offline_data.cache import cache_folder
from rlbench.offline_data.dataset import DataSet
from rlbench.offline_data.recording import generate, policy_cards as cards
from rlbench.offline_data.recording.behaviour import Sampled, Uniform
from rlbench.offline_data.recording.mixtures import Part
from rlbench.offline_data.recording.policy_cards import Weights
from rlbench.seeding import derive
from tests.data_files import columns_of

HIDDEN = (8, 8)


def save_policy(folder: Path, name: str, seed: int) -> Path:
    env = find_task(name).make()
    agent = SAC(SACConfig(hidden=HIDDEN), Spec.of(env), seed=seed)
    weights = folder / f"{name}.safetensors"
    save_file(agent.policy.state_dict(), weights)
    measured = {"mean": 1.0, "std": 1.0}
    card = cards.Card(
        environment="Hopper-v4", agent="sac", settings={"hidden": HIDDEN}, seed=seed, updates=0,
        episodes=50, stochastic=measured, deterministic=measured, score=5.0, versions={}, command="",
    )  # fmt: skip
    weights.with_suffix(".json").write_text(json.dumps(vars(card)))
    return weights


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with untrained policies for two of Hopper's levels, in place of the shipped ones."""
    folder = tmp_path / "policies"
    folder.mkdir()
    monkeypatch.setattr(cards, "POLICIES", folder)
    save_policy(folder, "hopper-medium", 1)
    save_policy(folder, "hopper-expert", 2)
    return folder


def make(name: str = "hopper-random", size: int = 600, **options: Any) -> DataSet:
    return open_data(find_task(name), "generated", size=size, **({"jobs": 1} | options))


def left_over() -> list[str]:
    return [x.name for x in cache_folder().iterdir() if x.suffix != ".lock"]


def files() -> set[str]:
    """Names of what lies in the entries of the cache."""
    return {x.name for x in cache_folder().glob("*/*")}


def test_rows_are_whole_episodes_and_a_cut_one() -> None:
    data = make()
    got = columns_of(data)
    bounds = data.episode_bounds
    assert (len(data), bounds[0], bounds[-1]) == (600, 0, 600)
    ended = got["terminated"] + got["truncated"] > 0
    assert np.array_equal(np.flatnonzero(ended) + 1, bounds[1 : len(data.episode_returns) + 1])
    assert not ended[-1]  # neither flag where the size cut an episode
    inside = ~ended[:-1]
    assert np.array_equal(got["next_obs"][:-1][inside], got["obs"][1:][inside])
    assert not (got["next_obs"][:-1][~inside] == got["obs"][1:][~inside]).all(axis=1).any()
    complete = bounds[len(data.episode_returns)]
    sums = np.add.reduceat(
        got["reward"][:complete].astype(np.float64), bounds[: len(data.episode_returns)]
    )
    np.testing.assert_allclose(data.episode_returns, sums, rtol=1e-5)


def test_recorded_actions_replay_to_the_recorded_observations() -> None:
    data = make(size=100)
    got = columns_of(data)
    env = find_task("hopper-random").make()
    for e, start in enumerate(data.episode_bounds[:3]):
        obs, _ = env.reset(seed=derive(0, "generate", "hopper-random", "start", e))
        for row in range(start, data.episode_bounds[e + 1]):
            assert np.array_equal(got["obs"][row], obs.astype(np.float32))
            obs, reward, terminated, truncated, _ = env.step(got["action"][row])
            assert got["reward"][row] == np.float32(reward)
            assert (got["terminated"][row], got["truncated"][row]) == (terminated, truncated)
            assert np.array_equal(got["next_obs"][row], obs.astype(np.float32))


def test_a_smaller_size_is_the_beginning_of_a_larger() -> None:
    small, large = make(size=50), make(size=600)
    assert torch.equal(small.rows, large.rows[:50])


def test_a_size_that_ends_with_an_episode_cuts_none() -> None:
    end = int(make().episode_bounds[7])
    data = make(size=end)
    assert data.episode_bounds[-1] == end
    assert (len(data.episode_bounds), len(data.episode_returns)) == (8, 7)


def test_a_data_set_larger_than_the_disk_is_refused_at_once() -> None:
    message = r"^a data set of 1,000,000,000,000 transitions needs .* GB free; .* ask for fewer"
    with pytest.raises(UserError, match=message):
        open_data(find_task("point-random"), "generated", size=10**12)


def test_an_episode_ends_at_the_limit_that_its_environment_names(tmp_path: Path) -> None:
    plan = generate.Plan("t", "tests.data_files:Endless", "", (Part("random", None),), 12, 0)
    generate.generate(plan, tmp_path, 1, lambda mean: None, lambda done, total: None)
    data = DataSet(tmp_path)
    assert data.episode_bounds.tolist() == [0, 5, 10, 12]
    got = columns_of(data)
    assert np.flatnonzero(got["truncated"]).tolist() == [4, 9]
    assert not got["terminated"].any()


def test_random_actions_fill_the_box_evenly() -> None:
    action = columns_of(make(size=2000))["action"]
    assert action.min() < -0.99
    assert action.max() > 0.99
    np.testing.assert_allclose(action.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(action.std(axis=0), 1 / np.sqrt(3), atol=0.03)
    assert abs(np.corrcoef(action[1:, 0], action[:-1, 0])[0, 1]) < 0.1


@pytest.mark.parametrize(
    "change", [{"size": 61}, {"seed": 1}, {"name": "hopper-medium"}, {"name": "walker2d-random"}]
)
@pytest.mark.usefixtures("policies")
def test_what_changes_the_rows_changes_the_entry(change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"name": "hopper-random", "size": 60, "seed": 0}
    assert make(**settings).provenance != make(**(settings | change)).provenance
    assert len(left_over()) == 2


def test_new_weights_make_a_new_entry(policies: Path) -> None:
    first = make("hopper-medium", 60)
    save_policy(policies, "hopper-medium", 5)
    assert make("hopper-medium", 60).provenance.sha256 != first.provenance.sha256


def test_all_versions_of_a_name_share_an_entry_that_is_not_called_d4rl() -> None:
    first = make("hopper-random-v0")
    again = make("hopper-random-v2", notify=lambda text: pytest.fail(text))
    assert first.provenance == again.provenance
    assert (first.provenance.kind, first.provenance.name) == ("generated", "hopper-random")


def test_written_data_come_back_and_stay_generated(tmp_path: Path) -> None:
    data = make(size=300)
    write_hdf5(data, tmp_path / "hopper_random-v2.hdf5")
    back = open_data(find_task("hopper-random"), str(tmp_path / "hopper_random-v2.hdf5"))
    assert torch.equal(back.rows, data.rows)
    assert (back.provenance.kind, back.provenance.sha256) == ("generated", data.provenance.sha256)
    assert back.provenance.details["origin"] == data.provenance.to_json()
    assert np.array_equal(back.episode_bounds, data.episode_bounds)
    np.testing.assert_allclose(back.episode_returns, data.episode_returns, rtol=1e-6)


def test_medium_expert_is_medium_then_expert(policies: Path) -> None:
    both = make("hopper-medium-expert", size=400)
    medium, expert = make("hopper-medium", size=200), make("hopper-expert", size=200)
    half = int(medium.episode_bounds[len(medium.episode_returns)])  # its last finished episode
    assert torch.equal(both.rows[:half], medium.rows[:half])
    assert torch.equal(both.rows[half : half + 200], expert.rows)
    assert len(both) == 400
    details = both.provenance.details
    hashes = {x: file_hash(policies / f"hopper-{x}.safetensors") for x in ("medium", "expert")}
    assert details["policies"] == hashes
    assert both.provenance.source == "hopper-medium then hopper-expert"
    assert files() == {"bounds.npy", "meta.json", "returns.npy", "rows.npy", "stamp.json"}
    assert details["score"] == find_task("hopper-medium").score(details["mean_return"])


def test_progress_rises_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    make(progress=lambda *x: seen.append(x))
    assert seen == sorted(seen)
    assert seen[-1] == (600, 600)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("hopper-random", 0, "0 transitions were requested"),
        ("hopper-medium-replay", 10, "no behaviour policy is shipped yet; `rlbench data get hop"),
        ("hopper-full-replay-v1", 10, "`rlbench data get hopper-full-replay-v1`"),
        ("walker2d-medium", 10, "walker2d-medium: no behaviour policy is shipped yet; `rlbench"),
        ("walker2d-medium-expert", 10, "no behaviour policy is shipped yet"),
        ("Hopper-v4", 10, "has no data set of its own; give --data FILE"),
    ],
)
@pytest.mark.usefixtures("policies")
def test_what_cannot_be_generated_is_one_sentence(name: str, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        make(name, size)
    assert "\n" not in str(error.value)
    assert not cache_folder().exists()


def test_an_interrupt_leaves_nothing() -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        make(progress=interrupt)
    assert left_over() == []
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_workers(
    policies: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generate, "ROWS_PER_WORKER", 1000)
    found = []
    for jobs in (1, 2):
        monkeypatch.setenv("RLBENCH_CACHE", str(tmp_path / str(jobs)))
        found.append(make("hopper-medium-expert", 20_000, jobs=jobs))
    assert torch.equal(found[0].rows, found[1].rows)
    assert np.array_equal(found[0].episode_returns, found[1].episode_returns)
    assert found[0].provenance == found[1].provenance
    assert files() == {"bounds.npy", "meta.json", "returns.npy", "rows.npy", "stamp.json"}


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generate, "ROWS_PER_WORKER", 1000)

    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(UserError, match="a worker process died") as error:
        make(size=5000, jobs=2, progress=kill)
    assert "\n" not in str(error.value)
    assert left_over() == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing as m\n"
        "from rlbench.offline_data import open_data\n"
        "from rlbench.envs.tasks import find_task\n"
        "def say(done, total):\n"
        "    print(*(c.pid for c in m.active_children()), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    open_data(find_task('hopper-random'), size=10**6, jobs=2, progress=say)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        if how == signal.SIGKILL:
            parent.kill()
        else:
            os.killpg(parent.pid, how)  # The terminal sends it to all.
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    assert not any(_runs(pid) for pid in children)
    assert how == signal.SIGKILL or not left_over()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("family", d4rl_names.ENVIRONMENTS)
def test_every_family_has_random_data(family: str) -> None:
    data = make(f"{family}-random", size=200)
    assert data.layout.obs_shape + data.layout.action_shape == d4rl_names.SHAPES[family]
    assert data.provenance.details["environment"] == d4rl_names.ENVIRONMENTS[family]


def test_a_policy_acts_as_its_agent(policies: Path) -> None:
    env = find_task("hopper-medium").make()
    box = env.action_space
    assert isinstance(box, spaces.Box)
    weights = policies / "hopper-medium.safetensors"
    behaviour = Sampled(Weights(weights), env.observation_space, box)
    agent = SAC(SACConfig(hidden=HIDDEN), Spec.of(env))
    agent.policy.load_state_dict(load_file(weights))
    obs = np.random.default_rng(0).normal(size=(5, 11))
    mode = agent.act(torch.from_numpy(obs).float()).action.numpy()
    assert np.array_equal(behaviour.act(obs, np.zeros((5, 3), np.float32)), mode)
    mean, log_std = (x.detach().numpy() for x in agent.policy(torch.from_numpy(obs).float()))
    noise = behaviour.draw(np.random.default_rng(1), 5)
    expected = np.tanh(mean + np.exp(log_std) * noise)
    np.testing.assert_allclose(behaviour.act(obs, noise), expected, atol=1e-6)


def test_uniform_actions_stay_in_any_box() -> None:
    box = spaces.Box(np.array([-2, 0], np.float32), np.array([-1, 10], np.float32))
    noise = Uniform(box).draw(np.random.default_rng(0), 1000)
    assert all(box.contains(row) for row in noise)
    assert np.ptp(noise, axis=0) == pytest.approx([1, 10], rel=0.02)


POLICIES = Path(cards.__file__).parent / "policies"
SHIPPED = sorted(POLICIES.glob("*.safetensors"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_shipped_policies_are_small_and_documented(file: Path) -> None:
    card = cards.card(file)
    policies = len(card.rungs) if isinstance(card, cards.Ladder) else 1
    assert file.stat().st_size <= 350_000 * policies
    family, _, level = file.stem.partition("-")
    assert cards.weights_file(family, level) == file
    assert card.environment == d4rl_names.ENVIRONMENTS[family]
    assert card.agent == "sac"
    assert {"mujoco", "gymnasium", "torch"} <= set(card.versions)
    assert card.command
    task = find_task(file.stem)
    if isinstance(card, cards.Ladder):
        assert level == "medium-replay"
        measured = [(rung.mean, rung.score) for rung in card.rungs]
        weights = [Weights(file, rung.updates) for rung in card.rungs]
    else:
        assert card.episodes >= 50
        measured = [(card.stochastic["mean"], card.score)]
        weights = [Weights(file)]
    assert [score for _, score in measured] == pytest.approx(
        [task.score(mean) for mean, _ in measured], abs=0.05
    )
    env = task.make()
    assert isinstance(env.action_space, spaces.Box)
    for one in weights:
        Sampled(one, env.observation_space, env.action_space)


def test_all_shipped_policies_together_are_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED) <= 12_000_000


@pytest.mark.parametrize("name", d4rl_names.short_names())
def test_the_policies_of_every_name_are_shipped(name: str) -> None:
    plan = generate.make_plan(find_task(name).data, 10, 0)  # type: ignore[arg-type]
    assert sum(part.share for part in plan.parts) == pytest.approx(1)
