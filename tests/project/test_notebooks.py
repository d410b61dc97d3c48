"""The notebooks run from top to bottom on the results of a run, and are kept without outputs."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
# ipykernel's own kernel: this very interpreter, whatever else the person has registered.
NotebookClient(notebook, kernel_name="python3", timeout=300, resources={"metadata": {"path": "notebooks"}}).execute()
nbformat.write(notebook, sys.argv[1])
"""


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_corpus.ipynb", "02_retriever_before_and_after.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_and_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_the_results_of_a_run(finished_copy, path):
    copy = finished_copy.folder / "notebooks" / path.name
    done = finished_copy.python("-c", EXECUTE, str(copy), KEDRO_ENV="test")
    assert done.returncode == 0, done.stdout
    outputs = [output for cell in nbformat.read(copy, as_version=4).cells for output in cell.get("outputs", [])]
    assert "application/vnd.plotly.v1+json" in {kind for output in outputs for kind in output.get("data", {})}
