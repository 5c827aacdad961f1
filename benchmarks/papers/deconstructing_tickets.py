"""Deconstructing lottery tickets: Zhou et al., 2019 (figures 3 to 6 and table 2), with 300 handwritten digits.

Three choices are changed one at a time: which weights are kept, what kept weights restart from, and what pruned weights become. Some masks solve the task
without training, and a mask can be learned for random weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

TASK = "digits"
TICKET = "large final, rewind"
KEPT: Mapping[str, Mapping[str, Any]] = {
    "reinit": {"kept": "reinit"},
    "reshuffle": {"kept": "reshuffle"},
    "signed reinit": {"kept": "signed_reinit"},
    "signed constant": {"kept": "signed_constant"},
    "constant, random signs": {"kept": "rand_signed_constant"},
}
CRITERIA: Mapping[str, Mapping[str, Any]] = {
    "magnitude increase": {"criterion": "magnitude_increase"},
    "large init": {"criterion": "large_init"},
    "small final": {"criterion": "small_final"},
    "random": {"criterion": "random"},
}
PRUNED: Mapping[str, Mapping[str, Any]] = {
    "freeze init": {"pruned": "freeze_init"},
    "freeze init, zero mask": {"pruned": "freeze_init_zero_mask"},
}
SAME_SIGN = "large final, same sign, signed constant"
SUPERMASK = "learned supermask"
ROUNDS = 11
CHANCE = 10.0
UNTRAINED = "untrained"


def _grids(updates: int) -> tuple[Grid, ...]:
    """`updates` of a round."""
    variants = {TICKET: {}, **KEPT, **CRITERIA, **PRUNED}
    variants[SAME_SIGN] = {"criterion": "large_final_same_sign", "kept": "signed_constant"}
    settings = {"rounds": ROUNDS, "round_updates": updates}
    methods = tuple(Method(title, "tickets", {**settings, **x}) for title, x in variants.items())
    run = {
        "updates": (ROUNDS + 1) * updates, "data_size": 300, "eval_every": updates, "log_every": 50,
        "checkpoint_every": (ROUNDS + 1) * updates // 4,
    }  # fmt: skip
    # All images: a mask has as many scores as there are weights.
    learned = {**run, "data_size": 1_437}
    once = {"updates": 1, "data_size": 300, "eval_every": 0}
    return (
        Grid(methods, (TASK,), seeds=3, run=run),
        Grid((Method(SUPERMASK, "supermask"),), (TASK,), seeds=3, run={**learned, "updates": 2 * updates, "eval_every": 0}),
        Grid((Method(UNTRAINED, "tickets", {"learning_rate": 0.0}),), (TASK,), seeds=3, run=once),
    )  # fmt: skip


def _accuracy(results: Results, title: str) -> tuple[float, str]:
    """Mean accuracy in % after the last round, and a text."""
    found = 100 * results.means(title, TASK, "accuracy")
    return float(found.mean()), f"{title} {by_seed(found)}"


def _compared(results: Results, *titles: str) -> tuple[dict[str, float], str]:
    found = {title: _accuracy(results, title) for title in titles}
    return {
        title: mean for title, (mean, _) in found.items()
    }, "accuracy in %, by seed: " + "; ".join(words for _, words in found.values())


def _signs(results: Results) -> Verdict:
    found, shown = _compared(results, TICKET, *KEPT)
    ticket, constant = found[TICKET], found["signed constant"]
    holds = (
        ticket >= found["reinit"] + 3
        and constant >= found["constant, random signs"] + 3
        and constant >= ticket - 2
    )
    return Verdict(bool(holds), shown)


def _criteria(results: Results) -> Verdict:
    found, shown = _compared(results, TICKET, *CRITERIA)
    ticket = found[TICKET]
    holds = found["magnitude increase"] >= ticket - 1.5 and all(
        found[x] <= ticket - 3 for x in ("small final", "random")
    )
    return Verdict(bool(holds), shown)


def _pruned(results: Results) -> Verdict:
    found, shown = _compared(results, TICKET, *PRUNED)
    return Verdict(bool(found["freeze init, zero mask"] >= found[TICKET] - 1), shown)


def _untrained(results: Results, title: str) -> tuple[float, str]:
    """Accuracy in % without training of the best mask of all rounds, mean of the seeds, and a text."""
    from rlbench.benchmarks.training.run_folder import RunFolder

    runs = results.of(title, TASK)
    if not runs:
        raise Missing(f"{title} has not been run on {TASK}")
    best = [
        100 * RunFolder(run.folder).evaluations()["supermask"].mean(1)[1:].max() for run in runs
    ]
    return float(np.mean(best)), f"{title} {by_seed(best)}"


def _supermasks(results: Results) -> Verdict:
    signs, constants = (_untrained(results, x) for x in (SAME_SIGN, "signed constant"))
    learned, shown = _accuracy(results, SUPERMASK)
    holds = signs[0] >= 2 * CHANCE and signs[0] > constants[0] and learned >= 80
    return Verdict(
        bool(holds),
        f"accuracy in % without training the weights, by seed: {signs[1]}; {constants[1]}; {shown}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(250), "full": _grids(2_500)}

PAPER = Paper(
    name="deconstructing-tickets",
    title="Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
    reference="Zhou et al., 2019, https://arxiv.org/abs/1905.01067",
    method=TICKET,
    grids=SCALES,
    minutes={"small": 15, "full": 150},
    claims=(
        Claim(
            "D1", "Kept weights need their early signs, and not their early values",
            "accuracy with about 9 % of the hidden weights, mean of 3 seeds: rewinding at least 3 points above new weights; constants with early signs at least 3 "
            "points above constants with random signs, and at most 2 points below rewinding",
            _signs,
        ),
        Claim(
            "D2", "Weights whose magnitude increases are as good a choice as large ones",
            "accuracy with about 9 % of the hidden weights, mean of 3 seeds: magnitude increase at most 1.5 points below large final, and small final and random at "
            "least 3 points below it",
            _criteria,
        ),
        Claim(
            "D3", "Weights that move towards 0 can be set to 0, and all others frozen",
            "accuracy with about 9 % of the hidden weights, mean of 3 seeds: at most 1 point below setting all pruned weights to 0", _pruned,
        ),
        Claim(
            "D4", "Masks solve the task without any training of the weights",
            "accuracy, mean of 3 seeds: the best mask by large final with the same sign, on constants with early signs, at least twice chance and above that by large "
            "final; a learned mask at least 80 %",
            _supermasks,
        ),
    ),
    notes="Accuracy on 360 test digits; chance is 0.10. LeNet's layers of 300 and 100 units, pruned by a fifth in each of 11 rounds (output layer: a tenth).",
)  # fmt: skip
