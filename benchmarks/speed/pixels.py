"""`python -m rlbench.benchmarks.speed.pixels`: samples of a gated PixelCNN, compared with a pass of the whole network for each value.

CPU time on one thread: the median of several rounds, in which both forms take turns, so that other load on the machine affects both.
"""

from functools import partial

import torch

from rlbench.backbones.layers.pixels import PixelNetwork, naive_sample, sample
from rlbench.benchmarks.speed.detection import times

SIZES = ((1, 8, 17), (1, 16, 17), (3, 7, 11))
"""Channels, side and number of values of images."""
IMAGES, WIDTH, LAYERS = 4, 16, 4


def main() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| images | seconds, median | whole network for each value, seconds | ratio |")
    print("|---|---|---|---|")
    for channels, side, levels in SIZES:
        network = PixelNetwork(channels, levels, side, side, width=WIDTH, layers=LAYERS)
        noise = torch.rand(IMAGES, channels, side, side)
        if not torch.equal(sample(network, noise)[0], naive_sample(network, noise)[0]):
            raise SystemExit("the two forms draw different images")
        forms = {"ours": sample, "naive": naive_sample}
        spent = times({name: partial(form, network, noise) for name, form in forms.items()})
        shown = " | ".join(f"{spent[x]:.2f}" for x in ("ours", "naive"))
        title = f"{IMAGES} of {side}x{side} pixels, {channels} channel{'s' * (channels > 1)}"
        print(f"| {title} | {shown} | {spent['naive'] / spent['ours']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
