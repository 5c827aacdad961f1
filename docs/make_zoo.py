"""Trains the agents and encoders of `rlbench zoo`, and writes them into the package.

    python -m docs.make_zoo runs/zoo                # all, about two hours on two cores; or continues
    python -m docs.make_zoo runs/zoo ppo-cartpole   # some
    python -m docs.make_pages                       # lists them in docs/zoo.md

The folder keeps the whole runs. Agents are evaluated in 100 episodes, models on all of their test examples.
"""

import argparse
import shutil
from pathlib import Path

from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.zoo import ABOUT, TRAINED
from rlbench.benchmarks.zoo.finished import evaluated, write
from rlbench.cli import main as rlbench
from rlbench.interface import Agent

EPISODES, SEED = 100, 1
LIGHT = "--hidden 128 128 --batch-size 128 --eval-every 25000"
POSE = (
    "--env frames-mujoco:halfcheetah --encoder conv4:layers=2,width=8,norm=gn --width 16 --kernel 1 --branches 2 --learning-rate 1e-2 "
    "--data-size 2000 --updates 600 --detector-updates 300 --spatial-updates 100 --eval-every 0"
)
OFFLINE = {
    f"{agent}-{task}": (
        f"{agent} --env {task} {LIGHT}{' --vae-hidden 128 128' if agent == 'bear' else ''}",
        f"{words}, on data of a mediocre policy of {robot}",
    )
    for agent, words in (("bear", "BEAR"), ("crr", "CRR"), ("iql", "IQL"), ("td3-bc", "TD3+BC"))
    for task, robot in (("halfcheetah-medium", "HalfCheetah"), ("hopper-medium", "Hopper"))
}
ENTRIES = {
    **OFFLINE,
    "ibac-sni-multiroom-n2": (
        "ibac-sni --env multiroom-n2 --eval-every 100",
        "IBAC-SNI in two rooms with a door",
    ),
    "ppo-cartpole": ("ppo --env CartPole-v1 --updates 60 --eval-every 20", "PPO on CartPole"),
    "missions": (
        "language-model --env missions-unlabelled --encoder transformer --updates 2000 --eval-every 0",
        "encoder of missions (BERT): hidden words of BabyAI's language",
    ),
    "room-pairs": (
        "contrastive --env moment-pairs:minigrid-empty-5 --encoder nature --objective wpc --updates 300 --eval-every 0",
        "encoder of pictures (Wasserstein dependency): moments of a room that belong together",
    ),
    "room-goals": (
        ("mixmatch --env room-goals-20 --encoder conv4:layers=5,width=8,norm=gn --batch-size 16 --average 0.98 --shift 4 "
        "--unlabelled-weight 10 --updates 300 --eval-every 0"),
        "classifier of success (MixMatch): is the goal of a room reached, from 20 labels",
    ),
    "minigrid-objects": (
        ("ssd --env objects-minigrid-s16 --encoder conv4:layers=4,width=16,norm=gn --maps 3 --learning-rate 3e-3 --data-size 2000 "
        "--updates 500 --eval-every 0"),
        "detector of MiniGrid's objects (SSD)",
    ),
    "halfcheetah-keypoints": (
        f"pose-mrf {POSE}",
        "key points of HalfCheetah in pictures (CNN with a Markov random field)",
    ),
    "minigrid-codes": (
        ("vq-vae --env frames-minigrid-s40 --width 16 --code-size 8 --blocks 1 --codes 32 --batch-size 8 --learning-rate 3e-3 "
        "--data-size 1000 --updates 400 --eval-every 0"),
        "codes of MiniGrid's pictures (VQ-VAE-2)",
    ),
    "halfcheetah-return": (
        "pretext --env views-mujoco:halfcheetah --objective return --updates 300 --eval-every 0",
        "encoder of pictures (Taskonomy): what HalfCheetah will earn",
    ),
    "humanoid-poses": (
        "pr-vipe --env poses:humanoid --encoder pose:width=256 --kappa 0.175 --samples 3 --batch-size 96 --updates 1000 --eval-every 0",
        "embedding of a humanoid's poses that does not depend on the camera (Pr-VIPE)",
    ),
}  # fmt: skip
"""Arguments of `rlbench run` and a description in one line, by name."""


def train(name: str, run: Path) -> None:
    """Trains an entry, or continues its run."""
    words = ["--resume", str(run)] if (run / "config.json").exists() else [*ENTRIES[name][0].split(), "--out", str(run)]  # fmt: skip
    if rlbench(["run", *words]) != 0:
        raise SystemExit(f"the training of {name} failed")


def pack(name: str, run: Path) -> None:
    """Writes a finished run into the package."""
    learner, task = load_run(run)
    folder, out = RunFolder(run), TRAINED / name
    columns = folder.last_evaluation()
    if isinstance(learner, Agent):
        columns = evaluated(learner, task, EPISODES, SEED)
    shutil.rmtree(out, ignore_errors=True)
    write(out, folder.config(), folder.checkpoints()[-1], learner, columns)
    (out / ABOUT).write_text(ENTRIES[name][1] + "\n", encoding="utf-8")


def main() -> None:
    """Trains and packs the entries that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder of the whole runs")
    parser.add_argument("names", nargs="*", choices=[*ENTRIES, []], default=[])
    asked = parser.parse_args()
    for name in asked.names or ENTRIES:
        train(name, asked.runs / name)
        pack(name, asked.runs / name)


if __name__ == "__main__":
    main()
