"""FC-DenseNet: Jegou et al., 2017, accurate segmentation with few parameters (table 1).

A small FC-DenseNet is compared with a U-Net and an FCN that have more than five times as many parameters.
"""

from rlbench.benchmarks.papers import _segmentation as segmentation
from rlbench.benchmarks.tables.paper import Claim, Paper, Verdict
from rlbench.benchmarks.tables.results import Results

OURS = "FC-DenseNet (83,000 parameters)"
METHODS = {
    OURS: {"encoder": "fc-densenet:growth=8,layers=2", "head": "finest", "batch_size": 8},
    "U-Net (483,000)": {"encoder": "unet:width=16", "head": "finest", "batch_size": 8},
    "FCN-8s (698,000)": {"encoder": "mobilenet-v2:width=0.5", "head": "fcn-8s", "batch_size": 8},
}


def _needs_fewer_parameters(results: Results) -> Verdict:
    found = segmentation.best(results, METHODS)
    means = {method: float(values.mean()) for method, (_, values) in found.items()}
    others = max(mean for method, mean in means.items() if method != OURS)
    each = "; ".join(segmentation.described(method, x) for method, x in found.items())
    return Verdict(means[OURS] >= others - 0.5, f"mean IoU in %, {each}")


PAPER = Paper(
    name="fc-densenet",
    title="The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic Segmentation",
    reference="Jegou et al., 2017, https://arxiv.org/abs/1611.09326",
    method=segmentation.name(OURS, 3e-3),
    grids={scale: (segmentation.grid(scale, METHODS),) for scale in segmentation.RUNS},
    minutes={"small": 20, "full": 1_200},
    claims=(
        Claim(
            "D1", "FC-DenseNet segments as well as networks with many times its parameters",
            "mean IoU over classes, without the background, mean of 3 seeds, each network with its best step size: at most half a "
            "point below the better of a U-Net and an FCN-8s with more than 5 times as many parameters",
            _needs_fewer_parameters,
        ),
    ),
    notes=f"{segmentation.NOTE} All networks start from random weights and have the same number of updates of 8 frames. The "
    "paper's data set, CamVid, is not part of the suite.",
)  # fmt: skip
