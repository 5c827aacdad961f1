"""Claims of the tables of poses and of imitation, judged on made-up results."""

from pathlib import Path

import pytest

from rlbench.agents.imitation_ppo import ImitationPPO
from rlbench.benchmarks.papers import load_paper, policy_imitation, pr_vipe
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training.learners import load_learner
from rlbench.interface import Spec
from tests.agents.test_imitation_ppo import SPEC
from tests.benchmarks.test_claims_of_papers import result, verdict


@pytest.mark.parametrize("paper", ["pr-vipe", "policy-imitation"])
def test_every_grid_has_three_seeds_and_settings_that_exist(paper: str) -> None:
    found = load_paper(paper)
    for grids in found.grids.values():
        assert all(grid.seeds == 3 for grid in grids)
        known = [method.name for grid in grids for method in grid.methods]
        assert len(set(known)) == len(known)
        assert found.method in known
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert found.minutes["small"] <= 60
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


def row(method: str, seed: int, exact: float, match: float, ambiguity: float = 0.2) -> Result:
    shares = {f"{kind}_{k}": [x] for kind, x in (("exact", exact), ("match", match)) for k in (1, 5, 20)}  # fmt: skip
    return result(method, pr_vipe.TASK, seed, **shares, ambiguity=[ambiguity])


def retrieved(
    exact: float = 0.3, match: float = 0.4, turned: tuple[float, float] = (0.1, 0.3), plain: float = 0.05,
    ambiguity: tuple[float, float] = (0.2, 0.3),
) -> Results:  # fmt: skip
    """Two seeds of each method; the last step size is the best, and the others retrieve nothing."""
    rows = []
    for seed in range(2):
        for title in pr_vipe.NETWORKS:
            one, any_match = (exact, match) if title == pr_vipe.VIPE else (0.25, 0.35)
            for size in pr_vipe.STEP_SIZES:
                last = size == pr_vipe.STEP_SIZES[-1]
                rows.append(
                    row(name(title, size), seed, one * last, any_match * last, ambiguity[seed])
                )
        rows += [
            row(pr_vipe.PROCRUSTES, seed, *turned), row(pr_vipe.PLANE, seed, plain, 0.1), row(pr_vipe.UNTRAINED, seed, 0.0, 0.0, 0.0),
        ]  # fmt: skip
    return Results(rows)


@pytest.mark.parametrize(
    ("results", "holds"),
    [
        (retrieved(), True),
        (retrieved(exact=0.24), False),  # Below 5 times the distance in the plane.
        (retrieved(turned=(0.16, 0.3)), False),  # Below 2 times the Procrustes distance.
        (retrieved(turned=(0.1, 0.36)), False),  # Less than 5 points better.
        (retrieved(plain=0.061), False),
        (retrieved(ambiguity=(-0.1, 0.3)), True),
    ],
)
def test_the_embedding_must_retrieve_more_than_key_points(results: Results, holds: bool) -> None:
    found = verdict(pr_vipe.PAPER, "V1", results)
    assert found.holds == holds
    assert "untrained 0.0/0.0/0.0 and 0.0/0.0/0.0" in found.evidence
    assert "lifting, 0.003 25.0/25.0/25.0 and 35.0/35.0/35.0" in found.evidence
    assert verdict(pr_vipe.PAPER, "V3", results).holds is None


def test_deviations_must_grow_with_ambiguity_for_every_seed() -> None:
    found = verdict(pr_vipe.PAPER, "V2", retrieved())
    assert found.holds
    assert found.evidence == "correlation by seed: 0.20/0.30; untrained 0.00"
    assert not verdict(pr_vipe.PAPER, "V2", retrieved(ambiguity=(-0.1, 0.3))).holds


def test_networks_have_one_budget_and_one_search() -> None:
    for grids in pr_vipe.SCALES.values():
        learned, fixed = grids
        assert len(learned.methods) == len(pr_vipe.NETWORKS) * len(pr_vipe.STEP_SIZES)
        changed = {"objective", "margin", "learning_rate"}
        own = {
            tuple(sorted((k, v) for k, v in method.settings.items() if k not in changed))
            for method in (*learned.methods, fixed.methods[0])
        }
        assert len(own) == 1
        assert all(x.settings["kappa"] == pr_vipe.KAPPA for x in (*learned.methods, *fixed.methods))
        assert fixed.methods[0].settings["learning_rate"] == 0


def test_returns_of_all_rewards_are_reported() -> None:
    rows = [
        result(method.name, policy_imitation.TASK, seed, **{"return": [10.0 * k]})
        for k, method in enumerate(policy_imitation.METHODS)
        for seed in range(2)
    ]
    with pytest.raises(Missing):
        verdict(policy_imitation.PAPER, "I1", Results(rows))
    rows.append(result(policy_imitation.EMBEDDING, pr_vipe.TASK, 0, exact_1=[0.5]))
    found = verdict(policy_imitation.PAPER, "I1", Results(rows))
    assert found.holds is None
    assert "Pr-VIPE 0.00 [0.00, 0.00], 2-D Procrustes 10.00" in found.evidence
    assert "true similarity 30.00" in found.evidence
    assert "retrieves 50.0 %" in found.evidence


def test_the_policy_has_the_embedding_of_its_seed(tmp_path: Path) -> None:
    embeddings, policies = load_paper("policy-imitation").grids["small"]
    folders = {job.config.seed: str(job.config.out) for _, job in embeddings.jobs(tmp_path)}
    starts = {
        job.config.seed: job.config.pretrained
        for method, job in policies.jobs(tmp_path)
        if method == policy_imitation.MATCH
    }
    assert starts == folders
    settings = {method.name: method.settings for method in policies.methods}
    own = embeddings.methods[0].settings["encoder"]
    for method in (policy_imitation.MATCH, policy_imitation.UNTRAINED):
        assert settings[method]["reward_encoder"] == own
        spec: Spec = SPEC
        ImitationPPO(ImitationPPO.Config(**settings[method]), spec)
