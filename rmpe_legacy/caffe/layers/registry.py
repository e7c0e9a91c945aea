"""The registry of layer types: Caffe's type name -> layer class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from rmpe_legacy.caffe.proto.schema import DIALECTS
from rmpe_legacy.caffe.proto.upgrade import V0_TYPES, v1_type
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError
from rmpe_legacy.registry import Registry
from rmpe_legacy.wording import did_you_mean

from .base import Layer

_LAYERS: Registry[str, type[Layer]] = Registry("layer type")


def register(name: str, dialects: Iterable[str] = tuple(DIALECTS)) -> Callable[[type[Layer]], type[Layer]]:
    """Register a subclass of Layer for a layer type: ``@register("Pooling")``.

    Args:
        name: The type's name in a prototxt. It can be registered once.
        dialects: The dialects whose Caffe has the type (default: all).

    Raises:
        ValueError: The name is taken.
        TypeError: The decorated object is not a subclass of Layer.
    """

    def add(cls: type[Layer]) -> type[Layer]:
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise TypeError(f"layer type {name!r}: {cls!r} is not a subclass of rmpe_legacy.Layer")
        _LAYERS.add(name, cls)
        cls.dialects = tuple(dialects)
        return cls

    return add


def create(spec: LayerSpec) -> Layer:
    """Return the module for one layer of a prototxt. Raises LayerError if its type is unknown."""
    if (error := unsupported(spec)) is not None:
        raise error
    layer = _LAYERS[spec.type](spec)
    layer.check_arity()
    return layer


def unsupported(spec: LayerSpec) -> LayerError | None:
    """Return why a layer cannot be loaded, whatever its bottoms are; None if it can."""
    cls = _LAYERS.get(spec.type)
    if cls is None:
        return spec.error(f"unknown layer type{_meant(spec.type)}")
    if spec.dialect not in cls.dialects:
        return spec.error(f"dialect {spec.dialect!r} has no such layer; dialect "
                          f"{' and '.join(map(repr, cls.dialects))} has it")
    return cls.unavailable(spec)


def _meant(type_name: str) -> str:
    """Return a hint for an unknown type: its name in today's format if it is an old one, or a similar name."""
    old = v1_type(V0_TYPES.get(type_name, type_name))
    return f"; did you mean {old!r}?" if old in _LAYERS else did_you_mean(type_name, _LAYERS)


def may_share_data(type_name: str) -> bool:
    """Whether this type's tops may share the first bottom's data, so that an in-place layer changes both."""
    cls = _LAYERS.get(type_name)
    return cls is not None and cls.shares_data is not False


def is_users_own(type_name: str) -> bool:
    """Whether a type was registered from outside this package."""
    cls = _LAYERS.get(type_name)
    return cls is not None and not cls.__module__.startswith("rmpe_legacy.")


def declared_fields(type_name: str) -> Mapping[str, Sequence[str]] | None:
    """Return the fields that a user's own type declares; None for a built-in type, or if it declares none."""
    return _LAYERS[type_name].fields if is_users_own(type_name) else None


def known_types() -> list[str]:
    """Return all registered types, sorted."""
    return sorted(_LAYERS)


def layer_class(type_name: str) -> type[Layer]:
    """Return the class of a registered type."""
    return _LAYERS[type_name]
