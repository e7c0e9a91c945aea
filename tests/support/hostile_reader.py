"""Reads hostile files in a process of its own: python hostile_reader.py FAMILY < paths, a JSON line for each.

Run by test_hostile.py. What was read or refused stands in "said", anything worse in "wrong"; besides seconds of the
processor and bytes of memory.
"""

import json
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path


def _arrays(path: Path) -> object:
    from rmpe_legacy.readers.npy import Npz, read_npy

    return read_npy(path) if path.suffix == ".npy" else Npz(path).numbers()


def _json(path: Path) -> object:
    from rmpe_legacy.evaluation.coco import keypoint_ap
    from rmpe_legacy.readers.json_file import read_json

    content = read_json(path)
    if isinstance(content, list):
        return keypoint_ap(content, read_json(path.with_name("one-person.json"))).table["AP"]
    from rmpe_legacy.formats.network_json import read_json_network

    return len(read_json_network(path)[0].specs)


def _records(backend: str, path: Path) -> int:
    from rmpe_legacy.caffe.data.datum import BACKENDS

    return sum(1 for _ in BACKENDS[backend](path))


def _hdf5(path: Path) -> object:
    from rmpe_legacy.caffe.proto.hdf5 import read_hdf5_weights
    from rmpe_legacy.readers.hdf5 import Dataset, open_hdf5

    root = open_hdf5(path)
    members = {name: root.get(name) for name in root}
    arrays = {name: member.read().shape for name, member in members.items() if isinstance(member, Dataset)}
    return arrays or len(read_hdf5_weights(path))


def _mat(path: Path) -> object:
    from rmpe_legacy.evaluation.matfile import read_mat

    return list(read_mat(path))


def _picture(path: Path) -> object:
    from rmpe_legacy.caffe.data.image import load_image

    return load_image(path).shape


def _caffemodel(path: Path) -> object:
    from rmpe_legacy.caffe.proto.caffemodel import read_weights

    return len(read_weights(path))


def _state(path: Path) -> object:
    from rmpe_legacy.caffe.weights import read_state

    state = read_state(path)
    return state and [state.blob(key).shape for key in state.tensors]


def _torch7(path: Path) -> object:
    from rmpe_legacy.torch7.describe import describe_torch7
    from rmpe_legacy.torch7.load import load_torch7

    describe_torch7(path)
    return type(load_torch7(path, evaluate=True)).__name__


def _onnx(path: Path) -> object:
    from rmpe_legacy.formats.onnx import OnnxRunner

    return OnnxRunner(path, "onnx").inputs()


READERS = {
    "light": {".npz": _arrays, ".npy": _arrays, ".mdb": lambda path: _records("LMDB", path), ".mat": _mat,
              ".leveldb": lambda path: _records("LEVELDB", path), ".h5": _hdf5, ".caffemodel": _caffemodel,
              **dict.fromkeys((".png", ".gif", ".pbm", ".tiff", ".jp2"), _picture)},
    "torch": {".json": _json, ".safetensors": _state, ".pt": _state, ".t7": _torch7, ".onnx": _onnx},
}


def _memory(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))


def _try(read, path: Path) -> dict:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak
    before, began, out = _memory("VmRSS"), time.process_time(), {"file": path.name}
    from rmpe_legacy.errors import RmpeError

    try:
        out["said"] = f"read: {read(path)}"
    except RmpeError as error:
        out["said"] = str(error)
    except BaseException as error:
        out["wrong"] = "".join(traceback.format_exception(error))[-1500:]
    return out | {"seconds": time.process_time() - began, "memory": _memory("VmHWM") - before}


def main() -> None:
    warnings.simplefilter("error")
    readers = READERS[sys.argv[1]]
    import cv2
    import numpy as np

    cv2.imdecode(np.frombuffer(cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1], np.uint8), 1)
    if sys.argv[1] == "torch":
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import pycocotools.cocoeval  # noqa: F401

        import rmpe_legacy.formats.network_json
        import rmpe_legacy.formats.registry
        import rmpe_legacy.torch7.describe
        import rmpe_legacy.torch7.load  # noqa: F401
    most = _memory("VmSize") + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        sys.stdout.write(json.dumps(_try(readers[path.suffix], path)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
