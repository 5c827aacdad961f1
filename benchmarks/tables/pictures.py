"""Pictures of what a model did: test examples that it got right and wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbench.benchmarks.tables.images import SHOWN, Picture, coloured, image
from rlbench.benchmarks.tables.results import Result
from rlbench.errors import UserError
from rlbench.sequences import PAD, TokenSequence
from rlbench.trust import Trust

SURE, ENLARGED = 0.5, 4
"""Smallest score of the detections that are drawn, and pixels of their pictures per pixel of the image."""


@dataclass(frozen=True)
class Pictures:
    """Examples of a run, or why there are none."""

    title: str
    right: tuple[Picture, ...] = ()
    wrong: tuple[Picture, ...] = ()
    why: str = ""
    shown: tuple[Picture, ...] = ()
    """Examples with their predictions, if a prediction is not simply right or wrong."""


def pictures(result: Result, *, trust: Trust = False) -> Pictures:
    """Right and wrong examples from a model's last evaluation.

    Args:
        result: The run of the model.
        trust: Whether custom code that its folder names may be imported, or the names that may.
    """
    title = f"{result.method} on {result.task}, seed {result.seed}"
    try:
        return _drawn(title, result, trust)
    except UserError as error:
        return Pictures(title, why=str(error))


def _drawn(title: str, result: Result, trust: Trust) -> Pictures:
    from rlbench.benchmarks.tables.generated import reconstructed, sampled
    from rlbench.benchmarks.training.loading import examples_of_run, load_run

    of_model = {
        "dance": redrawn, "language-model": predicted_words, "nearest-frame": redrawn, "nerfies": rendered, "pixelcnn": sampled,
        "style-network": redrawn, "vq-vae": reconstructed,
    }.get(result.config["learner"]["name"])  # fmt: skip
    if of_model is not None:
        return Pictures(title, shown=of_model(result, trust))
    if "confusion" in result.columns:
        return Pictures(title, shown=segmented(result, trust))
    if "detections" in result.columns:
        return Pictures(title, shown=detected(result, trust))
    if "points" in result.columns:
        return Pictures(title, shown=posed(result, trust))
    if "prediction" not in result.columns:
        raise UserError("its model has no measure `prediction`, so there is nothing to draw")
    given = examples_of_run(result.folder, trust=trust)
    test, space = given.test, given.fields["obs"]
    label = test[result.config["learner"]["settings"].get("label", "label")].numpy()
    prediction = result.columns["prediction"]
    right = np.flatnonzero(prediction == label)[:SHOWN]
    wrong = np.flatnonzero(prediction != label)[:SHOWN]
    obs = test["obs"].numpy()
    if isinstance(space, TokenSequence):
        learner, _ = load_run(result.folder, trust=trust)

    def examples(rows: NDArray[Any]) -> tuple[Picture, ...]:
        captions = [caption(label[i], prediction[i]) for i in rows]
        if isinstance(space, TokenSequence):
            captions = [f"{space.text(obs[i])}: {x}" for i, x in zip(rows, captions, strict=True)]
            drawn = _reading(learner, obs[rows])
        else:
            drawn = [image(obs[i]) for i in rows]
        return tuple(Picture(*both) for both in zip(drawn, captions, strict=True))

    return Pictures(title, examples(right), examples(wrong))


def segmented(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test examples of a segmenter: the image, the true class of each pixel, and the predicted one."""
    import torch

    from rlbench.benchmarks.training.loading import examples_of_run, load_run
    from rlbench.interface import evaluating

    learner, _ = load_run(result.folder, trust=trust)
    test = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))
    with torch.no_grad(), evaluating(learner):
        prediction = learner.decide(test["obs"]).argmax(1).numpy()
    found = []
    for obs, label, predicted in zip(
        test["obs"].numpy(), test[learner.config.label].numpy(), prediction, strict=True
    ):
        if obs.shape[:2] != label.shape:  # Channels first.
            obs = np.moveaxis(obs, 0, -1)
        parts = [np.broadcast_to(obs, (*label.shape, 3)), coloured(label), coloured(predicted)]
        accuracy = f"{(label == predicted).mean():.1%} of the pixels are right"
        found.append(
            Picture(
                image(np.concatenate(parts, axis=1)),
                f"image, true and predicted classes; {accuracy}",
            )
        )
    return tuple(found)


