"""Agents that read images: encoders in every network, frozen ones, and how data keep their bytes."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor, nn

from rlbench.agents import load_agent
from rlbench.backbones.encoders import make_encoder, observations_of
from rlbench.backbones.encoders._base import RunningBatchNorm, freeze, use_running_statistics
from rlbench.backbones.memories import make_memory
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import EpisodesEvaluator
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import encoders_of
from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.benchmarks.training.runner import Run
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Agent, Spec
from rlbench.offline_data import open_data
from rlbench.storage import Layout
from tests.agents.case import case_of
from tests.networks import same, tensors
from tests.probe_envs import in_episodes

IMAGE = Box(0, 255, (6, 6, 3), np.uint8)
BOX = Spec(IMAGE, Box(-1, 1, (2,)))
TINY = "resnet:units=1,width=4,stages=2,norm=bn"
OTHERS = [
    "mobilenet-v2:width=0.1,norm=bn", "fc-densenet:growth=2,pools=2,norm=bn",
    "mnas:first=4,last=0,size=8,norm=bn,head=flatten,blocks=mbconv3_r2_k3_s2_o4_se0.25_identity",
]  # fmt: skip
NAMES = [
    "awr", "bc", "bcq", "bear", "brac", "cql", "crr", "decision-transformer", "iql", "recurrent-crr", "sac", "td3",
]  # fmt: skip
QUIET = Console(quiet=True)


def make(name: str, **settings: Any) -> Agent:
    agent = load_agent(name)
    return agent(agent.Config(**{**case_of(name).small, "encoder": TINY, **settings}), BOX, seed=0)


def experience(agent: Agent, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape = (5, 4) if agent.consumes is Trajectories else (8,)

    def images() -> Tensor:
        return torch.randint(256, (*shape, *IMAGE.shape), generator=generator, dtype=torch.uint8)

    action = 2 * torch.rand(*shape, 2, generator=generator) - 1
    reward, zeros = torch.rand(shape, generator=generator), torch.zeros(shape)
    if agent.consumes is Trajectories:
        return in_episodes(Trajectories(images(), action, reward, zeros, zeros, images()))
    return Transitions(images(), action, reward, images(), zeros, zeros)


def train(agent: Agent, updates: int = 4) -> Agent:
    for seed in range(updates):
        agent.learn(experience(agent, seed))
    return agent


@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns_its_own_encoder_and_a_frozen_one_stays(name: str) -> None:
    free, frozen = make(name), make(name, freeze=True)
    assert len(encoders_of(free)) == len(encoders_of(frozen)) >= 1
    before = [copy.deepcopy(x.state_dict()) for x in encoders_of(frozen)]
    train(free)
    train(frozen)
    assert all(
        same(old, x.state_dict()) for old, x in zip(before, encoders_of(frozen), strict=True)
    )
    assert not any(
        same(old, x.state_dict()) for old, x in zip(before, encoders_of(free), strict=True)
    )
    obs = experience(free).obs
    assert free.act(obs.flatten(0, -4)).action.shape[1:] == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_agents_with_encoders_resume_bit_for_bit(name: str) -> None:
    whole, first, rest = (
        make(name),
        train(make(name), 2),
        make(name, normalise_obs=True) if name == "bc" else make(name),
    )
    train(whole, 4)
    rest.load_state_dict(copy.deepcopy(first.state_dict()))
    for seed in (2, 3):
        rest.learn(experience(rest, seed))
    assert same(tensors(whole.state_dict()), tensors(rest.state_dict()))


@pytest.mark.parametrize("encoder", OTHERS)
def test_agents_with_other_encoders_resume_bit_for_bit(encoder: str) -> None:
    whole, first, rest = (make("td3", encoder=encoder) for _ in range(3))
    train(whole, 4)
    rest.load_state_dict(copy.deepcopy(train(first, 2).state_dict()))
    for seed in (2, 3):
        rest.learn(experience(rest, seed))
    assert same(tensors(whole.state_dict()), tensors(rest.state_dict()))


def test_images_in_memory_of_any_kind_are_read_alike() -> None:
    encoder = make_encoder("nature", (36, 36, 3))
    images = torch.randint(256, (2, 5, 36, 36, 3), dtype=torch.uint8)
    together = encoder(images)
    assert together.shape == (2, 5, encoder.size)
    torch.testing.assert_close(together[1], encoder(images[1].float()))


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1)])
def test_running_statistics_by_hand(shape: tuple[int, ...]) -> None:
    norm = RunningBatchNorm(1, momentum=0.5)
    x = torch.tensor([1.0, 3.0]).reshape(shape)
    # Mean 0 and variance 1 at first; the batch has mean 2 and variance 2.
    torch.testing.assert_close(norm(x), x / (1 + 1e-5) ** 0.5)
    assert (norm.running_mean.item(), norm.running_var.item()) == (1.0, 1.5)  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(norm(x), (x - 1) / (1.5 + 1e-5) ** 0.5)
    norm.eval()
    norm(x)
    assert norm.running_mean.item() == 1.0  # type: ignore[union-attr]
    plain = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(2)))
    names = list(plain.state_dict())
    use_running_statistics(plain)
    assert list(plain.state_dict()) == names
    assert all(
        isinstance(x, RunningBatchNorm) for x in plain.modules() if not isinstance(x, nn.Sequential)
    )


def test_acting_and_targets_leave_running_statistics_alone_and_targets_follow() -> None:
    agent: Any = train(make("td3", policy_every=1, target_rate=1.0), 2)
    statistics = [x for x in agent.critic.modules() if isinstance(x, RunningBatchNorm)]
    copies = [x for x in agent.target_critic.modules() if isinstance(x, RunningBatchNorm)]
    for mine, slow in zip(statistics, copies, strict=True):
        assert torch.equal(mine.running_mean, slow.running_mean)  # type: ignore[arg-type]
        assert mine.running_mean.abs().sum() > 0  # type: ignore[union-attr]
    before = [copy.deepcopy(x.state_dict()) for x in encoders_of(agent)]
    agent.act(experience(agent).obs)
    assert all(same(x, y.state_dict()) for x, y in zip(before, encoders_of(agent), strict=True))


@pytest.mark.parametrize("encoder", [TINY, *OTHERS])
def test_ppo_acts_and_learns_by_the_same_statistics_and_restores_them_with_an_undone_update(
    encoder: str,
) -> None:
    agents: list[Any] = []
    for limit in (1e-9, 1e9):
        config = load_agent("ppo").Config(
            encoder=encoder, envs=2, rollout_steps=8, batch_size=8, epochs=2, kl_limit=limit
        )
        agent: Any = load_agent("ppo")(config, dataclasses.replace(BOX, action_space=Discrete(3)))
        before = copy.deepcopy(agent.network.state_dict())
        obs = torch.randint(256, (8, 2, *IMAGE.shape), dtype=torch.uint8)
        chosen = agent.act(obs.flatten(0, 1), explore=True)
        zeros, extras = torch.zeros(8, 2), {k: x.view(8, 2) for k, x in chosen.extras.items()}
        rollout = Trajectories(
            obs, chosen.action.view(8, 2), torch.rand(8, 2), zeros, zeros, obs, extras
        )
        metrics = agent.learn(rollout)
        assert abs(float(metrics["first_kl"])) < 1e-6
        agents.append(agent)
        assert same(before, agent.network.state_dict()) == (limit < 1)


def test_frozen_layers_have_no_parameters_and_the_same_state() -> None:
    layer = nn.Conv2d(3, 4, 3)
    state = copy.deepcopy(layer.state_dict())
    freeze(layer)
    assert not list(layer.parameters())
    assert same(layer.state_dict(), state)
    layer(torch.randn(1, 3, 5, 5))


def test_vectors_need_no_encoder() -> None:
    assert observations_of(Box(-1, 1, (3,))) == 3
    with pytest.raises(UserError, match="this agent needs a Box"):
        observations_of(Discrete(3))
    with pytest.raises(UserError, match="takes images"):
        observations_of(Box(-1, 1, (3,)), "nature")
    with pytest.raises(UserError, match="add an axis of length 1"):
        observations_of(Box(0, 255, (36, 36), np.uint8), "nature")


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_memories_step_and_unroll_alike(name: str) -> None:
    memory = make_memory(name, observations_of(IMAGE, TINY), size=5, more=2)
    images = torch.randint(256, (3, 2, *IMAGE.shape), dtype=torch.uint8)
    more, reset = torch.randn(3, 2, 2), torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    memory.eval()
    state = memory.initial_state(2, torch.device("cpu"))
    whole, last = memory.unroll(memory.read(images, more), state, reset)
    for t in range(3):
        state = {k: x * (1 - reset[t])[:, None] for k, x in state.items()}
        out, state = memory.step(memory.read(images[t], more[t]), state)
        torch.testing.assert_close(out, whole[t])
    assert same(last, state)
    seen, _ = memory.unroll(
        memory.read(255 - images, more), memory.initial_state(2, torch.device("cpu")), reset
    )
    assert not torch.isclose(seen, whole).any(), "it sees the images"


class Lights(gym.Env[Any, Any]):
    """One of three lights is on; the right choice is its number. The best return is 5."""

    observation_space, action_space = Box(0, 255, (36, 36, 3), np.uint8), Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        reward, self._step = float(action == self._light), self._step + 1
        return self._picture(), reward, False, self._step == 5, {}

    def _picture(self) -> Any:
        self._light = int(self.np_random.integers(3))
        picture = self.np_random.integers(0, 40, (36, 36, 3), dtype=np.uint8)
        picture[12:24, 12 * self._light : 12 * self._light + 12] += 150
        return picture


def record(file: Path, episodes: int = 40) -> None:
    """Half of the actions are right, the others random."""
    env, columns = Lights(), {name: [] for name in ("obs", "action", "reward", "end", "next")}  # type: ignore[var-annotated]
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        obs, over = env.reset(seed=episode)[0], False
        while not over:
            action = env._light if rng.random() < 0.5 else int(rng.integers(3))
            following, reward, _, over, _ = env.step(action)
            for name, x in zip(columns, (obs, action, reward, over, following), strict=True):
                columns[name].append(x)
            obs = following
    with h5py.File(file, "w") as out:
        out["observations"] = np.array(columns["obs"])
        out["actions"] = np.array(columns["action"], np.float32)
        out["rewards"] = np.array(columns["reward"], np.float32)
        out["terminals"] = np.zeros(len(columns["end"]), bool)
        out["timeouts"] = np.array(columns["end"])
        out["next_observations"] = np.array(columns["next"])


@pytest.fixture
def lights(tmp_path: Path) -> Path:
    file = tmp_path / "lights.hdf5"
    record(file)
    return file


def test_images_of_a_file_are_kept_once_and_as_bytes(lights: Path) -> None:
    data = open_data(find_task("tests.agents.test_observing:Lights"), str(lights))
    with h5py.File(lights) as file:
        obs, following = file["observations"][:], file["next_observations"][:]
    batch = data.take(torch.arange(len(obs)))
    assert batch.obs.dtype == torch.uint8
    np.testing.assert_array_equal(batch.obs.numpy(), obs)
    np.testing.assert_array_equal(batch.next_obs.numpy(), following)
    assert data.frames is not None
    assert len(data.frames.images) == 200 + 40  # Each step once, and the last of each episode.
    assert data.rows.shape == (200, 4)
    stretch = data.stretches(torch.tensor([0, 7]), 3)
    np.testing.assert_array_equal(stretch.obs[:, 1].numpy(), obs[7:10])


@pytest.mark.parametrize(("agent", "updates"), [("bc", 60), ("crr", 100)])
def test_agents_learn_from_images_in_a_file(
    agent: str, updates: int, lights: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "encoder": "nature", "hidden": (32,), "batch_size": 32, "learning_rate": 1e-3,
    }  # fmt: skip
    config = RunConfig(
        env="tests.agents.test_observing:Lights", data=str(lights), updates=updates, eval_every=0,
        checkpoint_every=updates // 2, out=tmp_path / "run",
    )  # fmt: skip
    Run(agent, load_agent(agent).Config(**settings), config, QUIET).start()
    trained, task = load_run(tmp_path / "run", trust=True)
    _, returns = EpisodesEvaluator(task, 10).returns(trained, 0)
    assert returns.mean() > 4.5


def test_a_replay_buffer_keeps_images_once(tmp_path: Path) -> None:
    layout = Layout((2, 2, 1), (), images=True)
    replay = ReplayFile(tmp_path / "replay.bin", layout, capacity=4, slack=1)
    images = torch.arange(60, dtype=torch.uint8).reshape(15, 2, 2, 1).numpy()
    # Episodes of 3, 1 and 5 steps; each image begins a step or ends an episode.
    ends, at, written = {2: True, 3: False, 8: True}, 0, []
    for step in range(9):
        over = step in ends
        terminated = ends.get(step, False)
        replay.write(step, images[at], 0, step, terminated, over and not terminated, images[at + 1])
        written.append((images[at], images[at + 1]))
        at += 2 if over else 1
        if step < 1:
            continue
        drawn = replay.draw(50, step + 1, torch.Generator().manual_seed(step))
        batch = replay.take(drawn, torch.device("cpu"))
        for i, reward in enumerate(batch.reward.long().tolist()):
            assert step - 4 < reward <= step
            np.testing.assert_array_equal(batch.obs[i], written[reward][0])
            np.testing.assert_array_equal(batch.next_obs[i], written[reward][1])
    np.testing.assert_array_equal(replay.outcome(8)[1], written[8][1])
    assert (tmp_path / "replay-images.bin").stat().st_size == 6 * 4
    replay.remove()
    assert not list(tmp_path.iterdir())


class Glow(gym.Env[Any, Any]):
    """A picture whose brightness the action should match."""

    observation_space, action_space = Box(0, 255, (6, 6, 3), np.uint8), Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        reward, self._step = -abs(float(action[0]) - self._level), self._step + 1
        return self._picture(), reward, False, self._step == 3, {}

    def _picture(self) -> Any:
        self._level = self.np_random.uniform(-1, 1)
        return np.full((6, 6, 3), int(127.5 * (1 + self._level)), np.uint8)


def test_an_online_run_on_images_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_agent("sac").Config(
        hidden=(8,), batch_size=4, random_steps=5, replay_size=6, encoder=TINY
    )
    config = RunConfig(
        env="tests.agents.test_observing:Glow", updates=12, checkpoint_every=4, eval_every=0,
        eval_episodes=1, out=tmp_path / "whole",
    )  # fmt: skip
    Run("sac", settings, config, QUIET).start()
    cut = Run("sac", settings, dataclasses.replace(config, out=tmp_path / "cut"), QUIET)
    learn, left = cut.learner.learn, iter(range(10))

    def dying(batch: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return learn(batch)

    cut.learner.learn = dying
    with pytest.raises(KeyboardInterrupt):
        cut.start()
    assert Run.resume(tmp_path / "cut", QUIET, trust=True).finish() == 4
    one, other = (
        load_run(tmp_path / name, trust=True)[0].state_dict() for name in ("whole", "cut")
    )
    one, other = (
        {k: v for k, v in tensors(x).items() if "generator" not in k} for x in (one, other)
    )
    assert same(one, other)


def test_a_pretrained_encoder_is_given_to_all_networks_and_named_in_the_run(
    tmp_path: Path, lights: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 36, 36, 3), dtype=np.uint8)
    label = np.arange(40) % 2
    columns = {
        f"{split}/{k}": x
        for split in ("train", "test")
        for k, x in (("obs", images), ("label", label))
    }
    np.savez(tmp_path / "mine.npz", **columns)  # type: ignore[arg-type]
    from rlbench.benchmarks.training.learners import load_learner

    classifier = load_learner("classifier").Config(encoder=TINY, batch_size=8)
    config = RunConfig(env=str(tmp_path / "mine.npz"), updates=3, out=tmp_path / "source")
    Run("classifier", classifier, config, QUIET).start()
    source = encoders_of(load_run(tmp_path / "source")[0])[0]
    config = RunConfig(
        env="tests.agents.test_observing:Lights", data=str(lights), updates=2, eval_episodes=1,
        pretrained=str(tmp_path / "source"), out=tmp_path / "run",
    )  # fmt: skip
    settings = load_agent("crr").Config(encoder=TINY, hidden=(8,), freeze=True, batch_size=4)
    run = Run("crr", settings, config, QUIET)
    run.start()
    assert len(encoders_of(run.learner)) == 4
    for encoder in encoders_of(run.learner):
        mine, theirs = encoder.state_dict(), source.state_dict()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine if "num_batches" not in k)
    assert run.folder.config()["pretrained"]["learner"]["name"] == "classifier"
    other = dataclasses.replace(config, out=tmp_path / "other")
    with pytest.raises(UserError, match="differs from the encoders of this run"):
        Run("crr", load_agent("crr").Config(encoder="nature"), other, QUIET).start()
    with pytest.raises(UserError, match="has no encoder with weights"):
        Run("crr", load_agent("crr").Config(), other, QUIET).start()
    assert not (tmp_path / "other").exists()
