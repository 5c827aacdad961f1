"""PPO with a bonus: novelty by hand and by a loop over episodes, rewards, and an embedding from another run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete

from rlbench.agents._novelty import EpisodicNovelty
from rlbench.agents.novelty_ppo import NoveltyPPO, NoveltyPPOConfig
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.benchmarks.training.pretrained import load_pretrained
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Trajectories, columns_of
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import same, weights

CASE = Case(
    "novelty-ppo",
    small={"hidden": (8,), "batch_size": 8, "epochs": 2, "bonus": 0.5, **ROLLOUT},
    changes={
        **test_ppo.CASE.changes, "bonus_encoder": ("sigmoid-mlp:units=4,layers=1", {}), "bonus_memory": (1, {}),
    },
    spaces=(Box, Discrete),
)  # fmt: skip
SPEC = Spec(Box(-np.inf, np.inf, (2,)), Discrete(3))


def rollout(angles: list[list[float]], over: list[int], last: list[float]) -> Trajectories:
    """Unit vectors with angles in degrees [V, T]; the steps `over` of all environments end an episode.

    Args:
        angles: Before each step.
        over: Steps after which episodes end.
        last: Angles after the last step, and after those that end an episode, in order.
    """
    before = torch.tensor(angles).T
    after = torch.cat([before[1:], before[-1:]])
    ends = torch.zeros(before.shape)
    for step in over:
        ends[step] = 1
    for step, angle in zip([*over, len(before) - 1], last, strict=True):
        after[step] = angle
    obs, final = (3 * torch.stack([x.deg2rad().cos(), x.deg2rad().sin()], -1) for x in (before, after))  # fmt: skip
    none = torch.zeros(before.shape)
    return Trajectories(obs, none.long(), none, ends, none, final)


def novelty(envs: int = 1, size: int = 4) -> EpisodicNovelty:
    return EpisodicNovelty(SPEC.observation_space, "flatten", envs, size)


def degrees(found: torch.Tensor) -> list[list[int]]:
    """Angles to the nearest, [V, T], of squared distances [T, V]."""
    return torch.rad2deg(2 * (found.sqrt() / 2).asin()).round().int().T.tolist()


def test_novelty_by_hand() -> None:
    found = novelty()(rollout([[0.0, 30.0, 10.0, 90.0]], [], [95.0]))
    assert degrees(found) == [[30, 20 - 10, 60, 5]]
    assert float(found[0, 0]) == pytest.approx(2 - 3**0.5, abs=1e-5)


def test_a_new_episode_has_forgotten_the_one_before() -> None:
    found = novelty()(rollout([[0.0, 30.0, 31.0, 1.0]], [1], [50.0, 30.0]))
    # The observation after the second step is 50 and not 31, which begins the next episode.
    assert degrees(found) == [[30, 20, 30, 1]]


def test_an_episode_goes_on_in_the_next_rollout() -> None:
    module = novelty(size=2)
    module(rollout([[0.0, 90.0, 100.0]], [], [180.0]))
    assert module.valid.tolist() == [[True, True]]
    # Of the first rollout 90 and 100 are kept, 0 is not.
    assert degrees(module(rollout([[180.0, 95.0, 2.0]], [], [181.0]))) == [[5, 93 - 5, 1]]
    module = novelty(size=5)
    module(rollout([[0.0, 90.0, 100.0]], [0], [1.0, 180.0]))
    assert module.valid.tolist() == [[False, False, False, True, True]]
    assert degrees(module(rollout([[180.0, 0.0]], [], [2.0]))) == [[90, 2]]
    module(rollout([[180.0, 0.0]], [1], [3.0, 3.0]))
    assert not module.valid.any()


def test_it_is_what_a_loop_over_steps_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    module, seen = novelty(envs=3, size=50), [list[torch.Tensor]() for _ in range(3)]
    for _ in range(3):
        obs, final = (torch.randn(6, 3, 2, generator=generator) for _ in range(2))
        ends = torch.randint(4, (6, 3), generator=generator)
        over = [(ends == i).float() for i in range(2)]
        none = torch.zeros(6, 3)
        found = module(Trajectories(obs, none.long(), none, over[0], over[1], final))
        for t in range(6):
            for v in range(3):
                seen[v].append(F.normalize(obs[t, v], dim=0))
                after = F.normalize(final[t, v], dim=0)
                nearest = min(float((after - x).square().sum()) for x in seen[v])
                assert float(found[t, v]) == pytest.approx(nearest, abs=1e-5)
                if ends[t, v] < 2:
                    seen[v].clear()


def test_the_bonus_is_added_to_the_rewards() -> None:
    small = {"hidden": (8,), **ROLLOUT}
    agent = NoveltyPPO(NoveltyPPOConfig(bonus=0.5, **small), SPEC)
    plain = PPO(PPOConfig(**small), SPEC)
    batch = experience(agent, 0)
    assert isinstance(batch, Trajectories)
    bonus = EpisodicNovelty(SPEC.observation_space, "flatten", 4, 256)(batch)
    metrics = agent.learn(batch)
    assert metrics["novelty"] == bonus.mean() > 0
    plain.learn(replace(batch, reward=batch.reward + 0.5 * bonus))
    assert same(weights(agent), weights(plain))
    untouched = experience(NoveltyPPO(NoveltyPPOConfig(**small), SPEC), 0)
    assert all(torch.equal(x, getattr(untouched, k)) for k, x in columns_of(batch).items())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="bonus is -1"):
        NoveltyPPOConfig(bonus=-1.0)
    with pytest.raises(UserError, match="bonus_memory is 0"):
        NoveltyPPOConfig(bonus_memory=0)


def test_the_embedding_may_come_from_a_run_of_facenet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        f"{split}/{name}": x
        for split in ("train", "test")
        for name, x in (("obs", rng.integers(11, size=(4, 3, 7, 7, 3), dtype=np.uint8)), ("label", np.arange(4)))
    }  # fmt: skip
    np.savez(tmp_path / "sets.npz", **columns)  # type: ignore[arg-type]
    words = "--encoder one-hot-grid --embedding-size None --pictures 2 --batch-size 2 --updates 2 --eval-every 0"
    out = tmp_path / "facenet"
    assert main(["run", "facenet", "--env", f"{tmp_path}/sets.npz", *words.split(), "--out", str(out)]) == 0  # fmt: skip
    spec = Spec(Box(0, 255, (7, 7, 3), np.uint8), Discrete(3))
    agent = NoveltyPPO(NoveltyPPOConfig(encoder="grid", bonus_encoder="one-hot-grid"), spec)
    before = {k: x.clone() for k, x in agent.novelty.encoder.state_dict().items()}
    policy = {k: x.clone() for k, x in agent.network.state_dict().items()}
    load_pretrained(agent, str(out))
    after = agent.novelty.encoder.state_dict()
    assert not any(torch.equal(x, after[k]) for k, x in before.items() if "weight" in k)
    assert all(torch.equal(x, policy[k]) for k, x in agent.network.state_dict().items())
    assert not list(agent.novelty.parameters())


def test_features_that_are_all_0_are_new_only_once() -> None:
    # Such as those of frames without objects: 0, 0, then a vector of length 1, then 0 again.
    obs = torch.tensor([0.0, 0, 3, 0])[:, None, None] * torch.tensor([1.0, 0])
    none = torch.zeros(4, 1)
    steps = Trajectories(obs, none.long(), none, none, none, torch.cat([obs[1:], obs[:1]]))
    assert novelty()(steps).flatten().tolist() == [0, 1, 0, 0]
