"""The hash of a replay buffer: it covers all that a resume can sample, and nothing else decides it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rlbench.benchmarks.training.replay import ReplayFile
from rlbench.errors import UserError
from rlbench.storage import Layout
from tests.benchmarks.test_drivers import COLUMNS, online

CAPACITY, SLACK = 7, 3
LAYOUTS = [Layout((2,), (1,)), Layout((1, 2, 2), (1,), images=True)]


def opened(folder: Path, layout: Layout) -> ReplayFile:
    return ReplayFile(folder / "replay.bin", layout, CAPACITY, SLACK)


def write(replay: ReplayFile, layout: Layout, steps: range) -> None:
    """Steps with different numbers everywhere; every third one ends an episode."""
    for step in steps:
        obs, after, first = (np.full(layout.obs_shape, x) for x in (step, step + 1, step + 101))
        before = first if step % 3 == 0 else obs
        replay.write(step, before, [10 * step], 0.5 * step, step % 6 == 2, step % 6 == 5, after)


def sampled(replay: ReplayFile, steps: int) -> list[bytes]:
    """Every transition that a batch can hold."""
    drawn = replay.draw(300, steps, torch.Generator().manual_seed(0))
    batch = replay.take(drawn, torch.device("cpu"))
    return [getattr(batch, name).numpy().tobytes() for name in COLUMNS]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("steps", [5, 20])
def test_every_flipped_bit_that_a_batch_can_hold_is_noticed(
    layout: Layout, steps: int, tmp_path: Path
) -> None:
    replay = opened(tmp_path, layout)
    write(replay, layout, range(steps))
    wanted = replay.hash(steps)
    write(replay, layout, range(steps, steps + SLACK))  # As if killed before the next checkpoint.
    replay.flush()
    whole, seen = sampled(opened(tmp_path, layout), steps), 0
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            again = opened(tmp_path, layout)
            if sampled(again, steps) != whole:
                seen += 1
                assert again.hash(steps) != wanted, (file.name, place)
        file.write_bytes(content)
    assert seen > 4 * min(steps, CAPACITY)
    assert opened(tmp_path, layout).hash(steps) == wanted


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_hash_does_not_depend_on_earlier_calls_and_changes_with_each_step(
    layout: Layout, tmp_path: Path
) -> None:
    replay, found = opened(tmp_path, layout), []
    for steps in range(1, 30):
        write(replay, layout, range(steps - 1, steps))
        replay.flush()
        found.append(opened(tmp_path, layout).hash(steps))
        if steps % 2 == 0:
            assert replay.hash(steps) == found[-1]
    assert len(set(found)) == len(found)


def test_swapped_transitions_are_noticed(tmp_path: Path) -> None:
    layout = LAYOUTS[0]
    replay = opened(tmp_path, layout)
    write(replay, layout, range(6))
    wanted = replay.hash(6)
    replay._rows[[1, 2]] = replay._rows[[2, 1]]
    replay.flush()
    assert opened(tmp_path, layout).hash(6) != wanted


def test_only_new_transitions_are_hashed(tmp_path: Path) -> None:
    layout = LAYOUTS[0]
    replay = opened(tmp_path, layout)
    write(replay, layout, range(6))
    wanted = replay.hash(6)
    replay._rows[:] = 0
    assert replay.hash(6) == wanted


def test_a_driver_refuses_a_changed_buffer(tmp_path: Path) -> None:
    driver, _ = online(tmp_path)
    driver.update()
    state = driver.state_dict()
    file = tmp_path / "replay.bin"
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(UserError, match=r"^the replay buffer in .* of step 5; restore it") as error:
        online(tmp_path)[0].load_state_dict(state)
    assert "\n" not in str(error.value)
    del state["replay"]  # As an earlier version saved it.
    online(tmp_path)[0].load_state_dict(state)
