"""One ticket to win them all: Morcos et al., 2019 (figures 4 to 7), with handwritten digits and glyphs of 8x8 pixels.

A ticket that was found on glyphs is trained on 300 digits, and compared with a ticket that was found there, with random tickets of the same densities, and
with the same mask and new weights; tickets that were found with gradient descent are trained with Adam.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

DIGITS, GLYPHS = "digits", "glyphs-8"
OWN, OTHER, OTHER_OPTIMIZER = "ticket", "ticket of glyphs", "ticket of SGD"
RANDOM, REDRAWN, DENSE = "random ticket", "ticket's mask, new weights", "dense"
NETWORK = "mlp:units=300-100"
ROUNDS = 12
"""Prunings by a fifth: 7 % of the weights are left."""
FIND: Mapping[str, Any] = {
    "encoder": NETWORK, "rounds": ROUNDS, "keep_output": 1.0, "together": True, "rewind_updates": 20,
}  # fmt: skip
FOUND: Mapping[str, Mapping[str, Any]] = {
    OWN: FIND,
    OTHER_OPTIMIZER: {**FIND, "optimizer": "sgd", "learning_rate": 0.1},
    RANDOM: {**FIND, "criterion": "random", "kept": "reinit"},
    REDRAWN: {**FIND, "kept": "reinit"},
}
"""How each ticket is found."""


def _grids(updates: int, size: int) -> tuple[Grid, ...]:
    """`updates` of a round; `size` of the glyphs."""
    usual = {"eval_every": 0, "log_every": 50, "checkpoint_every": (ROUNDS + 1) * updates // 4}
    length = {"updates": (ROUNDS + 1) * updates}
    found = tuple(Method(title, "tickets", {**x, "round_updates": updates}) for title, x in FOUND.items())  # fmt: skip
    once: dict[str, Any] = {
        "encoder": f"{NETWORK},zeros=keep", "rounds": 1, "round_updates": updates, "keep_output": 1.0,
    }  # fmt: skip
    taken = tuple(
        Method(f"{title}, trained", "tickets", once, pretrained=(source, task))
        for title, source, task in (
            (OWN, OWN, DIGITS), (OTHER, OWN, GLYPHS), (OTHER_OPTIMIZER, OTHER_OPTIMIZER, DIGITS), (RANDOM, RANDOM, DIGITS),
            (REDRAWN, REDRAWN, DIGITS),
        )
    )  # fmt: skip
    dense = Method(f"{DENSE}, trained", "tickets", {**once, "encoder": NETWORK})
    target = {**usual, "updates": updates, "data_size": 300, "checkpoint_every": updates}
    return (
        Grid(found, (DIGITS,), seeds=3, run={**usual, **length, "data_size": 300}),
        Grid(found[:1], (GLYPHS,), seeds=3, run={**usual, **length, "data_size": size}),
        Grid((dense,), (DIGITS,), seeds=3, run=target),
        Grid(taken, (DIGITS,), seeds=3, run=target),
    )


def _accuracy(results: Results, title: str) -> tuple[float, str]:
    """Mean accuracy in % after training on digits, and a text."""
    found = 100 * results.means(f"{title}, trained", DIGITS, "accuracy")
    return float(found.mean()), f"{title} {by_seed(found)}"


def _transfers(results: Results, title: str) -> Verdict:
    found = {x: _accuracy(results, x) for x in (title, OWN, RANDOM, REDRAWN, DENSE)}
    ticket, own, chance = (found[x][0] for x in (title, OWN, RANDOM))
    return Verdict(
        bool(ticket >= chance + 3 and ticket >= own - 2),
        f"accuracy in %, by seed: {'; '.join(x for _, x in found.values())}",
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(250, 2_000), "full": _grids(2_500, 10_000)}
CRITERION = (
    "accuracy on digits after training with about 7 % of the weights, mean of 3 seeds: at least 3 points above random tickets of the same densities, and "
    "at most 2 points below the ticket that was found there"
)

PAPER = Paper(
    name="ticket-transfer",
    title="One ticket to win them all: generalizing lottery ticket initializations across datasets and optimizers",
    reference="Morcos et al., 2019, https://arxiv.org/abs/1906.02773",
    method=f"{OTHER}, trained",
    grids=SCALES,
    minutes={"small": 12, "full": 150},
    claims=(
        Claim(
            "T1", "A winning ticket of one data set wins on another", CRITERION, lambda results: _transfers(results, OTHER),
        ),
        Claim(
            "T2", "A winning ticket of one optimiser wins with another", f"{CRITERION}; found with gradient descent, trained with Adam",
            lambda results: _transfers(results, OTHER_OPTIMIZER),
        ),
    ),
    notes="Accuracy on test images; chance is 0.10 for digits and 0.05 for glyphs. Tickets have the weights after 20 updates; layers are pruned together, and "
    "the output layer is new in each training.",
)  # fmt: skip
