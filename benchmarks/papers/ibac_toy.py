"""The supervised task of the bottleneck paper: its runs and its claim.

The model `vib` on `signals-2` (2 backgrounds for each class, many signals) and `signals-64` (many backgrounds,
64 signals), scored by its test loss in nats. Each seed draws another problem, on which all methods have the
same training and test signals.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Scale, Verdict
from rlbench.benchmarks.tables.results import Result, Results

PLAIN = {"bottleneck": False}
RIVALS: dict[str, dict[str, Any]] = {
    "none": PLAIN,
    "weight decay": PLAIN | {"weight_decay": 1e-3},
    "dropout": PLAIN | {"dropout": 0.2},
}
SETTINGS = {"signals-2": 2_048, "signals-64": 64}
"""Task to the number of training signals, as in the paper."""
TEST = {"eval_every": 0, "log_every": 100, "checkpoint_every": 0}
SEEDS = 10


def _grids(settings: Mapping[str, Any], updates: int) -> tuple[Grid, ...]:
    methods = tuple(Method(name, "vib", {**settings, **own}) for name, own in RIVALS.items())
    return tuple(
        Grid(
            (*methods, Method("VIB", "vib", settings)),
            (task,),
            seeds=SEEDS,
            run={"updates": updates, "data_size": size, **TEST},
        )
        for task, size in SETTINGS.items()
    )


GRIDS: dict[Scale, tuple[Grid, ...]] = {
    # A 33rd of the paper's updates with 30 times its step size, and a quarter of its hidden units.
    "small": _grids({"hidden": 256, "learning_rate": 3e-3}, updates=1_000),
    # The paper's length: 819,200 signals, 25 in each update.
    "full": _grids({}, updates=32_768),
}
MINUTES: dict[Scale, float] = {"small": 5, "full": 200}


def _loss(run: Result) -> float:
    """Mean test loss in nats."""
    return run.mean("loss")


def _lowest_test_loss(results: Results) -> Verdict:
    holds, shown = True, []
    for task in SETTINGS:
        ours, *others = results.paired(("VIB", *RIVALS), task, _loss)
        parts = [f"{task}: VIB {ours.mean():.2f}"]
        for rival, theirs in zip(RIVALS, others, strict=True):
            found = statistics.paired_difference(ours, theirs, seed=0)
            holds = holds and found.high < 0
            parts.append(
                f"{rival} {theirs.mean():.2f}, "
                f"difference {found.point:.2f} [{found.low:.2f}, {found.high:.2f}]"
            )
        shown.append(f"{'; '.join(parts)} ({len(ours)} seeds)")
    return Verdict(bool(holds), f"test loss in nats, {'. '.join(shown)}")


C1 = Claim(
    "C1",
    "With little data a bottleneck generalises better than no regularisation, weight decay or dropout",
    "The test loss of VIB is lower than that of each other method, with 2 backgrounds for each class and "
    "with 64 training signals; the 95 % intervals of the differences, paired over seeds, lie below 0",
    _lowest_test_loss,
)
