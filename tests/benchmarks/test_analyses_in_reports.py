"""Reports show curves, numbers and pictures of the analyses of their runs."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlbench.backbones.analyses._base import Analysis, Findings, Line, Panel
from rlbench.benchmarks.tables.analyses import LARGEST
from rlbench.benchmarks.training.analysing import AnalysisJob, perform
from rlbench.cli import main


@dataclass(frozen=True)
class DrawnConfig:
    """No settings."""


class Drawn(Analysis):
    """Numbers, a curve and files that are known."""

    Config = DrawnConfig
    runs = ("a run",)
    agents = True

    def analyse(self, learners: Any, examples: Any) -> Findings:
        x = np.array([0.25, 0.5])
        panel = Panel("share", "budget", [Line("pgd", [1, 2], x, x, x)])
        files: dict[str, str | bytes] = {
            "drawn.png": b"\x89PNG small", "film.gif": b"GIF89a", "table.csv": "a,b\n",
            "large.png": b"x" * (LARGEST + 1),
        }  # fmt: skip
        return Findings({"half": 0.5, "unknown": float("nan")}, [panel], {"x": x}, files)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    words = "run ppo --env CartPole-v1 --envs 2 --rollout-steps 8 --batch-size 8 --hidden 8 --updates 1 --eval-episodes 1"
    assert main([*words.split(), "--out", str(out)]) == 0
    perform(AnalysisJob("tests.benchmarks.test_analyses_in_reports:Drawn", {}, (out,)))
    return out


def report(run: Path, page: Path) -> str:
    assert main(["report", str(run), "--out", str(page), "--no-films"]) == 0
    return page.read_text()


def test_a_report_shows_numbers_curves_and_pictures(analysed: Path, tmp_path: Path) -> None:
    text = report(analysed, tmp_path / "page.html")
    assert "Pictures of analyses" in text
    for kind, content in (("png", b"\x89PNG small"), ("gif", b"GIF89a")):
        assert f"data:image/{kind};base64,{base64.b64encode(content).decode()}" in text
    assert "large.png" not in text
    assert "table.csv" not in text
    assert "Numbers of analyses" in text
    assert "<td>half</td>" in text.replace(' class="number"', "")
    assert "budget" in text


def test_a_damaged_analysis_is_named_and_left_out(
    analysed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = analysed.glob("analyses/*/analysis.json")
    whole = file.read_text()
    try:
        file.write_text(whole.replace('"half"', '"full"'))
        text = report(analysed, tmp_path / "page.html")
    finally:
        file.write_text(whole)
    assert "Pictures of analyses" not in text
    assert "note: an analysis is left out: the analysis in" in capsys.readouterr().out
