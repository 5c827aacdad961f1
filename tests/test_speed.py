"""The speed benchmark runs; its figures are not judged here."""

import json
from pathlib import Path

import pytest

from rlbench.benchmarks.speed import __main__ as speed


@pytest.mark.slow
def test_a_quick_round_prints_a_table_and_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    speed.main(["--quick", "--agents", "bear", "--markdown", "--json", str(file)])
    assert "| uncompiled bear |" in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["updates_per_second"]["uncompiled bear"][0] > 0
    assert 100 < result["peak_memory_mib"]["uncompiled bear"] < 1024
