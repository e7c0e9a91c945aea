"""An HDF5 file as groups and arrays."""

from __future__ import annotations

import mmap
from os import PathLike

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import cannot_open

from . import header
from .arrays import read_dtype, read_shape, read_values
from .blocks import Blocks
from .groups import Links, is_group, read_links
from .header import Messages, read_header


def open_hdf5(path: str | PathLike) -> Group:
    """Map a file and return its root group.

    Raises:
        FileError: The file cannot be opened, or is not an HDF5 file.
    """
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:  # nothing can be mapped of an empty file
        raise FileError(f"{path}: not a readable HDF5 file: the file is empty") from None
    except OSError as error:
        raise cannot_open(path, error) from None
    blocks = Blocks(data, str(path))
    found = _Objects(blocks).at(blocks.root, "/")
    if not isinstance(found, Group):
        raise blocks.error("its root is not a group")
    return found


class _Objects:
    """The objects of a file by address: each is read once, however many links lead to it."""

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self._known: dict[int, Group | Dataset | None] = {}

    def at(self, address: int, name: str) -> Group | Dataset | None:
        """A group or an array; None for anything else, such as a named type."""
        if address not in self._known:
            messages = read_header(self.blocks, address)
            made: Group | Dataset | None = None
            if is_group(messages):
                made = Group(self, messages, name)
            elif header.DATASPACE in messages:
                made = Dataset(self.blocks, messages, name)
            self._known[address] = made
        return self._known[address]


class Group:
    """The members of a group by name. Two links to the same object return one Python object, named after the first
    access.
    """

    def __init__(self, objects: _Objects, messages: Messages, name: str):
        self._objects, self.name = objects, name
        self._links: Links = read_links(objects.blocks, messages)

    @property
    def path(self) -> str:
        """The path of the file."""
        return self._objects.blocks.path

    def __iter__(self):
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def get(self, name: str) -> Group | Dataset | None:
        """Return a member of this group; None if there is none.

        Raises:
            FileError: The member is a link that leads elsewhere, which is not followed.
        """
        if name not in self._links:
            return None
        address = self._links[name]
        full = f"{self.name.rstrip('/')}/{name}"
        if address is None:
            raise FileError(f"{self.path}: {full} is a link to elsewhere; such files are not supported")
        return self._objects.at(address, full)


class Dataset:
    """An array that is read on demand."""

    def __init__(self, blocks: Blocks, messages: Messages, name: str):
        self._blocks, self._messages, self.name = blocks, messages, name
        self.shape = read_shape(blocks, messages[header.DATASPACE][0])  # None: no element at all
        types = messages.get(header.DATATYPE)
        self.dtype = read_dtype(types[0]) if types else "values of a type that has a name"  # text where no numbers
        self._values: np.ndarray | None = None  # once they have been read

    def read(self, kinds: str = "fiu") -> np.ndarray:
        """Return the values in the dataset's shape and this machine's byte order; read-only, as they may be a view of
        the file.

        Args:
            kinds: Accepted kinds of values: "f" floating-point, "i" and "u" integers, "S" text.

        Raises:
            FileError: The values are of another kind, are not in the file, or would take more memory than a file of
                this size can justify.
        """
        where = f"{self._blocks.path}: {self.name}"
        if isinstance(self.dtype, str) or self.dtype.kind not in kinds:
            wanted = {"f": "floating-point values", "S": "text"}.get(kinds, "numbers")
            found = self.dtype if isinstance(self.dtype, str) or self.dtype.kind != "S" else "text"
            raise FileError(f"{where}: holds {found}, not {wanted}")
        if self.shape is None:
            raise FileError(f"{where}: holds no values")
        if header.EXTERNAL in self._messages:
            raise FileError(f"{where}: its values are in another file, which is not supported")
        if header.LAYOUT not in self._messages:
            raise self._blocks.error(f"{self.name} has no location for its values")
        if self._values is None:
            values = read_values(self._blocks, self._messages, self.name, self.shape, self.dtype)
            self._values = values.astype(self.dtype.newbyteorder("="), copy=False)
            self._values.flags.writeable = False
        return self._values
