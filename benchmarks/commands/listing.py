"""Lists of everything that can be run, for the command line; importing it loads neither PyTorch nor NumPy."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rlbench.agents import AGENTS, META_LEARNERS, RULES
from rlbench.backbones.analyses import ANALYSES
from rlbench.backbones.encoders import ENCODERS
from rlbench.backbones.memories import MEMORIES
from rlbench.backbones.models import MODELS
from rlbench.benchmarks.loggers import LOGGERS
from rlbench.benchmarks.papers import PAPERS
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.settings_file import settings_for
from rlbench.envs import data_names
from rlbench.envs.architectures import names as search_names
from rlbench.envs.atari import names as atari_names
from rlbench.envs.d4rl import names as d4rl_names
from rlbench.envs.examples import SHOWN
from rlbench.envs.grids import names as grid_names
from rlbench.envs.multiroom import names as multiroom_names
from rlbench.envs.poses import names as pose_names
from rlbench.envs.procgen import names as procgen_names
from rlbench.envs.recall import names as recall_names
from rlbench.envs.social import names as social_names
from rlbench.envs.tasks import registered_names
from rlbench.envs.teams import make as team_names
from rlbench.errors import UserError

LEARNERS = {**AGENTS, **META_LEARNERS, **MODELS}


def lines(names: Mapping[str, str]) -> str:
    """One line per name, with its description."""
    width = max(map(len, names))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in names.items())


def with_tasks(learners: Mapping[str, str]) -> dict[str, str]:
    """Descriptions of learners, with an example of a task for those that need one of a certain kind."""
    return {
        name: f"{text}; try --env {EXAMPLES[name]}" if name in EXAMPLES else text
        for name, text in learners.items()
    }


def learners_in_words() -> str:
    """The names of agents and models, separated by bars."""
    return "|".join(LEARNERS)


def everything() -> str:
    """Agents, models and tasks."""
    families = "\n".join(
        f"  {family}-{{{','.join(d4rl_names.LEVELS)}}}" for family in d4rl_names.ENVIRONMENTS
    )
    own = "\n".join(
        f"  {family}-{{{','.join(levels)}}}" for family, levels in data_names.OWN_LEVELS.items()
    )
    rooms = "\n".join(f"  {line}" for line in multiroom_names.lines())
    recall = "\n".join(f"  {line}" for line in recall_names.lines())
    grids = "\n".join(f"  {line}" for line in grid_names.lines())
    social = "\n".join(f"  {line}" for line in social_names.lines())
    teams = "\n".join(f"  {line}" for line in team_names.lines())
    games = "\n".join(f"  {line}" for line in procgen_names.lines())
    atari = "\n".join(f"  {line}" for line in atari_names.lines())
    searches = "\n".join(f"  {line}" for line in search_names.lines())
    others = "".join(f"\n  {name}" for name in registered_names())
    return (
        f"Agents\n{lines(with_tasks(AGENTS))}\n\n"
        f"Meta-learners, which learn how agents should learn\n{lines(META_LEARNERS)}\n\n"
        f"LPG's update rules, for --rule\n{lines(RULES)}\n"
        "  or the run folder of lpg-meta, or the rule.safetensors that `rlbench export` wrote for it\n\n"
        f"Models\n{lines(with_tasks(MODELS))}\n\n"
        f"Encoders, for --encoder\n{lines(ENCODERS)}\n\n"
        f"Memories, for --memory\n{lines(MEMORIES)}\n\n"
        f"Analyses of finished runs, for rlbench analyse\n{lines(ANALYSES)}\n\n"
        f"Loggers, for --loggers\n{lines(LOGGERS)}\n\n"
        f"Papers, for rlbench table\n{lines(PAPERS)}\n\n"
        f"Tasks with offline data (D4RL's names, with or without -v0, -v1, -v2)\n{families}\n\n"
        f"Small tasks with offline data\n{own}\n\n"
        f"Rooms with doors, seen from above (MiniGrid's MultiRoom)\n{rooms}\n\n"
        "Recall of pairs, for memories: recall-PAIRS-DISTRACTORS\n"
        f"{recall}\n\n"
        "Robots that follow a demonstration seen by another camera\n"
        f"  {pose_names.PREFIX}{{{','.join(pose_names.FAMILIES)}}}\n\n"
        f"LPG's grids and chains; -level-7 at the end is another level\n{grids}\n\n"
        f"Multi-agent games: one learner, scripted partners\n{social}\n\n"
        f"Teams, in which all agents learn; NAME is such a game or package.module:factory of a PettingZoo ParallelEnv\n"
        f"{teams}\n\n"
        f"Procgen's games (pip install 'rlbench[procgen]')\n{games}\n\n"
        f"Atari's games (pip install 'rlbench[atari]')\n{atari}\n\n"
        f"Labelled examples, for models\n{lines(SHOWN)}\n\n"
        f"Searches for a network that is accurate and fast, for nas, nas-random, ...\n{searches}\n\n"
        f"Other tasks{others}\n"
        "  any Gymnasium id, such as Pendulum-v1\n"
        "  any MiniGrid or BabyAI id, such as MiniGrid-DoorKey-5x5-v0 (extra minigrid)\n"
        "  minigrid-empty-N, empty rooms of NxN cells (5 to 16) in pictures, and minigrid-empty-5-6-8 of several sizes\n"
        "  MinAtar's ids, such as MinAtar/Breakout-v1 (extra minatar)\n"
        "  package.module:factory, your own function that returns an environment or a source of examples\n\n"
        "Next: rlbench run bear --env halfcheetah-medium"
    )


EXAMPLES = {
    "awac": "halfcheetah-medium",  # It may also explore, but is made for data.
    "blobs": "objects-minigrid-s16",
    "dance": "motion-pairs:halfcheetah",
    "contrastive": "digit-grids-9",
    "dqn": "CartPole-v1",  # Its actions are discrete.
    "fedavg": "digit-clients-iid",
    "ibac-sni": "multiroom-n1",  # Its encoder reads grids.
    "imitation-ppo": "follow-humanoid",
    "iql": "halfcheetah-medium",
    "language-model": "missions-unlabelled",
    "mixmatch": "digits-labelled-20",
    "nas": "archsearch-tiny",
    "nas-evolution": "archsearch-tiny",
    "nas-local": "archsearch-tiny",
    "nas-random": "archsearch-tiny",
    "nearest": "glyph-episodes",
    "nerfies": "captures:humanoid",
    "nearest-frame": "motion-pairs:halfcheetah",
    "one-shot": "glyph-episodes",
    "pose-mrf": "frames-mujoco-clutter:halfcheetah",
    "pose-nearest": "poses:humanoid",
    "pr-vipe": "poses:humanoid",
    "rfm": "stag-hunt",
    "rfm-predictor": "episodes-coin",
    "rfm-returns": "episodes-coin",
    "sb3-dqn": "CartPole-v1",
    "segmenter": "frames-minigrid-s48",
    "sequence-classifier": "missions",
    "mask-rcnn": "objects-minigrid-s16",
    "proposals": "objects-minigrid-s16",
    "ssd": "objects-minigrid-s16",
    "style-network": "photographs",
    "style-ppo": "coinrun",
    "success-ppo": "minigrid-empty-5",
    "tickets-ppo": "MiniGrid-Empty-Random-6x6-v0",
    "vib": "signals-2",
}
"""Learners that need a task of a certain kind, with an example."""


def example_task(name: str) -> str:
    """A task for an example of a learner."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if name in META_LEARNERS:
        return "grid-levels-small"
    if name in MODELS:
        return "digits"
    learner = load_learner(name)
    if not getattr(learner, "explores", False):
        return "halfcheetah-medium"
    return "Pendulum-v1" if hasattr(learner.Config, "random_steps") else "CartPole-v1"