def rendered(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """Test frames, true and drawn by a radiance field, and one of them from the cameras of the others."""
    import torch

    from rlbench.benchmarks.training.loading import examples_of_run, load_run
    from rlbench.interface import evaluating

    learner, _ = load_run(result.folder, trust=trust)
    test = examples_of_run(result.folder, trust=trust).test
    rows = np.linspace(0, len(test) - 1, min(SHOWN, len(test))).astype(int)
    some = test.take(torch.from_numpy(rows))
    views = torch.cat([some["camera"], some["frame"][:, None]], dim=1)
    still = views.clone()
    still[:, -1] = views[0, -1]
    with torch.no_grad(), evaluating(learner):
        own, others = ((255 * learner.decide(x)).byte().numpy() for x in (views, still))
    found = [
        Picture(
            image(np.concatenate([obs, drawn], axis=1)),
            f"frame {int(frame)}: true and drawn, {result.columns['psnr'][row]:.1f} dB, "
            f"{result.columns['robot_psnr'][row]:.1f} dB inside the mask",
        )
        for row, frame, obs, drawn in zip(
            rows, some["frame"], some["obs"].numpy(), own, strict=True
        )
    ]
    turned = image(np.concatenate([some["obs"][0].numpy(), *others], axis=1))
    words = f"frame {int(some['frame'][0])}: true, and drawn from {len(rows)} angles"
    return (*found, Picture(turned, words))


def redrawn(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test examples of a model that draws pictures: a frame and the drawn one, or rows of the source, drawn and true frames of a clip."""
    import torch

    from rlbench.benchmarks.training.loading import examples_of_run, load_run
    from rlbench.interface import evaluating

    learner, _ = load_run(result.folder, trust=trust)
    test = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))
    with torch.no_grad(), evaluating(learner):
        made = learner.decide(test["obs"]).round().byte().numpy()
    if "frames" not in test.columns:
        pairs = zip(test["obs"].numpy(), made, strict=True)
        both = (np.concatenate([_rgb(x), _rgb(y)], axis=1) for x, y in pairs)
        return tuple(Picture(image(x), "a frame, and the same redrawn") for x in both)
    rows = [made, test["frames"].numpy()]
    rows = [test["source"].numpy(), *rows] if "source" in test.columns else rows
    words = f"{'source, ' if len(rows) > 2 else ''}drawn and true frames"
    clips = (np.concatenate([np.concatenate(x, axis=1) for x in clip]) for clip in zip(*rows, strict=True))  # fmt: skip
    return tuple(Picture(image(clip), words) for clip in clips)


def detected(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test examples of a detector: the image with its true objects, and with the detections that have high scores."""
    from rlbench.benchmarks.training.loading import examples_of_run

    test = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))
    found = []
    columns = (result.columns[name][:SHOWN] for name in ("objects", "detections"))
    masks = _masks(result, test, trust) if "mask_overlaps" in result.columns else [None] * SHOWN
    for obs, objects, given, own in zip(test["obs"].numpy(), *columns, masks, strict=False):
        sure = given[:, 4] > SURE
        objects, given = objects[objects[:, 4] > 0], given[sure]
        painted = obs if own is None else tinted(obs, own[sure], given[:, 5])
        both = [
            outlined(obs, objects[:, :4], objects[:, 4]),
            outlined(painted, given[:, :4], given[:, 5]),
        ]
        words = (
            f"{len(objects)} true objects, and {len(given)} detections with a score above {SURE}"
        )
        found.append(Picture(image(np.concatenate(both, axis=1)), words))
    return tuple(found)


