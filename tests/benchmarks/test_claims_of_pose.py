"""Claims of the tables on pose, judged on made-up results."""

import pytest

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.keypoints import KeyPoints
from rlbench.backbones.models.pose_mrf import PoseMRF
from rlbench.benchmarks.papers import PAPERS, load_paper, policy_keypoints, tompson
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Results
from rlbench.benchmarks.training.learners import load_learner
from rlbench.envs.tasks import find_task
from tests.benchmarks.test_claims_of_embeddings import searched
from tests.benchmarks.test_claims_of_papers import result, verdict


@pytest.mark.parametrize("paper", ["tompson", "policy-keypoints"])
def test_every_grid_has_three_seeds_and_valid_settings(paper: str) -> None:
    found = load_paper(paper)
    assert paper in PAPERS
    assert set(found.grids) == {"small", "full"}
    for grids in found.grids.values():
        names = [method.name for grid in grids for method in grid.methods]
        assert len(set(names)) == len(names)
        assert found.method in names
        for grid in grids:
            assert grid.seeds == 3
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert found.minutes["small"] <= 60
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def test_all_networks_have_as_many_updates_and_joint_training_has_all_stages() -> None:
    for grid, _ in tompson.SCALES.values():
        for method in grid.methods:
            settings = method.settings
            alone = settings["detector_updates"] + settings["spatial_updates"]
            assert 0 < settings["detector_updates"] < alone < grid.run["updates"]
        stages = [(method.settings["stages"], method.settings["branches"]) for method in grid.methods]  # fmt: skip
        assert len(set(stages)) == 6
        assert len(stages) == 6 * len(tompson.STEP_SIZES)


def poses(
    joint: float = 0.95,
    staged: float = 0.92,
    detector: float = 0.85,
    two: float = 0.96,
    clean: float = 0.99,
) -> Results:
    means = {
        tompson.JOINT: joint, tompson.STAGED: staged, tompson.DETECTOR: detector,
        tompson.JOINT + tompson.TWO: two, tompson.STAGED + tompson.TWO: 0.9, tompson.DETECTOR + tompson.TWO: 0.9,
    }  # fmt: skip
    own = {tompson.JOINT: clean}
    rows = searched(
        tompson.TASK,
        {x: {"pck": y, "clean_pck": own.get(x, 0.98), "error": 2.5} for x, y in means.items()},
        tompson.STEP_SIZES,
    )
    rows.append(result(tompson.UNTRAINED, tompson.TASK, pck=[0.02], clean_pck=[0.03], error=[30.0]))
    return Results(rows)


@pytest.mark.parametrize(
    ("results", "holds"),
    [
        (poses(), True),
        (poses(detector=0.91), False),
        (poses(staged=0.96), False),
        (poses(staged=0.95), True),
        (poses(clean=0.96), False),
        (poses(clean=0.975), True),
    ],
)
def test_joint_training_must_beat_the_detector_and_the_staged_model(
    results: Results, holds: bool
) -> None:
    found = verdict(tompson.PAPER, "J1", results)
    assert found.holds == holds
    assert "untrained 2.0/3.0/30.00" in found.evidence
    assert f"{name('joint, two resolutions', tompson.STEP_SIZES[-1])} 96.0/98.0/2.50" in found.evidence  # fmt: skip


@pytest.mark.parametrize(("two", "holds"), [(0.96, True), (0.95, True), (0.94, False)])
def test_two_resolutions_must_not_be_worse(two: float, holds: bool) -> None:
    assert verdict(tompson.PAPER, "J2", poses(two=two)).holds == holds


def test_key_points_are_compared_with_states_and_pixels() -> None:
    runs = [
        result(method.name, policy_keypoints.TASK, seed, **{"return": [k]})
        for k, method in enumerate(policy_keypoints.POLICIES) for seed in range(2)
    ]  # fmt: skip
    runs += [
        result(policy_keypoints.FROM_STATES, policy_keypoints.STATES, 0, **{"return": [9]}),
        result(policy_keypoints.POSE, policy_keypoints.FRAMES, 0, pck=[0.5]),
    ]
    found = verdict(policy_keypoints.PAPER, "K1", Results(runs))
    assert found.holds is None
    assert "states 9.00 [9.00, 9.00], key points 0.00" in found.evidence
    assert "correct key points of pose-mrf: 50.0 (50.0) %" in found.evidence


def test_the_network_of_the_table_fits_the_encoder_of_its_policies() -> None:
    source = find_task(policy_keypoints.FRAMES).source
    assert source is not None
    pose, policies, _ = load_paper("policy-keypoints").grids["small"]
    model = PoseMRF(PoseMRF.Config(**pose.methods[0].settings), source().fields)
    readers = [make_encoder(x.settings["encoder"], (64, 64, 6)).layers for x in policies.methods]
    found = [x for x in readers if isinstance(x, KeyPoints)]
    assert len(found) == 2
    for reader in found:
        own = {k: x.shape for k, x in reader.detector.state_dict().items()}
        assert own == {k: x.shape for k, x in model.network.state_dict().items()}
