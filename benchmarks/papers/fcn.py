"""Fully convolutional networks: Long et al., 2015, scores of finer maps sharpen a segmentation.

The paper upsamples scores of stride 32, and then fuses them with scores of strides 16 and 8 (table 2, figure 6). Here the
strides are 8, 4 and 2, on frames of 64 pixels.
"""

from rlbench.benchmarks.papers import _segmentation as segmentation
from rlbench.benchmarks.tables.paper import Claim, Paper, Verdict
from rlbench.benchmarks.tables.results import Results

HEADS = ("fcn-32s", "fcn-16s", "fcn-8s")
METHODS = {head: {"encoder": "impala", "head": head} for head in HEADS}


def _finer_is_sharper(results: Results) -> Verdict:
    found = segmentation.best(results, HEADS)
    coarse, middle, fine = (float(values.mean()) for _, values in found.values())
    each = "; ".join(segmentation.described(head, x) for head, x in found.items())
    return Verdict(fine >= middle + 2 >= coarse + 4, f"mean IoU in %, {each}")


PAPER = Paper(
    name="fcn",
    title="Fully Convolutional Networks for Semantic Segmentation",
    reference="Long et al., 2015, https://arxiv.org/abs/1411.4038",
    method=segmentation.name("fcn-8s", 3e-3),
    grids={scale: (segmentation.grid(scale, METHODS),) for scale in segmentation.RUNS},
    minutes={"small": 10, "full": 600},
    claims=(
        Claim(
            "F1", "Fusing scores of finer maps makes the segmentation more accurate",
            "mean IoU over classes, without the background, mean of 3 seeds, each head with its best step size: 8s at least 2 "
            "points above 16s, 16s at least 2 points above 32s",
            _finer_is_sharper,
        ),
    ),
    notes=f"{segmentation.NOTE} The encoder is IMPALA's, with maps of strides 2, 4 and 8, trained from random weights. The "
    "paper fine-tunes networks that were trained on ImageNet, which is not part of the suite.",
)  # fmt: skip
