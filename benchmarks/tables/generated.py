"""Pictures of what models of images generate: reconstructions, and samples."""

from math import log, prod

import torch

from rlbench.benchmarks.tables.images import SHOWN, Picture, coloured, image
from rlbench.benchmarks.tables.results import Result
from rlbench.benchmarks.training.loading import examples_of_run, load_run
from rlbench.errors import UserError
from rlbench.interface import evaluating
from rlbench.trust import Trust

LARGEST = 4_096
"""Values of a sample; more would take too long to draw one after the other."""


def reconstructed(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test images of a VQ-VAE, and what it makes of their codes."""
    learner, _ = load_run(result.folder, trust=trust)
    obs = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))["obs"]
    with torch.no_grad(), evaluating(learner):
        made = learner.decode(learner.codes(obs))
    axis = 1 if learner.channels_last else 2
    parts = torch.cat([obs, made], dim=1 + axis)
    errors = (obs.float() - made.float()).square().flatten(1).mean(1) / 255**2
    return tuple(
        Picture(image(x.numpy()), f"image, and the image of its codes; squared error {error:.4f}")
        for x, error in zip(parts, errors.tolist(), strict=True)
    )


def sampled(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """Samples of a PixelCNN, for the conditions of the first test examples if it has one.

    Raises:
        UserError: An image has too many values.
    """
    learner, _ = load_run(result.folder, trust=trust)
    if (values := prod(learner.values.shape)) > LARGEST:
        raise UserError(
            f"a sample has {values:,} values, which are drawn one after the other; samples of up to {LARGEST:,} values are shown"
        )
    test = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))
    name = learner.config.condition
    label = test[name] if name else None
    generator = torch.Generator(learner.device).manual_seed(result.seed)
    with torch.no_grad(), evaluating(learner):
        found, log_p = learner.sample(
            len(test), generator, condition=learner.condition(test["obs"], label)
        )
    # Grids of codes are no images.
    drawn = [x.numpy() if x.dim() == 3 else coloured(x.numpy()) for x in found]
    conditions = [""] * len(test) if label is None else [f"{name} {k}, " for k in label.tolist()]
    return tuple(
        Picture(image(x), f"sample, {condition}{-nats / values / log(2):.2f} bits per value")
        for x, condition, nats in zip(drawn, conditions, log_p.tolist(), strict=True)
    )
