"""Agents that learn together become what each would have become by itself."""

import dataclasses
from typing import Any

import pytest
import torch

from rlbench.accelerate.compile import inductor, interpreted, why_not
from rlbench.accelerate.seeds import SeedBatch
from rlbench.experience import columns_of
from tests.agents.case import make
from tests.networks import assert_close
from tests.probe_envs import random_experience
from tests.rlbench.test_compile import COMPILED


def stacked(batches: list[Any]) -> Any:
    """One dataclass of tensors [S, ...]."""
    columns = zip(*(columns_of(batch).items() for batch in batches), strict=True)
    return dataclasses.replace(
        batches[0], **{same[0][0]: torch.stack([x for _, x in same]) for same in columns}
    )


def compare(name: str, updates: int, backend: Any, **settings: Any) -> None:
    alone = [make(name, seed=seed, **settings) for seed in range(2)]
    agents = [make(name, seed=seed, **settings) for seed in range(2)]
    together = SeedBatch(agents, backend)
    for update in range(updates):
        batches = [random_experience(agents[0], 10 * update + seed) for seed in range(2)]
        wanted = [agent.learn(batch) for agent, batch in zip(alone, batches, strict=True)]
        for mine, theirs in zip(wanted, together.learn(stacked(batches)), strict=True):
            assert list(mine) == list(theirs)
            for metric, value in mine.items():
                torch.testing.assert_close(theirs[metric], value, rtol=1e-3, atol=1e-4, msg=metric)
    together.write_back()
    for mine_agent, other in zip(alone, agents, strict=True):
        assert_close(mine_agent, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bear", "td3-bc"])
def test_together_and_compiled_as_alone(name: str) -> None:
    if why_not(make(name)):
        pytest.skip("there is no C++ compiler")
    compare(name, 3, inductor)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("crr", "td3") else pytest.mark.slow) for n in COMPILED],
)
def test_together_as_alone(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    compare(name, 3, interpreted)
    assert "batching rule" not in capfd.readouterr().err, "an operation is done seed by seed"
