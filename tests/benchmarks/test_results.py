"""Results of several runs: pairs by seed, refused runs, and claims with missing runs."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.benchmarks.papers import PAPERS, bear, crr, ibac_sni, ibac_toy, load_paper, lpg
from rlbench.benchmarks.tables import statistics, table
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Verdict
from rlbench.benchmarks.tables.results import Missing, Result, Results, read_result
from rlbench.benchmarks.tables.table import judge, scores
from rlbench.benchmarks.training.analysing import Analysed
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.errors import UserError
from rlbench.measures import RETURN

RAW: dict[str, Any] = {
    "reference_returns": None, "data": None, "measures": [dataclasses.asdict(RETURN)],
}  # fmt: skip


def result(
    method: str, task: str, seed: int, mean: float, folder: Path = Path(), **config: Any
) -> Result:
    """A run of two episodes, 1 below and 1 above the mean; half of it on held-out levels."""
    values = np.array([mean - 1, mean + 1])
    columns = {"held_out/return": values / 2}
    for name in ("return", "loss", "accuracy"):
        columns |= {name: values, f"train/{name}": values}
    return Result(
        method,
        task,
        seed,
        folder,
        RAW | config,
        columns,
        0.0,
    )


def of(task: str, method: str, means: dict[int, float]) -> list[Result]:
    return [result(method, task, seed, mean) for seed, mean in means.items()]


def test_a_matrix_has_the_seeds_that_all_tasks_have() -> None:
    a, b = of("a", "m", {0: 1.0, 1: 2.0, 2: 3.0}), of("b", "m", {2: 30.0, 1: 20.0, 5: 50.0})
    assert Results([*a, *b]).matrix("m", ["a", "b"]).tolist() == [[2, 20], [3, 30]]
    with pytest.raises(Missing, match="no seed of m has been run on all of a, c"):
        Results([*a, *of("c", "m", {7: 0.0})]).matrix("m", ["a", "c"])


def test_pairs_are_formed_by_seed_and_not_by_position() -> None:
    found = Results(
        [*of("a", "x", {0: 1.0, 1: 2.0, 2: 3.0}), *of("a", "y", {1: 7.0, 2: 9.0, 3: 8.0})]
    )
    assert found.paired(("x", "y"), "a").tolist() == [[2, 3], [7, 9]]
    half = found.paired(("y", "x"), "a", lambda run: run.held_out_score)
    assert half.tolist() == [[3.5, 4.5], [1, 1.5]]
    with pytest.raises(Missing, match="x, z share 1 of their seeds on a"):
        Results([*of("a", "x", {0: 1.0, 1: 2.0}), *of("a", "z", {1: 0.0, 2: 0.0})]).paired(
            "xz", "a"
        )
    with pytest.raises(Missing, match="z has not been run on a"):
        found.paired(("x", "z"), "a")


def test_a_paired_difference_is_the_mean_over_pairs() -> None:
    found = statistics.paired_difference([1.0, 5.0, 9.0], [0.0, 3.0, 6.0], seed=0)
    # Differences of 1, 2 and 3, of which no resample has a mean below 1 or above 3.
    assert found.point == 2.0
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0


def test_held_out_scores_have_the_unit_of_scores() -> None:
    # Held-out mean 5 between 0 and 20.
    run = result("m", "a", 0, 10.0, reference_returns=[0.0, 20.0])
    assert (run.score, run.held_out_score) == (50.0, 25.0)
    assert Results([run]).held_out("m", "a").tolist() == [25.0]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"learner": {"name": "crr", "settings": {"beta": 2.0}}}, "beta is 1.0 and 2.0"),
        ({"learner": {"name": "bc", "settings": {"beta": 1.0}}}, "learner is crr and bc"),
        ({"run": {"updates": 7}}, "updates is 100000 and 7"),
        (
            {"data": {"kind": "file", "sha256": "ab"}},
            "data is online and file, data_hash is  and ab",
        ),
        ({"reference_returns": [0, 1]}, r"reference_returns is None and \[0, 1\]"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_not_seeds_of_one_method(
    config: dict[str, Any], words: str
) -> None:
    usual: dict[str, Any] = {"learner": {"name": "crr", "settings": {"beta": 1.0}}}
    runs = [
        result("m", "a", seed, 0.0, Path(f"runs/s{seed}"), **{**usual, **other})
        for seed, other in ((0, {}), (1, config))
    ]
    with pytest.raises(
        UserError, match=f"runs/s0 and runs/s1 are not seeds of one method.*{words}"
    ):
        Results(runs)
    assert len(Results(runs[:1]).all) == 1


def test_the_same_seed_twice_is_refused() -> None:
    runs = [result("m", "a", 0, 0.0, Path(f"runs/{name}")) for name in "ab"]
    with pytest.raises(UserError, match="runs/a and runs/b hold the same run: m on a, seed 0"):
        Results(runs)


def test_a_run_with_a_return_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run = {"env": "a", "updates": 5, "seed": 0}
    agent = {"name": "m", "settings": {}}
    folder.start(RAW | {"learner": agent, "run": run})
    folder.add_evaluation(5, {"return": np.array([1.0, np.nan])})
    folder.save_checkpoint(5, {})
    with pytest.raises(UserError, match="has values that are NaN or infinite"):
        read_result("m", tmp_path)


def rows(tasks: dict[str, Any], seeds: int = 3) -> list[list[str]]:
    """Rows of the table of `good` and `bad` on tasks with these reference returns."""
    grid = Grid((Method("good", "ppo"), Method("bad", "ppo")), tuple(tasks), seeds, {})
    runs = [
        result(method, task, seed, 10.0 * i + seed, reference_returns=reference)
        for task, reference in tasks.items()
        for i, method in enumerate(("good", "bad"))
        for seed in range(seeds)
    ]
    return scores(grid, Results(runs)).rows


def test_returns_of_several_tasks_are_never_averaged() -> None:
    averaged = "IQM over tasks [95 %]"
    assert rows({"a": None})[-1][0] == "IQM over seeds [95 %]"
    assert rows({"a": [0, 1], "b": [0, 9]})[-1][0] == averaged
    for tasks in ({"a": None, "b": None}, {"a": [0, 1], "b": None}):
        assert averaged not in [row[0] for row in rows(tasks)]


def test_a_cell_of_fewer_seeds_says_how_many() -> None:
    grid = Grid((Method("x", "ppo"), Method("y", "ppo")), ("a",), 3, {})
    runs = [*of("a", "x", {0: 2.0, 1: 4.0}), *of("a", "y", {0: 1.0, 1: 1.0, 2: 4.0})]
    section = scores(grid, Results(runs))
    assert section.rows == [
        ["a (online)", "3.0 ± 1.0 (2)", "2.0 ± 1.4"],
        ["a, held-out levels", "1.5 ± 0.5 (2)", "1.0 ± 0.7"],
    ]
    assert section.notes == ["In brackets: the number of seeds if it is not 3."]


def test_methods_on_different_data_are_marked() -> None:
    grid = Grid((Method("x", "bc"), Method("y", "bc")), ("a",), 1, {})
    data = [{"kind": "generated", "sha256": sha} for sha in ("aa", "bb")]
    runs = [result(m, "a", 0, 0.0, data=each) for m, each in zip("xy", data, strict=True)]
    assert scores(grid, Results(runs)).rows[0][0] == "a (generated, 2 different data sets)"


def everything(paper: Paper, folder: Path) -> list[Result]:
    """A run for every job of the small scale."""
    names = (
        "loss", "q_policy", "q_data", "weight_nonzero", "first_kl", "first_kl_stochastic",
        "policy_entropy", "prediction_entropy", "policy_target", "kept",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    evaluations = {name: np.full((2, 5), 0.75) for name in ("accuracy", "return", "supermask")}
    np.savez(folder / "measures.npz", update=[1, 2], **evaluations)  # type: ignore[arg-type]
    (folder / "metrics.jsonl").write_text(json.dumps(dict.fromkeys(names, 0.5)) + "\n")
    data = {"kind": "generated", "details": {"score": 1.0}}
    runs = [
        result(name, job.config.env, job.config.seed, 0.1 * job.config.seed, folder, data=data)
        for name, job in paper.jobs("small", folder)
    ]
    if paper.name != "lpg":
        of_models = (
            "accuracy", "perfect_steps_any", "majority", "last_action", "miou", *(f"instance_{n}" for n in (1, 2, 3, 5, 10)),
            "accuracy_1", "accuracy_5", "auc", "spread", "adversary", "probe", "confidence", "explained", "pck", "clean_pck", "error",
            *(f"{measure}{size}" for measure in ("map", "recall") for size in ("", "_small", "_medium", "_large")),
            "mask_map", "mask_map_75", "ambiguity", *(f"{kind}_{k}" for kind in ("exact", "match") for k in (1, 5, 20)), "bits", "blind", "leaks", "recognised", "judge_accuracy", "mse", "perplexity_bottom", "perplexity_top", "low", "robot_psnr", "psnr", "stretch", "pose_r2", "style_loss", "start", "ssim", "flicker", "face_error", "face_before","radius",
        )  # fmt: skip
        for run in runs:
            for name in of_models:
                run.columns.setdefault(name, np.ones(5))
            run.columns.setdefault("accuracy_by_step", np.ones((5, 9)))
    else:
        for run in runs:
            for prefix in ("", *(f"{name}/" for name in lpg.UNSEEN)):
                run.columns.update({prefix + x: np.ones(5) for x in ("reward", "a2c", "random")})
            run.columns.update({f"{x}_error": np.ones((5, 8)) for x in ("predictions", "values")})
    return runs


class Anything(dict[str, Any]):
    """Has a value for every name."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return self.value


