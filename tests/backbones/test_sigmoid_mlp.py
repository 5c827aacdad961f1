"""Fully connected layers with sigmoids, and the drift of their inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.sigmoid_mlp import STD
from rlbench.benchmarks.training.analysing import read_analysis
from rlbench.cli import main
from rlbench.errors import UserError
from tests.rlbench.test_cli import refused

RUN = [
    "run", "classifier", "--env", "digits", "--batch-size", "60", "--updates", "4", "--momentum", "0",
    "--snapshot-every", "2", "--eval-every", "0",
]  # fmt: skip


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_layers_equal_their_definition(norm: str) -> None:
    torch.manual_seed(0)
    encoder: Any = make_encoder(f"sigmoid-mlp:units=5,layers=2,norm={norm}", (2, 3, 1))
    obs = torch.randint(256, (7, 2, 3, 1), dtype=torch.uint8)
    x = obs.flatten(1).double() / 255
    for _, layer in list(encoder.layers.named_children())[1:]:
        linear = layer.linear
        x = x @ linear.weight.double().T
        if norm == "none":
            x = x + linear.bias.double()
        else:
            assert linear.bias is None
            variance = (x - x.mean(0)).square().mean(0)
            x = (x - x.mean(0)) / (variance + 1e-5).sqrt() * layer.norm.weight + layer.norm.bias
        x = 1 / (1 + (-x).exp())
    torch.testing.assert_close(encoder(obs).double(), x, atol=1e-5, rtol=1e-5)


def test_initial_weights_are_gaussian_and_follow_the_seed() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made: Any = make_encoder("sigmoid-mlp", (8, 8, 1))
        weights.append(made.layers[1].linear.weight)
    assert float(weights[0].detach().std()) == pytest.approx(STD, rel=0.05)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_evaluation_uses_running_averages() -> None:
    torch.manual_seed(0)
    encoder = make_encoder("sigmoid-mlp:units=4,layers=1,norm=bn", (3,))
    obs = torch.randn(64, 3)
    for _ in range(200):
        encoder(obs)
    encoder.eval()
    alone = torch.cat([encoder(row[None]) for row in obs])
    torch.testing.assert_close(alone, encoder(obs))
    encoder.train()
    torch.testing.assert_close(alone, encoder(obs), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("units=0", "units is 0 and layers is 3; give 1 or more"),
        ("layers=0", "layers is 0; give 1 or more"),
        ("norm=gn", "norm of sigmoid-mlp is 'gn'; give one of bn, none"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_encoder(f"sigmoid-mlp:{options}", (3,))


def test_drift_from_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    words = ["--learning-rate", "0.5", "--encoder", "sigmoid-mlp:units=6,norm=bn", "--out", run]
    assert main([*RUN, *words]) == 0
    assert main(["analyse", "drift", run]) == 0
    found = read_analysis(tmp_path / "run" / "analyses" / "drift")
    curves = found.columns["percentiles"][0]
    assert curves.shape == (2, 3, 6)
    assert (np.diff(curves, axis=1) > 0).all()
    assert not np.allclose(curves[0], curves[1])
    assert found.numbers["drift"] == pytest.approx(np.abs(curves[1, 1] - curves[0, 1]).mean())
    assert found.panels[0]["lines"][1]["x"] == [2, 4]
    assert "unit is 6, but the last layer has 6 units" in refused(
        capsys, ["analyse", "drift", run, "--unit", "6"]
    )


def test_runs_without_sigmoids_or_snapshots_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words, message in (
        ("none", ["--encoder", "sigmoid-mlp", "--snapshot-every", "0"], "the run has 0 snapshots"),
        ("flat", ["--encoder", "flatten"], "Classifier has no sigmoid layers"),
    ):
        assert main([*RUN, "--learning-rate", "1e-3", *words, "--out", str(tmp_path / name)]) == 0
        capsys.readouterr()
        assert message in refused(capsys, ["analyse", "drift", str(tmp_path / name)])
