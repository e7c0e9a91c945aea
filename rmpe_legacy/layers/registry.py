"""Caffe type name -> layer class: the one list of what this package can load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from rmpe_legacy.proto.schema import DIALECTS
from rmpe_legacy.spec import LayerSpec

from .base import Layer

_LAYERS: dict[str, type[Layer]] = {}


def register(name: str, dialects: Iterable[str] = tuple(DIALECTS)) -> Callable[[type[Layer]], type[Layer]]:
    """``@register("Pooling")`` above a subclass of Layer: the class that loads this type.

    A name can be taken once. `dialects` are those whose Caffe has the type (default: all).
    """

    def add(cls: type[Layer]) -> type[Layer]:
        if name in _LAYERS:
            raise ValueError(f"layer type {name!r} is taken by {_LAYERS[name].__qualname__}")
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise TypeError(f"layer type {name!r}: {cls!r} is not a subclass of rmpe_legacy.Layer")
        cls.dialects = tuple(dialects)
        _LAYERS[name] = cls
        return cls

    return add


def create(spec: LayerSpec) -> Layer:
    """The module for one layer of the prototxt; LayerError for a type that is not known."""
    reason = unsupported(spec.type, spec.dialect)
    if reason is not None:
        raise spec.error(reason)
    layer = _LAYERS[spec.type](spec)
    layer.check_arity()
    return layer


def unsupported(type_name: str, dialect: str) -> str | None:
    """Why a type cannot be loaded in this dialect; None if it can."""
    cls = _LAYERS.get(type_name)
    if cls is None:
        near = get_close_matches(type_name, _LAYERS, n=1)
        return "unknown layer type" + (f"; did you mean {near[0]!r}?" if near else "")
    if dialect not in cls.dialects:
        return f"dialect {dialect!r} has no such layer; dialect {' and '.join(map(repr, cls.dialects))} has it"
    return None


def is_users_own(type_name: str) -> bool:
    """Whether a type was registered from outside this package."""
    cls = _LAYERS.get(type_name)
    return cls is not None and not cls.__module__.startswith("rmpe_legacy.")


def known_types() -> list[str]:
    """Every type that can be loaded, in alphabetical order."""
    return sorted(_LAYERS)


def layer_class(type_name: str) -> type[Layer]:
    """The class registered for a known type."""
    return _LAYERS[type_name]
