"""Runs a command that computes shapes but no values without torch and OpenCV, as importing torch takes twice as long as
the command.

Layers are modules of torch, so their files import it. Meanwhile placeholders stand for both: they can be imported,
inherited from, called and computed with. Whatever asks for a value shows that the command needs torch after all, and it
starts again with the real one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

PACKAGE = __package__.partition(".")[0]
# What computes values: torch, OpenCV, and our operators on tensors, which are linked with torch
ABSENT = re.compile(rf"(torch|cv2|{PACKAGE}\.ops)(\.|$)")
DECORATORS = ("no_grad", "once_differentiable")

Result = TypeVar("Result")


def shapes_only(command: Callable[[], Result]) -> Result:
    """Call a function without torch and OpenCV, and if it does not succeed, once more with them.

    Args:
        command: Imports what it needs by itself, and changes nothing outside its result.

    Raises:
        Exception: What the function raises with torch.
    """
    if "torch" in sys.modules:  # it takes no further time, then
        return command()
    before = set(sys.modules)
    try:
        with _placeholders():
            return command()
    except (Exception, TorchNeededError):  # an error of its own comes again
        pass
    finally:
        for name in set(sys.modules) - before:
            if ABSENT.match(name) or name.partition(".")[0] == PACKAGE:
                _forget(name)
    return command()


def _forget(name: str) -> None:
    """Let the next import of a module read it again."""
    del sys.modules[name]
    parent, _, own = name.rpartition(".")
    if own in vars(sys.modules.get(parent, ModuleType(parent))):
        delattr(sys.modules[parent], own)


class TorchNeededError(BaseException):  # not an Exception, which a layer may turn into an error of its own
    """A value was asked of torch."""


def _refuse(*_: object) -> Any:
    raise TorchNeededError


class _Value:
    """Stands for what a function of torch returns."""

    def __getattr__(self, name: str) -> _Value:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Value:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __call__
    __neg__ = __pow__ = __rpow__ = __getitem__ = __call__
    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __contains__ = __setitem__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __str__ = __repr__ = __array__ = _refuse


class _Placeholder(type):
    """The type of what stands for the functions, classes and constants of torch."""

    def __getattr__(cls, name: str) -> Any:
        return _placeholder(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__name__ not in DECORATORS:
            return _Value()
        return args[0] if args else lambda function: function

    def __instancecheck__(cls, instance: object) -> bool:
        return _refuse() if isinstance(type(instance), _Placeholder) or type(instance) is _Value else False


def _placeholder(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return Module if name == "Module" else _Placeholder(name, (), {})


class Module:
    """Stands for torch.nn.Module, whose subclasses the layers are: of it, they need but its attributes."""

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        setattr(self, name, tensor)


class _Finder(MetaPathFinder, Loader):
    """Finds a module of placeholders for what ABSENT names and each of its parts."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if ABSENT.match(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _PlaceholderModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _PlaceholderModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _placeholder(name)


@contextmanager
def _placeholders() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
