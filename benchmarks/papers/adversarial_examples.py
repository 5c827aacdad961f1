"""Adversarial examples: Szegedy et al., 2014 (tables 1 and 2), on handwritten digits, and on the observations of agents.

A convolutional network is attacked by L-BFGS, FGSM and PGD, and another network with other initial weights is tested on the same examples. PPO on CartPole sees
observations that are attacked at every step; PPO with another seed and DQN see observations with the changes that were found with the first network.
"""

from typing import Any

import numpy as np

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.tables import statistics
from rlbench.benchmarks.tables.paper import AnalysisGrid, Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results
from rlbench.benchmarks.training.analysing import Analysed

DIGITS, POLE = "digits", "CartPole-v1"
CNN, PPO, DQN = "CNN", "PPO", "DQN"
ANALYSIS = "adversarial"
OTHER = "run 2: "
BUDGETS = (0.05, 0.1, 0.2)
"""For images, whose values are from 0 to 1."""
TITLES = {"pgd": "PGD", "fgsm": "FGSM", "noise": "noise"}
DEVIATIONS = (0.5, 1.0, 1.5, 2.0)
"""For the observations of CartPole, in standard deviations."""
OF_PPO: dict[str, Any] = {"envs": 8, "rollout_steps": 128, "batch_size": 64, "learning_rate": 1e-3}
OF_DQN: dict[str, Any] = {
    "steps_per_update": 4, "batch_size": 64, "learning_rate": 1e-3, "random_steps": 1_000, "target_every": 100, "hidden": (64, 64),
}  # fmt: skip


