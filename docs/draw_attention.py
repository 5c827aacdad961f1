"""Draws docs/papers/big-bird-patterns.svg: which blocks read which, in each pattern of attention.

python -m docs.draw_attention
"""

from pathlib import Path

import torch
from matplotlib import rcParams
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from rlbench.backbones.layers.attention import Pattern

FILE = Path(__file__).parent / "papers" / "big-bird-patterns.svg"
BLOCKS = 16
PATTERNS = {
    "full": Pattern("full"),
    "window": Pattern("window"),
    "big-bird": Pattern("big-bird", random=2),
    "etc": Pattern("etc", random=2),
    "big-bird, causal": Pattern("big-bird", causal=True, random=2),
}


def main() -> None:
    """Writes the picture."""
    rcParams["svg.hashsalt"] = FILE.name  # Ids in the file are the same each time.
    ranks = torch.rand(1, BLOCKS, BLOCKS, generator=torch.Generator().manual_seed(0))
    figure = Figure(figsize=(10, 2.3), layout="constrained")
    for axis, (title, pattern) in zip(
        figure.subplots(1, len(PATTERNS)), PATTERNS.items(), strict=True
    ):
        read = pattern.reads(BLOCKS, ranks)[0].int()
        if pattern.kind not in ("full", "window"):
            none = Pattern(pattern.kind, pattern.causal, window=pattern.window, random=0)
            read = 2 * read - none.reads(BLOCKS, ranks)[0].int()  # 2 where only drawn at random.
        axis.imshow(read, cmap=ListedColormap(["#f2f2f2", "#1f5fa8", "#e08214"]), vmin=0, vmax=2)
        axis.set(title=title, xticks=[], yticks=[], xlabel="block that is read")
    figure.axes[0].set_ylabel("block that reads")
    figure.savefig(FILE, metadata={"Date": None})


if __name__ == "__main__":
    main()
