"""DQN compared with two other libraries: Mnih et al., 2015, on CartPole and on MinAtar's Breakout.

On CartPole, the plain network has the settings and steps of CleanRL's `dqn.py`, and Stable-Baselines3's DQN has the same ones except that its
loss is linear for errors above 1. Double Q-learning with a duelling network is compared with it on both tasks.
"""

from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

POLE, BREAKOUT = "CartPole-v1", "MinAtar/Breakout-v1"
PLAIN, DOUBLE, SB3 = "DQN", "double DQN, duelling", "DQN of Stable-Baselines3"
CLEANRL = 488.69, 16.11
"""Mean and standard deviation of the returns of CleanRL's `dqn.py` on CartPole-v1, https://docs.cleanrl.dev/rl-algorithms/dqn/."""
NEAR = CLEANRL[0] - 2 * CLEANRL[1]
"""Least return on CartPole that counts as equal to CleanRL's."""


def _settings(updates: int) -> dict[str, dict[str, Any]]:
    """Settings of each method for runs of this many updates."""
    shared = {
        "discount": 0.99, "batch_size": 128, "learning_rate": 2.5e-4, "exploration_start": 1.0, "exploration_end": 0.05,
        "exploration_updates": updates // 2, "steps_per_update": 10, "random_steps": 10_000, "replay_size": 10_000,
        "target_every": 50, "hidden": (120, 84),
    }  # fmt: skip
    plain = {"double": False, "duelling": False, "error_clip": None, "max_grad_norm": None}
    return {
        PLAIN: {**shared, **plain},
        DOUBLE: {**shared, **plain, "double": True, "duelling": True},
        SB3: {**shared, "max_grad_norm": 1e6},
    }


def _of_breakout(updates: int) -> dict[str, dict[str, Any]]:
    shared = {
        "encoder": "grid:pool=none", "hidden": (128,), "batch_size": 32, "learning_rate": 2.5e-4, "exploration_updates": updates // 5,
        "exploration_end": 0.1, "steps_per_update": 4, "random_steps": 5_000, "replay_size": 100_000, "target_every": 250,
    }  # fmt: skip
    return {
        PLAIN: {**shared, "double": False, "duelling": False},
        DOUBLE: shared,
    }


def _grids(pole: int, breakout: int) -> tuple[Grid, ...]:
    """Grids of runs with these numbers of updates."""
    learners = {PLAIN: "dqn", DOUBLE: "dqn", SB3: "sb3-dqn"}
    grids = []
    for task, updates, settings in (
        (POLE, pole, _settings(pole)),
        (BREAKOUT, breakout, _of_breakout(breakout)),
    ):
        run = {
            "updates": updates,
            "eval_every": updates // 5,
            "eval_episodes": 20,
            "compile": "off",
        }
        methods = tuple(Method(name, learners[name], given) for name, given in settings.items())
        grids.append(Grid(methods, (task,), seeds=3, run=run))
    return tuple(grids)


def _like_the_others(results: Results) -> Verdict:
    found = {name: results.means(name, POLE, "return") for name in (PLAIN, SB3)}
    shown = "; ".join(f"{name} {by_seed(returns)}" for name, returns in found.items())
    return Verdict(
        bool(found[PLAIN].mean() >= NEAR),
        f"{shown}; CleanRL's {CLEANRL[0]} ± {CLEANRL[1]}, of training episodes",
    )


def _extensions(results: Results) -> Verdict:
    parts = []
    for task in (POLE, BREAKOUT):
        shown = (
            f"{name} {by_seed(results.means(name, task, 'return'))}" for name in (PLAIN, DOUBLE)
        )
        parts.append(f"{task}: {', '.join(shown)}")
    return Verdict(None, "; ".join(parts))


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(49_000, 40_000),
    "full": _grids(49_000, 1_250_000),
}

PAPER = Paper(
    name="dqn",
    title="Human-level control through deep reinforcement learning",
    reference="Mnih et al., 2015, https://www.nature.com/articles/nature14236",
    method=PLAIN,
    grids=SCALES,
    minutes={"small": 40, "full": 300},
    claims=(
        Claim(
            "N1", "The same settings give the same returns as in other libraries",
            f"return of the last evaluation on CartPole after 500,000 steps, mean of 3 seeds: at least {NEAR:.0f}",
            _like_the_others,
        ),
        Claim(
            "N2", "Double Q-learning and duelling networks improve DQN",
            "none: only reported, because two small tasks do not decide it", _extensions,
        ),
    ),
    notes="Return of 20 episodes with the greedy policy after the last update. CartPole: 500,000 environment steps, of which 10,000 are random; the best "
    "return is 500. MinAtar's Breakout: 165,000 steps.",
)  # fmt: skip
