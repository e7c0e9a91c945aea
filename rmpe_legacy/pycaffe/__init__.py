"""A drop-in for pycaffe: ``from rmpe_legacy import pycaffe as caffe`` keeps an old script working.

Source of the API: python/caffe of BVLC/caffe@9b89154 and of RMPE@5188c23. docs/pycaffe.md lists the differences.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rmpe_legacy.caffe.layers.pycaffe_layer import Layer

from .install import find_parts, install
from .net import TEST, TRAIN, Net, layer_type_list
from .settings import configure, init_log, log, set_device, set_mode_cpu, set_mode_gpu, set_random_seed

__version__ = "1.0.0"  # of the Caffe whose interface this is

# name -> the module here that has it; imported when it is asked for, so that `import caffe` stays quick
_LATER = {
    **dict.fromkeys(("NetSpec", "layers", "params", "to_proto"), "net_spec"),
    "Classifier": "classifier",
    "Detector": "detector",
    **dict.fromkeys(("get_solver", "SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver",
                     "AdamSolver", "NCCL", "Timer", "has_nccl", "solver_count", "set_solver_count", "solver_rank",
                     "set_solver_rank", "set_multiprocess"), "solver"),
    **dict.fromkeys(("io", "proto", "draw", "coord_map", "model_libs", "net_spec", "classifier", "detector", "_caffe",
                     "pycaffe"), None),
}

__all__ = ["TEST", "TRAIN", "Layer", "Net", "configure", "init_log", "install", "layer_type_list", "log", "set_device",
           "set_mode_cpu", "set_mode_gpu", "set_random_seed", *(name for name in _LATER if not name.startswith("_"))]

find_parts()


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'caffe' has no attribute {name!r}")
    module = import_module(f".{_LATER[name] or name}", __name__)
    return getattr(module, name) if _LATER[name] else module


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
