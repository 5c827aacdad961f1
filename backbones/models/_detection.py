"""Code shared by models that detect objects: the columns that they learn from, and the average precision of what they find.

A detection is a box, a score and a class; the numbers of an image are padded to K detections with score and class 0. The average
precision of a class is the area under its curve of precision and recall at an overlap of 0.5, as computed by COCO's own code
(Lin et al., 2014, https://arxiv.org/abs/1405.0312; the package pycocotools), but with limits of size that suit small frames.
"""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from rlbench.backbones.models._base import input_space
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.measures import Measure

LIMITS = (6, 10)
"""Objects are small below 6x6 pixels, and large from 10x10 pixels on."""
AREAS = {
    "": (0.0, 1e10),
    "_small": (0.0, float(LIMITS[0] ** 2) - 0.5),
    "_medium": (float(LIMITS[0] ** 2), float(LIMITS[1] ** 2) - 0.5),
    "_large": (float(LIMITS[1] ** 2), 1e10),
}
"""Smallest and largest area in square pixels of the objects of each measure; boxes have whole sides."""
OVERLAP = 0.5
"""Smallest overlap of a detection with the object that it finds."""
MAP = Measure("map")


@dataclass(frozen=True)
class Objects:
    """What the columns of a source of objects hold."""

    shape: tuple[int, ...]
    """Shape of a frame."""
    size: tuple[int, int]
    """Rows and columns of a frame."""
    classes: int
    """Number of classes, without class 0, which stands for no object."""


def objects_of(fields: Mapping[str, Space[Any]]) -> Objects:
    """The objects of examples.

    Raises:
        UserError: They have none, or frames are no images.
    """
    shape = tuple(input_space(fields).shape or ())
    boxes, classes = fields.get("boxes"), fields.get("classes")
    if not (
        isinstance(boxes, spaces.Box)
        and isinstance(classes, spaces.MultiDiscrete)
        and classes.nvec.ndim == 1
        and boxes.shape == (len(classes.nvec), 4)
    ):
        raise UserError(
            f"the examples have no objects: columns `boxes` [M, 4] and `classes` [M] in a MultiDiscrete space; they have "
            f"{', '.join(fields)}; give a source such as objects-minigrid-s16"
        )
    if len(shape) != 3:
        raise UserError(
            f"observations have the shape {shape}; objects are detected in images, [H, W, channels] or [channels, H, W]"
        )
    rows, columns = shape[1:] if shape[0] in (1, 3, 4) else shape[:2]
    return Objects(shape, (rows, columns), int(classes.nvec.max()) - 1)


def truth(examples: Examples) -> tuple[Tensor, Tensor]:
    """Boxes [B, M, 4] and classes, int64 [B, M], of the objects of examples."""
    return examples["boxes"], examples["classes"].long()


def judged(examples: Examples, found: Tensor) -> dict[str, Tensor]:
    """Columns from which `average_precisions` are computed.

    Args:
        examples: With the true objects.
        found: Detections, [B, K, 6]: box, score, class.

    Returns:
        `detections` [B, K, 6], and `objects` [B, M, 5]: box and class.
    """
    boxes, classes = truth(examples)
    return {"detections": found, "objects": torch.cat([boxes, classes[..., None].float()], dim=-1)}


def average_precisions(
    objects: NDArray[Any], detections: NDArray[Any], classes: int
) -> dict[str, float]:
    """`map`, the mean over classes; `map_small`, ... for objects of some sizes; `ap_1`, ... of each class.

    Classes and sizes of which there is no object are left out; `map` of no object at all is 0.

    Args:
        objects: True boxes and classes, [N, M, 5]; class 0 is none.
        detections: Boxes, scores and classes, [N, K, 6]; class 0 is none.
        classes: Number of classes, C.
    """
    coco_class, evaluation_class = coco()
    true = _listed(objects[..., :4], objects[..., 4])
    for i, entry in enumerate(true, 1):
        entry |= {"id": i, "iscrowd": 0}
    found = _listed(detections[..., :4], detections[..., 5], detections[..., 4])
    if not true or not found:
        return {MAP.name: 0.0}
    with redirect_stdout(io.StringIO()):  # It prints its progress.
        given = coco_class()
        given.dataset = {
            "images": [{"id": i} for i in range(len(objects))],
            "categories": [{"id": k} for k in range(1, classes + 1)],
            "annotations": true,
        }
        given.createIndex()
        evaluation = evaluation_class(given, _results(given, coco_class, found), "bbox")
        evaluation.params.iouThrs = np.array([OVERLAP])
        evaluation.params.areaRng = [list(limits) for limits in AREAS.values()]
        evaluation.params.areaRngLbl = list(AREAS)
        evaluation.params.maxDets = [detections.shape[1]]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, :, 0]  # [R, C, areas]
    each = precision.mean(axis=0)
    there = each > -1
    means = {
        MAP.name + name: float(each[there[:, i], i].mean())
        for i, name in enumerate(AREAS)
        if there[:, i].any()
    }
    return means | {f"ap_{k + 1}": float(each[k, 0]) for k in range(classes) if there[k, 0]}


def coco() -> tuple[Any, Any]:
    """The classes COCO and COCOeval of pycocotools.

    Raises:
        UserError: The package is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError:
        raise UserError(
            "the average precision of detected objects needs the package pycocotools; install it with pip install "
            "'rlbench[detection]'"
        ) from None
    return COCO, COCOeval


def _listed(
    boxes: NDArray[Any], classes: NDArray[Any], scores: NDArray[Any] | None = None
) -> list[dict[str, Any]]:
    """An entry of COCO's for each box [N, K, 4] whose class [N, K] is not 0."""
    image, place = np.nonzero(classes)
    edges = boxes[image, place].astype(np.float64)
    sides = edges[:, 2:] - edges[:, :2]
    entries: list[dict[str, Any]] = [
        {"image_id": i, "category_id": c, "bbox": b, "area": a}
        for i, c, b, a in zip(
            image.tolist(),
            classes[image, place].astype(int).tolist(),
            np.concatenate([edges[:, :2], sides], axis=1).tolist(),
            sides.prod(axis=1).tolist(),
            strict=True,
        )
    ]
    if scores is not None:
        for entry, score in zip(entries, scores[image, place].tolist(), strict=True):
            entry["score"] = score
    return entries


def _results(given: Any, coco_class: Any, found: list[dict[str, Any]]) -> Any:
    """Detections as COCO's results, without the copy and the prints of its `loadRes`."""
    results = coco_class()
    results.dataset = {
        "images": given.dataset["images"],
        "categories": given.dataset["categories"],
        "annotations": [x | {"id": i, "iscrowd": 0} for i, x in enumerate(found, 1)],
    }
    results.createIndex()
    return results
