"""Trains the short runs behind the learning curves of docs/agents/ and saves their measures.

    python -m docs.make_curves            # all, about 15 minutes on one core
    python -m docs.make_curves bc ppo     # some
    python -m docs.make_pages             # draws them

The measures are in docs/agents/curves.json: the command of each learner and, for each seed, the result of every
evaluation, as a score if the task has scores. The runs are examples that learn something in a minute or less, mostly with
small networks and settings chosen by hand; they do not show which agent is better.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS
from rlbench.benchmarks.tables.summary import collect, score
from rlbench.benchmarks.training.formats import measures_of
from rlbench.cli import main as rlbench
from rlbench.names import NameTable

FILE = Path(__file__).parent / "agents" / "curves.json"
SEEDS = (0, 1)

CART_POLE = (
    "--env CartPole-v1 --updates 30 --eval-every 3 --envs 8 --rollout-steps 128 --batch-size 256 "
    "--learning-rate 1e-3"
)
USUAL = "--env point-mixed --data-size 20000 --updates 1000 --eval-every 100"
POINT = f"{USUAL} --hidden 48 48 --batch-size 128"
CRITICS = f"{POINT} --discount 0.97 --target-rate 0.01"
SMALL = "--hidden 64 64 --batch-size 128 --learning-rate 1e-3"
PENDULUM = f"--env Pendulum-v1 --updates 4000 --eval-every 400 {SMALL} --random-steps 1000"
VAE = "--vae-hidden 128 128 --act-samples 10"
SEARCH = "--env archsearch-tiny --updates 15 --eval-every 1 --eval-episodes 1"
COMMANDS = {
    "a2c": "--env CartPole-v1 --updates 1500 --eval-every 150",
    "awac": f"{CRITICS} --learning-rate 1e-3 --beta 0.1",
    "awr": f"{POINT} --discount 0.97",
    "bc": "--env point-expert --data-size 20000 --updates 300 --eval-every 30 --hidden 48 48 --batch-size 128",
    "bcq": f"{CRITICS} --learning-rate 1e-3 {VAE}",
    "bear": (
        f"{CRITICS} --policy-learning-rate 1e-3 --critic-learning-rate 1e-3 --vae-learning-rate 1e-3 "
        f"{VAE} --target-actions target-policy --warmup-updates 150"
    ),
    "brac": f"{CRITICS} --learning-rate 1e-3 --policy-learning-rate 1e-3 --alpha 0.1",
    "blobs": "--env objects-minigrid-s16 --data-size 200 --updates 4 --eval-every 1 --batch-size 20",
    "born-again": (
        "--env digits --data-size 300 --encoder conv4:layers=2,width=8,norm=bn --cycle-updates 60 --learning-rate 0.03 --batch-size 32 "
        "--updates 180 --eval-every 20"
    ),
    "classifier": "--env digits --encoder resnet:units=1,width=8 --updates 200 --eval-every 20",
    "contrastive": "--env digit-grids-1 --data-size 2000 --updates 200 --eval-every 20",
    "cql": f"{CRITICS} --learning-rate 1e-3 --policy-learning-rate 1e-3",
    "count-ppo": (
        "--env multiroom-n1 --encoder one-hot-grid --levels 11 --no-quantise --density-width 4 --density-layers 1 "
        "--envs 8 --rollout-steps 64 --batch-size 128 --epochs 4 --learning-rate 1e-3 --updates 10 --eval-every 2"
    ),
    "crr": f"{CRITICS} --learning-rate 1e-3 --layers mlp --beta 0.1",
    "dance": (
        "--env motion-pairs:halfcheetah --data-size 25 --width 4 --judge-width 4 --blocks 1 --encoder vgg:width=4 --learning-rate 3e-3 "
        "--updates 80 --eval-every 20"
    ),
    "debiasing": "--env scenes-70 --data-size 2000 --learning-rate 3e-3 --pretrain-updates 80 --adversary-updates 10 --updates 120 --eval-every 20",
    "decision-transformer": (
        "--env point-mixed --data-size 20000 --updates 400 --eval-every 40 --embedding-size 32 --blocks 2 --sequence-length 10 "
        "--batch-size 32 --learning-rate 1e-3"
    ),
    "dqn": (
        "--env CartPole-v1 --updates 4800 --eval-every 800 --exploration-updates 1000 --learning-rate 5e-4 --target-every 50"
    ),
    "facenet": "--env glyph-sets --data-size 60 --encoder conv4:width=8 --updates 50 --eval-every 10",
    "ibac-sni": "--env multiroom-n1 --updates 30 --eval-every 3",
    "imitation-ppo": (
        "--env follow-swimmer --reward procrustes --envs 8 --rollout-steps 60 --batch-size 120 --discount 0.8 --learning-rate 1e-3 "
        "--updates 30 --eval-every 5 --eval-episodes 5"
    ),
    "iql": f"{CRITICS} --learning-rate 1e-3",
    "fedavg": "--env digit-clients-iid --learning-rate 0.3 --updates 40 --eval-every 4",
    "language-model": (
        "--env missions-unlabelled --data-size 1000 --encoder transformer:width=32,layers=1 --updates 200 --eval-every 20 "
        "--learning-rate 3e-3"
    ),
    "lpg": "--env CartPole-v1 --updates 200 --eval-every 20",
    "lpg-meta": "--env grid-levels-small --lifetimes 16 --hidden 32 --updates 200 --eval-every 20",
    "nas": SEARCH,
    "nas-evolution": SEARCH,
    "nas-local": SEARCH,
    "nas-random": SEARCH,
    "nearest": "--env glyph-episodes --data-size 100 --updates 4 --eval-every 1",
    "nerfies": (
        "--env captures:humanoid --width 16 --bands 3 --warp-width 16 --samples 8 --rays 256 --learning-rate 1e-2 "
        "--updates 100 --eval-every 25"
    ),
    "nearest-frame": "--env motion-pairs:halfcheetah --data-size 25 --batch-size 5 --updates 4 --eval-every 1",
    "novelty-ppo": CART_POLE,
    "mixmatch": (
        "--env digits-labelled-20 --encoder conv4:layers=2,width=8,norm=bn --average 0.98 --unlabelled-weight 25 --updates 300 --eval-every 30"
    ),
    "one-shot": (
        "--env glyph-episodes --memory lstm --memory-size 64 --data-size 2000 --updates 300 --eval-every 30 --learning-rate 3e-3"
    ),
    "pose-mrf": (
        "--env frames-mujoco-clutter:halfcheetah --data-size 500 --encoder conv4:layers=2,width=8,norm=gn --width 16 --kernel 1 --branches 1 "
        "--learning-rate 1e-2 --detector-updates 100 --spatial-updates 40 --updates 200 --eval-every 25"
    ),
    "pixelcnn": "--env digits --levels 17 --width 8 --layers 3 --learning-rate 1e-2 --updates 100 --eval-every 20",
    "ppo": CART_POLE,
    "pose-nearest": "--env poses:humanoid --data-size 1000 --updates 4 --eval-every 1",
    "pr-vipe": (
        "--env poses:humanoid --data-size 1000 --encoder pose:width=128 --samples 3 --batch-size 48 --kappa 0.175 --updates 200 --eval-every 50"
    ),
    "pretext": "--env digits --objective denoising --encoder resnet:units=1,width=8,stages=2 --learning-rate 3e-3 --updates 100 --eval-every 10",
    "prototypical": "--env glyph-sets --data-size 60 --encoder conv4:width=8 --updates 50 --eval-every 10",
    "recurrent-crr": (
        "--env point-mixed --data-size 20000 --updates 400 --eval-every 40 --hidden 48 48 --memory-size 48 "
        "--batch-size 16 --discount 0.97 --target-rate 0.01 --learning-rate 1e-3 --layers mlp --beta 0.1"
    ),
    "recurrent-ppo": (
        "--env CartPole-v1 --updates 80 --eval-every 8 --rollout-steps 32 --batch-size 64 --epochs 10 "
        "--learning-rate 3e-3"
    ),
    "rfm": "--env stag-hunt --updates 200 --eval-every 20",
    "rfm-predictor": (
        "--env episodes-coopnav --data-size 2000 --updates 200 --eval-every 20 --learning-rate 3e-3"
    ),
    "rfm-returns": "--env episodes-coin --data-size 2000 --updates 200 --eval-every 20 --learning-rate 3e-3",
    "sac": f"--env Pendulum-v1 --updates 5000 --eval-every 500 {SMALL} --random-steps 1000",
    "sb3-a2c": "--env CartPole-v1 --updates 1500 --eval-every 150 --envs 8",
    "sb3-dqn": (
        "--env CartPole-v1 --updates 6000 --eval-every 600 --learning-rate 1e-3 --target-every 200 --batch-size 64 "
        "--steps-per-update 2 --random-steps 500"
    ),
    "sb3-ppo": CART_POLE,
    "sb3-sac": PENDULUM,
    "sb3-td3": PENDULUM,
    "segmenter": (
        "--env frames-minigrid-s48 --encoder unet:width=8 --head finest --data-size 1000 --updates 100 --eval-every 10"
    ),
    "sequence-classifier": (
        "--env missions --encoder transformer:width=32,layers=1 --updates 100 --eval-every 10 --learning-rate 3e-3"
    ),
    "mask-rcnn": (
        "--env objects-minigrid-s16 --data-size 300 --updates 100 --eval-every 25 --learning-rate 3e-3"
    ),
    "proposals": (
        "--env objects-minigrid-s16 --data-size 300 --updates 100 --eval-every 25 --learning-rate 3e-3"
    ),
    "ssd": (
        "--env objects-minigrid-s16 --data-size 500 --updates 100 --eval-every 25 --learning-rate 3e-3"
    ),
    "td3": PENDULUM,
    "td3-bc": f"{CRITICS} --learning-rate 1e-3",
    "vq-vae": (
        "--env frames-minigrid-s40 --data-size 200 --width 16 --code-size 8 --blocks 1 --codes 32 --batch-size 8 --updates 100 "
        "--eval-every 20 --learning-rate 3e-3"
    ),
    "style-network": "--env digits --encoder vgg:width=8,blocks=2 --width 8 --blocks 1 --updates 100 --eval-every 10",
    "style-ppo": (
        "--env coinrun --encoder nature --styles 2 --painter-width 4 --painter-blocks 1 --envs 16 --rollout-steps 32 --batch-size 128 "
        "--epochs 2 --updates 16 --eval-every 4"
    ),
    "success-ppo": (
        "--env minigrid-empty-5 --reward-encoder classes:runs/first --encoder nature --envs 16 --rollout-steps 32 --batch-size 128 --epochs 4 "
        "--hidden 64 --learning-rate 5e-4 --entropy-coefficient 0.01 --updates 32 --eval-every 8"
    ),
    "tickets-ppo": (
        "--env MiniGrid-Empty-Random-6x6-v0 --envs 16 --rollout-steps 64 --batch-size 256 --epochs 4 --learning-rate 1e-3 "
        "--entropy-coefficient 0.01 --rounds 3 --round-updates 20 --updates 80 --eval-every 10"
    ),
    "smooth-adversarial": (
        "--env digits --encoder conv4:layers=2,width=8,norm=gn --learning-rate 0.03 --samples 100 --updates 200 --eval-every 50"
    ),
    "supermask": "--env digits --updates 200 --eval-every 20",
    "tickets": "--env digits --data-size 300 --rounds 7 --round-updates 80 --updates 640 --eval-every 80",
    "vib": "--env signals-2 --data-size 2048 --updates 400 --eval-every 40",
}
"""Arguments of `rlbench run NAME` without `--seed`; other learners use `USUAL`."""
FIRST = {
    "success-ppo": (
        "mixmatch --env room-goals-20 --encoder conv4:layers=5,width=8,norm=gn --batch-size 16 --average 0.98 --shift 4 --unlabelled-weight 10 --updates 300 --eval-every 0"
    ),
}
"""Arguments of a run in runs/first that a learner's run needs."""


