"""Choose behaviour policies from the snapshots of a SAC run by their measured scores.

    rlbench run sac --env HalfCheetah-v4 --snapshot-every 10000 --out RUN ...
    python -m rlbench.offline_data.recording.select_policies RUN halfcheetah-medium --high 45
    python -m rlbench.offline_data.recording.select_policies RUN halfcheetah-expert --after 800000
    python -m rlbench.offline_data.recording.select_policies RUN halfcheetah-medium-replay

Snapshots are evaluated on 50 episodes with sampled actions, in order of age, until one scores above the
upper bound. The best one below the bound is chosen.

Replay data are recorded by a ladder: at most 20 snapshots, evenly spaced from the first to the one
chosen for the medium data. If that policy came from another run, the ladder ends with the first
snapshot that scores at least as high.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from rlbench import checkpoint
from rlbench.agents import load_agent
from rlbench.agents.sac import SAC, SACConfig
from rlbench.envs import data_names
from rlbench.envs.episodes import make_envs, play
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import without_hash, write_atomically
from rlbench.interface import Spec
from rlbench.offline_data.recording import policy_cards as cards
from rlbench.offline_data.recording.policy_cards import POLICIES, Card, Ladder, Rung
from rlbench.seeding import derive

EPISODES = 50
"""Enough for HalfCheetah's mean to be known within 1 %."""
RUNG_EPISODES = 10
"""Fewer, because rungs are not chosen by their score."""
RUNGS = 20
"""Length of a ladder: enough for small steps between the rungs."""


def choose(run: Path, name: str, high: float, after: int, out: Path = POLICIES) -> Card:
    """Evaluates the snapshots of a run and stores one of them as a shipped policy.

    Args:
        run: Folder of a SAC run with snapshots.
        name: Data set that the policy will record, such as halfcheetah-medium.
        high: Highest D4RL score allowed.
        after: Updates of the first snapshot to evaluate.
        out: Folder to write weights and card to.

    Raises:
        UserError: `run` is no SAC run, or has no snapshot that scores below `high`.
    """
    config = _config(run)
    best: tuple[dict[str, Any], Card] | None = None
    for updates in _snapshots(run):
        if updates < after:
            continue
        policy = _policy(run, updates)
        card = _measure(name, policy, config, updates)
        print(f"update {updates:,}: score {card.score:.1f}", flush=True)
        if card.score > high:
            break
        if best is None or card.score > best[1].score:
            best = policy, card
    if best is None:
        raise UserError(
            f"no snapshot in {run} scores at most {high}; give an earlier part of a run"
        )
    policy, card = best
    _write(out, name, policy, card)
    return card


def choose_ladder(run: Path, name: str, out: Path = POLICIES) -> Ladder:
    """Stores snapshots of a run as the shipped policies for replay data.

    Args:
        run: Folder of a SAC run with snapshots.
        name: Data set that they will record, such as halfcheetah-medium-replay.
        out: Folder to write weights and card to; it holds the policy of the medium data.

    Raises:
        UserError: `run` is no SAC run or ends before the medium policy, or there is none.
    """
    config, updates = _config(run), _snapshots(run)
    medium = name.removesuffix("-replay")
    file = out / f"{medium}.safetensors"
    if not file.is_file():
        raise UserError(
            f"{name} ends with the policy of {medium}, and there is none in {out}; choose it first"
        )
    last = cards.card(file)
    assert isinstance(last, Card)
    own = last.updates in updates and _equal(_policy(run, last.updates), load_file(file))
    rungs: list[Rung] = []
    for update in updates:
        rungs.append(_rung(name, _policy(run, update), config, update))
        print(f"update {update:,}: score {rungs[-1].score:.1f}", flush=True)
        if update == last.updates if own else rungs[-1].score >= last.score:
            break
    else:
        raise UserError(
            f"{run} ends before {medium}: none of its {len(updates)} snapshots is that policy or "
            f"reaches its score of {last.score:.1f}; give the run of that policy or train longer"
        )
    kept = np.linspace(0, len(rungs) - 1, min(len(rungs), RUNGS)).round().astype(int)
    rungs = [rungs[i] for i in kept]
    weights = {
        f"{rung.updates}/{key}": value
        for rung in rungs
        for key, value in _policy(run, rung.updates).items()
    }
    ladder = Ladder(rungs=tuple(rungs), episodes=RUNG_EPISODES, **_training(name, config))
    _write(out, name, weights, ladder)
    return ladder


def _config(run: Path) -> dict[str, Any]:
    """The config.json of a SAC run."""
    try:
        config = without_hash(json.loads((run / "config.json").read_bytes()))
        config.setdefault("learner", config.get("agent"))  # The name of the entry in older runs.
        if config["learner"]["name"] == "sac":
            return config
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{run} is not the folder of a SAC run; make one with `rlbench run sac --out {run}`"
    )


