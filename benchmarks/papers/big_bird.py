"""Big Bird: Zaheer et al., 2020 (section 2 and table 1), on retrieval from long sequences.

Two pairs of a letter and a digit are hidden among fillers, all of them far from the token [CLS], at which the answer is
read. With a window alone, two layers do not reach that far. Global tokens and random blocks connect any two tokens, at a cost
that is linear in the length.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

NEAR, FAR = "assoc-retrieval-long:{length}", "assoc-retrieval-far:{length}"
"""The question is next to [CLS], or at a random place; then the answer is two steps of attention away from [CLS]."""
CHANCE = 10
FULL, WINDOW, BIG_BIRD, ETC, UNTRAINED = "full", "window", "Big Bird", "Big Bird, ETC", "untrained"
PATTERNS = {FULL: "full", WINDOW: "window", BIG_BIRD: "big-bird", ETC: "etc"}
STEP_SIZES = {NEAR: (2e-3, 5e-3), FAR: (5e-3,)}
"""For FAR, whose accuracies are only reported, there is no search."""
SIZES: Mapping[Scale, Mapping[str, Any]] = {
    "small": {"width": 32, "units": 64, "heads": 2, "block": 8, "random": 1, "length": 128},
    "full": {"width": 256, "units": 1_024, "heads": 4, "block": 16, "random": 3, "length": 1_024},
}
UPDATES: Mapping[Scale, int] = {"small": 600, "full": 20_000}
LENGTHS = (512, 1024, 2048)


def task(form: str, scale: Scale = "small") -> str:
    """The source of sequences of a scale."""
    return form.format(length=SIZES[scale]["length"])


def _grids(scale: Scale) -> tuple[Grid, ...]:
    options = ",".join(f"{key}={value}" for key, value in SIZES[scale].items())
    networks = {
        title: {"encoder": f"transformer:attention={kind},pool=token,{options}"}
        for title, kind in PATTERNS.items()
    }
    updates = UPDATES[scale]
    run = {
        "updates": updates,
        "eval_every": updates // 5,
        "log_every": 50,
        "checkpoint_every": updates // 4,
    }
    untrained = Method(UNTRAINED, "sequence-classifier", {**networks[FULL], "learning_rate": 0.0})
    once = {"updates": 1, "eval_every": 0, "data_size": 1_000}
    return (
        *(
            Grid(
                methods("sequence-classifier", networks, sizes),
                (task(form, scale),),
                seeds=3,
                run=run,
            )
            for form, sizes in STEP_SIZES.items()
        ),
        Grid((untrained,), tuple(task(form, scale) for form in STEP_SIZES), seeds=3, run=once),
    )


def _analyses(scale: Scale) -> tuple[AnalysisGrid, ...]:
    of = (name(BIG_BIRD, STEP_SIZES[NEAR][0]),)
    settings = {"lengths": LENGTHS}
    return (AnalysisGrid("attention-cost", of, (task(NEAR, scale),), 1, settings),)


def _task_of(results: Results, form: str) -> str:
    """The task of the scale that was run; of the small one if none was."""
    tasks = {result.task for result in results.all}
    return next((x for scale in SIZES if (x := task(form, scale)) in tasks), task(form))


def _accuracies(results: Results, form: str) -> tuple[dict[str, float], str]:
    """Mean accuracy in % of each pattern with its best step size, and the accuracies of all seeds as a text."""
    at = _task_of(results, form)
    means, shown = {}, []
    for title in PATTERNS:
        method = best(results, title, STEP_SIZES[form], at)
        found = 100 * results.means(method, at, "accuracy")
        means[title] = float(found.mean())
        shown.append(f"{method}: {by_seed(found)}")
    untrained = 100 * results.means(UNTRAINED, at, "accuracy").mean()
    return means, f"accuracy in % (by seed): {'; '.join(shown)}; {UNTRAINED}: {untrained:.1f}"


def _matches_full(results: Results) -> Verdict:
    found, shown = _accuracies(results, NEAR)
    holds = found[BIG_BIRD] >= found[FULL] - 5 and found[WINDOW] <= CHANCE + 15
    return Verdict(holds, shown)


def _two_hops(results: Results) -> Verdict:
    _, shown = _accuracies(results, FAR)
    return Verdict(None, shown)


def _is_linear(results: Results) -> Verdict:
    (found, *_) = results.analysed(
        "attention-cost", name(BIG_BIRD, STEP_SIZES[NEAR][0]), _task_of(results, NEAR)
    )
    parts = []
    for kind in ("big-bird", "full"):
        times = ", ".join(f"{found.numbers[f'{kind}: ms at {x}']:.1f}" for x in LENGTHS)
        parts.append(f"{kind}: {times} ms, ratio {found.numbers[f'{kind}: ratio']:.1f}")
    return Verdict(
        bool(found.numbers["big-bird: ratio"] <= 6),
        f"forward passes over {', '.join(map(str, LENGTHS))} tokens, {'; '.join(parts)}",
    )


PAPER = Paper(
    name="big-bird",
    title="Big Bird: Transformers for Longer Sequences",
    reference="Zaheer et al., 2020, https://arxiv.org/abs/2007.14062",
    method=name(BIG_BIRD, STEP_SIZES[NEAR][0]),
    grids={scale: _grids(scale) for scale in SIZES},
    analyses={scale: _analyses(scale) for scale in SIZES},
    minutes={"small": 30, "full": 3_000},
    claims=(
        Claim(
            "G1", "Window, random and global blocks together are as good as full attention, a window alone is not",
            "accuracy, mean of 3 seeds, each pattern with its best step size, same parameters and updates: Big Bird at most 5 "
            f"points below full attention, a window at most 15 points above chance ({CHANCE} %)",
            _matches_full,
        ),
        Claim(
            "G2", "Information reaches any token in two steps, through global tokens",
            "none: accuracies with the question at a random place are only reported", _two_hops,
        ),
        Claim(
            "G3", "The cost is linear in the length",
            "time of a forward pass over 2,048 tokens, by gathered blocks: at most 6 times the time over 512; it would be 4 "
            "if exactly linear, and 16 if the cost of full attention dominated",
            _is_linear,
        ),
    ),
    notes="Accuracy on 1,000 sequences; chance is 0.10. Pairs are at least 64 tokens away from [CLS]; two layers with a window of three "
    "blocks of 8 tokens read 24 tokens.",
)  # fmt: skip
