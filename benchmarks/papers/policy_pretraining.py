"""PPO whose encoder learned to recognise pairs of observations before: by CPC, by its Wasserstein form, or not at all.

This is not the table of a single paper: it shows the Wasserstein dependency measure in an agent. Encoders learn from pairs of observations of random episodes
in MiniGrid's empty room of 5x5 cells, seen as pictures, four steps apart. They stay as they are while PPO learns, or learn with it. The controls are encoders with random
weights.
"""

from rlbench.benchmarks.papers._shown import returns
from rlbench.benchmarks.papers.policy_attacks import ROOM, SETTINGS as PPO
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

PAIRS = f"moment-pairs:{ROOM}"
OBJECTIVES = {"CPC": "cpc", "WPC": "wpc"}
NONE = "random weights"
FROZEN = {name: f"{name}, frozen" for name in (*OBJECTIVES, NONE)}


def _grids(updates: int, training: int) -> tuple[Grid, Grid]:
    encoder = {"encoder": PPO["encoder"]}
    models = tuple(
        Method(name, "contrastive", {**encoder, "objective": objective})
        for name, objective in OBJECTIVES.items()
    )
    policies = tuple(
        Method(
            FROZEN[name] if freeze else name, "ppo", {**PPO, "freeze": freeze},
            pretrained=(name, PAIRS) if name in OBJECTIVES else None,
        )
        for freeze in (False, True) for name in FROZEN
    )  # fmt: skip
    run = {
        "updates": updates, "eval_every": 0, "eval_episodes": 50, "log_every": 5, "checkpoint_every": updates // 2,
    }  # fmt: skip
    return (
        Grid(models, (PAIRS,), 3, {"updates": training, "eval_every": 0, "log_every": 50}),
        Grid(policies, (ROOM,), 3, run),
    )


def _pretrained(results: Results) -> Verdict:
    return Verdict(None, f"return, {returns(results, ROOM, (*FROZEN, *FROZEN.values()))}")


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(20, 300), "full": _grids(1_000, 5_000)}

PAPER = Paper(
    name="policy-pretraining",
    title="Contrastive pre-training of PPO's encoder",
    reference="a table of the suite; the objectives are from van den Oord et al., 2018, and Ozair et al., 2019",
    method="WPC",
    grids=SCALES,
    minutes={"small": 25, "full": 600},
    claims=(
        Claim(
            "C1", "An encoder that learned from pairs of observations helps PPO",
            "none: mean returns with 95 % intervals over seeds are only reported", _pretrained,
        ),
    ),
    notes="Return of an episode, greedy actions: nearly 1 if the goal is reached soon. 10,240 steps in a run of the small scale.",
)  # fmt: skip