def every_analysis(paper: Paper, folder: Path) -> list[tuple[str, str, Analysed]]:
    """A result for every analysis of the small scale."""
    # Five objectives, each of which is the source of one transfer to the first one.
    transfers = {
        "objectives": np.array([*"abcde"]), "chosen": np.ones((5, 5), bool), "affinity": np.ones((5, 5)),
        "transfer_sources": np.eye(5, dtype=bool), "transfer_target": np.zeros(5, int), "transfer_affinity": np.ones(5),
    }  # fmt: skip
    # Three pictures, one in each style.
    style = {
        "style": np.array(["brick", "grass", "gravel"]), "distances": np.ones((3, 3)),
        **{x: np.ones(3) for x in ("start_loss", "style_loss", "content_loss", "layout", "correlation", "content_weight", "stride")},
    }  # fmt: skip
    columns = {"transfers": transfers, "style": style}
    return [
        (
            method,
            task,
            Analysed(job.name, Anything(0.5), (), columns.get(job.name, Anything(np.ones(5)))),
        )
        for method, task, job in paper.analysis_jobs("small", folder)
    ]


def gaps(runs: Iterable[Result]) -> Iterable[Callable[[Result], bool]]:
    """For each method: all of its runs, its first seed, all seeds but one."""
    for method in dict.fromkeys(run.method for run in runs):
        yield lambda run, m=method: run.method == m  # type: ignore[misc]
        yield lambda run, m=method: run.method == m and run.seed == 0  # type: ignore[misc]
        yield lambda run, m=method: run.method == m and run.seed != 1  # type: ignore[misc]


