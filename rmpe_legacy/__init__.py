"""RMPE's Caffe and Torch7 networks on PyTorch: load, run, convert and evaluate the originals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import RmpeError
from .moved import install as _install_moved

if TYPE_CHECKING:  # the names of _PUBLIC, for type checkers
    from . import optim as optim
    from .caffe.layers import Layer as Layer
    from .caffe.layers import register as register
    from .caffe.load import load_net as load_net
    from .caffe.net import Net as Net
    from .caffe.proto.dialects import DIALECTS as DIALECTS
    from .caffe.solver.solver import Solver as Solver
    from .compare.export_program import export_program as export_program
    from .engines import compile_net as compile_net
    from .formats.network_json import load_converted as load_converted
    from .pose.pipeline import load_pipeline as load_pipeline
    from .torch7.load import load_torch7 as load_torch7
    from .torch7.reader import read_torch7 as read_torch7
    from .torch7.to_caffe import torch7_to_caffe as torch7_to_caffe

__version__ = "0.1.0"

# name -> its module, imported on first use so that importing the package does not import torch
_PUBLIC = {
    "load_net": "rmpe_legacy.caffe.load",
    "load_pipeline": "rmpe_legacy.pose.pipeline",
    "Solver": "rmpe_legacy.caffe.solver.solver",
    "load_converted": "rmpe_legacy.formats.network_json",
    "compile_net": "rmpe_legacy.engines",
    "export_program": "rmpe_legacy.compare.export_program",
    "load_torch7": "rmpe_legacy.torch7.load",
    "read_torch7": "rmpe_legacy.torch7.reader",
    "torch7_to_caffe": "rmpe_legacy.torch7.to_caffe",
    "register": "rmpe_legacy.caffe.layers",
    "Layer": "rmpe_legacy.caffe.layers",
    "Net": "rmpe_legacy.caffe.net",
    "DIALECTS": "rmpe_legacy.caffe.proto.dialects",
    "optim": "rmpe_legacy.optim",
}

__all__ = ["RmpeError", "__version__", *_PUBLIC]

_install_moved()


if not TYPE_CHECKING:  # or type checkers would accept every name
    def __getattr__(name: str) -> object:
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_PUBLIC[name])
        return module if _PUBLIC[name] == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