def built_in(table: NameTable) -> list[str]:
    """The names in a table that no other package has added."""
    return sorted(set(table) - set(table.plugins()))


def command(name: str) -> str:
    """The command of a learner's runs, without the seed; before it, the command of the run that it needs."""
    first = f"rlbench run {FIRST[name]} --out runs/first && " if name in FIRST else ""
    return f"{first}rlbench run {name} {COMMANDS.get(name, USUAL)}"


def kept_curves() -> dict[str, Any]:
    """The saved curves: the command of each learner, and its measures by seed."""
    kept: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return kept


def train(name: str, seed: int) -> dict[str, Any]:
    """Trains one run: the name of its measure, the updates of its evaluations, and the values, rounded for a picture."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        commands = f"{command(name)} --seed {seed} --out {out}".replace(
            "runs/first", f"{folder}/first"
        )
        for words in commands.split(" && "):
            if rlbench(words.split()[1:]) != 0:
                raise SystemExit(f"{words} failed")
        (run,) = collect([out])
    headline = measures_of(run)[0]
    means = np.array(run["evaluations"][headline.name]).mean(axis=1)
    scored = run["reference_returns"] is not None
    values = [score(run, x) if scored else x for x in means.tolist()]
    return {
        "measure": "score" if scored else headline.title,
        "updates": run["evaluations"]["update"],
        "values": [float(f"{x:.4g}") for x in values],
    }


def main() -> None:
    """Trains the named learners, or all, and updates their entries in the file."""
    parser = argparse.ArgumentParser(description="Train the example runs of docs/agents/.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or [
        *built_in(AGENTS),
        *built_in(META_LEARNERS),
        *built_in(MODELS),
    ]
    for name in names:
        runs = {str(seed): train(name, seed) for seed in SEEDS}
        kept = kept_curves()
        kept[name] = {"command": command(name), "seeds": runs}
        lines = [f" {json.dumps(x)}: {json.dumps(kept[x])}" for x in sorted(kept)]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
