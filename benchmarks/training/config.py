"""What a run is told, apart from the agent's own settings. Standard library only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One agent, one task, one seed."""

    env: str
    """Task: a D4RL name, a Gymnasium id or package.module:factory."""
    data: str = "auto"
    """Data set: auto (D4RL's file if you have it, else generated), generated, d4rl, minari:ID, an
    HDF5 file, a model of Stable-Baselines3 (.zip) that generates them, or none: the agent gathers its
    own experience though the task has data."""
    data_size: int = 1_000_000
    """Transitions to generate, where the data are generated."""
    updates: int = 100_000
    """Updates in all; online, one follows each environment step or, on-policy, each rollout."""
    seed: int = 0
    """Decides every random draw of the run."""
    seeds: int = 1
    """Seeds that learn from data at once, this one and those after it, as one batched program; on a GPU
    it takes little longer than one. Each gets a run folder inside the run's."""
    eval_every: int = 5_000
    """Updates between evaluations; the last update is always evaluated."""
    eval_episodes: int = 10
    """Episodes in one evaluation, each with a seed of its own."""
    log_every: int = 1_000
    """Updates between lines in metrics.jsonl."""
    checkpoint_every: int = 5_000
    """Updates between checkpoints: what a crash can cost."""
    snapshot_every: int = 0
    """Updates between copies of the agent that are kept for good; 0 keeps none."""
    device: str = "cpu"
    """Where networks live: cpu, cuda or cuda:N."""
    threads: int = 1
    """Threads of PyTorch; small networks gain little from more."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the update, for updates of half the time: half a minute at an agent's first run, some
    seconds at later ones. auto: in runs of 50,000 gradient steps or more, where agent and machine
    can."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products and convolutions of an update: bfloat16 rounds them, for which GPUs
    and processors with AMX or AVX-512 BF16 have units; others emulate it. Acting is float32."""
    pretrained: str | None = None
    """Run whose trained encoder the networks of this one begin with; see also --freeze."""
    out: Path | None = None
    """Folder of the run; by default a new one below runs/."""
