"""The loops of csrc/ without torch: every instruction set, and the CUDA kernels run by a CPU, give the same bits."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"
SOURCES = [ROOT / "tests/native/kernels.cpp", *sorted((ROOT / "csrc/cpu").glob("kernels_*.cpp")),
           *sorted((ROOT / "csrc/cpu").glob("winograd_*.cpp")), *sorted((ROOT / "csrc/cpu").glob("small_net_*.cpp"))]
FLAGS = ["-std=c++20", "-O1", "-ffp-contract=off", "-Wno-unknown-pragmas",
         f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/native'}"]


@pytest.mark.skipif(shutil.which(COMPILER.split()[0]) is None, reason="no C++ compiler")
def test_all_implementations_give_the_same_bits(tmp_path: Path):
    program = tmp_path / "kernels"
    subprocess.run([*COMPILER.split(), *FLAGS, *SOURCES, "-o", program], check=True)
    done = subprocess.run([program, "8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("0 failures\n")
    assert int(done.stdout.split()[-4]) > 1500  # comparisons; AVX2 and AVX-512, where the machine has them, add more