def posed(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test examples of a model of key points: the image with the visible true points, and with the predicted ones."""
    from rlbench.benchmarks.training.loading import examples_of_run

    test = examples_of_run(result.folder, trust=trust).test.take(slice(SHOWN))
    columns = (result.columns[name][:SHOWN] for name in ("seen", "points", "pixels"))
    found = []
    for obs, true, seen, points, pixels in zip(
        test["obs"].numpy(), test["keypoints"].numpy(), *columns, strict=True
    ):
        label = np.arange(1, len(true) + 1)
        both = [
            outlined(obs, around(true[seen, :2]), label[seen]),
            outlined(obs, around(points), label),
        ]
        words = f"true and predicted key points; the visible ones are {pixels[seen].mean():.1f} pixels apart"
        found.append(Picture(image(np.concatenate(both, axis=1)), words))
    return tuple(found)


def around(points: NDArray[Any]) -> NDArray[Any]:
    """Boxes of 2x2 pixels around points [K, 2], [K, 4], cut off at the upper and left edges of the image."""
    return np.concatenate([points - 1, points + 1], axis=1).clip(0)


def _masks(result: Result, test: Any, trust: Trust) -> NDArray[np.bool_]:
    """The masks of the detections of test examples, [B, K, H, W]."""
    import torch

    from rlbench.benchmarks.training.loading import load_run
    from rlbench.interface import evaluating

    learner, _ = load_run(result.folder, trust=trust)
    with torch.no_grad(), evaluating(learner):
        masks: NDArray[np.bool_] = learner.masks_of(
            test["obs"], torch.as_tensor(result.columns["detections"][: len(test)])
        ).numpy()
    return masks


def _rgb(obs: NDArray[Any]) -> NDArray[np.uint8]:
    """A copy of an image [H, W, C] or [C, H, W] with three channels, uint8 [H, W, 3]."""
    if obs.shape[-1] not in (1, 3, 4):
        obs = np.moveaxis(obs, 0, -1)
    return np.array(np.broadcast_to(obs[..., :3], (*obs.shape[:2], 3)))


def tinted(obs: NDArray[Any], masks: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.uint8]:
    """An image [H, W, C] or [C, H, W] with half of the colours of classes [K] in their masks [K, H, W], uint8 [H, W, 3]."""
    picture = _rgb(obs)
    palette = coloured(np.arange(int(classes.max(initial=0)) + 1)[None])[0]
    for mask, label in zip(masks, classes.astype(int), strict=True):
        picture[mask] = picture[mask] // 2 + palette[label] // 2
    return picture


def outlined(obs: NDArray[Any], boxes: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.uint8]:
    """An image [H, W, C] or [C, H, W] enlarged by `ENLARGED`, uint8 [..., 3], with boxes [K, 4] in the colours of their classes [K]."""
    large: NDArray[np.uint8] = _rgb(obs).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    palette = coloured(np.arange(int(classes.max(initial=0)) + 1)[None])[0]
    for (left, top, right, bottom), label in zip(
        np.rint(boxes * ENLARGED).astype(int), classes.astype(int), strict=True
    ):
        inside = large[top:bottom, left:right]
        inside[:1] = inside[-1:] = inside[:, :1] = inside[:, -1:] = palette[label]
    return large


def predicted_words(result: Result, trust: Trust) -> tuple[Picture, ...]:
    """The first test sequences of a language model: its attention weights, its input, and the most likely words."""
    import torch

    from rlbench.backbones.models._sequences import tokens_of
    from rlbench.benchmarks.training.loading import examples_of_run, load_run
    from rlbench.interface import evaluating

    learner, _ = load_run(result.folder, trust=trust)
    given = examples_of_run(result.folder, trust=trust)
    space = tokens_of(given.fields)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad(), evaluating(learner):
        read, true, chosen = learner.problem(given.test.take(slice(SHOWN))["obs"], noise)
        found = learner.logits(read).argmax(-1)
    captions = []
    for i, places in enumerate(chosen):
        pairs = zip(true[i, places].tolist(), found[i, places].tolist(), strict=True)
        words = (caption(space.words[label], space.words[word]) for label, word in pairs)
        captions.append(f"{space.text(read[i].numpy())}: {'; '.join(words)}")
    drawn = _reading(learner, read.numpy())
    return tuple(Picture(*both) for both in zip(drawn, captions, strict=True))


def _reading(learner: Any, tokens: NDArray[Any]) -> list[str]:
    """Pictures of the attention weights within each sequence of tokens [B, L], or of the tokens as colours if the model has no attention."""
    import torch

    from rlbench.backbones.encoders.transformer import TokenTransformer
    from rlbench.interface import evaluating

    lengths = (tokens != PAD).sum(1).tolist()
    layers = learner.encoder.layers
    if not isinstance(layers, TokenTransformer):
        return [image(coloured(row[None, :n])) for row, n in zip(tokens, lengths, strict=True)]
    with torch.no_grad(), evaluating(learner):
        weights = layers.attention(torch.as_tensor(tokens)).numpy()
    return [image(x[:n, :n, None]) for x, n in zip(weights, lengths, strict=True)]


def caption(label: Any, prediction: Any) -> str:
    """The class of an example, and the predicted one if it differs."""
    return str(label) if label == prediction else f"{label}, predicted {prediction}"
