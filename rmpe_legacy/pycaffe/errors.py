"""Our sentences as the exceptions that pycaffe raised, so that a script's ``except`` clauses go on working."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from operator import index
from typing import Any

from rmpe_legacy.errors import FileError, LayerError, RmpeError


class NameOfBlobError(RmpeError, KeyError):
    """A blob or a layer that the network does not have, asked for in a dictionary."""

    __str__ = Exception.__str__  # KeyError's puts the sentence in quotes


class NameOfLayerError(RmpeError, ValueError):
    """A layer that the network does not have, as the start or the end of a pass."""


class ReadOnlyError(RmpeError, AttributeError):
    """An attribute that cannot be replaced, only written into."""


class NoFieldError(RmpeError, AttributeError):
    """A field, message, enum or value that the dialect does not have."""


class ArgumentError(RmpeError, TypeError):
    """A call with arguments that match none of a function's signatures."""


class NoFileError(FileError, OSError):
    """A file that a Python library opened for pycaffe, and that cannot be read."""


class RuntimeRmpeError(RmpeError, RuntimeError):
    """What Caffe's C++ code refuses."""


def whole_number(what: str, value: Any) -> int:
    """Convert what pycaffe took as a C++ int. A float is refused even if it is whole, as in pycaffe."""
    try:
        return index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {value!r}; give an integer") from None


def file_path(what: str, value: Any) -> str | os.PathLike:
    """Return the path, or refuse what is none: a number would be taken for an open file's descriptor."""
    if isinstance(value, str | os.PathLike):
        return value
    raise ArgumentError(f"{what} is {value!r}; give the path of a file")


@contextmanager
def as_pycaffe() -> Iterator[None]:
    """Makes exceptions of the port RuntimeErrors too, like those of pycaffe's C++ code.

    What a Python layer's own code raises keeps its type.
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


@cache
def _both(ours: type[RmpeError], theirs: type[BaseException]) -> type[RmpeError]:
    return type(ours.__name__, (ours, theirs), {"__module__": __name__, "__str__": Exception.__str__})
