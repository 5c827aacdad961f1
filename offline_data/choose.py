"""Choose a behaviour policy from the snapshots of a SAC run, by what it really scores.

    rlbench run sac --env HalfCheetah-v4 --snapshot-every 10000 --out RUN ...
    python -m rlbench.offline_data.choose RUN halfcheetah-medium --high 45
    python -m rlbench.offline_data.choose RUN halfcheetah-expert --after 800000

Snapshots play 50 episodes with sampled actions, in order of age, until one scores above the upper
bound. The best of those below it is taken.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from rlbench import checkpoint
from rlbench.agents.sac import SAC, SACConfig
from rlbench.envs import data_names
from rlbench.envs.episodes import make_vector, play
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.interface import Spec
from rlbench.offline_data.cards import POLICIES, Card
from rlbench.seeding import derive

EPISODES = 50
"""Enough for HalfCheetah's mean to be known within 1 %."""


def choose(run: Path, name: str, high: float, after: int, out: Path = POLICIES) -> Card:
    """Measures the snapshots of a run and ships one of them.

    Args:
        run: Folder of a SAC run with snapshots.
        name: Data set that the policy shall record, such as halfcheetah-medium.
        high: Highest D4RL score that will do.
        after: Updates of the first snapshot to look at.
        out: Folder to write weights and card to.

    Raises:
        UserError: `run` is no SAC run, or has no snapshot that scores below `high`.
    """
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        settings = config["agent"]["settings"]
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{run} is not the folder of a SAC run; make one with `rlbench run sac --out {run}`"
        ) from None
    best: tuple[dict[str, Any], Card] | None = None
    for snapshot in sorted((run / "snapshots").glob("*.json")):
        updates = int(snapshot.stem.rpartition("-")[2])
        if updates < after:
            continue
        policy = checkpoint.load(snapshot.with_suffix(""))["agent"]["policy"]
        card = _measure(name, policy, settings, config, updates)
        print(f"{snapshot.stem}: score {card.score:.1f}", flush=True)
        if card.score > high:
            break
        if best is None or card.score > best[1].score:
            best = policy, card
    if best is None:
        raise UserError(
            f"no snapshot in {run} scores at most {high}; give an earlier part of a run"
        )
    policy, card = best
    weights = {key: value.contiguous() for key, value in policy.items()}
    write_atomically(out / f"{name}.safetensors", save(weights))
    text = json.dumps(asdict(card), indent=1) + "\n"
    write_atomically(out / f"{name}.json", text.encode())
    return card


def _measure(
    name: str,
    policy: dict[str, Any],
    settings: dict[str, Any],
    config: dict[str, Any],
    updates: int,
) -> Card:
    """Plays the policy with sampled actions and with its mode."""
    task = find_task(name)
    spec = Spec.of(task.make())
    agent = SAC(SACConfig(hidden=tuple(settings["hidden"])), spec, seed=derive(0, "choose"))
    agent.policy.load_state_dict(policy)
    env = make_vector(task.make, EPISODES)
    seeds = [derive(0, "choose", i) for i in range(EPISODES)]
    measured = {}
    for kind in ("stochastic", "deterministic"):
        returns = play(
            env,
            seeds,
            lambda obs, episode, step, explore=kind == "stochastic": agent.act(
                torch.as_tensor(obs, dtype=torch.float32), explore=explore
            ).action.numpy(),
        )
        measured[kind] = {"mean": float(returns.mean()), "std": float(np.std(returns))}
    score = task.score(measured["stochastic"]["mean"])
    assert score is not None
    assert task.data is not None
    return Card(
        environment=data_names.environment(task.data),
        agent="sac",
        settings=settings,
        seed=config["run"]["seed"],
        updates=updates,
        episodes=EPISODES,
        score=score,
        versions=config["versions"],
        command=command_of(config),
        **measured,
    )


def command_of(config: dict[str, Any]) -> str:
    """The command line that makes a run again, from its config.json."""
    words = ["rlbench run", config["agent"]["name"]]
    changed = {**config["run"], **_changed(config["agent"]["settings"])}
    for key in ("env", "updates", "seed", "snapshot_every", *_changed(config["agent"]["settings"])):
        value = changed[key]
        shown = " ".join(map(str, value)) if isinstance(value, list) else value
        words.append(f"--{key.replace('_', '-')} {shown}")
    return " ".join(words)


def _changed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are not the agent's defaults."""
    defaults = json.loads(json.dumps(asdict(SACConfig())))
    return {key: value for key, value in settings.items() if value != defaults[key]}


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Choose a behaviour policy from a SAC run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="data set, such as halfcheetah-medium")
    parser.add_argument("--high", type=float, default=math.inf, help="highest D4RL score")
    parser.add_argument("--after", type=int, default=0, help="updates of the first to look at")
    asked = parser.parse_args()
    try:
        card = choose(asked.run, asked.name, asked.high, asked.after)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(f"{asked.name}: update {card.updates}, score {card.score:.1f}")


if __name__ == "__main__":
    main()
