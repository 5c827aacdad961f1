"""Draws docs/papers/mnasnet-latency.svg: latency over parameters and over multiply-adds of the measured architectures.

python -m docs.draw_latencies
"""

from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure

from rlbench.benchmarks.papers.mnasnet import correlations
from rlbench.envs.architectures.names import TABULATED
from rlbench.envs.architectures.space import find_space
from rlbench.envs.architectures.tabulated import read_table

FILE = Path(__file__).parent / "papers" / "mnasnet-latency.svg"


def main() -> None:
    """Writes the picture."""
    rcParams["svg.hashsalt"] = FILE.name  # Ids in the file are the same each time.
    known = TABULATED["nano"]
    table = read_table(known.file, find_space(known.space))
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    costs = {"parameters": table.parameters, "multiply-adds": table.multiply_adds}
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, cost) in zip(axes, costs.items(), strict=True):
        axis.scatter(cost / 1_000, table.latency_ms, s=10, color="#1f5fa8", alpha=0.6, linewidths=0)
        axis.set(xlabel=f"{name} in thousands", title=f"correlation {correlations()[name]:.2f}")
    axes[0].set_ylabel("latency of one image in ms")
    figure.savefig(FILE, metadata={"Date": None})


if __name__ == "__main__":
    main()