@pytest.mark.parametrize("name", list(PAPERS))
def test_claims_with_missing_runs_have_a_verdict_or_are_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", statistics.BLOCK)
    paper = load_paper(name)
    runs = everything(paper, tmp_path)
    claims = [claim for claim in paper.claims if "small" in claim.scales]
    analyses = every_analysis(paper, tmp_path)
    words = {judge(claim, "small", Results(runs, analyses))[0] for claim in claims}
    assert words <= {"holds", "does not hold", "reported"}
    for gone in gaps(runs):
        left = Results((run for run in runs if not gone(run)), analyses)
        for claim in claims:
            assert judge(claim, "small", left)[0] in words | {
                "holds", "does not hold", "reported", "not run",
            }  # fmt: skip
    assert {judge(claim, "small", Results([]))[0] for claim in claims} == {"not run"}


def test_the_toy_claim_holds_on_the_seeds_that_all_methods_have() -> None:
    # Seed k is harder by k; the bottleneck is better by 0.1 on each of the seeds 1 to 8.
    runs = [
        result(method, task, seed, (1.0 + seed - 0.1 * (method == "VIB")))
        for task in ibac_toy.SETTINGS
        for method in (*ibac_toy.RIVALS, "VIB")
        for seed in range(10)
        if seed != (0 if method == "VIB" else 9)
    ]
    word, evidence = judge(ibac_toy.C1, "small", Results(runs))
    assert word == "holds"
    assert evidence.count("difference -0.10 [-0.10, -0.10]") == 6
    assert evidence.count("(8 seeds)") == 2


