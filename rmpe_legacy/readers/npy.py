"""Reads .npy and .npz files without numpy's parser, which evaluates the header as Python.

Nothing is unpickled; sizes are checked against the bytes present before memory is allocated. Source of the format:
numpy/lib/_format_impl.py.
"""

from __future__ import annotations

import re
import zipfile
from os import PathLike
from pathlib import Path

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import expanded_limit, item_count, reading, refuse_device

MAGIC = b"\x93NUMPY"
NUMBERS = "fiub"  # kinds of dtypes
MAX_HEADER = 10_000  # bytes; numpy's own limit
_HEADER_SIZE = {1: 2, 2: 4, 3: 4}  # size in bytes of the header's length field, by version
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([a-zA-Z])(\d{0,9})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)\b""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,L]*)\)""")
_SIZES = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,), "U": range(1, 1 << 20)}


class OtherArrayError(FileError):
    """The array contains neither numbers nor text."""


def read_npy(path: str | PathLike) -> np.ndarray:
    """Read the array of a .npy file, of numbers or text, in its own shape and dtype; read-only.

    Raises:
        FileError: The file cannot be read, or contains something else.
    """
    with reading(path, ".npy file"):
        refuse_device(path)
        data = Path(path).read_bytes()
    return _parse(data, str(path))


class Npz:
    """The arrays of an .npz, read on access. Raises FileError if the file is damaged."""

    def __init__(self, path: str | PathLike):
        self.path = str(path)
        with self._reading():
            self._archive = zipfile.ZipFile(path)
            self._size = Path(path).stat().st_size
        self._members = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}
        self._budget = expanded_limit(self._size)

    def _reading(self):
        return reading(self.path, ".npz file")

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> np.ndarray:
        """Read one array in its own shape and dtype, like ``read_npy``.

        Raises:
            FileError: The array is damaged, or compressed in a way that numpy does not use.
        """
        info = self._members[name]
        self._budget -= info.file_size
        if self._budget < 0:
            raise FileError(f"{self.path}: {name} claims {info.file_size} bytes, too much for a file of {self._size} "
                            "bytes; the file is damaged")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(f"{self.path}: {name} is compressed in a way that numpy does not use")
        with self._reading(), self._archive.open(info) as member:
            data = member.read(info.file_size)  # without a size, a decompression bomb would be unpacked entirely
        return _parse(data, f"{self.path}: {name}")

    def numbers(self) -> dict[str, np.ndarray]:
        """Return the numeric arrays by name, in their own shapes and dtypes; others are left out."""
        found = {}
        for name in self._members:
            try:
                array = self.read(name)
            except OtherArrayError:
                continue
            if array.dtype.kind in NUMBERS:
                found[name] = array
        return found


def _parse(data: bytes, where: str) -> np.ndarray:
    """Parse a .npy file from bytes, as a view of them."""

    def damaged(reason: str) -> FileError:
        return FileError(f"{where}: not an array that can be read ({reason}); save it with numpy.save or numpy.savez")

    width = _HEADER_SIZE.get(data[6]) if data.startswith(MAGIC) and len(data) > 8 else None
    if width is None:
        raise damaged("it does not start like a NumPy file" if data else "it is empty")
    begin = 8 + width
    size = int.from_bytes(data[8:begin], "little")
    if size > min(MAX_HEADER, len(data) - begin):
        raise damaged(f"a header of {size} bytes")
    header, values = data[begin : begin + size].decode("latin-1"), memoryview(data)[begin + size :]
    order, shape = _ORDER.findall(header), _SHAPE.findall(header)
    if len(order) != 1 or len(shape) != 1 or header.replace('"', "'").count("'descr'") != 1:
        raise damaged("its header does not give type, order and shape once each")
    dtype = _dtype(header)
    if dtype is None:
        raise OtherArrayError(f"{where}: holds values other than numbers and text; expected an array of numbers")
    sizes = _shape(shape[0])
    count = None if sizes is None else item_count(sizes)
    if count is None or count * dtype.itemsize > len(values):
        raise damaged(f"a shape of ({shape[0][:60]}), and {len(values)} bytes for its values")
    return np.frombuffer(values, dtype, count).reshape(sizes, order="F" if order[0] == "True" else "C")


def _dtype(header: str) -> np.dtype | None:
    """Return the dtype of a header; None if it is neither numeric nor text."""
    found = _DESCR.search(header)
    if found is None or found[2] not in _SIZES or int(found[3] or 0) not in _SIZES[found[2]]:
        return None
    return np.dtype("".join(found.groups()))


def _shape(text: str) -> tuple[int, ...] | None:
    """Parse the sizes of a shape; None if they are not numbers. Python 2 wrote some with a trailing L."""
    words = [word.strip().removesuffix("L") for word in text.split(",")]
    if words[-1] == "":
        words.pop()
    return tuple(map(int, words)) if all(word.isdecimal() and len(word) < 20 for word in words) else None
