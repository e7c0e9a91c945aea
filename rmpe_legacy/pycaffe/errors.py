"""Our sentences as the exceptions that pycaffe raised, so that a script's ``except`` clauses go on working."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

from rmpe_legacy.errors import FileError, LayerError, RmpeError


class NameOfBlobError(RmpeError, KeyError):
    """A dictionary of a network was asked for a blob or layer that the network does not have."""

    __str__ = Exception.__str__  # KeyError's puts the sentence in quotes


class NameOfLayerError(RmpeError, ValueError):
    """A pass was to start or end at a layer that the network does not have."""


class ReadOnlyError(RmpeError, AttributeError):
    """An attribute was assigned that can only be written into."""


class NoFieldError(RmpeError, AttributeError):
    """The dialect has no such field, message, enum or value."""


class ArgumentError(RmpeError, TypeError):
    """The arguments match none of a function's signatures."""


class NoFileError(FileError, OSError):
    """A file that pycaffe opens through a Python library cannot be read."""


class RuntimeRmpeError(RmpeError, RuntimeError):
    """An error that Caffe raises in C++."""


def whole_number(what: str, value: Any) -> int:
    """Convert an argument that is a C++ int in pycaffe. A float is refused even if it is whole, as in pycaffe.

    Raises:
        ArgumentError: `value` is not an integer.
    """
    try:
        return index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {value!r}; give an integer") from None


def file_path(what: str, value: Any) -> str | os.PathLike:
    """Return a path unchanged. A number is refused, because open() would take it for a file descriptor.

    Raises:
        ArgumentError: `value` is not a path.
    """
    if isinstance(value, str | os.PathLike):
        return value
    raise ArgumentError(f"{what} is {value!r}; give the path of a file")


@contextmanager
def as_pycaffe() -> Iterator[None]:
    """Convert RmpeErrors inside the context to exceptions that are RuntimeErrors too, as pycaffe raises for C++ errors.

    Exceptions raised by a Python layer's own code keep their type.
    """
    try:
        yield
    except RmpeError as error:
        cause = error.__cause__
        if not isinstance(error, LayerError) or cause is None or isinstance(cause, RmpeError):
            raise _combined(error, RuntimeError) from cause
        kind = type(cause)
        if getattr(builtins, kind.__name__, None) is not kind:  # a class of the user's
            raise cause from None
        raise _combined(error, kind) from cause


def _combined(error: RmpeError, kind: type[BaseException]) -> RmpeError:
    """The same sentence in an exception of both types."""
    if isinstance(error, kind):
        return error
    try:
        return _both(type(error), kind)(str(error))
    except TypeError:  # its constructor wants more than a message
        return _both(type(error), RuntimeError)(str(error))


_BOTH: dict[tuple[type[RmpeError], type[BaseException]], type[RmpeError]] = {}  # the classes that _both has made


def _both(ours: type[RmpeError], theirs: type[BaseException]) -> type[RmpeError]:
    if (ours, theirs) not in _BOTH:
        _BOTH[ours, theirs] = type(ours.__name__, (ours, theirs),
                                   {"__module__": __name__, "__str__": Exception.__str__})
    return _BOTH[ours, theirs]
