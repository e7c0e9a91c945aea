"""Converts Torch7 networks to Caffe networks of the RMPE fork: prototxt and weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike, fspath

from rmpe_legacy.torch7.load import build_module
from rmpe_legacy.torch7.modules.base import Module
from rmpe_legacy.torch7.reader import read_torch7

from . import emitters  # noqa: F401  they register
from .caffe_graph import CaffeNetwork
from .conversion import Converter


def torch7_to_caffe(source: Module | str | PathLike, input_shape: Sequence | None = None, batch: int = 1,
                    parallel: bool = True, name: str | None = None, long_size: int | None = None,
                    key: str | None = None) -> CaffeNetwork:
    """Convert a Torch7 network to a Caffe network of the RMPE fork.

    Modules are converted in evaluation mode, with a warning for those saved in training mode.

    Args:
        source: A .t7 file, whose weights are not copied, or a module from ``load_torch7``.
        input_shape: (C, H, W) of the input, or a list for several inputs. None takes the channels from the first
            convolution, and the size from the STN, or 256 x 256 without one.
        batch: Batch size in the prototxt, which the fork's SpatialTransformer depends on.
        name: Name of the network; None takes the file's.
        parallel: Keep the outputs of the parallel SPPE, if there is one; the authors drop them for testing.
        key: The entry with the network if the file contains a table, see ``load_torch7``.

    Raises:
        FileError: The file cannot be read.
        NetError: Caffe has no layers for a part of the network.
    """
    if not isinstance(source, Module):
        name = name or fspath(source).replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
        source = build_module(read_torch7(source, long_size), mapped=True, key=key)
    if learning := sorted({m.class_name for m in source.modules()
                           if isinstance(m, Module) and m.uses_train and m.training}):
        warnings.warn(f"{', '.join(learning)} are in training mode; the Caffe network has their evaluation mode",
                      stacklevel=2)
    return Converter(source, parallel).convert(input_shape, batch, name or "torch7")
