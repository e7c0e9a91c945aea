"""Memory that networks take: the weights once, without a copy of the file; a large convolution, little of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rmpe_legacy import load_net
from rmpe_legacy.cli import main

FC = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4000 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: %d
  weight_filler { type: "uniform" min: -1 max: 1 } } }"""
PRELUDE = """
import pathlib, re, sys, torch
from rmpe_legacy import load_net
torch.set_num_threads(1)
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
def peak_of(function, *arguments):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    with torch.no_grad():
        result = function(*arguments)
    return memory("VmHWM") - before, result
"""
EVERY_BLOB_BY_ITSELF = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # or glibc may keep what is free, and peaks vary

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(),
                                reason="needs Linux's /proc/self/clear_refs")


def measured(code: str, *arguments: str | Path, **environment: str) -> float:
    """Run code behind PRELUDE in a process of its own; returns the number that it prints."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + code, *map(str, arguments)], capture_output=True, text=True,
                          check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


WEIGHTS = """
def run(name):
    folder = pathlib.Path(sys.argv[1], name)
    net = load_net(folder / f"{name}.prototxt", folder / f"net{sys.argv[2]}")
    net(data=torch.zeros(1, 4000))
    return sum(4 * value.numel() for value in net.parameters())
peak_of(run, "small")  # what is imported and allocated on the way to a first result
peak, weights = peak_of(run, "large")
print(peak / weights)
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small/ and large/ (64 MB): a network and its weights in each format."""
    folder = tmp_path_factory.mktemp("networks")
    for name, outputs in (("small", 10), ("large", 4000)):
        (folder / name).mkdir()
        prototxt, state = folder / name / f"{name}.prototxt", folder / name / "net.pt"
        prototxt.write_text(FC % outputs)
        torch.save(load_net(prototxt).state_dict(), state)
        for suffix in (".caffemodel", ".h5", ".safetensors"):
            assert main(["convert", "--no-verify", "-q", *map(str, (prototxt, state, state.with_suffix(suffix)))]) == 0
    return folder


@pytest.mark.parametrize("suffix", [".caffemodel", ".h5", ".safetensors", ".pt"])
def test_weights_are_in_memory_once(suffix: str, networks: Path):
    """With the pages of the file beside them they would be there twice."""
    assert measured(WEIGHTS, networks, suffix) < 1.3


@pytest.fixture
def convolution(tmp_path: Path) -> Callable[[int, int, int], Path]:
    """Write a network with one convolution that keeps the size of its bottom; returns its prototxt."""
    def write(channels: int, kernel: int, size: int) -> Path:
        path = tmp_path / "net.prototxt"
        path.write_text(f"""layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: [1, {channels}, {size}, {size}] }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param {{ num_output: {channels} kernel_size: {kernel} pad: {kernel // 2} }} }}
""")
        return path

    return write


IN_DOUBLE = """
net = load_net(sys.argv[1]).double()
def run(batch):
    net(data=torch.zeros(batch, 16, 60, 60, dtype=torch.float64))
*_, (peak, _) = [peak_of(run, batch) for batch in (1, 1, 6)]
print(peak / (16 * 60 * 60 * 49 * 8))
"""


def test_a_convolution_in_double_precision_unfolds_one_image_at_a_time(convolution: Callable[[int, int, int], Path]):
    peak = measured(IN_DOUBLE, convolution(16, 7, 60), **EVERY_BLOB_BY_ITSELF)
    assert peak < 2.5  # of what one image takes; a batch at once would take 6


LARGE = """
net = load_net(sys.argv[1])
def run(size):
    net(data=torch.zeros(1, 64, size, size))
(small, _), (large, _) = [peak_of(run, size) for size in (16, 500)]
print((large - small) / (2 * 64 * 500 * 500 * 4))
"""


def test_a_large_convolution_takes_little_beside_its_blobs(convolution: Callable[[int, int, int], Path]):
    """SSD's conv1_2: torch alone would take one and a half times as much as the bottom and the top."""
    assert measured(LARGE, convolution(64, 3, 16), **EVERY_BLOB_BY_ITSELF) < 1.3
