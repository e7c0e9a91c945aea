"""Training in several processes that torchrun starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from data_layers import LAYERS, write_sources
from training import write_run

from rmpe_legacy import load_net
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.solver.run_state import data_layers

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
PLAIN = """
layer {{ name: "data" type: "HDF5Data" top: "data" top: "label" hdf5_data_param {{ source: "list.txt"
  batch_size: {batch} }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" inner_product_param {{ num_output: 6
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param {{ num_output: 3
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(processes: int, *options: str, command: str = "train") -> subprocess.CompletedProcess:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    return subprocess.run([sys.executable, *torchrun, "-m", "rmpe_legacy", command, "--solver", "solver.prototxt",
                           *options], capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)


POSE = """
input: "data" input_shape {{ dim: {batch} dim: 3 dim: 32 dim: 32 }}
input: "label" input_shape {{ dim: {batch} dim: 16 dim: 8 dim: 8 }}
layer {{ name: "look" type: "Convolution" bottom: "data" top: "look" convolution_param {{ num_output: 4 kernel_size: 8
  stride: 8 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "theta" type: "InnerProduct" bottom: "look" top: "theta" inner_product_param {{ num_output: 6 }} }}
layer {{ name: "stn" type: "SpatialTransformer" bottom: "data" bottom: "theta" top: "img"
  st_param {{ transform_type: "affine" sampler_type: "bilinear" output_H: 32 output_W: 32 to_compute_dU: false }} }}
layer {{ name: "out" type: "Convolution" bottom: "img" top: "out" convolution_param {{ num_output: 16 kernel_size: 4
  stride: 4 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "out" bottom: "label" top: "loss" }}
"""  # without BatchNorm, whose statistics depend on the size of the batch


def weights_of(path: str) -> list[np.ndarray]:
    return [np.array(blob.data) for layer in read_weights(path) for blob in layer.blobs]


def test_two_processes_with_half_the_batch_are_one_with_the_whole(here):
    rows = np.random.default_rng(0)
    with h5py.File("a.h5", "w") as file:  # 26 rows, so that batches of 8 wrap around
        file["data"], file["label"] = rows.random((26, 5)).astype("f"), rows.integers(0, 3, 26).astype("f")
    Path("list.txt").write_text("a.h5\n")
    write_run(here, "max_iter: 20", batch=8, net=PLAIN)
    one = train(1)
    assert one.returncode == 0, one.stderr
    want = weights_of("snap_iter_20.caffemodel")
    for path in here.glob("snap_*"):
        path.unlink()
    write = PLAIN.format(batch=4)
    Path("net.prototxt").write_text(write)
    two = train(2)
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("Iteration 0, loss") == 1  # one process logs
    for a, b in zip(want, weights_of("snap_iter_20.caffemodel"), strict=True):
        assert np.abs(a - b).max() <= 1e-6 * max(1, np.abs(a).max())


class TestPoseTraining:
    """`rmpe train-pose`, whose samples do not come from data layers."""

    def train(self, processes: int, *options: str) -> subprocess.CompletedProcess:
        done = train(processes, "--drawn", "3", "--boxes", "jitter", "--published", "demo", "--threads", "1", *options,
                     command="train-pose")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained 6 iterations") == 1  # one process reports
        assert done.stderr.count("Optimization Done.") == 1
        return done

    def test_two_processes_with_half_the_batch_are_one_with_the_whole(self, here):
        write_run(here, "max_iter: 6", batch=6, net=POSE)
        self.train(1)
        want = weights_of("snap_iter_6.caffemodel")
        assert np.abs(want[2]).max() > 0  # theta's weights, which begin as zeros: the STN has learned
        for path in here.glob("snap_*"):
            path.unlink()
        self.train(2, "--batch", "3")
        for a, b in zip(want, weights_of("snap_iter_6.caffemodel"), strict=True):
            assert np.abs(a - b).max() <= 1e-6 * max(1, np.abs(a).max())

    def test_resumes_with_the_same_bits(self, here):
        write_run(here, "max_iter: 6 snapshot: 2", batch=3, net=POSE)
        self.train(2)
        want = Path("snap_iter_6.caffemodel").read_bytes()
        Path("snap_iter_6.caffemodel").unlink()
        self.train(2, "--snapshot", "snap_iter_4.solverstate")
        assert Path("snap_iter_6.caffemodel").read_bytes() == want


def test_processes_that_are_stopped_resume_with_the_same_bits(here):
    write_run(here, "max_iter: 9 snapshot: 4 test_iter: 1 test_interval: 3")
    whole = train(2)
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr.count("Testing net (#0)") == 4  # one process tests, at 0, 3, 6 and 9
    want = Path("snap_iter_9.caffemodel").read_bytes()
    Path("snap_iter_9.caffemodel").unlink()
    resumed = train(2, "--snapshot", "snap_iter_4.solverstate")
    assert resumed.returncode == 0, resumed.stderr
    assert Path("snap_iter_9.caffemodel").read_bytes() == want
    alone = train(1, "--snapshot", "snap_iter_4.solverstate")
    assert alone.returncode == 0
    assert "snap_iter_4.runstate is from 2 processes, but this run has 1" in alone.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_thread_of_gloo_is_left_when_the_interpreter_ends(here):
    """One that was left has aborted a process whose training was done."""
    write_run(here, "max_iter: 2")
    Path("threads.py").write_text(
        "import atexit, os\n"
        "from contextlib import suppress\n"
        "from pathlib import Path\n"
        "def write():\n"
        "    names = []\n"
        "    for path in Path('/proc/self/task').glob('*/comm'):\n"
        "        with suppress(OSError):  # a thread that has just ended\n"
        "            names.append(path.read_text())\n"
        "    Path('rank' + os.environ['RANK']).write_text(''.join(names))\n"
        "atexit.register(write)\n")
    done = train(2, "--plugin", "threads.py")
    assert done.returncode == 0, done.stderr
    for rank in ("rank0", "rank1"):
        names = Path(rank).read_text().splitlines()
        assert "python" in names
        assert not [name for name in names if "gloo" in name]


STOPPED = (r"^F.*another process of this run has stopped; its own message says why; to resume, give "
           r"--snapshot snap_iter_5.solverstate$")


@pytest.mark.parametrize(("rank", "signal"), [(1, "SIGKILL"), (0, "SIGTERM")],
                         ids=["by losing it", "by torchrun's SIGTERM, which may come first"])
def test_a_process_that_dies_ends_the_run_with_a_sentence(here, rank, signal):
    """The first process learns that the other is gone from the connection or from torchrun, whichever is faster."""
    write_run(here, "max_iter: 100000 snapshot: 5")
    Path("dies.py").write_text(
        "import os, signal\n"
        "from rmpe_legacy.caffe.solver import solver\n"
        "update = solver.Solver._update\n"
        "def until(self, display):\n"
        f"    if self.iter == 7 and os.environ['RANK'] == '{rank}':\n"
        f"        os.kill(os.getpid(), signal.{signal})\n"
        "    update(self, display)\n"
        "solver.Solver._update = until\n")
    ended = train(2, "--plugin", "dies.py")
    assert ended.returncode != 0
    assert re.search(STOPPED, ended.stderr, re.MULTILINE), ended.stderr


class TestShards:
    def labels(self, net: str, rank: int, processes: int, batches: int) -> list[int]:
        Path("shard.prototxt").write_text(net)
        torch.manual_seed(4)
        [layer] = data_layers(load_net("shard.prototxt", phase="TRAIN"))
        layer.shard(rank, processes)
        return [int(v) for _ in range(batches) for v in layer()[1].reshape(-1)]

    @pytest.mark.parametrize("processes", [2, 3])
    @pytest.mark.parametrize("kind", ["Data", "ImageData", "ImageData shuffled", "HDF5Data"])
    def test_together_are_the_records_in_order(self, here, kind, processes):
        write_sources(here)
        write_run(here)
        text = LAYERS.get(kind.split()[0]) or """layer { name: "data" type: "Data" top: "data" top: "label"
            data_param { source: "train_lmdb" batch_size: 3 backend: LMDB } }"""
        if kind == "ImageData":
            text = text.replace("shuffle: true", "")
        all_labels = self.labels(text, 0, 1, 3 * processes)
        shares = [self.labels(text, rank, processes, 3) for rank in range(processes)]
        assert [share[i] for i in range(9) for share in shares] == all_labels

    def test_draw_other_numbers(self, here):
        write_run(here)
        crops = []
        for rank in range(2):
            torch.manual_seed(4)
            [layer] = data_layers(load_net("net.prototxt", phase="TRAIN"))
            layer.shard(rank, 2)
            layer.transformer.apply(np.arange(100, dtype=np.uint8).reshape(10, 10), out := np.empty((1, 7, 7), "f"))
            crops.append(out)
        assert not np.array_equal(*crops)

