"""Pictures of test examples in the report of a model."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rlbench.backbones.models import style_network
from rlbench.backbones.models.nearest_frame import NearestFrameConfig
from rlbench.backbones.models.segmenter import SegmenterConfig
from rlbench.backbones.models.style_network import StyleNetworkConfig
from rlbench.benchmarks.tables import pictures, report
from rlbench.benchmarks.tables.images import coloured, image
from rlbench.benchmarks.tables.pictures import caption
from rlbench.benchmarks.tables.report import ReportConfig
from rlbench.benchmarks.tables.results import Result, read_result
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from tests.backbones import test_dance
from tests.backbones.test_style import drawing


def pixels(address: str) -> np.ndarray:
    from PIL import Image

    content = address.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_small_images_are_enlarged_and_stretched_to_all_greys() -> None:
    got = pixels(image(np.array([[[0], [8]], [[16], [4]]], np.uint8)))
    assert got.shape == (96, 96)
    assert got[::48, ::48].tolist() == [[0, 128], [255, 64]]


def test_channels_may_come_first_and_have_colours() -> None:
    got = pixels(image(np.arange(12, dtype=np.float32).reshape(3, 2, 2)))
    assert got.shape == (96, 96, 3)
    assert got[0, 0].tolist() == [0, 93, 185]  # 0, 4 and 8 of 11.


def test_classes_have_their_own_colours() -> None:
    few, many = coloured(np.array([[0, 1, 2]])), coloured(np.arange(24).reshape(4, 6))
    assert few[0, 0].tolist() == [0, 0, 0]
    assert (
        few.tolist() == many[:1, :3].tolist()
    )  # The same class has the same colour in every picture.
    assert len(np.unique(many.reshape(-1, 3), axis=0)) == 24


def test_the_masks_of_a_segmenter_are_in_the_report(tmp_path: Path) -> None:
    config = RunConfig(
        env="tests.backbones.test_segmenter:source", updates=1, eval_every=0, out=tmp_path / "run"
    )  # fmt: skip
    settings = SegmenterConfig(encoder="unet:width=4,pools=1", head="finest", batch_size=8)
    Run("segmenter", settings, config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("segmenter", tmp_path / "run"), trust=True)
    assert len(found.shown) == 8
    width = pixels(found.shown[0].image).shape[1]
    assert width == 3 * pixels(found.shown[0].image).shape[0]
    assert "of the pixels are right" in found.shown[0].caption
    report.make(ReportConfig(runs=(tmp_path / "run",), out=tmp_path / "report.html", trust=True))
    assert (tmp_path / "report.html").read_text().count("image, true and predicted classes") == 16


def test_boxes_are_drawn_in_the_colours_of_their_classes() -> None:
    obs = np.zeros((3, 4, 6), np.uint8)
    drawn = pictures.outlined(obs, np.array([[1.0, 0, 3, 2]]), np.array([2.0]))
    assert drawn.shape == (16, 24, 3)
    outline: Any = drawn.any(-1)
    assert outline.sum() == 4 * 8 - 4
    assert outline[0, 4:12].all()
    assert outline[7, 4:12].all()
    assert outline[:8, 4].all()
    assert outline[:8, 11].all()
    assert drawn[0, 4].tolist() == coloured(np.array([[2]]))[0, 0].tolist()
    assert not pictures.outlined(obs[:1], np.zeros((0, 4)), np.zeros(0)).any()


def test_masks_are_tinted_in_the_colours_of_their_classes() -> None:
    obs = np.full((3, 4, 6), 100, np.uint8)
    masks = np.zeros((1, 4, 6), bool)
    masks[0, 1, 2] = True
    drawn = pictures.tinted(obs, masks, np.array([2.0]))
    assert drawn[1, 2].tolist() == (50 + coloured(np.array([[2]]))[0, 0] // 2).tolist()
    drawn[1, 2] = 100
    assert (drawn == 100).all()
    assert (obs == 100).all()


def test_masks_of_a_detector_are_in_the_report(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from tests.backbones.test_mask_rcnn import SMALL as small

    config = RunConfig(env="tests.squares:Squares", updates=1, eval_every=0, out=tmp_path / "run")
    settings = load_learner("mask-rcnn").Config(**small, batch_size=8)
    Run("mask-rcnn", settings, config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("mask-rcnn", tmp_path / "run"), trust=True)
    assert len(found.shown) == 8
    assert "true objects, and" in found.shown[0].caption


def test_key_points_are_in_the_report(tmp_path: Path) -> None:
    from tests.backbones.test_keypoints import pose_run

    pose_run(tmp_path / "run")
    found = pictures.pictures(read_result("pose-mrf", tmp_path / "run"), trust=True)
    assert len(found.shown) == 8
    assert "true and predicted key points" in found.shown[0].caption
    assert pixels(found.shown[0].image).shape[:2] == (32 * 4, 2 * 32 * 4)
    wanted = [[0, 0, 1.5, 2], [4, 5, 6, 7]]
    assert pictures.around(np.array([[0.5, 1.0], [5.0, 6.0]])).tolist() == wanted


def test_the_boxes_of_a_detector_are_in_the_report(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from tests.backbones.test_ssd import SMALL as small

    config = RunConfig(
        env="tests.squares:Squares", updates=1, eval_every=0, out=tmp_path / "run"
    )  # fmt: skip
    settings = load_learner("ssd").Config(**small, batch_size=8)
    Run("ssd", settings, config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("ssd", tmp_path / "run"), trust=True)
    assert len(found.shown) == 8
    assert pixels(found.shown[0].image).shape == (128, 256, 3)
    assert found.shown[1].caption.startswith("2 true objects, and ")


def test_a_radiance_field_draws_frames_that_it_has_not_seen(tmp_path: Path) -> None:
    from tests.backbones.test_nerfies import SMALL as small, floor

    config = RunConfig(env="tests.backbones.test_nerfies:source", updates=1, eval_every=0, out=tmp_path / "run")  # fmt: skip
    Run("nerfies", load_learner("nerfies").Config(**small), config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("nerfies", tmp_path / "run"), trust=True)
    assert [x.caption.partition(":")[0] for x in found.shown[:-1]] == [f"frame {i}" for i in range(6)]  # fmt: skip
    assert "dB inside the mask" in found.shown[0].caption
    assert found.shown[-1].caption == "frame 0: true, and drawn from 6 angles"
    own, turned = (pixels(found.shown[i].image) for i in (0, -1))
    assert own.shape == (48, 96, 3)
    times = turned.shape[0] // 8
    assert turned.shape == (8 * times, 56 * times, 3)
    tiny = turned[::times, ::times]
    true = floor()["obs"][0].numpy().astype(int)
    assert np.abs(tiny[:, :8].astype(int) - true).max() <= 2
    # The first angle is that of the frame's own camera, and the others see the same frame.
    assert np.array_equal(tiny[:, :16], own[::6, ::6])
    learner, _ = load_run(tmp_path / "run", trust=True)
    view = torch.cat([floor()["camera"][5:6], torch.zeros(1, 1)], dim=1)
    drawn = (255 * learner.decide(view)[0]).byte().int().numpy()
    assert np.abs(tiny[:, 48:].astype(int) - drawn).max() <= 2


def test_vectors_are_curves_and_other_shapes_are_refused() -> None:
    assert image(np.array([0.0, 1.0])).startswith("data:image/svg+xml;base64,")
    with pytest.raises(UserError, match=r"shape \[2, 5\] are neither images nor vectors"):
        image(np.zeros((2, 5)))


def test_captions() -> None:
    assert (caption(3, 3), caption(3, 5)) == ("3", "3, predicted 5")


def test_the_report_of_a_model_shows_right_and_wrong_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        f"{split}/{name}": x
        for split in ("train", "test")
        for name, x in (
            ("obs", rng.integers(0, 255, (30, 6, 6, 1), dtype=np.uint8)), ("label", np.arange(30) % 3),
        )
    }  # fmt: skip
    np.savez(tmp_path / "mine.npz", **columns)  # type: ignore[arg-type]
    settings = load_learner("classifier").Config(encoder="resnet:units=1,width=4", batch_size=5)
    config = RunConfig(env=str(tmp_path / "mine.npz"), updates=2, out=tmp_path / "run")
    Run("classifier", settings, config, Console(quiet=True)).start()
    result = read_result("classifier", tmp_path / "run")
    found = pictures.pictures(result)
    right = result.columns["prediction"] == np.arange(30) % 3
    assert len(found.right) == min(8, right.sum())
    assert len(found.wrong) == min(8, (~right).sum())
    assert all(", predicted" in x.caption for x in found.wrong)
    report.make(ReportConfig((tmp_path / "run",), out=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == len(found.right) + len(found.wrong)
    assert "Wrong predictions" in page
    assert "accuracy" in page


def finished(learner: str, out: Path, **settings: Any) -> Result:
    """The result of two updates on sequences."""
    config = RunConfig(env="assoc-retrieval-2", data_size=40, updates=2, eval_every=0, out=out)
    Run(
        learner, load_learner(learner).Config(batch_size=8, **settings), config, Console(quiet=True)
    ).start()
    return read_result(learner, out)


SMALL = "transformer:width=8,layers=1,heads=2,units=8"


def test_sequences_are_shown_as_words_with_the_attention_to_them(tmp_path: Path) -> None:
    found = pictures.pictures(finished("sequence-classifier", tmp_path / "run", encoder=SMALL))
    drawn = (*found.right, *found.wrong)
    assert len(drawn) >= 8
    assert all("[CLS]" in x.caption and "[PAD]" not in x.caption for x in drawn)
    for each in drawn:
        sentence, _, classes = each.caption.rpartition(": ")
        words = len(sentence.split())
        side, across = pixels(each.image).shape
        assert side == across
        assert side % words == 0
        assert (", predicted" in classes) == (each in found.wrong)


def test_a_memory_has_a_strip_of_the_colours_of_its_tokens(tmp_path: Path) -> None:
    result = finished("sequence-classifier", tmp_path / "run", memory="lstm", memory_size=4)
    found = pictures.pictures(result)
    strip = pixels((*found.right, *found.wrong)[0].image)
    assert strip.shape[1] > 3 * strip.shape[0]


def test_a_language_model_shows_the_words_that_it_predicts(tmp_path: Path) -> None:
    found = pictures.pictures(finished("language-model", tmp_path / "run", encoder=SMALL))
    assert len(found.shown) == 8
    first = found.shown[0].caption
    assert "[MASK]" in "".join(x.caption for x in found.shown)
    assert first.startswith("[CLS]")
    assert first.rpartition(": ")[2]


def test_drawn_clips_are_in_the_report(tmp_path: Path) -> None:
    config = RunConfig(
        env="tests.backbones.test_dance:source", updates=1, eval_every=0, out=tmp_path / "run"
    )
    settings = NearestFrameConfig(memory=4, batch_size=4)
    Run("nearest-frame", settings, config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("nearest-frame", tmp_path / "run"), trust=True)
    assert len(found.shown) == 4
    assert found.shown[0].caption == "drawn and true frames"
    drawn = pixels(found.shown[0].image)
    true = test_dance.batch(1, 4)["frames"][0].numpy()
    below = np.concatenate(list(true), axis=1)
    assert drawn.shape == (2 * true.shape[1], 3 * true.shape[2], 3)
    np.testing.assert_allclose(drawn[true.shape[1] :], np.rint(below * (255 / below.max())), atol=1)


def test_redrawn_frames_are_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_network, "photograph", drawing)
    obs = np.random.default_rng(0).integers(256, size=(3, 100, 100, 3), dtype=np.uint8)
    columns = {"train/obs": obs, "test/obs": obs}
    np.savez(tmp_path / "frames.npz", **columns)  # type: ignore[arg-type]
    config = RunConfig(
        env=str(tmp_path / "frames.npz"), updates=1, eval_every=0, out=tmp_path / "run"
    )
    settings = StyleNetworkConfig(
        encoder="vgg:width=2,blocks=1", styles=("brick",), width=2, blocks=1, batch_size=2
    )
    Run("style-network", settings, config, Console(quiet=True)).start()
    found = pictures.pictures(read_result("style-network", tmp_path / "run"), trust=True)
    assert len(found.shown) == 3
    shown = pixels(found.shown[0].image)
    assert shown.shape == (100, 200, 3)
    np.testing.assert_allclose(shown[:, :100], obs[0], atol=1)
    assert not np.array_equal(shown[:, :100], shown[:, 100:])
