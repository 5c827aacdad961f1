"""Trains the architectures that a search samples, its children, for a few epochs.

    K epochs of Adam on the cross-entropy, step size by one cycle, in batches of B images; images that are left over by
    the last batch of an epoch are left out, because batch normalisation cannot normalise a batch of one

A child's accuracy is measured on images that it did not learn from: the last part of the training split. The test split
serves for reports alone, because a search would otherwise fit its test images. If the classes of a source are very unequal,
accuracy is the mean over classes, and the classes have equal weight in the loss.

Tan et al., 2019, https://arxiv.org/abs/1807.11626, section 4: MnasNet trains its children for 5 epochs of ImageNet and holds
out 50,000 training images. The other settings are ours, for small images.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from rlbench.architecture import Architecture
from rlbench.backbones.encoders.mnasnet import MNASNET, build
from rlbench.backbones.layers.cost import cost
from rlbench.backbones.optim import Adam, gradient_step, one_cycle
from rlbench.backbones.spaces import CHANNELS
from rlbench.envs.examples import Source
from rlbench.envs.examples._base import SPLITS, Array, Split
from rlbench.errors import UserError
from rlbench.seeding import derive, initialising

TOGETHER = 20
"""Validation begins at a multiple of this number of examples: copies of an image and frames of an episode, which follow each
other in the sources of the suite, are then all in one part."""
MEASURED_AT_ONCE = 500


@dataclass(frozen=True)
class ChildSettings:
    """How a child is trained; all of it is part of the key of cached results."""

    version: int = 1
    """Increases when the same settings begin to give other results."""
    epochs: int = 5
    """Passes over the training images (K)."""
    batch_size: int = 64
    """Images in one batch (B)."""
    learning_rate: float = 5e-3
    """Largest step size."""
    examples: int = 3_000
    """Largest number of images of the training split, of which a part is for validation."""
    training_share: float = 0.7
    """Share of them from which a child learns."""
    test_examples: int = 1_000
    """Largest number of test images."""
    balanced: bool = False
    """Whether all classes count equally in the loss and in accuracy; see `Source.balanced`."""
    most_seconds: float = 600.0
    """Processor time after which training is given up."""


@dataclass(frozen=True)
class Images:
    """Labelled images."""

    obs: NDArray[np.uint8]
    """Bytes, [N, C, H, W]."""
    label: NDArray[np.int64]
    """Classes, [N]."""


@dataclass(frozen=True)
class ChildTask:
    """What children learn."""

    classes: int
    train: Images
    validation: Images
    test: Images
    digest: str
    """SHA-256 of all images and labels."""


@dataclass(frozen=True)
class Child:
    """What became of a child."""

    accuracy: float | None
    """On the validation images, from 0 to 1; None if training failed."""
    test_accuracy: float | None
    """On the test images."""
    parameters: int
    """Number of weights."""
    multiply_adds: int
    """Of one image."""
    seconds: float
    """Time of training."""
    status: str
    """`ok`, or why training failed: `diverged`, `timeout` or `memory`."""


def image_shape(source: Source, name: str) -> tuple[int, int, int]:
    """Channels, rows and columns of the images of a source.

    Raises:
        UserError: It has no labelled images.
    """
    obs, label = source.fields.get("obs"), source.fields.get("label")
    if isinstance(obs, spaces.Box) and isinstance(label, spaces.Discrete):
        shape = obs.shape if obs.shape[0] in CHANNELS else (*obs.shape[-1:], *obs.shape[:-1])
        if len(shape) == 3 and shape[0] in CHANNELS and obs.dtype == np.uint8:
            return shape
    raise UserError(
        f"{name} has the columns {', '.join(f'{key} {space}' for key, space in source.fields.items())}; a search needs "
        "images of bytes with 1, 3 or 4 channels in obs and one class each in label, so give a source such as "
        "digits-shift"
    )


def open_task(source: Source, name: str, settings: ChildSettings, seed: int = 0) -> ChildTask:
    """Draws the images of a source and divides them into parts.

    Args:
        source: Labelled images.
        name: Its name in errors.
        settings: Numbers of images.
        seed: Decides the draws of the source.

    Raises:
        UserError: The source has no labelled images, or too few.
    """
    shape, label = image_shape(source, name), source.fields["label"]
    assert isinstance(label, spaces.Discrete)
    sizes = sizes_of(source, name, settings)
    drawn = {split: source.sample(split, sizes[split], seed) for split in SPLITS}
    last = source.fields["obs"].shape != shape
    parts = {split: _images(drawn[split], last) for split in SPLITS}
    whole, test = parts["train"], parts["test"]
    count = _learned_from(len(whole.label), settings)
    train, validation = (
        Images(whole.obs[part], whole.label[part]) for part in (slice(count), slice(count, None))
    )
    digest = hashlib.sha256(repr((label.n, whole.obs.shape, test.obs.shape, count)).encode())
    for images in (whole, test):
        digest.update(images.obs.tobytes() + images.label.tobytes())
    return ChildTask(int(label.n), train, validation, test, digest.hexdigest())


def sizes_of(source: Source, name: str, settings: ChildSettings) -> dict[Split, int]:
    """Number of images of each split that are drawn from a source.

    Raises:
        UserError: They are too few.
    """
    most: dict[Split, int] = {"train": settings.examples, "test": settings.test_examples}
    sizes = {split: min(most[split], source.sizes[split]) for split in SPLITS}
    if _learned_from(sizes["train"], settings) < settings.batch_size or not sizes["test"]:
        raise UserError(
            f"{name} has {sizes['train']} training images and {sizes['test']} test images; give at least "
            f"{_smallest(settings)} and 1, so that a child can learn from a batch of {settings.batch_size}"
        )
    return sizes


def _learned_from(images: int, settings: ChildSettings) -> int:
    """How many training images children learn from; the others are for validation."""
    return int(settings.training_share * images) // TOGETHER * TOGETHER


def _images(columns: Mapping[str, Array], last: bool) -> Images:
    """The images of a split, with their channels first."""
    obs, label = (np.asarray(columns[name]) for name in ("obs", "label"))
    moved = obs.transpose(0, 3, 1, 2) if last else obs
    return Images(np.ascontiguousarray(moved), label.astype(np.int64))


def _smallest(settings: ChildSettings) -> int:
    """The smallest number of training images of which enough are learned from."""
    needed = -(-settings.batch_size // TOGETHER) * TOGETHER
    return int(np.ceil(needed / settings.training_share))


def train_child(
    architecture: Architecture, task: ChildTask, settings: ChildSettings, seed: int
) -> Child:
    """Trains and measures one child; the same arguments give the same child in every process.

    Args:
        architecture: The child.
        task: Images to learn from and to be measured on.
        settings: How to train.
        seed: Decides the first weights and the order of the images.
    """
    with one_thread(), torch.enable_grad():
        network = child_network(architecture, task.train.obs.shape[1:], task.classes, seed)
        shown = torch.zeros(1, *task.train.obs.shape[1:])
        size = cost(network, shown)
        begin = time.perf_counter()
        try:
            status = _train(network, task, settings, seed)
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            status = "memory"
        seconds = time.perf_counter() - begin
        network.eval()
        accuracy, test_accuracy = (
            (_accuracy(network, part, settings.balanced) for part in (task.validation, task.test))
            if status == "ok"
            else (None, None)
        )
    return Child(accuracy, test_accuracy, size.parameters, size.multiply_adds, seconds, status)


def child_network(
    architecture: Architecture, shape: tuple[int, ...], classes: int, seed: int
) -> nn.Module:
    """The network of a child before training, from images [B, C, H, W] as `pixels` gives them to logits [B, K].

    It has no dropout, which only slows the few epochs down.
    """
    with initialising(derive(seed, "weights")):
        return build(architecture, shape, classes, dropout=0.0)


def pixels(obs: Tensor) -> Tensor:
    """Bytes [B, C, H, W] as the network's input: from 0 to 1, in the memory format in which it is fast."""
    # A new tensor, because `contiguous` keeps the strides of images with one channel, which differ after pickling and on
    # which the choice of kernels, and so the rounding, depends.
    given = torch.empty(obs.shape, memory_format=MNASNET.memory_format)
    return given.copy_(obs).mul_(MNASNET.scale)


