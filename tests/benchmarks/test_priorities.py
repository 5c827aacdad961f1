"""Prioritised draws and transitions of several steps: by hand, by frequency, and after a resume."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlbench.benchmarks.training.priorities import Priorities
from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.storage import Layout

CPU = torch.device("cpu")


def filled(priority: list[float]) -> Priorities:
    """One step for each priority; all have been drawn."""
    made = Priorities(len(priority))
    made.draw(1, len(priority), torch.Generator())
    made.update(torch.arange(len(priority)), torch.tensor(priority))
    return made


def test_equal_parts_of_the_total_are_drawn_from_one_each() -> None:
    # Bounds 1, 3, 6, 10 of the priorities; 10 parts of size 1, each inside of one priority.
    steps, frequency = filled([1.0, 2.0, 3.0, 4.0]).draw(10, 4, torch.Generator().manual_seed(0))
    assert steps.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    torch.testing.assert_close(frequency, 4 * torch.tensor([0.1, 0.2, 0.3, 0.4])[steps])


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 8, 100])
def test_steps_are_drawn_in_proportion_to_their_priorities(capacity: int) -> None:
    generator = torch.Generator().manual_seed(capacity)
    priority = torch.rand(capacity, generator=generator) ** 3
    made = filled(priority.tolist())
    drawn = torch.cat([made.draw(50, capacity, generator)[0] for _ in range(400)])
    share = torch.bincount(drawn, minlength=capacity) / 20_000
    torch.testing.assert_close(share, priority / priority.sum(), atol=0.01, rtol=0)
    steps, frequency = made.draw(50, capacity, generator)
    wanted = capacity * priority / priority.sum()
    torch.testing.assert_close(frequency, wanted[steps])


def test_new_steps_have_the_largest_priority_so_far_and_old_ones_are_forgotten() -> None:
    made, generator = Priorities(4), torch.Generator().manual_seed(0)
    steps, frequency = made.draw(8, 2, generator)
    assert steps.tolist() == [0] * 4 + [1] * 4
    assert frequency.tolist() == [1.0] * 8
    made.update(torch.tensor([0, 1]), torch.tensor([3.0, 0.5]))
    made.update(torch.tensor([0]), torch.tensor([1.0]))  # The largest so far stays 3.
    # Steps 0 to 2 have 1, 0.5 and 3.
    steps, frequency = made.draw(9, 3, generator)
    assert torch.bincount(steps).tolist() == [2, 1, 6]
    torch.testing.assert_close(frequency, torch.tensor([2 / 3, 1 / 3, 2.0])[steps])
    # Step 5 replaced step 1, so that 2 to 5 remain.
    steps, frequency = made.draw(8, 6, generator)
    assert steps.tolist() == [4, 4, 5, 5, 2, 2, 3, 3]
    assert frequency.tolist() == [1.0] * 8
    assert made.draw(4, 100, generator)[0].sort().values.tolist() == [96, 97, 98, 99]


def test_steps_without_priority_are_never_drawn_whatever_is_rounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = filled([0.25, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0])  # Sums without rounding.
    for value in (0.0, 1.0):  # Real draws lie below 1.
        drawn = torch.full((3,), value, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *_, drawn=drawn, **__: drawn)
        steps, frequency = made.draw(3, 7, torch.Generator())
        assert {0, 2, 5} >= set(steps.tolist())
        assert (frequency > 0).all()


@pytest.mark.parametrize("capacity", [1, 6, 37])
def test_draws_after_a_resume_are_the_same_to_the_last_bit(capacity: int) -> None:
    generator = torch.Generator().manual_seed(1)
    whole = Priorities(capacity)

    def go_on(made: Priorities, first: int, drawn: torch.Generator) -> list[Tensor]:
        found = []
        for written in range(first, first + 30):
            steps, frequency = made.draw(5, written, drawn)
            made.update(steps, frequency.sqrt() + steps % 7)
            found += [steps, frequency]
        return found

    go_on(whole, 1, generator)
    state, at = copy.deepcopy(whole.state_dict()), generator.get_state()
    resumed = Priorities(capacity)
    resumed.load_state_dict(state)
    assert np.array_equal(resumed._nodes, whole._nodes)
    wanted = go_on(whole, 31, generator)
    again = torch.Generator()
    again.set_state(at)
    assert all(map(torch.equal, wanted, go_on(resumed, 31, again)))


STEPS, CAPACITY, SLACK = 40, 17, 3
TERMINATED, TRUNCATED = {4, 5, 19, 30}, {9, 25, 31}


def written(folder: Path, *, images: bool) -> tuple[ReplayFile, list[dict[str, Any]]]:
    """A buffer of episodes of different lengths, and its steps."""
    layout = Layout((2, 2, 1), (), images=True) if images else Layout((2,), ())
    replay = ReplayFile(folder / "replay.bin", layout, CAPACITY, SLACK)
    steps, number = [], 0
    for step in range(STEPS):
        obs, next_obs = (np.full(layout.obs_shape, x, np.uint8) for x in (number, number + 1))
        ends = step in TERMINATED, step in TRUNCATED
        reward = float(step % 5) - 1
        replay.write(step, obs, step % 3, reward, *ends, next_obs)
        steps.append({"obs": number, "next": number + 1, "reward": reward, "ends": ends})
        number += 2 if any(ends) else 1
    return replay, steps


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_transitions_of_several_steps_equal_a_loop_over_steps(
    images: bool, count: int, tmp_path: Path
) -> None:
    replay, steps = written(tmp_path, images=images)
    first = torch.arange(STEPS - CAPACITY, STEPS)
    batch = replay.take_several(first, STEPS, count, 0.5, CPU)
    assert batch.discount is not None
    for row, start in enumerate(first.tolist()):
        reward, at, discount = 0.0, start, 1.0
        while True:
            reward += discount * steps[at]["reward"]
            discount *= 0.5
            if any(steps[at]["ends"]) or at == STEPS - 1 or at == start + count - 1:
                break
            at += 1
        assert float(batch.obs[row].flatten()[0]) == steps[start]["obs"]
        assert float(batch.next_obs[row].flatten()[0]) == steps[at]["next"]
        assert float(batch.action[row]) == start % 3
        assert float(batch.reward[row]) == pytest.approx(reward)
        assert float(batch.discount[row]) == pytest.approx(discount)
        ends = float(batch.terminated[row]), float(batch.truncated[row])
        assert ends == tuple(map(float, steps[at]["ends"]))


@pytest.mark.parametrize("images", [False, True])
def test_several_steps_of_one_are_the_steps_themselves(images: bool, tmp_path: Path) -> None:
    replay, _ = written(tmp_path, images=images)
    first = torch.arange(STEPS - CAPACITY, STEPS)
    one, several = replay.take(first, CPU), replay.take_several(first, STEPS, 1, 0.5, CPU)
    for name in ("obs", "action", "reward", "next_obs", "terminated", "truncated"):
        assert torch.equal(getattr(one, name), getattr(several, name)), name
    assert several.discount is not None
    assert several.discount.tolist() == [0.5] * CAPACITY
