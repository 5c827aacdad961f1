"""Analyses of finished runs by name; imported on first use."""

from typing import TYPE_CHECKING

from rlbench.errors import UserError
from rlbench.names import NameTable

if TYPE_CHECKING:
    from rlbench.backbones.analyses._base import Analysis

ANALYSES = NameTable(
    "analysis",
    __name__,
    {
        "acting": (
            "acting:Acting",
            "returns of a classifier of actions, also under noise and attacks",
        ),
        "adversarial": (
            "adversarial:Adversarial",
            "accuracy or return under small adversarial changes to the inputs",
        ),
        "attention-cost": (
            "attention_cost:AttentionCost",
            "how the time of attention grows with the length, sparse and full",
        ),
        "batch-statistics": (
            "batch_statistics:BatchStatistics",
            "accuracy with running averages and with the statistics of each batch",
        ),
        "edges": (
            "edges:EdgeNorms",
            "norms of an RFM's edge activations before agents take items, alone or together",
        ),
        "certify": (
            "certify:Certify",
            "the radius within which a classifier's answers under noise cannot change",
        ),
        "company": (
            "company:Company",
            "how much other agents matter for an agent's return, moment by moment",
        ),
        "drift": ("drift:Drift", "how the inputs of a network's sigmoids drift during training"),
        "gradient-norms": (
            "gradient_norms:GradientNorms",
            "gradients on their way back through a memory, and through recurrent batch normalisation",
        ),
        "explain": (
            "explain:Explain",
            "maps of the pixels that matter for the answers on images, and how easily they are manipulated",
        ),
        "front": (
            "front:Front",
            "the architectures of a search: the best ones, and their front of accuracy and latency",
        ),
        "other-tasks": ("other_tasks:OtherTasks", "a trained model or agent on other tasks"),
        "probe": (
            "probe:Probe",
            "what the layers of a network know about each feature, before and after training",
        ),
        "style": (
            "style:Style",
            "style transfer with the network of a run, and Gram distances between pictures",
        ),
        "transfers": (
            "transfers:Transfers",
            "how well objectives of pre-training transfer to each other, and the best few",
        ),
    },
    group="rlbench.analyses",
)


def load_analysis(name: str) -> "type[Analysis]":
    """The class of an analysis.

    Args:
        name: As in `rlbench list`, or `package.module:Class`.

    Raises:
        UserError: There is no such analysis, or the class is not an analysis.
    """
    from rlbench.backbones.analyses._base import Analysis

    found = ANALYSES.load(name)
    if not (isinstance(found, type) and issubclass(found, Analysis)):
        raise UserError(
            f"analysis {name!r}: it is not a subclass of rlbench.backbones.analyses._base.Analysis; expected "
            "package.module:Class"
        )
    return found