def test_what_sni_adds_is_measured_on_the_seeds_that_both_have() -> None:
    runs = [
        result(method, ibac_sni.ROOMS, seed, float(seed) + ("SNI" in method))
        for method in ibac_sni.REGULARISERS
        for seed in range(5)
        if (method, seed) not in (("IBAC", 0), ("IBAC-SNI", 4))
    ]
    c3 = next(claim for claim in ibac_sni.CLAIMS if claim.name == "C3")
    word, evidence = judge(c3, "small", Results(runs))
    assert word == "reported"
    assert "training, IBAC-SNI minus IBAC: 1.000 [1.000, 1.000] (3 seeds)" in evidence
    assert "training, dropout-SNI minus dropout: 1.000 [1.000, 1.000] (5 seeds)" in evidence


def test_acting_through_the_critic_is_compared_seed_by_seed() -> None:
    # Better by 1 on every seed that both have, though the means over all seeds say otherwise.
    levels = ("random", "mixed", "medium")
    runs = [
        result(method, f"point-{level}", seed, 10.0 * seed + ("sampled" not in method))
        for level in levels
        for method in ("CRR exp", "CRR exp, sampled")
        for seed in range(3)
        if (method, seed) != ("CRR exp", 2)
    ]
    c5 = next(claim for claim in crr.CLAIMS if claim.name == "C5")
    assert judge(c5, "small", Results(runs)) == (
        "holds", "; ".join(f"{level}: weighted 1/11, sampled 0/10" for level in levels)
    )  # fmt: skip


@pytest.mark.parametrize(("gap", "holds"), [(0.31, True), (0.29, False)])
def test_overestimation_begins_above_0_3(tmp_path: Path, gap: float, holds: bool) -> None:
    runs = []
    for method, score, above in (("TD3", -50.0, gap), ("BEAR", 99.0, 0.05)):
        for seed in range(3):
            folder = tmp_path / f"{method}-{seed}"
            folder.mkdir()
            line = {"q_policy": -1.0 + above, "q_data": -1.0}
            (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
            runs.append(result(method, "point-expert", seed, score, folder))
    b4 = next(claim for claim in bear.CLAIMS if claim.name == "B4")
    assert b4.judge(Results(runs)).holds is holds


def scoreboard(monkeypatch: pytest.MonkeyPatch, folder: Path, *verdicts: bool | None) -> list[str]:
    """State and count of a paper without runs whose claims have these verdicts."""
    claims = tuple(
        Claim(f"T{i}", "", "", lambda _, holds=holds: Verdict(holds, ""))  # type: ignore[misc]
        for i, holds in enumerate(verdicts)
    )
    paper = Paper("tiny", "", "", "m", {"small": (), "full": ()}, {"small": 1, "full": 1}, claims)
    monkeypatch.setattr(table, "load_paper", lambda _: paper)
    monkeypatch.setattr(table, "PAPERS", ("tiny",))
    return table._scoreboard(table.TableConfig(all=True, out=folder)).rows[0][1:3]


def test_a_claim_that_is_only_reported_counts_neither_for_nor_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scoreboard(monkeypatch, tmp_path, True, None, True) == ["works", "2 of 2"]
    assert scoreboard(monkeypatch, tmp_path, True, None, False) == ["not yet", "1 of 2"]
    # Without runs and judged claims nothing works yet.
    assert scoreboard(monkeypatch, tmp_path, None) == ["not yet", "0 of 0"]