def preset(
    learner_name: str, task: str, updates: int | None, file: str = ""
) -> tuple[str, Mapping[str, Any], Any]:
    """The defaults of `rlbench run LEARNER`.

    Args:
        learner_name: As in `rlbench list`.
        task: Name of the task.
        updates: Length of the run; None for the learner's default.
        file: File with settings that replace some of the defaults, if it is not empty; see `rlbench.benchmarks.training.settings_file`.

    Returns:
        A line about the learner, its defaults of a run and its settings for task and length.
    """
    from rlbench.benchmarks.training.faults import named_as_users  # It loads PyTorch.

    learner = load_learner(learner_name)
    _check_names(learner_name, "`run`", learner.run, RunConfig)
    updates = updates or learner.run.get("updates", RunConfig.updates)
    with named_as_users(learner):
        chosen = learner.preset(task, updates)
        _check_names(learner_name, "`preset`", chosen, learner.Config)
        given = settings_for(learner_name, Path(file)) if file else {}
        try:
            settings = learner.Config(**{**chosen, **given})
        except UserError as error:
            raise UserError(f"the settings in {file}: {error}" if given else str(error)) from None
    line = LEARNERS.get(learner_name) or (learner.__doc__ or "").strip().partition("\n")[0]
    return line, learner.run, settings


def _check_names(learner_name: str, where: str, given: Mapping[str, Any], kind: type[Any]) -> None:
    """Refuses defaults of a learner that are not settings."""
    if unknown := given.keys() - {field.name for field in fields(kind)}:
        raise UserError(
            f"{where} of {learner_name} names {', '.join(sorted(unknown))}, which is not a setting of "
            f"{kind.__name__}; correct it"
        )
