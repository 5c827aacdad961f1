"""Networks that learn to act from what trained agents saw and did: distillation, federated averaging, supermasks, certified actions.

This is not the table of a single paper: it shows born-again networks, federated averaging, supermasks and SmoothAdv in policies. The agents are PPO's in
CartPole and, for certified actions, in MiniGrid's empty room of 5x5 cells, seen as pictures. Every network learns from recorded steps, and then acts.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import acted, interval, returns
from rlbench.benchmarks.papers.policy_attacks import ROOM, SETTINGS as PIXELS
from rlbench.benchmarks.tables.paper import (
    AnalysisGrid,
    Claim,
    Grid,
    Method,
    Paper,
    Recording,
    Scale,
    Verdict,
)
from rlbench.benchmarks.tables.results import Results

CART = "CartPole-v1"
PPO, WEAK = "PPO", "PPO, trained for a short time"
STEPS = Recording("steps of PPO", ((PPO, CART),), size=4_000)
PICTURES = Recording("pictures of PPO", ((PPO, ROOM),), size=2_000)
CLIENTS = {
    "clients of PPO": ((PPO, CART),),
    "clients of both": ((PPO, CART), (WEAK, CART)),
    "clients of the weak PPO": ((WEAK, CART),),
}
"""Recordings for federated averaging."""
SHARED = "FedAvg"
SIZES = {"equal": "mlp:units=64-64", "small": "mlp:units=2"}
"""Students: PPO's policy has two layers of 64 units too."""
SIGNALS: Mapping[str, Mapping[str, Any]] = {
    "actions": {},
    "probabilities": {"teacher": "scores"},
    "probabilities, T = 0.25": {"teacher": "scores", "temperature": 0.25},
}
"""What a student learns from."""
STUDENTS = {f"{size}, {signal}": (size, signal) for size in SIZES for signal in SIGNALS}
MASK = "supermask"
SIGMA = 0.1
CERTIFIED = {"SmoothAdv": "smoothed", "noise alone": "gaussian", "no noise": "none"}
"""Methods to their attacks."""


def _grids(updates: int, pictures: int, rounds: int) -> tuple[Grid, ...]:
    online = {"eval_every": 0, "eval_episodes": 100}
    agents = Grid(
        (Method(PPO, "ppo"), Method(WEAK, "ppo")), (CART,), 3, {**online, "updates": updates},
        updates={(WEAK, CART): 2},
    )  # fmt: skip
    room = Grid((Method(PPO, "ppo", PIXELS),), (ROOM,), 3, {**online, "eval_episodes": 20, "updates": pictures})  # fmt: skip
    distilled = {"generations": 1, "cycle_updates": 2_000, "learning_rate": 0.1}
    cloned = (
        *(
            Method(name, "born-again", {**distilled, "encoder": SIZES[size], **SIGNALS[signal]})
            for name, (size, signal) in STUDENTS.items()
        ),
        Method(MASK, "supermask", {"encoder": "mlp:units=256-256"}),
    )
    settings = {"encoder": "nature", "sigma": SIGMA, "radius": 0.2}
    certified = tuple(
        Method(name, "smooth-adversarial", {**settings, "attack": attack})
        for name, attack in CERTIFIED.items()
    )
    shared = (Method(SHARED, "fedavg", {"encoder": "mlp:units=64-64", "learning_rate": 0.3}),)
    recordings = tuple(Recording(name, runs, 4_000, 20) for name, runs in CLIENTS.items())
    offline = {"eval_every": 0}
    return (
        agents,
        room,
        Grid(cloned, (STEPS.name,), 3, {**offline, "updates": 2_000}, recordings=(STEPS,)),
        Grid(
            shared, tuple(CLIENTS), 3, {**offline, "updates": rounds, "log_every": 10}, recordings=recordings,
        ),
        Grid(certified, (PICTURES.name,), 3, {**offline, "updates": 300}, recordings=(PICTURES,)),
    )  # fmt: skip


