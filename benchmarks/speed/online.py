"""`python -m rlbench.benchmarks.speed.online`: environment steps per second of PPO and SAC, as a table.

The whole loop of acting and learning, compared with Stable-Baselines3 and CleanRL if they are installed:
same environments, networks, batches and epochs. Segments of all subjects alternate.
"""

import argparse
import statistics
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from rlbench.benchmarks.speed.__main__ import running

LOOPS = ("cartpole", "halfcheetah", "multiroom", "multiroom-engine", "sac")
ENCODERS = ("coinrun-nature", "coinrun-impala", "coinrun-resnet", "coinrun-mobilenetv2")
"""Loops of PPO with the encoders of `rlbench table policy-encoders`, which `--loops coinrun` compares."""


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m rlbench.benchmarks.speed.online", description=__doc__
    )
    parser.add_argument("--loops", nargs="+", default=list(LOOPS), choices=(*LOOPS, "coinrun"))
    parser.add_argument("--segments", type=int, default=5, help="rounds; the median is reported")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a segment")
    parser.add_argument("--cleanrl", type=Path, help="folder that holds CleanRL's ppo.py")
    options = parser.parse_args(arguments)
    print("| subject | steps/s, median [min-max] | ratio to the faster peer |")
    print("| --- | --- | --- |")
    for loop in options.loops:
        names = [f"rlbench {own}" for own in (ENCODERS if loop == "coinrun" else (loop,))]
        # Only we have the engine; peers run the package's environments.
        peer_loop = loop.removesuffix("-engine")
        if find_spec("stable_baselines3") and loop != "coinrun":
            names += [f"sb3 {peer_loop}"]
        # Its other scripts need an older Gymnasium.
        names += ["cleanrl cartpole"] if options.cleanrl and loop == "cartpole" else []
        rates: dict[str, list[float]] = {name: [] for name in names}
        with ExitStack() as stack:
            subjects = {
                name: stack.enter_context(
                    running(name, options.cleanrl or "", worker="online_worker")
                )
                for name in names
            }
            for _ in range(options.segments):
                for name, subject in subjects.items():
                    rates[name].append(subject.ask(options.seconds))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        fastest = max((m for name, m in medians.items() if name != names[0]), default=None)
        for name, values in rates.items():
            spread = f"{medians[name]:,.0f} [{min(values):,.0f}-{max(values):,.0f}]"
            ratio = "" if fastest is None else f"{medians[name] / fastest:.2f}"
            print(f"| {name} | {spread} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
