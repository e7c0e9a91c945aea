"""All formats, in the order in which they are tried: what a file is, and what a destination's suffix means."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from rmpe_legacy.errors import RmpeError

from .base import Format
from .caffemodel import CAFFE, CAFFEMODEL, PROTOTXT
from .hdf5 import HDF5
from .npz import NPZ
from .onnx import ONNX
from .python import PYTHON
from .safetensors import SAFETENSORS
from .state_dict import STATE_DICT
from .torch7 import TORCH7

FORMATS = (CAFFE, HDF5, SAFETENSORS, STATE_DICT, ONNX, PYTHON, PROTOTXT, NPZ, TORCH7)
TARGETS = tuple(each for each in FORMATS if each.prepare is not None)


def format_of_file(path: Path, *able_to: str) -> Format | None:
    """Return the format of an existing file among those that support all of `able_to` ("read", "run"), if any."""
    for each in FORMATS:
        if each.sniff is not None and all(getattr(each, name) is not None for name in able_to) and each.sniff(path):
            return each
    return None


def format_to_write(destination: str | PathLike) -> Format:
    """Return the format that a destination's suffix selects; a folder selects Caffe's two files.

    Raises:
        RmpeError: No format has this suffix.
    """
    path = Path(destination)
    if is_folder(destination):
        return CAFFE
    if not path.name.removesuffix(path.suffix):
        raise RmpeError(f"{path}: has no name before its suffix; add one")
    for target in TARGETS:
        if path.name.endswith(target.suffixes[0]) and path.name != target.suffixes[0]:
            return target
    kinds = "; ".join(f"{target.suffixes[0]}: {target.what}" for target in TARGETS)
    raise RmpeError(f"{path}: its suffix does not say what to write. A folder: prototxt and caffemodel; {kinds}")


def is_folder(destination: str | PathLike) -> bool:
    """Return whether a destination is a folder, or is written as one (NAME/)."""
    return str(destination).endswith(("/", "\\")) or os.path.isdir(destination)


__all__ = ["CAFFE", "CAFFEMODEL", "FORMATS", "ONNX", "PROTOTXT", "TARGETS", "Format", "format_of_file",
           "format_to_write", "is_folder"]
