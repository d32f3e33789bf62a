"""Every notebook runs from start to end and is stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MAX_CELLS = 15
SECONDS_PER_CELL = 600  # far more than a cell takes, for busy machines


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_short_and_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert len(notebook.cells) < MAX_CELLS
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} · ")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


# The kernel's own sockets and event loop warn as they close; the cells run in another process.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(path, monkeypatch):
    root = path.parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'kernels'}")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
