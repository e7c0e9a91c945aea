"""The notebooks of examples/ run from the first cell to the last, and show what they should."""

from pathlib import Path

import pytest
from paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbclient and ipykernel, of the extra [test]")
nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient and ipykernel, of the extra [test]")
pytest.importorskip("ipykernel", reason="notebooks need nbclient and ipykernel, of the extra [test]")

EXAMPLES = ROOT / "examples"
# Seconds, for a busy machine: nbclient gives a kernel 60 to start, and drops what a cell shows 4 after the cell's end
PATIENCE = {"timeout": 900, "startup_timeout": 600, "iopub_timeout": 300, "raise_on_iopub_timeout": True}
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "ResourceWarning")]


def run(name: str, folder: Path):
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    client = nbclient.NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
                                     **PATIENCE)
    return client.execute()


def outputs(notebook, kind: str) -> list[str]:
    """What the cells showed of one MIME type, or of "stdout"."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if kind == "stdout" and output.get("name") == "stdout":
                found.append(output["text"])
            elif kind in output.get("data", {}):
                found.append(output["data"][kind])
    return found


def test_rmpe_step_by_step(tmp_path):
    notebook = run("rmpe.ipynb", tmp_path)
    assert len(outputs(notebook, "image/png")) == 4  # detections, crops, heatmaps, poses and people
    assert any("skeletons of" in html for html in outputs(notebook, "text/html"))
    said = "".join(outputs(notebook, "stdout"))
    assert "detections above 0.3" in said
    assert "theta of crop 1:" in said
    assert "person 1: pose " in said


def test_from_a_caffemodel_to_onnx(tmp_path):
    notebook = run("convert.ipynb", tmp_path)
    assert any("<td>Convolution</td>" in html for html in outputs(notebook, "text/html"))
    assert len(outputs(notebook, "image/svg+xml")) == 1
    said = "".join(outputs(notebook, "stdout"))
    assert "written to" in said
    assert "largest difference" in said


def test_notebooks_are_stored_without_outputs():
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") for cell in notebook.cells), path
