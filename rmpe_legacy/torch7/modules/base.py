"""The base of all rebuilt Torch7 modules, the reading of their fields, and the registry of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.reading import first_line
from rmpe_legacy.registry import Registry
from rmpe_legacy.torch7.objects import Storage, Table, Torch7Object, text
from rmpe_legacy.torch7.objects import Tensor as StoredTensor

if TYPE_CHECKING:
    from rmpe_legacy.torch7.load import Builder

Value = Tensor | list  # a value between modules: a tensor, or a list for a Lua table
MAX_INTEGER = 1 << 31

_CLASSES: Registry[str, type[Module]] = Registry("Torch7 class")


def torch7_class(*names: str) -> Callable[[type[Module]], type[Module]]:
    """``@torch7_class("nn.View")`` above a class registers it for these Torch7 classes."""
    return _CLASSES.register(*names)


def class_for(name: str) -> type[Module] | None:
    """Return the class that rebuilds a Torch7 class; None if there is none."""
    return _CLASSES.get(name)


def known_classes() -> list[str]:
    """Return the Torch7 classes that can be rebuilt."""
    return sorted(_CLASSES)


class Module(nn.Module):
    """A Torch7 module. A subclass reads its fields in ``__init__`` and computes in ``forward``.

    forward takes one value, like updateOutput: a tensor, or a list for a Lua table. Everything is functional.
    Differs: an in-place module of Torch7 overwrites its input; here the input is not modified. A later module that
    reads the input again sees the overwritten values in Torch7.

    ``training`` is the saved field `train` of each module; ``eval()`` and ``train()`` change it.
    """

    if TYPE_CHECKING:  # nn.Module declares Tensor | Module, which is wrong for plain attributes of a subclass

        _modules: dict[str, Any]

        def __getattr__(self, name: str) -> Any: ...

    uses_train = False  # whether its results depend on the mode

    def __init__(self, fields: Fields):
        super().__init__()
        self.class_name = fields.class_name
        self.where = fields.where
        self.training = fields.flag("train")

    def __call__(self, *values: Any) -> Any:
        """Run ``forward``; torch's errors become a NetError that names the module."""
        try:
            return super().__call__(*values)
        except RmpeError:
            raise
        except Exception as error:
            raise NetError(f"{self.where}: cannot compute with {', '.join(map(_shape, values))}: {first_line(error)}") \
                from error

    @property
    def is_cudnn(self) -> bool:
        return self.class_name.startswith("cudnn.")

    def extra_repr(self) -> str:
        return self.class_name


class Fields:
    """The fields of one module in the file, checked as they are read."""

    def __init__(self, source: Torch7Object, builder: Builder, depth: int):
        self.source, self.builder, self.depth = source, builder, depth
        self.class_name, self.version = source.class_name, source.version

    @property
    def where(self) -> str:
        return f"{self.builder.path}: {self.class_name} at byte {self.source.offset}"

    def error(self, reason: str) -> FileError:
        return FileError(f"{self.where}: {reason}")

    def get(self, name: str) -> Any:
        return self.source.get(name)

    def has(self, name: str) -> bool:
        return self.get(name) is not None

    def flag(self, name: str, default: bool = False) -> bool:
        """Read a field as a boolean as Lua does (all but nil and false are true); `default` if it is absent."""
        value = self.get(name)
        return default if value is None else value is not False

    def number(self, name: str, default: float | None = None) -> float:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, float):
            raise self.error(f"{name} is {_shown(value)}; expected a number")
        return value

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.number(name, default)
        if not (math.isfinite(value) and value == int(value) and least <= value < MAX_INTEGER):
            raise self.error(f"{name} is {value:g}; expected a whole number of at least {least}")
        return int(value)

    def pair(self, h: str, w: str, default: int | None = None, least: int = 1) -> tuple[int, int]:
        """Read two integers, (h, w)."""
        return self.integer(h, default, least), self.integer(w, default, least)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Read a LongStorage of sizes; in old files, a LongTensor or table.

        Raises:
            FileError: The field holds something else.
        """
        value = self.get(name)
        if isinstance(value, Storage):
            value = value.data
        elif isinstance(value, StoredTensor):
            value = value.numpy().reshape(-1)
        elif isinstance(value, Table):
            value = value.seq()
        else:
            raise self.error(f"{name} is {_shown(value)}; expected sizes")
        try:
            return tuple(int(v) for v in value)
        except (TypeError, ValueError, OverflowError):
            raise self.error(f"{name} holds something other than whole numbers") from None

    def parameter(self, name: str, shape: tuple[int, ...] | None = None) -> nn.Parameter | None:
        """Read a parameter, in `shape` if given; None if the module has none.

        The same tensor in the file gives the same parameter.
        """
        value = self._tensor(name)
        return None if value is None else self.builder.parameter(self, name, value, shape)

    def required(self, name: str, shape: tuple[int, ...] | None = None) -> nn.Parameter:
        parameter = self.parameter(name, shape)
        if parameter is None:
            raise self.error(f"{name} is missing; the file does not hold a complete network")
        return parameter

    def tensor(self, name: str) -> Tensor | None:
        """Read a tensor that is not a parameter, in its stored shape; None if there is none."""
        value = self._tensor(name)
        return None if value is None else self.builder.tensor(self, name, value)

    def children(self) -> list[Module]:
        """Read the contained modules, in order.

        Raises:
            FileError: The field `modules` is not a table of modules.
        """
        modules = self.get("modules")
        if not isinstance(modules, Table):
            raise self.error(f"modules is {_shown(modules)}; expected a table of modules")
        return [self.child(module) for module in modules.seq()]

    def child(self, value: Any) -> Module:
        if not isinstance(value, Torch7Object):
            raise self.error(f"{_shown(value)} was found where a module is expected")
        return self.builder.module(value, self.depth + 1)

    def _tensor(self, name: str) -> StoredTensor | None:
        """Read a tensor field; an empty tensor counts as absent, like a cleared buffer."""
        value = self.get(name)
        if value is None or (isinstance(value, StoredTensor) and not value.count):
            return None
        if not isinstance(value, StoredTensor):
            raise self.error(f"{name} is {_shown(value)}; expected a tensor")
        return value


def _shown(value: Any) -> str:
    if value is None:
        return "nil"
    return text(value)[:40] if isinstance(value, bytes) else str(value)


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return "x".join(map(str, value.shape)) or "a single value"
    return f"a table of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__


def dimension(number: int, dims: int) -> int:
    """Convert a Torch7 dimension, counted from 1 or with negative numbers from the end, to PyTorch's."""
    return number - 1 if number > 0 else number + dims


def batched(x: Tensor, dims: int) -> Tensor:
    """Add a batch axis to x if it has only `dims` axes: (...) -> (1, ...)."""
    return x.unsqueeze(0) if x.dim() == dims else x


def nested_list(value: Any) -> Value:
    """Convert nested tuples and lists of tensors to lists."""
    return value if isinstance(value, torch.Tensor) else [nested_list(v) for v in value]
