"""Claims of the tables of memories and missions in agents, judged on made-up results."""

from pathlib import Path

import pytest
import torch

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.objects import Objects
from rlbench.backbones.memories import make_memory
from rlbench.backbones.models.ssd import SSD
from rlbench.benchmarks.papers import load_paper, policy_memories, policy_missions, policy_objects
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.envs.tasks import find_task
from tests.benchmarks.test_claims_of_papers import result, verdict


def memories(different: dict[str, float], task: str = policy_memories.RECALL) -> Results:
    """Every memory has a return of 0.95, except those that are given."""
    found = {
        policy_memories.NONE: 0.25,
        **dict.fromkeys(policy_memories.MEMORIES, 0.95),
        **different,
    }
    return Results(
        [
            result(title, task, seed, **{"return": [mean]})
            for title, mean in found.items()
            for seed in range(2)
        ]
    )


@pytest.mark.parametrize(
    ("different", "holds"),
    [({}, True), ({"MANN": 0.89}, False), ({"no memory": 0.31}, False), ({"MANN": 0.9}, True)],
)
def test_every_memory_must_recall_and_a_policy_without_one_must_not(
    different: dict[str, float], holds: bool
) -> None:
    found = verdict(policy_memories.PAPER, "A1", memories(different))
    assert found.holds == holds
    assert "LSTM: 0.95 [0.95, 0.95]" in found.evidence


def test_returns_of_the_corridor_are_reported() -> None:
    found = verdict(policy_memories.PAPER, "A2", memories({"GRU": 0.5}, policy_memories.CORRIDOR))
    assert found.holds is None
    assert "GRU: 0.50 [0.50, 0.50]" in found.evidence


def test_all_memories_of_agents_are_compared_with_the_same_settings() -> None:
    assert len(policy_memories.MEMORIES) == 7
    for memory in policy_memories.MEMORIES.values():
        assert make_memory(memory, 13, 64).initial_state(2, torch.device("cpu"))
    for grid in policy_memories.PAPER.grids["small"]:
        titles = [policy_memories.NONE, *policy_memories.MEMORIES]
        assert [method.name for method in grid.methods] == titles
        shared = [
            {key: x for key, x in method.settings.items() if key != "memory"}
            for method in grid.methods
        ]
        assert all(settings == shared[0] for settings in shared)


def missions(going: float, fetching: float, without: float = 0.5) -> Results:
    """Shares of 20 episodes that end with a reward; seed 1 solves one more than seed 0.

    Args:
        going: The share of a policy that reads and learns from scratch, on the level with a second try.
        fetching: Its share on the level without a second try.
        without: The share of a policy that does not read, on the level without a second try.
    """
    shares = {
        policy_missions.WITHOUT: (0.95, without),
        policy_missions.SCRATCH: (going, fetching),
        policy_missions.PRETRAINED: (0.7, 0.8),
    }
    return Results(
        [
            result(
                method, task, seed,
                **{"return": [0.6] * (solved := round(20 * share) + seed) + [0.0] * (20 - solved)},
            )
            for method, both in shares.items()
            for task, share in zip((policy_missions.GO, policy_missions.FETCH), both, strict=True)
            for seed in range(2)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("going", "fetching", "without", "holds"),
    [
        (0.9, 0.8, 0.5, True), (0.85, 0.8, 0.5, False), (0.9, 0.55, 0.5, False), (0.9, 0.6, 0.5, True), (0.9, 0.95, 0.75, False),
    ],
)  # fmt: skip
def test_a_policy_that_reads_must_solve_levels_and_one_that_does_not_must_fail_without_a_second_try(
    going: float, fetching: float, without: float, holds: bool
) -> None:
    found = verdict(policy_missions.PAPER, "L1", missions(going, fetching, without))
    assert found.holds == holds
    assert f"{policy_missions.FETCH}: without the mission" in found.evidence
    assert "pre-trained 72.5 (70.0/75.0)" in found.evidence


def test_the_effect_of_pretraining_is_paired_by_seed() -> None:
    found = verdict(policy_missions.PAPER, "L2", missions(0.9, 0.7))
    assert found.holds is None
    assert f"{policy_missions.GO} -20.0 [-20.0, -20.0]" in found.evidence
    assert f"{policy_missions.FETCH} +10.0 [+10.0, +10.0]" in found.evidence
    with pytest.raises(Missing, match="has not been run"):
        verdict(policy_missions.PAPER, "L1", Results([]))


def test_the_pretrained_policy_starts_from_the_language_model_of_its_seed(tmp_path: Path) -> None:
    models, policies = load_paper("policy-missions").grids["small"]
    folders = {job.config.seed: job.config.out for _, job in models.jobs(tmp_path)}
    starts = {
        job.config.seed: job.config.pretrained
        for method, job in policies.jobs(tmp_path)
        if method == policy_missions.PRETRAINED
    }
    assert starts == {seed: str(out) for seed, out in folders.items()}
    assert set(starts) == {0, 1, 2}


def test_objects_are_compared_on_training_and_on_held_out_levels() -> None:
    runs = [
        result(method.name, policy_objects.TASK, seed, **{"return": [k], "held_out/return": [2 * k]})
        for k, method in enumerate(policy_objects.METHODS) for seed in range(2)
    ]  # fmt: skip
    with pytest.raises(Missing):
        verdict(policy_objects.PAPER, "D1", Results(runs))
    runs += [result(policy_objects.DETECTOR, policy_objects.FRAMES, 0, map=[0.5])]
    found = verdict(policy_objects.PAPER, "D1", Results(runs))
    assert found.holds is None
    assert "training levels: Nature 0.00 [0.00, 0.00], IMPALA 1.00" in found.evidence
    assert "held-out levels: Nature 0.00 [0.00, 0.00], IMPALA 2.00" in found.evidence
    assert "mean average precision is 50.0 %" in found.evidence


def test_detectors_of_the_table_fit_the_encoders_of_its_policies() -> None:
    pytest.importorskip("pycocotools")
    source = find_task(policy_objects.FRAMES).source
    assert source is not None
    ssd, policies = load_paper("policy-objects").grids["small"]
    model = SSD(SSD.Config(**ssd.methods[0].settings), source().fields)
    for method in policies.methods:
        encoder = make_encoder(method.settings["encoder"], (64, 64, 3)).layers
        if isinstance(encoder, Objects):
            own = {k: x.shape for k, x in encoder.detector.head.state_dict().items()}
            assert own == {k: x.shape for k, x in model.head.state_dict().items()}
