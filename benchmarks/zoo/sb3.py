"""Converts model files of Stable-Baselines3 to finished runs of the agents `sb3-...`, which use the networks of the library.

Only the weights are kept: a new run with `--pretrained` starts with new optimisers and SAC's initial temperature.
"""

import re
from pathlib import Path
from typing import Any

from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.runner import Run
from rlbench.benchmarks.zoo.finished import evaluate, write
from rlbench.files import file_hash, new_folder_atomically
from rlbench.offline_data.recording.sb3_policy import (
    ON_POLICY,
    SB3Policy,
    activation_of,
    family_of,
    layers_of,
    read_model,
    refusal,
)


def convert(model: Path, env: str, episodes: int, out: Path | None = None) -> Run:
    """Converts a model file to a finished run.

    Args:
        model: A file that `model.save` wrote; see `SB3Policy` for the supported models.
        env: Task on which the model was trained.
        episodes: Number of episodes of the evaluation.
        out: Folder of the run; by default a new one in runs/.

    Returns:
        The run, which is complete.

    Raises:
        UserError: The file cannot be used, it does not fit the task, or the folder exists.
    """
    weights, about = read_model(model)
    family = family_of(model, weights, about)
    settings: dict[str, Any] = {
        "hidden": tuple(len(bias) for _, bias in layers_of(weights, family)[:-1]),
        "activation": activation_of(model, family, about),
    }
    name = f"sb3-{family.algorithm.lower()}"
    if family.algorithm == ON_POLICY:
        if "cg_max_steps" in about:  # Steps of the conjugate gradient method.
            raise refusal(model, "it is a TRPO model")
        name = "sb3-ppo" if "clip_range" in about else "sb3-a2c"
    elif family.algorithm == "TD3":
        settings["critics"] = len(
            {x[1] for key in weights if (x := re.match(r"critic\.qf(\d+)\.", key))}
        )
    counted = about.get("_n_updates")
    updates = max(counted, 1) if isinstance(counted, int) else 1
    config = RunConfig(
        env=env, data="none", updates=updates, eval_every=0, eval_episodes=episodes, out=out
    )
    kind = load_learner(name)
    run = Run(name, kind.Config(**kind.preset(env, updates) | settings), config)
    # Raises an error if the model does not fit the task.
    SB3Policy(model, run.world.observation_space, run.world.action_space)
    agent = run.learner
    try:
        agent.policy.load_state_dict(weights)
    except RuntimeError:
        raise refusal(
            model,
            "its critics or its value network have other layers than its policy, or it is a SAC model with a number of critics other than two",
        ) from None
    origin = {
        "file": model.name,
        "sha256": file_hash(model),
        "env_steps": about.get("num_timesteps"),
    }
    with new_folder_atomically(run.folder.path) as part:
        columns = evaluate(agent, run.task, episodes, config.seed)
        write(part, {**run.description(), "imported": origin}, updates, agent, columns)
    return run
