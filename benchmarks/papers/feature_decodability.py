"""What shapes feature representations: Hermann and Lampinen, 2020 (figures 2 to 6), with 5 in place of 10 classes and small pictures.

Linear probes decode shape, colour and texture from the last hidden layer of networks that were trained on one of them, or on shape while
colour agrees with it, and from the same layer of an untrained network. Probes learn and are scored on pictures with independent features. The last grid asks the
same of a policy: what does PPO's network know about two levels of MiniGrid, where a key opens a door and its colour does not matter?
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Missing, Results

INDEPENDENT, SAME, MOSTLY = (
    "trifeature",
    "trifeature-shape-colour-100",
    "trifeature-shape-colour-90",
)
LEVELS: Mapping[str, tuple[str, ...]] = {
    "MiniGrid-Unlock-v0": ("carrying", "key colour", "direction", "column"),
    "MiniGrid-DoorKey-5x5-v0": ("carrying", "door", "direction", "column"),
}
"""Facts of each level that are decoded."""
FEATURES = ("shape", "colour", "texture")
NETWORK = "conv4:width=32,layers=3,norm=none,head=gap"
UNTRAINED, POLICY = "untrained", "PPO"
PROBE = "probe"
DECODED = "accuracy of the probes in %, by seed"


def trained_on(feature: str) -> str:
    """The name of the network that learned a feature."""
    return f"trained on {feature}"


def _grids(updates: int, size: int, policy_updates: int) -> tuple[Grid, ...]:
    settings = {"encoder": NETWORK, "batch_size": 64, "learning_rate": 0.05}
    run = {
        "updates": updates, "eval_every": 0, "log_every": 50, "checkpoint_every": updates // 2, "data_size": size,
    }  # fmt: skip
    each = tuple(Method(trained_on(x), "classifier", {**settings, "label": x}) for x in FEATURES)
    policy = Method(
        POLICY, "ppo",
        {
            "encoder": "one-hot-grid:pool=none", "envs": 16, "rollout_steps": 64, "batch_size": 256, "epochs": 4, "learning_rate": 1e-3,
            "entropy_coefficient": 0.01,
        },
    )  # fmt: skip
    playing = {
        "updates": policy_updates, "eval_every": 0, "eval_episodes": 100, "checkpoint_every": policy_updates // 2,
    }  # fmt: skip
    return (
        Grid(each, (INDEPENDENT,), seeds=3, run=run),
        Grid(each[:1], (SAME, MOSTLY), seeds=3, run=run),
        Grid((policy,), tuple(LEVELS), seeds=3, run=playing),
    )


def _analyses(examples: int) -> tuple[AnalysisGrid, ...]:
    pictures: Mapping[str, Any] = {"examples": examples, "features": FEATURES}
    shape = trained_on("shape")
    return (
        *(AnalysisGrid(PROBE, (trained_on(x),), (INDEPENDENT,), seeds=3, settings=pictures) for x in FEATURES),
        AnalysisGrid(PROBE, (shape,), (SAME, MOSTLY), seeds=3, settings=pictures),
        *(
            AnalysisGrid(PROBE, (POLICY,), (level,), seeds=3, settings={"examples": examples, "features": facts})
            for level, facts in LEVELS.items()
        ),
    )  # fmt: skip


def _read(
    results: Results, method: str, task: str, feature: str, network: str = "trained"
) -> NDArray[np.float64]:
    """Accuracy of the probe of a feature in the last hidden layer, for each seed, in %.

    Raises:
        Missing: It has not been measured.
    """
    found = results.analysed(PROBE, method, task)
    if not found:
        raise Missing(f"{PROBE} of {method} on {task} has not been run")
    return 100 * np.array([x.numbers[f"{feature}, {network}"] for x in found])


def _all(
    results: Results, method: str, task: str = INDEPENDENT, network: str = "trained"
) -> tuple[dict[str, float], str]:
    """Mean decodability of each feature, and a text with the seeds."""
    each = {x: _read(results, method, task, x, network) for x in FEATURES}
    title = network if network == UNTRAINED else method
    words = ", ".join(f"{by_seed(x)} for {name}" for name, x in each.items())
    return {name: float(x.mean()) for name, x in each.items()}, f"{title}: {words}"


def _before(results: Results) -> tuple[dict[str, float], str]:
    return _all(results, trained_on("shape"), network=UNTRAINED)


def _untrained(results: Results) -> Verdict:
    found, words = _before(results)
    return Verdict(max(found, key=lambda x: found[x]) == "colour", f"{DECODED}: {words}")


def _enhanced(results: Results) -> Verdict:
    before, shown = _before(results)
    after = {x: _all(results, trained_on(x)) for x in ("shape", "texture")}
    holds = all(
        found[x] >= before[x] + 10 and found["colour"] <= before["colour"] - 20
        for x, (found, _) in after.items()
    )
    words = "; ".join((shown, *(text for _, text in after.values())))
    return Verdict(holds, f"{DECODED}: {words}")


def _easier(results: Results) -> Verdict:
    before, shown = _before(results)
    method = trained_on("shape")
    alone, own = _all(results, method)
    together, joint = _all(results, method, SAME)
    holds = (
        together["colour"] >= 90
        and together["shape"] <= alone["shape"] - 15
        and together["shape"] <= before["shape"]
    )
    return Verdict(holds, f"{DECODED}: {shown}; {own}; if shape and colour agree, {joint}")


def _mostly(results: Results) -> Verdict:
    found, words = _all(results, trained_on("shape"), MOSTLY)
    return Verdict(found["colour"] > found["shape"], f"{DECODED}: {words}")


def _policy(results: Results) -> Verdict:
    shown = []
    for level, facts in LEVELS.items():
        each = []
        for fact in facts:
            before, after = (_read(results, POLICY, level, fact, x) for x in (UNTRAINED, "trained"))
            each.append(f"{fact} from {by_seed(before)} to {by_seed(after)}")
        solved = [100 * float((x.columns["return"] > 0).mean()) for x in results.of(POLICY, level)]
        shown.append(f"{level}: {', '.join(each)}; solved episodes: {by_seed(solved)}")
    return Verdict(None, f"{DECODED}, from before to after training: {'. '.join(shown)}")


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(1_000, 5_000, 150),
    "full": _grids(10_000, 20_000, 2_000),
}
WHERE = "linear probes of the last hidden layer, tested on pictures with independent features, chance 20 %, mean of 3 seeds"

PAPER = Paper(
    name="feature-decodability",
    title="What shapes feature representations? Exploring datasets, architectures, and training",
    reference="Hermann and Lampinen, 2020, https://arxiv.org/abs/2006.12433",
    method=trained_on("shape"),
    grids=SCALES,
    minutes={"small": 25, "full": 300},
    analyses={"small": _analyses(1_200), "full": _analyses(4_000)},
    claims=(
        Claim(
            "D1", "Without training, colour is decoded best", WHERE, _untrained,
        ),
        Claim(
            "D2", "Training enhances the feature of the task, and suppresses others",
            f"{WHERE}: trained on shape or on texture, this feature at least 10 points above the untrained network, and colour at least 20 points below it",
            _enhanced,
        ),
        Claim(
            "D3", "If shape and colour always agree, the network learns the easier one",
            f"{WHERE}: colour at least 90 %, and shape at least 15 points below a network that was trained on shape with independent colours, and not above "
            "the untrained one",
            _easier,
        ),
        Claim(
            "D4", "The easier feature wins even if it is a little less predictive",
            f"{WHERE}: if colour agrees with the label in 90 % (and by chance in 2 % more) of the pictures, colour is decoded better than shape", _mostly,
        ),
        Claim(
            "D5", "The network of a policy knows what matters for the reward better than before, and the rest less well",
            "none: linear probes of the last hidden layer before and after training; the colour of key and door does not matter", _policy,
        ),
    ),
    notes="Accuracy on the label for networks, and return for PPO.",
)  # fmt: skip