def _train(network: nn.Module, task: ChildTask, settings: ChildSettings, seed: int) -> str:
    """Trains in place; returns the status of the child."""
    obs, label = torch.from_numpy(task.train.obs), torch.from_numpy(task.train.label)
    weight = None
    if settings.balanced:
        weight = len(label) / task.classes / torch.bincount(label, minlength=task.classes).clamp(1)
    # Unlike wall time, it does not pass while the computer sleeps or other programs run.
    end = time.thread_time() + settings.most_seconds
    order = torch.Generator().manual_seed(derive(seed, "order"))
    optimizer = Adam(network.parameters(), settings.learning_rate)
    batches = len(label) // settings.batch_size
    for epoch in range(settings.epochs):
        rows = torch.randperm(len(label), generator=order)
        for batch in range(batches):
            done = (epoch * batches + batch) / (settings.epochs * batches)
            optimizer.learning_rate.fill_(settings.learning_rate * one_cycle(done))
            chosen = rows[batch * settings.batch_size : (batch + 1) * settings.batch_size]
            logits = network(pixels(obs[chosen]))
            loss = gradient_step(optimizer, F.cross_entropy(logits, label[chosen], weight))
            if not loss.isfinite():
                return "diverged"
            if time.thread_time() > end:
                return "timeout"
    return "ok"


@torch.inference_mode()
def _accuracy(network: nn.Module, images: Images, balanced: bool) -> float:
    """Share of images whose class has the largest logit; if balanced, the mean of this share over the classes that occur."""
    obs, label = torch.from_numpy(images.obs), torch.from_numpy(images.label)
    chosen = torch.cat([network(pixels(part)).argmax(1) for part in obs.split(MEASURED_AT_ONCE)])
    right = (chosen == label).double()
    if not balanced:
        return float(right.mean())
    count = torch.bincount(label)
    return float((torch.bincount(label, right)[count > 0] / count[count > 0]).mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: results and latencies then depend neither on the process nor on its settings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
