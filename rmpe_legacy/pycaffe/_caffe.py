"""``caffe._caffe``: pycaffe's compiled module, for scripts that compare types with its or import from it."""

from __future__ import annotations

from rmpe_legacy.caffe.layers.pycaffe_layer import BlobVec, Layer

from .blob import Blob
from .net import Net, layer_type_list
from .settings import init_log, log, set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from .solver import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    Timer,
    get_solver,
    has_nccl,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)


class RawBlobVec(list):
    """The type of a Python layer's bottoms and tops in pycaffe; here they are plain lists."""


__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
