"""What an installation has: libraries that are optional, and the extras that install them."""

import re
import sys
from pathlib import Path

import pytest
from paths import ROOT

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.evaluation.coco import keypoint_ap
from rmpe_legacy.evaluation.curves import Plot, png
from rmpe_legacy.formats.onnx import OnnxRunner
from rmpe_legacy.optional import DISTRIBUTIONS, EXTRAS, optional


def extras() -> dict[str, list[str]]:
    """The extras of pyproject.toml: name -> the libraries it installs. (Python 3.10 has no tomllib.)"""
    text = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]\n")[1].split("\n\n")[0]
    return {line.split(" = ")[0]: re.findall(r'"([\w-]+)', line) for line in text.splitlines()}


@pytest.mark.parametrize(("module", "extra"), EXTRAS.items())
def test_each_optional_library_is_in_its_extra(module: str, extra: str):
    assert DISTRIBUTIONS.get(module, module) in extras()[extra]


@pytest.mark.parametrize("library", EXTRAS)
def test_a_missing_library_is_named_with_its_extra(library: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(RmpeError) as caught:
        optional(library, "this")
    name = DISTRIBUTIONS.get(library, library)
    assert str(caught.value) == f"this needs {name}; pip install 'rmpe-legacy[{EXTRAS[library]}]'"


def test_a_library_that_itself_lacks_something_is_another_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "half_installed.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRAS, "half_installed", "onnx")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        optional("half_installed", "this")


def test_where_they_are_needed_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for library in EXTRAS:
        for name in [name for name in sys.modules if name.partition(".")[0] == library]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RmpeError, match=r"^COCO keypoint AP needs pycocotools; .*\[eval\]'$"):
        keypoint_ap([], {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]})
    with pytest.raises(RmpeError, match=r"^drawing curves needs matplotlib; .*\[report\]'$"):
        png(Plot("title", "x", "y", []))
    with pytest.raises(RmpeError, match=r"^running an ONNX file needs onnx; .*\[onnx\]'$"):
        OnnxRunner(tmp_path / "net.onnx", "net.onnx")


def test_the_package_is_marked_as_typed():
    assert (ROOT / "rmpe_legacy" / "py.typed").is_file()


def test_the_tour_leads_to_files_that_are_there():
    tour = (ROOT / "CONTRIBUTING.md").read_text().split("## A tour\n")[1].split("\n## ")[0]
    rows = [line for line in tour.splitlines() if line.startswith("|") and "`" in line]
    assert len(rows) == 4
    for row in rows:
        path, name = ROOT / re.findall(r"`([\w/]+/[\w.]+)`", row)[0], re.findall(r"class `(\w+)`", row)
        assert path.is_file(), row
        assert all(f"class {each}" in path.read_text() for each in name), row
