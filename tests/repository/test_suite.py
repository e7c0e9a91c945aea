"""What the tests say of themselves: of a golden that fails, of what is skipped, of cases without a name."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from difference import Difference, Golden, beyond
from harness import GOLDEN
from paths import ROOT, TESTS
from shared import KINDS
from whole_networks import NAMES, digest, draw_layers

from rmpe_legacy.caffe.proto.caffemodel import read_weights

CONFIG = ROOT / "pyproject.toml"


class TestDifference:
    WANT = np.array([[1, 2, 3], [4, 5, -8]], np.float32)

    def sentences(self, got: np.ndarray, limit: float = 0, want: np.ndarray = WANT, **options) -> list[str]:
        return beyond([Difference("blob_x", want, got, GOLDEN / "layers" / "X__a" / "case.npz")], limit, **options)

    def test_a_golden_that_fails_says_all_there_is_to_know(self):
        got = self.WANT.copy()
        got[1, 0] += 0.5
        got[0, 1] -= 0.25
        assert self.sentences(got, 0.01) == [
            "blob_x[1][0]: Caffe 4.0, ours 4.5, error 0.0625 of the largest value, limit 0.01 "
            "(tests/golden/layers/X__a/case.npz)"]
        assert self.sentences(got, 0.1, relative=False) == [
            "blob_x[1][0]: Caffe 4.0, ours 4.5, error 0.5, limit 0.1 (tests/golden/layers/X__a/case.npz)"]
        assert self.sentences(got, 0.0625) == self.sentences(got, 0.5, relative=False) == []

    def test_another_shape_is_never_within_a_limit(self):
        assert self.sentences(self.WANT[0], 9) == [
            "blob_x: Caffe gave shape (2, 3), we gave (3,) (tests/golden/layers/X__a/case.npz)"]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_has_to_be_the_same(self, value: float):
        wild = self.WANT.copy()
        wild[0, 2] = value
        assert self.sentences(wild.copy(), want=wild) == []
        assert f"[0][2]: Caffe 3.0, ours {value}, error inf" in self.sentences(wild, 1e9)[0]
        assert f"[0][2]: Caffe {value}, ours 3.0, error inf" in self.sentences(self.WANT, 1e9, wild)[0]

    def test_the_two_infinities_are_not_the_same(self):
        assert "Caffe inf, ours -inf" in self.sentences(np.array([-np.inf]), 1e9, np.array([np.inf]))[0]

    def test_nothing_differs_in_nothing(self):
        assert self.sentences(np.zeros((0, 3)), want=np.zeros((0, 3), np.float32)) == []

    def test_a_golden_is_checked_by_its_name(self):
        golden = Golden({"x": np.arange(6.0)}, "case.npz", "Torch7")
        golden.check("x", np.arange(6.0) + 1e-6, 2e-6)
        golden.check("x", np.arange(6.0).reshape(2, 3), shape=(2, 3))
        with pytest.raises(AssertionError, match=r"^x\[0\]: Torch7 0.0, ours 1.0, error 1, limit 0 \(case.npz\)"):
            golden.check("x", np.arange(6.0) + 1)


@pytest.fixture
def pytest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], subprocess.CompletedProcess]:
    """Runs a test file of this text by the rules of this suite, without other people's data."""
    monkeypatch.delenv("RMPE_SHARED", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS, TESTS / "support"))))  # for -p conftest

    def run(text: str) -> subprocess.CompletedProcess:
        (tmp_path / "test_it.py").write_text("import pytest\nfrom shared import shared\n" + text)
        command = [sys.executable, "-m", "pytest", "-c", str(CONFIG), "--rootdir", str(CONFIG.parent), "-p", "conftest",
                   "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
        return subprocess.run(command, cwd=CONFIG.parent, capture_output=True, text=True, check=False)

    return run


class TestCollection:
    def test_an_empty_id_is_refused(self, pytest_run):
        done = pytest_run("@pytest.mark.parametrize('x', ['a', ''])\ndef test_it(x): pass\n")
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "a parameter has an empty id: " in done.stderr
        assert "test_it[]" in done.stderr

    def test_an_empty_part_of_an_id_is_refused(self, pytest_run):
        done = pytest_run("@pytest.mark.parametrize('x', ['a', ''])\n@pytest.mark.parametrize('y', ['b'])\n"
                          "def test_it(x, y): pass\n")
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "test_it[b-]" in done.stderr

    def test_no_cases_at_all_are_refused(self, pytest_run):
        done = pytest_run("@pytest.mark.parametrize('x', [])\ndef test_it(x): pass\n")
        assert done.returncode != pytest.ExitCode.OK
        assert "Empty parameter set in 'test_it'" in done.stdout


class TestSkips:
    def test_one_line_says_what_is_missing_and_why(self, pytest_run):
        done = pytest_run("def test_a(): shared('mtcnn')\ndef test_b(): shared('mtcnn', 'x')\n"
                          "def test_c(): shared('images')\ndef test_d(): pytest.skip('no moon')\n")
        assert done.returncode == pytest.ExitCode.OK
        assert "\n1 skipped: no moon\n" in done.stdout
        assert ("\n3 skipped: they need other people's data, which may not be distributed: MTCNN's networks (2), "
                "photographs (1). Set RMPE_SHARED to a folder that has it under data/.\n") in done.stdout

    def test_nothing_is_said_of_nothing(self, pytest_run):
        assert "skipped" not in pytest_run("def test_a(): pass\n").stdout

    def test_only_other_peoples_data_is_looked_for_elsewhere(self):
        assert set(KINDS) == {
            "authors", "coco_kpt", "expected", "images", "mpii_multi", "mpii_single", "mtcnn", "torch7"}


class TestWholeNetworks:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_wrong_weight_changes_the_digest(self, name: str):
        layers = draw_layers(GOLDEN / "nets" / name)
        before = digest(layers)
        layers[0].blobs[0].data[5] = np.nextafter(layers[0].blobs[0].data[5], np.float32(9))
        assert digest(layers) != before

    @pytest.mark.parametrize(("name", "layers", "values"), [("ssd", 34, 23_445_510), ("pose", 357, 17_800_599)])
    def test_the_weights_are_those_that_caffe_was_given(self, whole_network, name: str, layers: int, values: int):
        network = whole_network(name)
        read = [layer for layer in read_weights(network.weights) if layer.blobs]
        assert (len(read), sum(blob.data.size for layer in read for blob in layer.blobs)) == (layers, values)
        assert digest(read) == json.loads((network.folder / "weights.json").read_text())["sha256"]


def test_files_named_in_docs_and_comments_exist():
    """Paths of tests and modules go stale when files move."""
    named = re.compile(r"(?<![\w/.-])(?:tests|rmpe_legacy)/[\w./-]*\w\.(?:py|pyi|md|h|cpp|cu)\b")
    texts = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml")]
    for folder, suffixes in {"docs": [".md"], "rmpe_legacy": [".py", ".md"], "csrc": [".h", ".cpp", ".cu", ".md"],
                             "tests": [".py", ".md", ".h", ".cpp"], "tools": [".py"], "examples": [".py", ".md"],
                             "benchmarks": [".md"], "prototxt": [".md"]}.items():
        texts += [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    lost = [f"{path.relative_to(ROOT)}: {name}" for path in texts for name in named.findall(path.read_text())
            if not (ROOT / name).exists()]
    assert not lost
    assert len(texts) > 500


def test_modules_that_are_listed_as_slow_exist(pytestconfig: pytest.Config):
    slow = next(plugin.SLOW for plugin in pytestconfig.pluginmanager.get_plugins() if hasattr(plugin, "SLOW"))
    assert [f"{folder}/{name}" for folder, names in slow.items() for name in names
            if not (ROOT / "tests" / folder / f"{name}.py").is_file()] == []
