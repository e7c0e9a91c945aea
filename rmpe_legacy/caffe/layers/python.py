"""Layers written in Python by the user. Source: python_layer.hpp of RMPE@5188c23."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError, RmpeError
from rmpe_legacy.wording import describe_error, shorten

from . import pycaffe_layer
from .base import Layer, Shape
from .known_python import known_class
from .pycaffe_layer import Blob, Phase, caffe_module
from .registry import register
from .uncomputed_python import PythonLoss
from .unknown_data import FedPython


@register("Python")
class Python(Layer):
    """Calls python_param's class, `layer` of `module`, as pycaffe does: setup, reshape, forward, backward.

    A module is code, and a network can name any module, so it is imported only with allow_python=True. It is searched
    in the prototxt's folder, then in the working directory and on the Python path. Its ``import caffe`` gets
    ``caffe.Layer``, TRAIN and TEST from here, even if another Caffe is installed. Blobs are NumPy arrays on the host;
    the layer's own (``self.blobs.add_blob``) are learnt parameters. share_in_parallel, which concerns several solvers
    in one process, has no effect.

    Differs: Caffe imports any module that a prototxt names; here the user must allow it.
    Differs: without allow_python, a layer without bottoms gets its tops from the caller, as data layers do whose source
    is not there, and a layer with a loss_weight has scalars as tops, and refuses to run.
    Differs: a bottom's diff is zero before each backward, not the result of the last one; a bottom's data can only
    be written in place (if it is the first top).
    """

    params = ("python_param",)
    bottoms = (0, None)
    tops = (0, None)
    not_exportable = "runs Python code that came with the network"

    def setup(self, *bottom: Shape) -> None:
        cls = _users_class(self.spec)
        with self.users_code("__init__"):
            self.user = cls(self.spec.message)
        self.user.param_str = self.user.param_str_ = self.spec.get("python_param").param_str
        self.user.phase = Phase[self.spec.phase]
        self.bottom = [Blob(shape) for shape in bottom]
        self.top = [self.bottom[0] if self.in_place and i == 0 else Blob() for i in range(len(self.spec.top))]
        with self.users_code("setup"):
            self.user.setup(self.bottom, self.top)
        for i, blob in enumerate(self.user.blobs):
            self.declare(f"blob{i}", blob.shape)
        self.register_buffer("here", torch.empty(0), persistent=False)  # holds dtype and device if there is no bottom

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        """The built-in class of a well-known layer, unless the user allows modules and has one of that name."""
        known = known_class(spec)
        if known is None or not known.for_spec(spec).takes(spec):  # a module of the same name, in another form
            if spec.allow_python:
                return cls
            if any(spec.message.fields.get("loss_weight", ())):
                return PythonLoss
            return cls if spec.bottom or not spec.top else FedPython
        if spec.allow_python:
            with suppress(LayerError):
                _users_class(spec)
                return cls
        return known.for_spec(spec)

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> LayerError | None:
        if spec.allow_python is None:
            return None
        try:
            _users_class(spec)
        except LayerError as error:
            return error
        return None

    @contextmanager
    def users_code(self, method: str) -> Iterator[None]:
        """Convert an exception of the user's method, or its sys.exit, to a LayerError.

        Raises:
            LayerError: The method raised; the message gives its file and line.
        """
        try:
            yield
        except RmpeError:
            raise
        except (Exception, SystemExit) as error:  # SystemExit would end the command with the exit code 0
            raise self.spec.error(f"its {method} fails: {describe_error(error)}") from error

    def make(self, index: int, stored: StoredBlob | None) -> nn.Parameter:
        """Create a parameter with the values that the user's setup gave it."""
        if stored is None and index >= len(self.spec.message.blobs):
            data = self.user.blobs[index].data
            stored = StoredBlob(data.shape, data.ravel())
        return super().make(index, stored)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        for blob, shape in zip(self.bottom, bottom, strict=True):
            blob.reshape(*shape)
        with self.users_code("reshape"):
            self.user.reshape(self.bottom, self.top)
        return [blob.shape for blob in self.top]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return _Call.apply(self, len(bottoms), *bottoms, *self.blobs())

    def show(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> None:
        """Give the user's blobs these values, and diffs of zero."""
        for i, (blob, value) in enumerate(zip(self.bottom, bottoms, strict=True)):
            own = self.in_place and i == 0
            array = value.detach().cpu().numpy()
            array = array.copy() if own else array.view()
            array.flags.writeable = own
            blob.hold(array)
        for blob, value in zip(self.user.blobs, blobs, strict=True):
            blob.hold(value.detach().cpu().numpy())


class _Call(torch.autograd.Function):
    """The user's forward and backward."""

    @staticmethod
    def forward(ctx: Any, layer: Python, count: int, *values: Tensor) -> tuple[Tensor, ...]:
        bottoms, blobs = values[:count], values[count:]
        where = values[0] if values else layer.here
        layer.show(bottoms, blobs)
        dtype = torch.empty(0, dtype=where.dtype).numpy().dtype
        for blob in layer.top:
            blob.dtype = dtype
        with layer.users_code("reshape"):
            layer.user.reshape(layer.bottom, layer.top)
        with layer.users_code("forward"):
            layer.user.forward(layer.bottom, layer.top)
        tops = tuple(torch.from_numpy(np.array(blob.data, dtype)).to(where.device) for blob in layer.top)
        ctx.layer, ctx.count = layer, count
        ctx.save_for_backward(*values, *tops)
        return tops

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layer, count = ctx.layer, ctx.count
        values, tops = ctx.saved_tensors[: -len(grads)], ctx.saved_tensors[-len(grads) :]
        bottoms, blobs = values[:count], values[count:]
        layer.show(bottoms, blobs)
        for blob, top, grad in zip(layer.top, tops, grads, strict=True):
            blob.hold(top.cpu().numpy(), grad.detach().cpu().numpy().copy())
        wanted = list(ctx.needs_input_grad[2 : 2 + count])
        with layer.users_code("backward"):
            layer.user.backward(layer.top, wanted, layer.bottom)
        given = zip([*layer.bottom, *layer.user.blobs], values, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(torch.from_numpy(blob.diff).to(v.device, v.dtype) if w else None for blob, v, w in given)


def _users_class(spec: LayerSpec) -> type[pycaffe_layer.Layer]:
    """Return the user's class. Raises LayerError if its module is not allowed to, or cannot, be imported."""
    param = spec.get("python_param")
    module, name = shorten(param.module), shorten(param.layer)
    if not all(part.isidentifier() for part in param.module.split(".")):
        raise spec.error(f"its module '{module}' is not the name of a Python module")
    if spec.allow_python is None:
        raise spec.error(f"cannot be built without its Python module '{module}', which is not imported here")
    if not spec.allow_python:
        raise spec.error(f"runs the Python module '{module}', which may do anything; if you trust it, allow it with "
                         "allow_python=True (--allow-python)")
    try:
        with _search_path(spec), caffe_module():
            found = importlib.import_module(param.module)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{param.module}.".startswith(f"{error.name}.")
        raise spec.error(f"found no module '{module}' beside the prototxt, in the working directory or on the Python "
                         "path; put it there, or set PYTHONPATH" if absent else
                         f"its module '{module}' cannot be imported: {describe_error(error)}") from error
    cls = getattr(found, param.layer, None)
    if not (isinstance(cls, type) and issubclass(cls, pycaffe_layer.Layer)):
        raise spec.error(f"module '{module}' ({getattr(found, '__file__', None) or 'built in'}) has no class '{name}' "
                         "derived from caffe.Layer")
    return cls


@contextmanager
def _search_path(spec: LayerSpec) -> Iterator[None]:
    """Search beside the prototxt and in the working directory first."""
    before = list(sys.path)
    folder = Path(spec.message.origin.path).parent
    sys.path[:0] = [str(folder.resolve()), ""]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
