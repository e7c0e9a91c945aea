"""A small training run with everything random in it, for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import encode

SIZE, RECORDS = 10, 23  # which is no multiple of the batch

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label" {include}
  transform_param {{ mirror: true crop_size: 7 scale: 0.01 }}
  data_param {{ source: "train_lmdb" batch_size: {batch} backend: LMDB }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 6 kernel_size: 3
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "drop" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "drop" top: "ip" inner_product_param {{ num_output: 4
  weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 momentum: 0.9 lr_policy: "step" stepsize: 10 gamma: 0.5 display: 1
average_loss: 4 random_seed: 7 snapshot_prefix: "snap" weight_decay: 0.001
"""


def raw_datum(number: int) -> bytes:
    """A small grey image with noise, and one of four labels."""
    values = np.random.default_rng(number).integers(0, 256, SIZE * SIZE, np.uint8)
    return encode(Message(load_schema()["Datum"], {
        "channels": 1, "height": SIZE, "width": SIZE, "data": values.tobytes(), "label": number % 4}))


def write_lmdb(path: Path, values: Sequence[bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 24) as store, store.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(b"%08d" % i, value)
    return path


def write_run(folder: Path, solver: str = "", batch: int = 5, values: Sequence[bytes] | None = None,
              net: str = NET) -> None:
    """Write net.prototxt, solver.prototxt and train_lmdb. solver: further lines of solver.prototxt."""
    write_lmdb(folder / "train_lmdb", [raw_datum(i) for i in range(RECORDS)] if values is None else values)
    (folder / "net.prototxt").write_text(net.format(batch=batch, include=""))
    (folder / "solver.prototxt").write_text(SOLVER + solver)