def _grids(images: int, ppo: int, dqn: int) -> tuple[Grid, ...]:
    """Grids of runs with these numbers of updates."""
    cnn = Method(CNN, "classifier", {"encoder": "conv4:layers=2,width=16,norm=gn"})
    usual = {"eval_every": 0, "eval_episodes": 20, "log_every": 50}
    return tuple(
        Grid((method,), (task,), seeds=3, run={**usual, "updates": updates, "checkpoint_every": updates // 2})
        for method, task, updates in (
            (cnn, DIGITS, images),
            (Method(PPO, "ppo", OF_PPO), POLE, ppo),
            (Method(DQN, "dqn", {**OF_DQN, "exploration_updates": dqn // 2}), POLE, dqn),
        )
    )  # fmt: skip


def _analyses(examples: int, nearest: int, steps: int, episodes: int) -> tuple[AnalysisGrid, ...]:
    images = {"budgets": BUDGETS, "examples": examples, "lbfgs_examples": nearest}
    agents = {"budgets": DEVIATIONS, "steps": steps, "episodes": episodes}
    return (
        AnalysisGrid(ANALYSIS, (CNN,), (DIGITS,), 3, images, neighbours=(CNN,)),
        AnalysisGrid(ANALYSIS, (PPO, DQN), (POLE,), 3, agents, neighbours=(PPO,)),
    )


def _percent(found: list[Analysed], name: str) -> tuple[float, str]:
    """Mean in % of a number over seeds, and a text with each."""
    each = [100 * x.numbers[name] for x in found]
    return float(np.mean(each)), by_seed(each)


def _any_class(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, CNN, DIGITS)
    clean, of_clean = _percent(found, "accuracy")
    success, of_success = _percent(found, "L-BFGS: success")
    noise, of_noise = _percent(found, "noise of its norm: error")
    distortions = [x.numbers["L-BFGS: distortion"] for x in found]
    holds = clean >= 97 and success >= 95 and np.mean(distortions) <= 0.25 and noise <= 10
    return Verdict(
        bool(holds),
        f"by seed: success of L-BFGS: {of_success} %; distortion: {'/'.join(f'{x:.3f}' for x in distortions)}; error under noise of the same norm: {of_noise} %; "
        f"accuracy without changes: {of_clean} %",
    )


def _transfers(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, CNN, DIGITS)
    attack, of_attack = _percent(found, f"{OTHER}L-BFGS: error")
    noise, of_noise = _percent(found, f"{OTHER}noise of its norm: error")
    shown = []
    for budget in BUDGETS:
        errors = (
            by_seed(100 - 100 * x.numbers[f"{OTHER}accuracy under {name} at {budget:g}"] for x in found)
            for name in ("pgd", "noise")
        )  # fmt: skip
        shown.append(f"{' and '.join(errors)} with a budget of {budget:g}")
    return Verdict(
        bool(attack >= 3 * noise),
        f"error of the other network in %, by seed: {of_attack} under L-BFGS, {of_noise} under noise of the same norm; under PGD and under noise: {'; '.join(shown)}",
    )


def _stronger(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, CNN, DIGITS)
    accuracy = {
        name: np.array([[x.numbers[f"accuracy under {name} at {b:g}"] for b in BUDGETS] for x in found])
        for name in TITLES
    }  # fmt: skip
    pgd = accuracy["pgd"]
    holds = (pgd <= accuracy["fgsm"]).all() and (np.diff(pgd, axis=1) <= 0).all()
    shown = "; ".join(
        f"{budget:g}: " + ", ".join(f"{by_seed(100 * x[:, i])} under {TITLES[name]}" for name, x in accuracy.items())
        for i, budget in enumerate(BUDGETS)
    )  # fmt: skip
    return Verdict(bool(holds), f"accuracy in % by budget and seed: {shown}")


def shares(found: list[Analysed], budget: float, prefix: str = "") -> dict[str, np.ndarray]:
    """Return under each attack as a share of the return without one, [R seeds] each."""
    clean = np.array([x.numbers[f"{prefix}return"] for x in found])
    return {
        name: np.array([x.numbers[f"{prefix}return under {name} at {budget:g}"] for x in found]) / clean
        for name in TITLES
    }  # fmt: skip


def attacked_returns(found: list[Analysed], budgets: tuple[float, ...], prefix: str = "") -> str:
    """Mean returns by budget with 95 % intervals over seeds, in words."""

    def mean(name: str) -> str:
        each = np.array([x.numbers[f"{prefix}{name}"] for x in found])[:, None]
        interval = statistics.bootstrap_interval(statistics.mean, each, seed=0)
        return f"{interval.point:.2f} [{interval.low:.2f}, {interval.high:.2f}]"

    rows = [
        f"{budget:g}: " + ", ".join(f"{mean(f'return under {name} at {budget:g}')} under {title}" for name, title in TITLES.items())
        for budget in budgets
    ]  # fmt: skip
    return f"{mean('return')} without changes; {'; '.join(rows)}"


def _blind_agents(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, PPO, POLE)
    by_budget = [shares(found, budget) for budget in DEVIATIONS]
    special = [(x["pgd"] <= 0.5) & (x["noise"] >= 0.8) for x in by_budget]
    return Verdict(
        bool(np.any(special, axis=0).all()),
        f"return by budget, mean and 95 % interval of the seeds: {attacked_returns(found, DEVIATIONS)}",
    )


def _between_agents(results: Results) -> Verdict:
    found = results.analysed(ANALYSIS, PPO, POLE)
    return Verdict(
        None,
        "; ".join(
            f"{title}: {attacked_returns(found, DEVIATIONS, prefix)}"
            for title, prefix in ((DQN, OTHER), ("PPO with another seed", "run 3: "))
        ),
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(400, 60, 6_000), "full": _grids(4_000, 500, 100_000),
}  # fmt: skip

PAPER = Paper(
    name="adversarial-examples",
    title="Intriguing properties of neural networks",
    reference="Szegedy et al., 2014, https://arxiv.org/abs/1312.6199; FGSM: Goodfellow et al., 2015, https://arxiv.org/abs/1412.6572; PGD: Madry et al., 2018, "
    "https://arxiv.org/abs/1706.06083",
    method=CNN,
    grids=SCALES,
    minutes={"small": 25, "full": 400},
    analyses={"small": _analyses(200, 40, 10, 20), "full": _analyses(360, 360, 20, 100)},
    claims=(
        Claim(
            "A1", "Small changes make a network give any answer, and noise of the same size does not",
            "digits, mean of 3 seeds, accuracy at least 97 %: L-BFGS reaches random classes for at least 95 % of the examples with a mean distortion of at most "
            "0.25; error under noise of the same norm at most 10 %",
            _any_class,
        ),
        Claim(
            "A2", "The same changes deceive networks that were trained separately",
            "digits, mean of 3 seeds: error of a network with other initial weights on examples of L-BFGS at least 3 times its error under noise of the same norm",
            _transfers,
        ),
        Claim(
            "A3", "PGD is at least as strong as FGSM, and stronger with a larger budget",
            "digits, every seed: accuracy under PGD at most that under FGSM at each budget, and not larger at a larger budget", _stronger,
        ),
        Claim(
            "A4", "Small changes to all observations make an agent fail, and noise of the same size does not",
            "PPO on CartPole, 20 episodes, every seed: a budget at which the return under PGD is at most 50 % of the return without changes, and at least 80 % under "
            "noise", _blind_agents,
        ),
        Claim(
            "A5", "Changes to observations transfer to agents that were trained separately, and by another algorithm",
            "none: returns of DQN and of PPO with another seed under changes found with PPO are only reported", _between_agents,
        ),
    ),
    notes="Accuracy on test images, and mean return of 20 episodes. Budgets limit the largest change of a value. Values of images are from 0 to 1; "
    "changes to CartPole's observations are in standard deviations of each value in the agent's own episodes.",
)  # fmt: skip