def _snapshots(run: Path) -> list[int]:
    """Updates of the snapshots of a run, in order of age."""
    return sorted(int(x.stem.rpartition("-")[2]) for x in (run / "snapshots").glob("*.json"))


def _policy(run: Path, updates: int) -> dict[str, Tensor]:
    snapshot = checkpoint.load(run / "snapshots" / f"update-{updates:09}")
    policy: dict[str, Tensor] = (snapshot.get("learner") or snapshot["agent"])["policy"]
    return policy


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two policies have the same weights, which shows that they are from the same run."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _write(out: Path, name: str, weights: dict[str, Tensor], card: Card | Ladder) -> None:
    """Writes weights and card."""
    whole = {key: value.contiguous() for key, value in weights.items()}
    write_atomically(out / f"{name}.safetensors", save(whole))
    text = json.dumps(asdict(card), indent=1) + "\n"
    write_atomically(out / f"{name}.json", text.encode())


def _measure(name: str, policy: dict[str, Tensor], config: dict[str, Any], updates: int) -> Card:
    """Evaluates the policy with sampled actions and with its mode."""
    sampled, mode = (_play(name, policy, config, EPISODES, explore=x) for x in (True, False))
    return Card(
        updates=updates,
        episodes=EPISODES,
        score=_score(name, sampled),
        stochastic=_spread(sampled),
        deterministic=_spread(mode),
        **_training(name, config),
    )


def _rung(name: str, policy: dict[str, Tensor], config: dict[str, Any], updates: int) -> Rung:
    """Evaluates the policy with sampled actions."""
    returns = _play(name, policy, config, RUNG_EPISODES, explore=True)
    mean, std = round(float(returns.mean()), 1), round(float(returns.std()), 1)
    return Rung(updates, mean, std, round(_score(name, returns), 2))


def _play(
    name: str, policy: dict[str, Tensor], config: dict[str, Any], episodes: int, *, explore: bool
) -> NDArray[np.float64]:
    """Return of each episode, [E]."""
    task = find_task(name)
    hidden = tuple(config["learner"]["settings"]["hidden"])
    agent = SAC(SACConfig(hidden=hidden), Spec.of(task.make()), seed=derive(0, "choose"))
    try:
        agent.policy.load_state_dict(policy)
    except RuntimeError:
        raise UserError(
            f"the policy was trained on {config['run']['env']}, whose observations or actions have "
            f"other sizes than those of {name}; train on the environment of {name}"
        ) from None
    seeds = [derive(0, "choose", i) for i in range(episodes)]

    def act(obs: NDArray[Any], episode: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
        return agent.act(torch.as_tensor(obs, dtype=torch.float32), explore=explore).action.numpy()

    return play(make_envs(task.make, episodes), seeds, act)


def _spread(returns: NDArray[np.float64]) -> dict[str, float]:
    return {"mean": float(returns.mean()), "std": float(returns.std())}


def _score(name: str, returns: NDArray[np.float64]) -> float:
    score = find_task(name).score(float(returns.mean()))
    assert score is not None
    return score


def _training(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The part of the cards that all policies of a run share."""
    task = find_task(name)
    assert task.data is not None
    return {
        "environment": data_names.environment(task.data),
        "agent": "sac",
        "settings": config["learner"]["settings"],
        "seed": config["run"]["seed"],
        "versions": config["versions"],
        "command": command_of(config),
    }


def command_of(config: dict[str, Any]) -> str:
    """The command line that reproduces a run, from its config.json."""
    learner, run = config["learner"], config["run"]
    words = ["rlbench run", learner["name"]]
    keys = ["env", "data", "updates", "seed", "snapshot_every"]
    usual = {"data": "auto", "snapshot_every": 0}
    options = {key: run[key] for key in keys if run[key] != usual.get(key)} | _changed(learner)
    for key, value in options.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{flag} {shown}")
    return " ".join(words)


def _changed(learner: dict[str, Any]) -> dict[str, Any]:
    """Settings that differ from the agent's defaults."""
    defaults = json.loads(json.dumps(asdict(load_agent(learner["name"]).Config())))
    return {key: value for key, value in learner["settings"].items() if value != defaults[key]}


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Choose a behaviour policy from a SAC run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="data set, such as halfcheetah-medium")
    parser.add_argument("--high", type=float, default=math.inf, help="highest D4RL score")
    parser.add_argument(
        "--after", type=int, default=0, help="updates of the first snapshot to evaluate"
    )
    parser.add_argument("--out", type=Path, default=POLICIES, help="folder to write to")
    asked = parser.parse_args()
    try:
        if asked.name.endswith("-replay"):
            rungs = choose_ladder(asked.run, asked.name, asked.out).rungs
            print(f"{asked.name}: {len(rungs)} rungs, the last of update {rungs[-1].updates:,}")
        else:
            card = choose(asked.run, asked.name, asked.high, asked.after, asked.out)
            print(f"{asked.name}: update {card.updates:,}, score {card.score:.1f}")
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
