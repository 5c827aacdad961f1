"""`python -m rlbench.benchmarks.speed.detection`: non-maximum suppression and RoIAlign, compared with their simplest correct forms, and SSD.

CPU time on one thread: the median of several rounds, in which all forms take turns, so that other load on the machine affects all of them.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rlbench.backbones.layers.boxes import overlap, suppress
from rlbench.backbones.layers.regions import roi_align
from rlbench.backbones.models.ssd import SSD, SSDConfig
from rlbench.envs.examples._objects import object_fields
from rlbench.experience import Examples

ROUNDS = 5
IMAGES, BOXES = 16, 200
"""Images, and boxes of each, of suppression."""
REGIONS, CHANNELS, CELLS, STRIDE, BINS, POINTS = 32, 32, 16, 4, 7, 2
"""Of RoIAlign: regions, channels, cells of a map along a side, its stride, bins and points along a side."""
SIDE, OBJECTS, CLASSES = 64, 7, 6
"""Of SSD: pixels of a frame along a side, objects in a frame, classes."""


def main() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| operation | ms, median | simplest form, ms | ratio |")
    print("|---|---|---|---|")
    boxes, scores = random_boxes(IMAGES, BOXES, SIDE), torch.rand(IMAGES, BOXES)
    row(
        f"suppression, {IMAGES} images of {BOXES} boxes",
        lambda: suppress(boxes, scores, 0.45),
        lambda: torch.stack([one_by_one(b, s, 0.45) for b, s in zip(boxes, scores, strict=True)]),
    )
    features, regions = (
        torch.randn(IMAGES, CHANNELS, CELLS, CELLS),
        random_boxes(1, REGIONS, SIDE)[0],
    )
    image = torch.arange(REGIONS) % IMAGES
    row(
        f"RoIAlign, {REGIONS} regions, {BINS}x{BINS} bins",
        lambda: roi_align(features, regions, image, STRIDE, BINS, POINTS),
        lambda: point_by_point(features, regions, image),
    )
    model, frames = SSD(SSDConfig(), object_fields(SIDE, SIDE, OBJECTS, CLASSES)), examples()
    convolutions = [*model.encoder.parameters(), *model.head.parameters()]

    def passes() -> None:
        scores, codes = model.predicted(frames["obs"])
        torch.autograd.grad(scores.sum() + codes.sum(), convolutions)

    spent = times({"learn": lambda: model.learn(frames), "passes": passes})
    share = spent["passes"] / spent["learn"]
    print(
        f"\nSSD, {IMAGES} frames of {SIDE}x{SIDE}: {1000 * spent['learn']:.0f} ms for an update, of which its network takes {share:.0%}"
    )
    with torch.no_grad():
        spent = times({"detect": lambda: model.detect(frames["obs"])})
    print(f"{IMAGES / spent['detect']:.0f} frames per second in detection")


def row(title: str, ours: Callable[[], Tensor], simplest: Callable[[], Tensor]) -> None:
    """Prints the times of two forms, whose results must be equal."""
    torch.testing.assert_close(ours(), simplest(), rtol=1e-4, atol=1e-5)
    spent = times({"ours": ours, "simplest": simplest})
    shown = " | ".join(f"{1000 * spent[x]:.1f}" for x in ("ours", "simplest"))
    print(f"| {title} | {shown} | {spent['simplest'] / spent['ours']:.0f} |", flush=True)


def times(forms: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """CPU-seconds of each, medians."""
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, run in forms.items():
            begin = time.process_time()
            run()
            spent[name].append(time.process_time() - begin)
    return {name: statistics.median(x) for name, x in spent.items()}


def random_boxes(images: int, count: int, side: int) -> Tensor:
    """Boxes within a square image, [images, count, 4]."""
    low = torch.rand(images, count, 2) * 0.7 * side
    return torch.cat([low, low + 4 + torch.rand(images, count, 2) * (0.3 * side - 4)], dim=-1)


def one_by_one(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Suppression of the boxes of an image, one after the other, bool [N]."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if not kept or float(overlap(boxes[i : i + 1], boxes[kept]).max()) <= threshold:
            kept.append(i)
    return torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, torch.tensor(kept), True)


def point_by_point(features: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    """RoIAlign with one bilinear interpolation for each point, [R, C, BINS, BINS]."""
    out = torch.zeros(len(boxes), features.shape[1], BINS, BINS)
    n = BINS * POINTS
    for r, (left, top, right, bottom) in enumerate(boxes.tolist()):
        for i in range(n):
            for j in range(n):
                y = (top + (bottom - top) * (i + 0.5) / n) / STRIDE - 0.5
                x = (left + (right - left) * (j + 0.5) / n) / STRIDE - 0.5
                y, x = (min(max(at, 0.0), CELLS - 1.0) for at in (y, x))
                row, column = (min(int(at), CELLS - 2) for at in (y, x))
                part = features[image[r], :, row : row + 2, column : column + 2]
                down, across = y - row, x - column
                value = (1 - down) * part[:, 0] + down * part[:, 1]
                value = (1 - across) * value[:, 0] + across * value[:, 1]
                out[r, :, i // POINTS, j // POINTS] += value / POINTS**2
    return out


def examples() -> Examples:
    """Random frames with random objects."""
    boxes = random_boxes(IMAGES, OBJECTS, SIDE)
    obs = torch.randint(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=torch.uint8)
    return Examples(
        {"obs": obs, "boxes": boxes, "classes": torch.randint(1, CLASSES + 1, (IMAGES, OBJECTS))}
    )


if __name__ == "__main__":
    main()
