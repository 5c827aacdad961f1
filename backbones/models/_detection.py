"""Code shared by models that detect objects: the columns that they learn from, and the average precision of what they find.

A detection is a box, a score and a class; the detections of an image are padded to K with rows of zeros. The overlap of two boxes or
masks is their intersection over union. The average precision of a class is the area under its precision-recall curve at an overlap
of 0.5, as computed by COCO's own code (Lin et al., 2014, https://arxiv.org/abs/1405.0312; the package pycocotools), but with size
limits that suit small frames.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor, nn

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
"""Smallest and largest area in square pixels of the objects of each measure; the sides of boxes are whole numbers."""
MAP, RECALL = Measure("map"), Measure("recall")


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
        UserError: They have none, or the frames are not images.
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


def refuse_without_instances(fields: Mapping[str, Space[Any]]) -> None:
    """Refuses examples without the pixels of their objects.

    Raises:
        UserError: They have no column `instances` that fits the frames and objects.
    """
    objects, instances = objects_of(fields), fields.get("instances")
    if not (isinstance(instances, spaces.Box) and instances.shape == objects.size):
        raise UserError(
            f"the examples have no pixels of objects: a column `instances` {list(objects.size)} with the number of the object at each "
            f"pixel; they have {', '.join(fields)}; give a source such as objects-minigrid-s16"
        )


def refuse_unread(
    outputs: Iterable[Tensor],
    encoder: nn.Module,
    what: str,
    advice: str = "give more maps, or an encoder with fewer layers, such as conv4:layers=3",
) -> None:
    """Refuses an encoder with layers on which no output depends, and which would not be trained.

    Args:
        outputs: What is read from the encoder.
        encoder: The encoder.
        what: The setting that selects the outputs, and the encoder, in errors.
        advice: What the user should do, in errors.

    Raises:
        UserError: There are such layers.
    """
    total: Tensor = sum((x.sum() for x in outputs), torch.zeros(()))
    found = torch.autograd.grad(total, [*encoder.parameters()], allow_unused=True)
    if any(gradient is None for gradient in found):
        raise UserError(
            f"{what} has layers that lead to none of these maps and would not be trained; {advice}"
        )


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
    objects: NDArray[Any],
    detections: NDArray[Any],
    classes: int,
    overlaps: NDArray[Any] | None = None,
    thresholds: Sequence[float] = (0.5,),
) -> dict[str, float]:
    """Average precisions at the first threshold, and `map_75`, ... at the others.

    `map` is the mean over classes; `map_small`, ... is the same for objects of one size; `ap_1`, ... are those of each class. Classes and sizes
    of which there is no object are left out. If there are no objects or no detections, the
    only measure is `map`, and it is 0.

    Args:
        objects: True boxes and classes, [N, M, 5]; class 0 is none.
        detections: Boxes, scores and classes, [N, K, 6]; class 0 is none.
        classes: Number of classes, C.
        overlaps: Overlaps of detections and objects, [N, K, M], for example of their masks; None: those of their boxes.
        thresholds: Least overlap of a detection with the object that it finds.
    """
    found = _evaluated(objects, detections, classes, overlaps, thresholds)
    strict = [f"{MAP.name}_{100 * threshold:.0f}" for threshold in thresholds[1:]]
    if found is None:
        return dict.fromkeys((MAP.name, *strict), 0.0)
    precision = found.eval["precision"][..., 0].mean(axis=1)  # [thresholds, C, areas]
    each, there = precision[0], precision[0] > -1
    means = {
        MAP.name + name: float(each[there[:, i], i].mean())
        for i, name in enumerate(AREAS)
        if there[:, i].any()
    }
    stricter = {
        name: float(own[there[:, 0], 0].mean())
        for name, own in zip(strict, precision[1:], strict=True)
    }
    of_classes = {f"ap_{k + 1}": float(each[k, 0]) for k in range(classes) if there[k, 0]}
    return means | stricter | of_classes


def average_recalls(objects: NDArray[Any], proposals: NDArray[Any]) -> dict[str, float]:
    """`recall`, the share of objects that are found by a proposal, a mean over overlaps of 0.5, 0.55, ..., 0.95.

    `recall_small`, ... is the same for objects of one size. Sizes of which there is no object are left out. If there are no
    objects or no proposals, the only measure is `recall`, and it is 0.

    Args:
        objects: True boxes and classes, [N, M, 5]; class 0 is none.
        proposals: Boxes and scores, [N, K, 5]; score 0 is none.
    """
    true = np.concatenate([objects[..., :4], objects[..., 4:] > 0], axis=-1)
    given = np.concatenate([proposals, proposals[..., 4:] > 0], axis=-1)
    found = _evaluated(true, given, 1, None, np.linspace(0.5, 0.95, 10))
    if found is None:
        return {RECALL.name: 0.0}
    recall = found.eval["recall"][:, 0, :, 0].mean(axis=0)  # [areas]
    return {RECALL.name + name: float(x) for name, x in zip(AREAS, recall, strict=True) if x > -1}


def _evaluated(
    objects: NDArray[Any],
    detections: NDArray[Any],
    classes: int,
    overlaps: NDArray[Any] | None,
    thresholds: Sequence[float] | NDArray[Any],
) -> Any:
    """COCO's evaluation; None if there are no objects or no detections. See `average_precisions`."""
    coco_class, evaluation_class = coco()
    true = _listed(objects[..., :4], objects[..., 4])
    for i, entry in enumerate(true, 1):
        entry |= {"id": i, "iscrowd": 0}
    found = _listed(detections[..., :4], detections[..., 5], detections[..., 4])
    if not true or not found:
        return None
    with redirect_stdout(io.StringIO()):  # It prints its progress.
        given = coco_class()
        given.dataset = {
            "images": [{"id": i} for i in range(len(objects))],
            "categories": [{"id": k} for k in range(1, classes + 1)],
            "annotations": true,
        }
        given.createIndex()
        evaluation = evaluation_class(given, _results(given, coco_class, found), "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng = [list(limits) for limits in AREAS.values()]
        evaluation.params.areaRngLbl = list(AREAS)
        evaluation.params.maxDets = [detections.shape[1]]
        if overlaps is not None:

            def of_class(image: int, label: int) -> NDArray[Any]:
                """Overlaps of the detections of a class, from the highest score down, and its objects."""
                own = np.flatnonzero(detections[image, :, 5] == label)
                own = own[np.argsort(-detections[image, own, 4], kind="stable")]
                there = np.flatnonzero(objects[image, :, 4] == label)
                found: NDArray[Any] = overlaps[image][np.ix_(own, there)].astype(np.float64)
                return found

            evaluation.computeIoU = of_class
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


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
