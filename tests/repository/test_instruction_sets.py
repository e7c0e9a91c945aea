"""The whole networks with the instruction sets of other processors, and with one thread and two.

oneDNN, which computes the convolutions, adds up in another order with each. It reads the environment once, so that
each combination is a process of its own.
"""

import os
import platform
import subprocess
import sys

import pytest
from paths import TESTS

NETWORKS = [f"{TESTS / 'caffe' / 'test_nets.py'}::{name}" for name in ("TestDetector", "TestPose")]
INFORMATION = """
import torch
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
    torch.nn.functional.conv2d(torch.ones(1, 64, 64, 64), torch.ones(64, 64, 3, 3))
print("threads:", torch.get_num_threads())
"""

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86-64")


def run(*arguments: str, isa: str, threads: int) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ["DEFAULT", "AVX2", "SSE41"])
def test_whole_networks_are_what_caffe_gave(isa: str, threads: int):
    done = run("-m", "pytest", "-p", "no:cacheprovider", *NETWORKS, isa=isa, threads=threads)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(("isa", "none_of"), [("AVX2", ["AVX-512", "AVX10"]), ("SSE41", ["AVX"])])
def test_the_environment_is_heard(isa: str, none_of: list[str]):
    said = run("-c", INFORMATION, isa=isa, threads=1).stdout
    assert "threads: 1\n" in said
    line, = (line for line in said.splitlines() if "cpu,isa:" in line)
    assert not [name for name in none_of if name in line], line
