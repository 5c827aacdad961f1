"""Trains the agents and models of `rlbench zoo`, and writes them into the package.

    python -m docs.make_zoo runs/zoo                # trains all, in about two hours on two cores, or resumes
    python -m docs.make_zoo runs/zoo ppo-cartpole   # trains one
    python -m docs.make_pages                       # lists them in docs/zoo.md

The folder runs/zoo keeps the complete runs. Agents are evaluated in 100 episodes, models on all of their test examples.
"""

import argparse
import shutil
from pathlib import Path

from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.zoo import ABOUT, TRAINED
from rlbench.benchmarks.zoo.finished import evaluate, write
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
        f"{words}, trained on data of a medium policy of {robot}",
    )
    for agent, words in (("bear", "BEAR"), ("crr", "CRR"), ("iql", "IQL"), ("td3-bc", "TD3+BC"))
    for task, robot in (("halfcheetah-medium", "HalfCheetah"), ("hopper-medium", "Hopper"))
}
ENTRIES = {
    **OFFLINE,
    "ibac-sni-multiroom-n2": (
        "ibac-sni --env multiroom-n2 --eval-every 100",
        "IBAC-SNI on MultiRoom with two rooms",
    ),
    "ppo-cartpole": ("ppo --env CartPole-v1 --updates 60 --eval-every 20", "PPO on CartPole"),
    "missions": (
        "language-model --env missions-unlabelled --encoder transformer --updates 2000 --eval-every 0",
        "language model (BERT), trained to predict hidden words of BabyAI's missions",
    ),
    "room-pairs": (
        "contrastive --env moment-pairs:minigrid-empty-5 --encoder nature --objective wpc --embedding-size 16 --updates 300 --eval-every 0",
        "image encoder (Wasserstein dependency), trained on pairs of moments in a MiniGrid room",
    ),
    "room-goals": (
        ("mixmatch --env room-goals-20 --encoder conv4:layers=5,width=8,norm=gn --batch-size 16 --average 0.98 --shift 4 "
        "--unlabelled-weight 10 --updates 300 --eval-every 0"),
        "success classifier (MixMatch), trained with 20 labels: is the goal of a MiniGrid room reached?",
    ),
    "minigrid-objects": (
        ("ssd --env objects-minigrid-s16 --encoder conv4:layers=4,width=16,norm=gn --maps 3 --learning-rate 3e-3 --data-size 2000 "
        "--updates 500 --eval-every 0"),
        "object detector (SSD) for MiniGrid",
    ),
    "halfcheetah-keypoints": (
        f"pose-mrf {POSE}",
        "key-point detector (CNN with a Markov random field) for images of HalfCheetah",
    ),
    "minigrid-codes": (
        ("vq-vae --env moment-pairs:minigrid-empty-5 --width 16 --code-size 8 --blocks 1 --codes 32 --batch-size 8 --learning-rate 3e-3 "
        "--data-size 1000 --updates 400 --eval-every 0"),
        "discrete codes (VQ-VAE-2) of MiniGrid images",
    ),
    "halfcheetah-return": (
        "pretext --env views-mujoco:halfcheetah --objective return --updates 300 --eval-every 0",
        "image encoder (Taskonomy), trained to predict returns of HalfCheetah",
    ),
    "humanoid-poses": (
        "pr-vipe --env poses:humanoid --encoder pose:width=256 --kappa 0.175 --samples 3 --batch-size 96 --updates 1000 --eval-every 0",
        "view-invariant embedding (Pr-VIPE) of humanoid poses",
    ),
}  # fmt: skip
"""Arguments of `rlbench run` and a description in one line, by name of the trained agent or model."""


def train(name: str, run: Path) -> None:
    """Trains an agent or model, or resumes its run."""
    words = ["--resume", str(run)] if (run / "config.json").exists() else [*ENTRIES[name][0].split(), "--out", str(run)]  # fmt: skip
    if rlbench(["run", *words]) != 0:
        raise SystemExit(f"the training of {name} failed")


def pack(name: str, run: Path) -> None:
    """Evaluates a finished run and writes it into the package."""
    learner, task = load_run(run)
    folder, out = RunFolder(run), TRAINED / name
    names = {measure.name for measure in learner.measures}
    # Models also return arrays for each example from which measures of all examples are computed.
    columns = {x: y for x, y in folder.last_evaluation().items() if x.rpartition("/")[2] in names}
    if isinstance(learner, Agent):
        columns = evaluate(learner, task, EPISODES, SEED)
    shutil.rmtree(out, ignore_errors=True)
    write(out, folder.config(), folder.checkpoints()[-1], learner, columns)
    (out / ABOUT).write_text(ENTRIES[name][1] + "\n", encoding="utf-8")


def main() -> None:
    """Trains and packs the agents and models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder of the complete runs")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        choices=[*ENTRIES, []],
        default=[],
        help="name of an agent or model; by default all",
    )
    options = parser.parse_args()
    for name in options.names or ENTRIES:
        train(name, options.runs / name)
        pack(name, options.runs / name)


if __name__ == "__main__":
    main()
