"""Memory that loading takes: the weights once, and no copy of the file beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rmpe_legacy import load_net
from rmpe_legacy.cli import main

FC = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4000 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: %d
  weight_filler { type: "uniform" min: -1 max: 1 } } }"""
MEASURE = """
import pathlib, re, sys, torch
from rmpe_legacy import load_net
torch.set_num_threads(1)
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
def run(folder, suffix):
    net = load_net(f"{folder}/{folder}.prototxt", f"{folder}/net{suffix}")
    with torch.no_grad():
        net(data=torch.zeros(1, 4000))
    return sum(4 * value.numel() for value in net.parameters())
run("small", sys.argv[1])  # what is imported and allocated on the way to a first result
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
weights = run("large", sys.argv[1])
print((memory("VmHWM") - before) / weights)
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


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs")
@pytest.mark.parametrize("suffix", [".caffemodel", ".h5", ".safetensors", ".pt"])
def test_weights_are_in_memory_once(suffix: str, networks: Path):
    """With the pages of the file beside them they would be there twice."""
    done = subprocess.run([sys.executable, "-c", MEASURE, suffix], cwd=networks, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.3


IN_DOUBLE = """
import pathlib, re, sys, torch
from rmpe_legacy import load_net
torch.set_num_threads(1)
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
net = load_net(sys.argv[1]).double()
peaks = []
for batch in (1, 1, 6):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    with torch.no_grad():
        net(data=torch.zeros(batch, 16, 60, 60, dtype=torch.float64))
    peaks.append(memory("VmHWM") - before)
print(peaks[2] / (16 * 60 * 60 * 49 * 8))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs")
def test_a_convolution_in_double_precision_unfolds_one_image_at_a_time(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 16, 60, 60] } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 16 kernel_size: 7 pad: 3 } }
""")
    ran = subprocess.run([sys.executable, "-c", IN_DOUBLE, str(path)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 4  # of what one image takes; all six at once would take 6


LARGE_CONVOLUTION = """
import pathlib, re, sys, torch
from rmpe_legacy import load_net
torch.set_num_threads(1)
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
net, peaks = load_net(sys.argv[1]), []
for size in (16, 500):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    with torch.no_grad():
        net(data=torch.zeros(1, 64, size, size))
    peaks.append(memory("VmHWM") - before)
print((peaks[1] - peaks[0]) / (2 * 64 * 500 * 500 * 4))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs")
def test_a_large_convolution_takes_little_beside_its_blobs(tmp_path: Path):
    """SSD's conv1_2: torch alone would take one and a half times as much as the bottom and the top."""
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 64, 16, 16] } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 64 kernel_size: 3 pad: 1 } }
""")
    ran = subprocess.run([sys.executable, "-c", LARGE_CONVOLUTION, str(path)], capture_output=True, text=True,
                         check=True)
    assert float(ran.stdout) < 1.3
