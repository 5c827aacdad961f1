"""Options of a run, apart from the learner's own settings. Standard library only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlbench.backbones.ranges import check


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One agent, one task, one seed."""

    env: str
    """Task: a D4RL name, a Gymnasium id, a source of examples or package.module:factory; see `rlbench list`."""
    data: str = "auto"
    """Data set of an agent: auto (D4RL's file if it is on this machine, else generated), generated, d4rl,
    minari:ID, an HDF5 file, the folder of a data set in Minari's format, a model of Stable-Baselines3 (.zip) that generates the data, or none, so
    that the agent gathers its own experience even if the task has data."""
    data_share: float = 0.0
    """Share of each batch that is drawn from the data set of the task, while the agent gathers the rest itself; for agents with a
    replay buffer, such as iql, sac or td3-bc. 0: the agent learns from only one of the two."""
    data_size: int = 1_000_000
    """Number of transitions, if the data are generated; for a model, the most training examples."""
    updates: int = 100_000
    """Number of updates; online, one follows each environment step or, on-policy, each rollout."""
    seed: int = 0
    """Seed of every random draw of the run."""
    seeds: int = 1
    """Number of seeds that learn from data at once, from `seed` on, as one batched program; on a GPU this
    takes little longer than one seed. Each has its own run folder inside the folder of the run."""
    eval_every: int = 5_000
    """Updates between evaluations; the last update is always evaluated. 0: only the last."""
    eval_episodes: int = 10
    """Episodes in one evaluation, each with its own seed; for a meta-learner, the number of lifetimes. A model is
    measured on all test examples instead."""
    log_every: int = 1_000
    """Updates between lines in metrics.jsonl."""
    checkpoint_every: int = 5_000
    """Updates between checkpoints; a crash loses no more than these."""
    snapshot_every: int = 0
    """Updates between permanent snapshots of the learner; 0: none."""
    loggers: tuple[str, ...] = ("tensorboard",)
    """Where learning curves go, apart from metrics.jsonl: tensorboard, csv, wandb, mlflow or package.module:Class; several are allowed,
    and no name after the option switches all off."""
    callbacks: tuple[str, ...] = ()
    """Your own code that is called after log lines and evaluations, for example to stop early: package.module:Class, one or several."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda or cuda:N."""
    threads: int = 1
    """Number of PyTorch threads; small networks gain little from more than one."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the update; this reduces its time, often to a half or two thirds, after a one-off half minute (seconds in later
    runs). auto: in runs that are long enough to save time (from 2,000 to 50,000 gradient steps on, depending on the learner), if the
    learner and the machine support it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the matrix products and convolutions of an update. bfloat16 is fast on GPUs and on
    processors with AMX or AVX-512 BF16; others emulate it. Acting is always float32."""
    pretrained: str | None = None
    """Folder of a run, or zoo:NAME, whose trained encoder initialises the encoders of this one; see also --freeze. If neither has an encoder,
    all weights are taken, so that an agent that learned from data continues in the environment. auto:FILE takes the run that
    `rlbench analyse transfers` chose for this learner; FILE is its transfers.json. The target is the objective of a
    run of pretext, and `return` for every other learner; auto:FILE,target=NAME names another."""
    out: Path | None = None
    """Folder of the run; by default a new one in runs/."""

    def __post_init__(self) -> None:
        """Refuses options of a wrong type or out of range."""
        check(self)
