"""The notebooks run from top to bottom, and show pictures."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_a_notebook_runs_and_shows_pictures(path):
    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3").execute(cwd=path.parent)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) >= 3
    assert not any(out.get("name") == "stderr" for out in outputs)