def _analyses(episodes: int, in_room: int) -> tuple[AnalysisGrid, ...]:
    plain = {"task": CART, "episodes": episodes}
    noisy = {"task": ROOM, "episodes": in_room, "sigma": SIGMA}
    return (
        *(AnalysisGrid("acting", (name,), (STEPS.name,), 3, plain) for name in (*STUDENTS, MASK)),
        AnalysisGrid("acting", (SHARED,), tuple(CLIENTS), 3, plain),
        *(AnalysisGrid("acting", (name,), (PICTURES.name,), 3, noisy) for name in CERTIFIED),
    )


def _acting(results: Results, names: Mapping[str, tuple[str, str]]) -> str:
    """Mean returns with intervals, by the name that is shown."""
    return "; ".join(f"{name}: {interval(acted(results, *key))}" for name, key in names.items())


def _distilled(results: Results) -> Verdict:
    teacher = results.means(PPO, CART, "return").mean()
    found = {name: acted(results, name, STEPS.name).mean() for name in STUDENTS}
    best = max(found[f"equal, {x}"] for x in ("probabilities", "probabilities, T = 0.25"))
    shown = _acting(results, {name: (name, STEPS.name) for name in STUDENTS})
    return Verdict(
        bool(best >= 0.95 * teacher and best >= found["equal, actions"]),
        f"return, {PPO}: {teacher:.0f}; {shown}",
    )


def _masked(results: Results) -> Verdict:
    shown = _acting(results, {MASK: (MASK, STEPS.name), "equal, actions": ("equal, actions", STEPS.name)})  # fmt: skip
    return Verdict(None, f"return, {shown}")


def _shared(results: Results) -> Verdict:
    shown = _acting(results, {task: (SHARED, task) for task in CLIENTS})
    return Verdict(None, f"return, {returns(results, CART, (PPO, WEAK))}; FedAvg, {shown}")


def _certified(results: Results) -> Verdict:
    shown = "; ".join(
        f"{name}: return {interval(acted(results, name, PICTURES.name))}, certified radius "
        f"{interval(acted(results, name, PICTURES.name, 'certified radius'))}"
        for name in CERTIFIED
    )
    return Verdict(None, shown)


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(50, 40, 200),
    "full": _grids(500, 1_000, 1_000),
}

PAPER = Paper(
    name="policy-students",
    title="Policies that learn from the recorded steps of others",
    reference="a table of the suite; policy distillation is from Rusu et al., 2016, https://arxiv.org/abs/1511.06295, the other methods from Furlanello "
    "et al., 2018, McMahan et al., 2017, Zhou et al., 2019, and Salman et al., 2019",
    method=PPO,
    grids=SCALES,
    minutes={"small": 15, "full": 300},
    analyses={"small": _analyses(100, 20), "full": _analyses(1_000, 100)},
    claims=(
        Claim(
            "P1", "A student of the same size acts as well as its teacher if it learns from the teacher's probabilities, and at least as well as "
            "one that learns from actions",
            "mean return of 3 seeds, the better of two temperatures: at least 0.95 times PPO's, and at least that of the student of actions", _distilled,
        ),
        Claim(
            "P2", "A network with random weights acts after learning which of them to leave out",
            "none: mean returns with 95 % intervals over seeds are only reported", _masked,
        ),
        Claim(
            "P3", "Clients with steps of agents of different quality share a policy",
            "none: mean returns with 95 % intervals over seeds are only reported", _shared,
        ),
        Claim(
            "P4", "Adversarial training of the smoothed policy certifies its actions in larger radii",
            "none: mean returns and certified radii with 95 % intervals over seeds are only reported", _certified,
        ),
    ),
    notes="Return of an episode, greedy actions; in CartPole the best is 500, in the room nearly 1. Certificates: noise of 0.1, where values of images are "
    "from 0 to 1.",
)  # fmt: skip
