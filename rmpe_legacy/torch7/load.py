"""``load_torch7``: rebuilds the network of a .t7 file as a torch module."""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.errors import FileError

from .modules import containers, graph, linear, norm, pointwise, shapes, spatial, stn, tables  # noqa: F401  they register
from .modules.base import Fields, Module, class_for
from .objects import Storage, Table, Torch7Object, is_module, text
from .objects import Tensor as StoredTensor
from .reader import Torch7File, read_torch7

MAX_DEPTH = 100  # nesting of modules; the published networks have 10
LISTED_ENTRIES = 8  # keys listed in an error message
MAX_STEPS = 100_000  # modules, each counted as often as a forward runs it; a file can refer to one many times


def load_torch7(path: str | PathLike, evaluate: bool = False, long_size: int | None = None,
                key: str | None = None) -> Module:
    """Rebuild the network of a .t7 file as a torch.nn.Module with its weights.

    Its forward takes and returns what Torch7's does: a tensor, or a list of tensors for a Lua table. Parameters share
    memory as in Torch7.

    Args:
        path: The .t7 file.
        evaluate: Put all modules in evaluation mode. Otherwise they are in the mode in which they were saved (their
            field `train`), with a warning if that is training mode and affects results.
        long_size: See ``read_torch7``.
        key: The entry with the network if the file contains a table, for example "model" of {model = ..., opt = ...}.

    Raises:
        FileError: The file is damaged, or contains a class that is not supported.
    """
    network = build_module(read_torch7(path, long_size), key=key)
    if evaluate:
        network.eval()
    elif learning := sorted({m.class_name for m in network.modules()
                             if isinstance(m, Module) and m.uses_train and m.training}):
        warnings.warn(f"{path}: {', '.join(learning)} are saved in training mode, and are run that way; load with "
                      "evaluate=True to get the network's predictions", stacklevel=2)
    return network


def build_module(file: Torch7File, mapped: bool = False, key: str | None = None) -> Module:
    """Build the network of a file that has been read.

    Args:
        file: The file.
        mapped: Use read-only views of the file as parameters, which allocate no memory and suffice to convert them.
            Otherwise each storage is copied once.
        key: See ``load_torch7``.

    Raises:
        FileError: A class is not supported, or its fields are wrong.
    """
    return Builder(file, mapped).module(_network_root(file, key), 0)


def _network_root(file: Torch7File, key: str | None) -> Torch7Object:
    """Return the object to build: the file's root, or the entry `key` of a table."""
    root = file.root
    if isinstance(root, Torch7Object):
        if key is not None:
            raise FileError(f"{file.path}: holds a network ({root.class_name}), not a table; leave out the key {key!r}")
        return root
    if not isinstance(root, Table):
        raise FileError(f"{file.path}: holds {root!r}, not a network")
    entries = {_key_text(k): value for k, value in root.items()}
    networks = [name for name, value in entries.items() if is_module(value)]
    if key is None or key not in networks:
        what = "holds a table, not a network" if key is None else f"has no network under {key!r}"
        if not networks:
            names = ", ".join(map(repr, list(entries)[:LISTED_ENTRIES]))
            raise FileError(f"{file.path}: {what}; no entry is a network (entries: {names or 'none'}"
                            f"{', ...' if len(entries) > LISTED_ENTRIES else ''})")
        found = ", ".join(f"{name!r} ({entries[name].class_name})" for name in networks[:LISTED_ENTRIES])
        raise FileError(f"{file.path}: {what}; its networks are {found}. Choose one, for example with "
                        f"--key {networks[0]}, or key={networks[0]!r} in Python")
    return entries[key]


def _key_text(key: Any) -> str:
    """Format a table's key: model, or 1."""
    if isinstance(key, bytes):
        return text(key)
    return str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)


class Builder:
    """Builds modules and parameters, each object of the file once."""

    def __init__(self, file: Torch7File, mapped: bool):
        self.path = file.path
        self.mapped = mapped
        self._modules: dict[int, Module] = {}
        self._storages: dict[int, Tensor] = {}
        self._parameters: dict[tuple, nn.Parameter] = {}
        self._open: set[int] = set()  # modules under construction
        self._steps: dict[int, int] = {}  # module -> number of modules that its forward runs, including itself
        self._inside = 0  # the same for the modules inside the one under construction
        self._kept: list[Any] = [file]  # keeps the objects of the ids above alive

    def module(self, source: Torch7Object, depth: int) -> Module:
        """Build the module of an object in the file.

        Raises:
            FileError: Its class is not supported, or modules contain themselves or are nested too deeply.
        """
        key = id(source)
        if key in self._modules:
            self._count(Fields(source, self, depth), self._steps[key])
            return self._modules[key]
        cls = class_for(source.class_name)
        fields = Fields(source, self, depth)
        if cls is None:
            raise fields.error("this class has no counterpart here; convert the network without it, or look at the "
                               "file with read_torch7")
        if key in self._open:
            raise fields.error("the module contains itself")
        if depth > MAX_DEPTH:
            raise fields.error(f"modules nested more than {MAX_DEPTH} deep")
        self._open.add(key)
        outside, self._inside = self._inside, 0
        module = cls(fields)
        self._steps[key], self._inside = 1 + self._inside, outside
        self._count(fields, self._steps[key])
        self._open.remove(key)
        if fields.has("accGradParameters"):  # overridden in the file: how the authors froze convolutions
            module.requires_grad_(False)
        self._modules[key] = module
        return module

    def _count(self, fields: Fields, steps: int) -> None:
        self._inside += steps
        if self._inside > MAX_STEPS:
            raise fields.error(f"the network has more than {MAX_STEPS} modules, counted where they are used")

    def parameter(self, fields: Fields, name: str, stored: StoredTensor, shape: tuple[int, ...] | None) -> nn.Parameter:
        """Return the parameter for a position in the file and a shape; there is one for each such pair.

        Raises:
            FileError: The stored tensor is not floating-point, or has another number of values.
        """
        value = self.tensor(fields, name, stored)
        if not value.is_floating_point():
            raise fields.error(f"{name} is a {stored.class_name}; expected floating-point values")
        if shape is not None and value.shape != shape:
            if value.numel() != int(np.prod(shape)):
                raise fields.error(f"{name} is {_text(value.shape)}; expected {_text(shape)}")
            value = value.reshape(shape)
        key = (id(stored.storage), value.storage_offset(), value.shape, value.stride())
        if key not in self._parameters:
            self._parameters[key] = nn.Parameter(value)
        return self._parameters[key]

    def tensor(self, fields: Fields, name: str, stored: StoredTensor) -> Tensor:
        """Return a tensor of the stored shape, a view of its storage.

        Raises:
            FileError: The tensor has more values than its storage.
        """
        if stored.count > len(stored.storage):  # stride 0: not a weight, or made to exhaust memory
            raise fields.error(f"{name} has {stored.count} values, but its storage has {len(stored.storage)}")
        return self._storage(stored.storage).as_strided(stored.size, stored.stride, stored.start)

    def _storage(self, storage: Storage) -> Tensor:
        key = id(storage)
        if key not in self._storages:
            data = storage.data
            native = data.dtype.newbyteorder("=")
            if not self.mapped or native != data.dtype:
                data = data.astype(native)  # also aligns it
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                self._storages[key] = torch.from_numpy(data)
        return self._storages[key]


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
