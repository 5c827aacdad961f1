"""The claims of the bottleneck paper, judged on made-up runs."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rlbench.benchmarks.papers import ibac_sni, ibac_toy, load_paper
from rlbench.benchmarks.tables.paper import Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.measures import RETURN

RIVAL = (2.0, 2.2, 2.4, 2.6)
"""Test losses of four seeds."""
BELOW = (1.0, 1.3, 1.3, 1.6)


def results(ours: dict[str, tuple[float, ...]]) -> Results:
    """Runs of all methods; those that `ours` does not name lose as much as `RIVAL`."""
    methods = (*ibac_toy.RIVALS, "VIB")
    return Results(
        Result(method, task, seed, Path(), {}, {"loss": np.array([loss - 0.5, loss + 0.5])}, 0.0)
        for task in ibac_toy.SETTINGS
        for method in methods
        for seed, loss in enumerate(ours.get(f"{method} {task}", ours.get(method, RIVAL)))
    )


def test_a_bottleneck_below_all_others_in_both_settings_holds() -> None:
    verdict = ibac_toy.C1.judge(results({"VIB": BELOW}))
    assert verdict.holds
    # 1.30 - 2.30, where the seeds' own differences are -1, -0.9, -1.1 and -1.
    assert "signals-2: VIB 1.30; none 2.30, difference -1.00 [-1.07, -0.93]" in verdict.evidence
    assert "signals-64: VIB 1.30" in verdict.evidence


@pytest.mark.parametrize("rival", list(ibac_toy.RIVALS))
@pytest.mark.parametrize("task", list(ibac_toy.SETTINGS))
def test_one_rival_that_is_as_good_in_one_setting_is_enough_to_fail(rival: str, task: str) -> None:
    verdict = ibac_toy.C1.judge(results({"VIB": BELOW, f"{rival} {task}": BELOW}))
    assert not verdict.holds


def test_a_lower_mean_whose_interval_holds_zero_fails() -> None:
    ours = (1.0, 2.1, 2.5, 3.0)  # mean 2.15 below 2.3, but -1.0, -0.1, +0.1, +0.4
    assert not ibac_toy.C1.judge(results({"VIB": ours})).holds


def test_methods_without_common_seeds_are_not_judged() -> None:
    with pytest.raises(Missing, match="VIB has not been run on signals-2"):
        ibac_toy.C1.judge(Results([]))
    with pytest.raises(Missing, match="share 1 of their seeds"):
        ibac_toy.C1.judge(results({"VIB": BELOW[:1]}))
    # Of the first three seeds: 1.2 - 2.2.
    evidence = ibac_toy.C1.judge(results({"VIB": BELOW[:3]})).evidence
    assert "signals-2: VIB 1.20; none 2.20, difference -1.00" in evidence


@pytest.mark.parametrize(("scale", "seen"), [("small", 25_000), ("full", 819_200)])
def test_each_setting_has_ten_seeds_of_four_methods(scale: str, seen: int, tmp_path: Path) -> None:
    jobs = load_paper("ibac-sni").jobs(scale, tmp_path)  # type: ignore[arg-type]
    toy = [job for _, job in jobs if job.learner == "vib"]
    assert len(toy) == 2 * 4 * 10
    assert {(job.config.env, job.config.data_size) for job in toy} == {
        ("signals-2", 2_048),
        ("signals-64", 64),
    }
    assert {25 * job.config.updates for job in toy} == {seen}


SOLVED = {
    "none": (0.0, 0.1, 0.2), "weight decay": (0.0, 0.1, 0.2), "dropout": (0.0, 0.0, 0.3),
    "dropout-SNI": (0.1, 0.2, 0.3), "IBAC": (0.1, 0.4, 0.5), "IBAC-SNI": (0.2, 0.6, 0.8),
    "IBAC-SNI, lambda 1": (0.0, 0.5, 0.7),
}  # fmt: skip
"""Mean returns of three seeds, on training levels; half of it on held-out ones."""


def rooms(
    folder: Path, other: dict[str, tuple[float, ...]] | None = None, kl: float = 1e-9
) -> dict[str, Verdict]:
    """The verdicts on runs in rooms, where `other` methods have other returns."""
    runs = []
    for method, returns in (SOLVED | (other or {})).items():
        for seed, mean in enumerate(returns):
            path = folder / f"{method}-{seed}"
            path.mkdir(parents=True)
            acted = 0.01 if method in ("IBAC", "dropout") else kl
            line = {"update": 1, "first_kl": acted, "first_kl_stochastic": 0.02}
            (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
            config = {"reference_returns": None, "measures": [asdict(RETURN)]}
            values = np.array([mean - 0.1, mean + 0.1])
            columns = {"return": values, "held_out/return": values / 2}
            runs.append(Result(method, ibac_sni.ROOMS, seed, path, config, columns, 0.0))
    return {claim.name: claim.judge(Results(runs)) for claim in ibac_sni.CLAIMS}


def test_claims_on_rooms_hold_where_medians_are_ordered(tmp_path: Path) -> None:
    found = rooms(tmp_path)
    assert [found[name].holds for name in ("C2", "C3", "C4")] == [True, None, True]
    assert "held-out levels: none 0.050 (0.000, 0.050, 0.100)" in found["C2"].evidence
    # 0.2 - 0.1, 0.6 - 0.4 and 0.8 - 0.5 on training levels, half of it on the others.
    assert "training, IBAC-SNI minus IBAC: 0.200 [0.1" in found["C3"].evidence
    assert "held-out, IBAC-SNI minus IBAC: 0.100 [0.0" in found["C3"].evidence


def test_claims_on_rooms_fail_by_one_figure(tmp_path: Path) -> None:
    assert not rooms(tmp_path / "a", {"IBAC": (0.0, 0.1, 0.9)})["C2"].holds  # not above none
    assert not rooms(tmp_path / "b", {"IBAC-SNI": (0.3, 0.3, 0.9)})["C2"].holds  # below IBAC
    assert not rooms(tmp_path / "c", {"dropout-SNI": (0.0, 0.0, 0.9)})["C4"].holds
    assert not rooms(tmp_path / "d", kl=1e-5)["C4"].holds
