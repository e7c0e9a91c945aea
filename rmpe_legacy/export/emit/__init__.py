"""What each Caffe layer becomes in ONNX and in model.py: one file per family of layers, both emitters side by side.

Importing this package registers them all. A type without emitters says why in ``Layer.not_exportable``.
"""

from importlib import import_module
from pkgutil import iter_modules

from .context import ONNX, PYTHON, EmitContext, OnnxContext, PythonContext, Writer, emits_onnx, emits_python

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["ONNX", "PYTHON", "EmitContext", "OnnxContext", "PythonContext", "Writer", "emits_onnx", "emits_python"]
