"""Make the trained policies of a multi-agent game from runs in which all its agents learned together.

    rlbench run a2c --env shared:coin --seed 0 --out RUN0 ...
    rlbench run a2c --env shared:coin --seed 1 --out RUN1 ...
    python -m rlbench.offline_data.recording.social_policies RUN0 RUN1

The policies of a game are stored as one file of weights and one card, which has the commands and the returns of each policy
among copies of itself, of the pool, and of random and scripted agents. The normalisation of observations becomes part of the
first layer.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from rlbench import checkpoint
from rlbench.agents import load_agent
from rlbench.agents.ppo import PPO
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.names import GAMES, STAG
from rlbench.envs.social.scripted import TEAMS, Policy, Scripted
from rlbench.envs.social.trained import POLICIES, Layers, Trained, logits
from rlbench.envs.social.views import vectors
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.files import without_hash, write_atomically
from rlbench.interface import Spec
from rlbench.offline_data.recording.select_policies import command_of

Array = NDArray[Any]

EPISODES = 500
"""Episodes in which each policy and the pool are measured."""
FIRST_SEED = 10_000_000
"""Seed of the first of these episodes; far from the seeds that users give."""
TOLERANCE = 1e-4
"""Largest allowed difference between the logits of the layers and of the agent."""


def make(runs: list[Path], note: str = "", out: Path = POLICIES) -> dict[str, Any]:
    """Writes the policies in the last checkpoints of runs, and their card; returns the card.

    Args:
        runs: Folders of runs of ppo or a2c on `shared:GAME`, all on the same game.
        note: What a user of the policies should know.
        out: Folder to write to.

    Raises:
        UserError: A run is of another kind, or its policy cannot be written as tanh layers.
    """
    configs = [_config(run) for run in runs]
    name = configs[0]["run"]["env"].removeprefix("shared:")
    if any(config["run"]["env"] != f"shared:{name}" for config in configs) or name not in GAMES:
        raise UserError(
            f"the runs are on {', '.join(x['run']['env'] for x in configs)}; expected one game of several "
            "agents, as in `rlbench run a2c --env shared:coin`"
        )
    pool = [_layers(run, config, name) for run, config in zip(runs, configs, strict=True)]
    tensors = {
        f"{number}/{place}/{part}": np.ascontiguousarray(x, np.float32)
        for number, layers in enumerate(pool)
        for place, pair in enumerate(layers)
        for part, x in zip(("weight", "bias"), pair, strict=True)
    }
    write_atomically(out / f"{name}.safetensors", save(tensors))
    policies = []
    for number, config in enumerate(configs):
        settings, updates = config["learner"]["settings"], config["run"]["updates"]
        policies.append({
            "command": command_of(config), "seed": config["run"]["seed"], "updates": updates,
            "environment_steps": updates * settings["envs"] * settings["rollout_steps"],
            **measured(name, Trained(name, [[number]] * GAMES[name].agents, out)),
        })  # fmt: skip
    scripted = ("random", TEAMS[GAMES[name].kind])
    card = {
        "game": name, "note": note, "episodes": EPISODES, "policies": policies,
        "pool": measured(name, Trained(name, folder=out)),
        "scripted": {other: measured(name, Scripted(other)) for other in scripted},
        "versions": configs[0]["versions"],
    }  # fmt: skip
    write_atomically(out / f"{name}.json", (json.dumps(card, indent=1) + "\n").encode())
    return card


def measured(name: str, policy: Policy) -> dict[str, float]:
    """Mean and deviation of the return of an agent, and in Stag Hunt the numbers of stags and apples taken, per episode."""
    game = GridGame(name, EPISODES, FIRST_SEED)
    running, paid = np.ones(EPISODES, bool), np.zeros(EPISODES)
    taken = np.zeros(2)
    while running.any():
        reward, terminated, truncated = game.step(policy(game))
        paid += reward.mean(1) * running
        if game.game.kind == STAG:
            taken += [
                (game.taken * running[:, None])[:, game.types == kind].sum() for kind in (0, 1)
            ]
        running &= ~(terminated | truncated)
    found = {"return_mean": float(paid.mean()), "return_std": float(paid.std())}
    if game.game.kind == STAG:
        found |= dict(zip(("stags", "apples"), (taken / EPISODES).tolist(), strict=True))
    return {key: round(x, 3) for key, x in found.items()}


def _config(run: Path) -> dict[str, Any]:
    """The config.json of a run of an agent with a tanh network for vectors."""
    try:
        config = without_hash(json.loads((run / "config.json").read_bytes()))
        agent, settings = load_agent(config["learner"]["name"]), config["learner"]["settings"]
        if issubclass(agent, PPO) and settings["encoder"] is None:
            return config
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{run} is not the folder of a run of a2c or ppo without an encoder; make one with "
        f"`rlbench run a2c --env shared:coin --out {run}`"
    )


def _layers(run: Path, config: dict[str, Any], name: str) -> Layers:
    """The policy of the last checkpoint of a run.

    Raises:
        UserError: The run is not complete, or the logits of the layers differ from the agent's.
    """
    saved = [checkpoint.load(path) for path in checkpoint.all_in(run / "checkpoint")[-1:]]
    if not saved or saved[0]["update"] != config["run"]["updates"]:
        raise UserError(f"{run} is not complete; finish it with `rlbench run --resume {run}`")
    kind = load_agent(config["learner"]["name"])
    settings = {
        k: tuple(v) if isinstance(v, list) else v for k, v in config["learner"]["settings"].items()
    }
    task = find_task(name).make()
    agent: Any = kind(kind.Config(**settings), Spec.of(task))
    state = saved[0]["learner"]["agent_0"]
    for part in ("network", "normaliser"):
        getattr(agent, part).load_state_dict(state[part])
    linear = [*agent.network.policy_body.layers, agent.network.head.out]
    layers = [(x.weight.detach().numpy().T, x.bias.detach().numpy()) for x in linear]
    moments, size = agent.normaliser.moments, layers[0][0].shape[0]
    mean, std = (x.expand(size) for x in (moments.mean, (moments.variance + 1e-8).sqrt()))
    scale = agent.normaliser(mean + std) / std
    weight, bias = layers[0]
    layers[0] = scale[:, None].numpy() * weight, bias - (mean * scale).numpy() @ weight
    game = GridGame(name, EPISODES)
    seen = vectors(game, range(game.agents)).reshape(-1, size)
    with torch.no_grad():
        expected = agent.network.policy(agent.normaliser(torch.from_numpy(seen))).numpy()
    if not np.allclose(logits(layers, seen), expected, atol=TOLERANCE):
        raise UserError(
            f"the policy of {run} clips its normalised observations, which linear layers cannot represent; train it "
            "with --no-normalise-obs"
        )
    return layers


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Make the trained policies of a game.")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--note", default="", help="what a user of the policies should know")
    parser.add_argument("--out", type=Path, default=POLICIES, help="folder to write to")
    asked = parser.parse_args()
    try:
        card = make(asked.runs, asked.note, asked.out)
        others = {"pool": card["pool"], **card["scripted"]}
        for seed, found in [*((x["seed"], x) for x in card["policies"]), *others.items()]:
            print(seed, {key: x for key, x in found.items() if key != "command"})
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
