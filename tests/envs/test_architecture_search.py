"""The search environment: tokens, masks, invalid actions, rewards, and batches that equal single searches."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlbench.envs.architectures.evaluate import Evaluation
from rlbench.envs.architectures.objective import Objective
from rlbench.envs.architectures.search import ArchSearchEnv
from rlbench.envs.episodes import step_limit
from rlbench.errors import UserError
from tests.searches import SMALL, Counted, env, vector


@pytest.mark.parametrize("observations", ["one-hot", "tokens"])
@pytest.mark.filterwarnings("ignore:.*render.*", "ignore:.*not within the action space.*")
def test_gymnasiums_checks_pass(observations: str) -> None:
    check_env(env(observations), skip_render_check=True)
    assert step_limit(env(observations)) == 4


def test_an_episode_chooses_one_architecture() -> None:
    counted = Counted()
    search = env("tokens", counted)
    obs, info = search.reset(seed=0)
    assert obs.tolist() == [0, 0, 0, 0, 0]
    assert info["action_mask"].tolist() == [True, True, True, False]
    for t, token in enumerate([2, 0, 3]):
        obs, reward, terminated, truncated, info = search.step(token)
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert info.keys() == {"resampled", "action_mask"}
        assert info["action_mask"].sum() == SMALL.choices[t + 1]
        assert info["action_mask"].tolist() == search.action_masks().tolist()
        assert not counted.batches
    obs, reward, terminated, truncated, info = search.step(1)
    assert obs.tolist() == [3, 1, 4, 2, 4]
    assert (terminated, truncated) == (True, False)
    # Accuracy 0.1 + 0.05 * 6, latency 3, target 2.
    assert reward == pytest.approx(0.4 * 1.5**-0.07)
    assert counted.batches == [[(2, 0, 3, 1)]]
    assert json.loads(info.pop("architecture")) == {"tokens": [2, 0, 3, 1]}
    assert info.pop("tokens").tolist() == [2, 0, 3, 1]
    assert info == {
        "resampled": False, "accuracy": pytest.approx(0.4), "latency_ms": 3.0, "parameters": 70, "multiply_adds": 7,
        "seconds": 0.5, "status": "ok", "cached": False, "test_accuracy": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="search 0 is over"):
        search.step(0)


def test_both_observations_hold_the_same_tokens() -> None:
    pair = env("one-hot"), env("tokens")
    rng = np.random.default_rng(0)
    for seed in range(5):
        seen = [search.reset(seed=seed)[0] for search in pair]
        for _ in range(4):
            action = int(rng.integers(4))  # Also invalid ones.
            steps = [search.step(action) for search in pair]
            decoded = [
                search.observation_space.decode(torch.from_numpy(obs[None]).float()).tolist()  # type: ignore[attr-defined]
                for search, (obs, *_) in zip(pair, steps, strict=True)
            ]
            assert decoded[0] == decoded[1]
            assert steps[0][1:4] == steps[1][1:4]
        assert len(seen[0]) == 4 * 6
        assert len(seen[1]) == 5


def test_invalid_actions_are_replaced_uniformly_by_valid_ones() -> None:
    search, drawn = env("tokens"), []
    for seed in range(600):
        search.reset(seed=seed)
        obs, *_, info = search.step(3)
        assert info["resampled"] is True
        drawn.append(int(obs[0]) - 1)
        assert search.step(1)[-1]["resampled"] is False
    shares = np.bincount(drawn, minlength=3) / 600
    np.testing.assert_allclose(shares, 1 / 3, atol=0.06)
    search.reset(seed=0)
    first = search.step(-1)[0].tolist()
    search.reset(seed=0)
    assert search.step(3)[0].tolist() == first, "the seed decides"


def test_other_observations_are_refused() -> None:
    with pytest.raises(UserError, match=r"observations is 'image'; give one of one-hot, tokens"):
        env("image")


class Failing:
    """Every architecture fails."""

    def evaluate(self, batch: Any) -> list[Evaluation]:
        return [Evaluation(None, None, status="diverged") for _ in batch]


def test_a_failed_architecture_has_a_small_finite_reward() -> None:
    search = ArchSearchEnv(SMALL, Failing(), Objective(2.0))
    search.reset(seed=0)
    for _ in range(4):
        _, reward, *_, info = search.step(0)
    assert reward == pytest.approx(1e-3 * 4**-0.07)
    assert (info["accuracy"], info["latency_ms"], info["status"]) == (1e-3, 8.0, "diverged")


@pytest.mark.parametrize("observations", ["one-hot", "tokens"])
def test_a_batch_equals_single_searches(observations: Any) -> None:
    batch = vector(5, observations=observations)
    singles = SyncVectorEnv([lambda: env(observations)] * 5, autoreset_mode=AutoresetMode.DISABLED)
    rng = np.random.default_rng(0)
    options = {"reset_mask": np.ones(5, bool)}
    for _ in range(3):
        pair = [x.reset(seed=list(range(5)), options=dict(options)) for x in (batch, singles)]
        np.testing.assert_array_equal(pair[0][0], pair[1][0])
        assert_same(pair[0][1], pair[1][1])
        for t in range(4):
            actions = rng.integers(4, size=5)
            mine, theirs = batch.step(actions), singles.step(actions)
            for one, other in zip(mine[:4], theirs[:4], strict=True):
                np.testing.assert_array_equal(one, other)
            info = mine[4]
            assert ("metrics" in info) == (t == 3)
            info.pop("metrics", None)
            assert_same(info, theirs[4])


def assert_same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        assert value.dtype == theirs[key].dtype, key
        np.testing.assert_array_equal(value, theirs[key])


def test_searches_at_different_tokens_are_evaluated_when_they_end() -> None:
    counted = Counted()
    batch = vector(3, counted)
    batch.reset(seed=0)
    for _ in range(2):
        batch.step(np.zeros(3, int))
    batch.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    batch.step(np.ones(3, int))
    *_, terminated, _, info = batch.step(np.ones(3, int))
    assert terminated.tolist() == [False, True, True]
    assert counted.batches == [[(0, 0, 1, 1), (0, 0, 1, 1)]]
    assert info["_accuracy"].tolist() == [False, True, True]
    assert info["_action_mask"].tolist() == [True, False, False]
    assert batch.action_masks()[0].tolist() == [True] * 4


def test_a_batch_is_evaluated_by_one_call_and_summarised() -> None:
    counted = Counted()
    batch = vector(4, counted)
    batch.reset(seed=0)
    for t in range(4):
        *_, info = batch.step(np.array([0, 1, *[2 if t == 0 else 0] * 2]))
    assert counted.batches == [[(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 0, 0), (2, 0, 0, 0)]]
    # Accuracies 0.1, 0.3, 0.2, 0.2; latencies 1, 2, 3, 3; target 2, worst latency 8.
    assert info["metrics"] == {
        "accuracy": pytest.approx(0.2),
        "latency_ms": 2.25,
        "share_above_target": 0.5,
        "share_cached": 0.25,
        "hypervolume": pytest.approx((0.1 * 1 + 0.3 * 6) / 8),
        "target_ms": 2.0,
    }
