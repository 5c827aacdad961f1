"""PPO rewarded by a classifier of success that learned from few labelled pictures.

This is not the table of a single paper: it shows MixMatch in an agent. In MiniGrid's empty room of 5x5 cells, seen as pictures, PPO is rewarded by the probability
that the goal is reached. Classifiers learn from 20 labelled pictures, with unlabelled ones (MixMatch) and without. The other controls are a classifier that was not
trained, and the environment's own reward.
"""

from rlbench.benchmarks.papers._shown import by_seed, returns
from rlbench.benchmarks.papers.policy_attacks import ROOM, SETTINGS as PPO
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

GOALS = "room-goals-20"
ENCODER, INNER = "conv4:layers=5,width=8,norm=gn", "conv4/layers=5/width=8/norm=gn"
MIXMATCH, SUPERVISED, UNTRAINED, TRUE = (
    "MixMatch",
    "few labels",
    "untrained classifier",
    "true reward",
)
CLASSIFIERS = {MIXMATCH: {"unlabelled_weight": 10.0}, SUPERVISED: {"unlabelled_weight": 0.0}}
READ = {"reward_encoder": f"classes:of={INNER},classes=2"}


def _grids(updates: int, training: int) -> tuple[Grid, Grid]:
    models = tuple(
        Method(
            name,
            "mixmatch",
            {"encoder": ENCODER, "batch_size": 16, "average": 0.98, "shift": 4, **more},
        )
        for name, more in CLASSIFIERS.items()
    )
    rewarded = {**PPO, **READ}
    policies = (
        *(Method(name, "success-ppo", rewarded, pretrained=(name, GOALS)) for name in CLASSIFIERS),
        Method(UNTRAINED, "success-ppo", rewarded),
        Method(TRUE, "ppo", PPO),
    )
    run = {
        "updates": updates, "eval_every": 0, "eval_episodes": 50, "log_every": 5, "checkpoint_every": updates // 2,
    }  # fmt: skip
    return (
        Grid(models, (GOALS,), 3, {"updates": training, "eval_every": 0, "log_every": 50}),
        Grid(policies, (ROOM,), 3, run),
    )


def _rewarded(results: Results) -> Verdict:
    accuracies = ", ".join(
        f"{name} {by_seed(100 * results.means(name, GOALS, 'accuracy'))}" for name in CLASSIFIERS
    )
    shown = returns(results, ROOM, (*CLASSIFIERS, UNTRAINED, TRUE))
    return Verdict(None, f"return by reward, {shown}; accuracy of the classifiers in %, by seed: {accuracies}")  # fmt: skip


SCALES: dict[Scale, tuple[Grid, ...]] = {"small": _grids(40, 300), "full": _grids(1_000, 5_000)}

PAPER = Paper(
    name="policy-success",
    title="A classifier of success as the reward",
    reference="a table of the suite; MixMatch is from Berthelot et al., 2019, rewards by a classifier from Singh et al., 2019, https://arxiv.org/abs/1904.07854",
    method=MIXMATCH,
    grids=SCALES,
    minutes={"small": 25, "full": 600},
    claims=(
        Claim(
            "R1", "PPO reaches a goal that it knows from 20 labelled pictures",
            "none: mean returns with 95 % intervals over seeds are only reported", _rewarded,
        ),
    ),
    notes="Return of an episode by the environment's reward, greedy actions: nearly 1 if the goal is reached soon. 20,480 steps in a run of the small scale.",
)  # fmt: skip
