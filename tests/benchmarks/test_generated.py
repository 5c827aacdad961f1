"""Reports show reconstructions of a VQ-VAE, and samples of PixelCNNs."""

from pathlib import Path

import pytest

from rlbench.benchmarks.tables import generated
from rlbench.benchmarks.tables.pictures import Pictures, pictures
from rlbench.benchmarks.tables.results import read_result
from rlbench.cli import main

SMALL = "--updates 1 --eval-every 0 --data-size 20"


def shown(run: Path) -> Pictures:
    return pictures(read_result("any", run), trust=True)


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "codes"
    words = f"run vq-vae --env tests.squares:Squares --codes 6 --code-size 4 --width 8 --blocks 1 --batch-size 4 {SMALL}"
    assert main([*words.split(), "--out", str(out)]) == 0
    return out


def test_reconstructions_are_next_to_their_images(codes: Path) -> None:
    found = shown(codes)
    assert not found.why
    assert 2 <= len(found.shown) <= 8
    assert all(x.caption.startswith("image, and the image of its codes; squared error 0.") for x in found.shown)  # fmt: skip


@pytest.mark.parametrize("condition", ["", "label"])
def test_samples_of_a_pixelcnn(
    tmp_path: Path, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"run pixelcnn --env digits --width 4 --layers 1 --batch-size 4 {SMALL}"
    given = ["--condition", condition] if condition else []
    assert main([*words.split(), *given, "--out", str(tmp_path / "run")]) == 0
    found = shown(tmp_path / "run")
    assert len(found.shown) == 8
    start = "sample, label " if condition else "sample, "
    assert all(x.caption.startswith(start) and x.caption.endswith("bits per value") for x in found.shown)  # fmt: skip
    # An untrained network of 17 levels has about log2(17) bits per value.
    bits = [
        float(x.caption.removesuffix(" bits per value").rpartition(" ")[2]) for x in found.shown
    ]
    assert 3 < sum(bits) / len(bits) < 9
    monkeypatch.setattr(generated, "LARGEST", 10)
    assert "a sample has 64 values" in shown(tmp_path / "run").why


def test_samples_of_codes_are_coloured(codes: Path, tmp_path: Path) -> None:
    words = f"run pixelcnn --env tests.squares:Squares --tokens codes:{codes} --grid top --width 4 --layers 1 --batch-size 4 {SMALL}"
    assert main([*words.split(), "--out", str(tmp_path / "run")]) == 0
    found = shown(tmp_path / "run")
    assert not found.why
    assert len(found.shown) >= 2
