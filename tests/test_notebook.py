"""The notebook of the docs runs from top to bottom."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def outputs(cell: Any) -> str:
    """What a cell printed or returned, as text."""
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


@pytest.mark.slow
def test_all_cells_run_and_show_what_the_notebook_promises(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
    first, second, table, plotted, picture, acting = (
        cell for cell in notebook.cells if cell.cell_type == "code"
    )
    for cell, name in ((first, "bc"), (second, "iql")):
        assert f"{name} on point-mixed" in outputs(cell)
        assert "100%" in outputs(cell), "progress is not shown as in a terminal"
        assert f"kept in runs/{name}" in outputs(cell)
    assert "score" in outputs(table)
    assert "curves.svg" in outputs(plotted)
    assert "image/svg+xml" in picture.outputs[0].data
    assert outputs(acting).startswith("return -")


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
