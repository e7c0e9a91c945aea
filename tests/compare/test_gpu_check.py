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
    assert capsys.readouterr().out.splitlines()[-1].startswith("none failed, but some were skipped; the report is ")
    checks.append(check.Check("three", False))
    assert main(arguments) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-4:-1] == ["yes        one", "skipped    two", "NO         three"]
    assert out[-1].startswith("some checks failed; the report is ")


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


def test_each_kind_of_difference_is_listed_with_its_input(monkeypatch: pytest.MonkeyPatch):
    image, theta, grad = torch.zeros(1, 1, 2, 3), torch.tensor([[1.0, 0, 0, 0, 1, 0]]), torch.zeros(1, 1, 2, 3)
    monkeypatch.setattr(check, "warps", lambda: [("identity", True, (image, theta, 2, 3, grad, True)),
                                                 ("NaN", False, (image, theta, 2, 3, grad, True))])
    monkeypatch.setattr(check, "same_bits", lambda a, b: False)
    monkeypatch.setattr(check, "close", lambda a, b, tolerance: False)
    assert [(c.passed, c.details) for c in check.check_warps("cpu")] == [
        (False, {"compared": 2, "wrong": ["identity", "NaN"]}), (False, {"compared": 2, "wrong": ["identity", "NaN"]}),
        (False, {"compared": 2, "wrong": ["identity"]})]  # without finite values, sums in another order may be NaN


def test_slower_than_grid_sample_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    size = (2, 3, 8, 6)
    rows = check.warp_timing.measure(size, "cpu", 1)
    monkeypatch.setattr(check.warp_timing, "SIZES", [size])
    monkeypatch.setattr(check.warp_timing, "measure", lambda size, device, rounds: rows)
    monkeypatch.setattr(check.warp_timing, "contenders",
                        lambda size, device: {"forward": (list, list), "forward + backward": (list, list)})
    times = iter([4e-6, 2e-6, 3e-6, 5e-6])
    monkeypatch.setattr(check, "gpu_seconds", lambda work, rounds: next(times))
    faster, slower = check.check_speed(3)
    assert (faster.passed, faster.details["times_as_fast"]) == (True, 2)
    assert faster.name == "forward at (2, 3, 8, 6) no slower than grid_sample"
    assert (slower.passed, slower.details["gpu_us"]) == (False, {"grid_sample": 3, "ours": 5})
    assert slower.details["wall"]["work"] == "forward + backward"


def test_the_sanitizers_exit_code_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "compute-sanitizer"
    program.write_text('#!/bin/sh\necho "$2 on $5"\n[ "$2" = memcheck ]\n')
    program.chmod(0o755)
    monkeypatch.setattr(check.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(check.sys, "executable", "python")
    good, bad = check.check_sanitizer(("memcheck", "racecheck"))
    assert (good.name, good.passed, good.details) == (
        "compute-sanitizer memcheck", True, {"exit": 0, "end": ["memcheck on python"]})
    assert (bad.name, bad.passed, bad.details["exit"]) == ("compute-sanitizer racecheck", False, 1)


@pytest.mark.parametrize(("cuda", "words"), [
    (None, "is built without CUDA, so no GPU can be checked; install a CUDA build of torch"),
    ("13.0", "finds no CUDA device, so there is nothing to check; run this on a machine with an NVIDIA GPU"),
])
def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, cuda: str | None, words: str):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert words in (check.why_no_gpu() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (check.why_no_gpu() is None) == (cuda is not None)


def test_a_build_that_fails_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "setup.py").write_text("import os, sys\nprint(os.environ['RMPE_CUDA'], *sys.argv[1:])\nsys.exit(1)\n")
    monkeypatch.setattr(check, "CHECKOUT", tmp_path)
    built = check.build()
    assert (built.passed, built.details) == (False, {"end": ["1 -q build_ext --inplace"]})
    (tmp_path / "setup.py").write_text("")
    assert check.build() == check.Check("csrc/ builds with CUDA", True, {})
