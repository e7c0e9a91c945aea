"""Times reading and loading a caffemodel beside everything else that is installed, alternating, in one run.

    python tools/bench_load.py [PROTOTXT CAFFEMODEL] [--rounds N]

Without files it takes prototxt/ssd500/deploy.prototxt with random weights (94 MB). Peers are measured where they can
be imported: OpenCV below 5 (readNetFromCaffe), protobuf (ParseFromString alone), pycaffe.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rmpe_legacy import load_net
from rmpe_legacy.caffe.layers.base import count
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.wiring import wire

ROOT = Path(__file__).parents[1]
PEAK = """
import pathlib, re, sys, torch, rmpe_legacy.caffe.load as load
def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
load.load_net("tests/golden/layers/Net__residual/net.prototxt")  # what is imported on the way to a first network
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
net = load.load_net(*sys.argv[1:])
print(memory("VmHWM") - before)
"""


def random_weights(prototxt: Path, path: Path) -> None:
    """A caffemodel that fits the prototxt, written by Google's protobuf."""
    from rmpe_legacy.caffe.load import read_net

    net = caffe_pb2().NetParameter(name="random")
    for step in wire(read_net(prototxt).specs):
        layer = net.layer.add(name=step.layer.spec.name, type=step.layer.spec.type)
        for declared in step.layer.declared:
            blob = layer.blobs.add()
            blob.shape.dim.extend(declared.shape)
            blob.data.extend((torch.rand(count(declared.shape)) * 0.02 - 0.01).tolist())
    path.write_bytes(net.SerializeToString())


def copied(path: str) -> list[torch.Tensor]:
    """Every blob as a tensor of its own."""
    out = []
    for layer in read_weights(path):
        for blob in layer.blobs:
            tensor = torch.empty(blob.shape)
            blob.copy_to(tensor.view(-1).numpy())
            out.append(tensor)
    return out


def contestants(prototxt: str, caffemodel: str) -> dict[str, Callable[[], object]]:
    """What is measured: name -> a call."""
    calls: dict[str, Callable[[], object]] = {
        "read the file (the limit)": lambda: Path(caffemodel).read_bytes(),
        "ours: blobs as mapped views": lambda: read_weights(caffemodel),
        "ours: blobs as tensors": lambda: copied(caffemodel),
        "ours: load_net": lambda: load_net(prototxt, caffemodel),
        "protobuf: ParseFromString": lambda: caffe_pb2().NetParameter.FromString(Path(caffemodel).read_bytes()),
    }
    try:
        import cv2

        cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
        calls[f"OpenCV {cv2.__version__}: readNetFromCaffe"] = lambda: cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
    except (ImportError, AttributeError) as error:
        print(f"not measured: OpenCV ({error})")
    try:
        import caffe

        calls["pycaffe: Net"] = lambda: caffe.Net(prototxt, caffemodel, caffe.TEST)
    except ImportError as error:
        print(f"not measured: pycaffe ({error})")
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prototxt", nargs="?", default=str(ROOT / "prototxt" / "ssd500" / "deploy.prototxt"))
    parser.add_argument("caffemodel", nargs="?")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        caffemodel = args.caffemodel
        if caffemodel is None:
            caffemodel = os.path.join(folder, "random.caffemodel")
            random_weights(Path(args.prototxt), Path(caffemodel))
        size = os.path.getsize(caffemodel)
        print(f"{os.path.basename(args.prototxt)}, {size / 1e6:.1f} MB of weights, {args.rounds} alternating rounds; "
              f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        calls = contestants(args.prototxt, caffemodel)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        reference = statistics.median(times["ours: load_net"])
        print(f"{'':<36}{'median ms':>10}{'best ms':>10}{'x load_net':>12}")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"{name:<36}{median * 1e3:>10.2f}{min(seconds) * 1e3:>10.2f}{median / reference:>12.2f}")
        command = [sys.executable, "-c", PEAK, os.path.abspath(args.prototxt), os.path.abspath(caffemodel)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
        print(f"peak memory of load_net beyond the interpreter: {peak / 1e6:.1f} MB, {peak / size:.2f} file sizes")


if __name__ == "__main__":
    main()
