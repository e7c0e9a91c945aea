"""rmpe gpu-check: what of it needs no GPU. Where there is one, it is the test of the CUDA operators."""

import json
from pathlib import Path

import pytest
import torch

from rmpe_legacy.cli import main
from rmpe_legacy.compare import gpu_check as check
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.ops.registration import BUILT_WITH_CUDA


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["gpu-check", "--report", str(tmp_path / "report.json")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rmpe: torch ")
    assert "run this" in err
    assert not (tmp_path / "report.json").exists()


def test_a_failed_check_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    checks = [check.Check("one", True), check.Check("two", None, {"why": "no"})]
    monkeypatch.setattr(check, "why_no_gpu", lambda: None)
    monkeypatch.setattr(check, "all_checks", lambda rounds: iter(checks))
    arguments = ["gpu-check", "--report", str(tmp_path / "report.json")]
    assert main(arguments) == 0
    checks.append(check.Check("three", False))
    assert main(arguments) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-4:-1] == ["yes        one", "not asked  two", "NO         three"]
    assert out[-1].startswith("something failed; the report is ")


def test_an_installation_has_nothing_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check, "CHECKOUT", tmp_path)
    with pytest.raises(RmpeError, match=r"no setup\.py"):
        check.build()
    assert check.machine()["commit"] is None


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
