"""Torch7 networks as Caffe networks of the RMPE fork: prototxt and weights."""

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
    """Turn a Torch7 network into a Caffe network of the RMPE fork.

    source: a .t7 file, whose weights are then not copied but left where they lie, or what ``load_torch7`` gave.
    input_shape: (C, H, W) of the input, which Caffe wants to know, or a list of such for several inputs; None takes
    the channels from the first convolution, and the size from the STN, or 256 x 256 without one.
    batch: images at once, written into the prototxt (the fork's SpatialTransformer is set up for it).
    parallel: whether the outputs of the parallel SPPE stay, if there is one; the authors drop them to test.
    name: of the network; None takes the file's. key: the entry of a file's table, as for ``load_torch7``.

    Modules are taken in evaluation mode, with a warning for those saved in training mode. Raises FileError for the
    file, NetError for what Caffe has no layers for.
    """
    if not isinstance(source, Module):
        name = name or fspath(source).replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
        source = build_module(read_torch7(source, long_size), mapped=True, key=key)
    if learning := sorted({m.class_name for m in source.modules()
                           if isinstance(m, Module) and m.uses_train and m.training}):
        warnings.warn(f"{', '.join(learning)} are in training mode; the Caffe network has their evaluation mode",
                      stacklevel=2)
    return Converter(source, parallel).convert(input_shape, batch, name or "torch7")
