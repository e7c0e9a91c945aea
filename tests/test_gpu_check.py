"""tools/gpu_check.py: what of it needs no GPU. Where there is one, it is the test of the CUDA operators."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from demo_tools import tool

from rmpe_legacy.ops.registration import BUILT_WITH_CUDA

check = tool("gpu_check")
PROGRAM = Path(check.__file__)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path):
    done = subprocess.run([sys.executable, PROGRAM, "--report", tmp_path / "report.json"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu_check: torch ")
    assert "run this" in done.stderr
    assert not (tmp_path / "report.json").exists()


@pytest.mark.cuda
@pytest.mark.skipif(not (torch.cuda.is_available() and BUILT_WITH_CUDA), reason="no CUDA device, or no CUDA build")
def test_cuda_has_the_cpus_bits():
    checks = [*check.check_warps("cuda"), check.check_others("cuda"), check.check_switch("cuda")]
    assert [c for c in checks if not c.passed] == []


def test_comparisons_pass_where_both_sides_are_the_cpu(tmp_path: Path):
    checks = [*check.check_warps("cpu"), check.check_others("cpu"), check.check_switch("cpu")]
    assert [c for c in checks if not c.passed] == []
    assert min(c.details.get("compared", 9) for c in checks) > 8
    check.run_kernels("cpu")
    path = tmp_path / "report.json"
    assert check.write_report(path, checks)
    report = json.loads(path.read_text())
    assert report["passed"]
    assert len(report["checks"]) == 5
    assert report["machine"]["torch"] == torch.__version__


def test_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert not check.same_bits(torch.tensor([1.0]), torch.tensor([1.0000001]))
    assert not check.same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert check.same_bits(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not check.close(torch.tensor([1.0]), torch.tensor([1.001]), 1e-4)
    monkeypatch.setattr(check, "same_bits", lambda a, b: False)
    assert not check.check_others("cpu").passed
    assert not check.write_report(tmp_path / "report.json", [check.Check("something", False)])
    assert check.write_report(tmp_path / "report.json", [check.Check("something", None)])


def test_a_missing_sanitizer_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    [found] = check.check_sanitizer()
    assert found.passed is None
    assert "not found" in found.details["why"]
