"""The defaults of fields in dialect 'mixed', where forks have different ones.

The forks that have the layer decide; of several, the one that alone has other fields or layer types of the file; else
the first by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .layers import registry
from .proto.dialects import BASES, dialects
from .proto.message import Message
from .proto.schema import differing_defaults, owners_of
from .spec import LayerSpec

Defaults = Mapping[Any, Sequence[str]]  # a default -> the dialects that have it


def settle_defaults(specs: Sequence[LayerSpec]) -> Iterator[str]:
    """Write the defaults into each layer that other forks than the first decide. Yield a sentence for each field of
    which several forks with this layer have different ones.

    Args:
        specs: The layers that will be built, read in 'mixed'; nothing has been built of them yet.
    """
    makers = _makers(specs)
    told: set[tuple[str, str]] = set()
    for spec in specs:
        for message in _parameters(spec):
            for name, defaults in _open_fields(spec, message):
                own = {value for value, having in defaults.items() if makers & set(having)}
                sure = own if len(own) == 1 else set(defaults) if len(defaults) == 1 else set()
                value = next(iter(sure), getattr(message, name))
                if value != getattr(message, name):
                    message.fields[name] = value  # nothing else has the message yet
                key = message.descriptor.name, name
                if len(defaults) > 1 and key not in told:
                    told.add(key)
                    yield _sentence(spec, key, value, defaults, makers if sure else set())


def _makers(specs: Sequence[LayerSpec]) -> set[str]:
    """The forks that alone have a field or a layer type of the file."""
    found = set()
    for spec in specs:
        having = registry.dialects_of(spec.type)
        found |= {having[0]} if len(having) == 1 else set()
        for message in spec.message.walk():
            for name in message.fields:
                owners = owners_of(message.descriptor.name, name)
                found |= {owners[0]} if len(owners) == 1 else set()
    return found - set(BASES)


def _parameters(spec: LayerSpec) -> Iterator[Message]:
    """The messages that the layer's class reads and the file gives it, without what only changes pictures as they are
    read: a data layer with a fork's own fields is fed."""
    cls = registry.class_of(spec)
    for name in () if cls is None else cls.params:
        if name != "transform_param" and isinstance(spec.message.fields.get(name), Message):
            yield spec.get(name)


def _open_fields(spec: LayerSpec, message: Message) -> Iterator[tuple[str, Defaults]]:
    """The fields that a message does not set and forks have different defaults of: those of the forks with the layer.
    """
    for name, field in message.descriptor.fields.items():
        defaults = differing_defaults().get((message.descriptor.name, name))
        if defaults is None or message.has(name) or field.effect in ("none", "refused"):
            continue
        having = {value: [each for each in names if _has_layer(each, spec)] for value, names in defaults.items()}
        yield name, {value: names for value, names in having.items() if names} or defaults


def _has_layer(dialect: str, spec: LayerSpec) -> bool:
    """Whether a dialect has the layer's type in the form that the layer has in 'mixed'."""
    form, own = registry.form_of(spec), dialects()[dialect].types.get(spec.type)
    if own:
        return form in own
    return form == "" and dialects()[dialect].base in registry.dialects_of(spec.type)


def _sentence(spec: LayerSpec, key: tuple[str, str], value: Any, defaults: Defaults, makers: set[str]) -> str:
    message, name = key
    known = "; ".join(f"{_text(default)} in {', '.join(names)}" for default, names in defaults.items())
    why = ", ".join(sorted(makers & set(defaults[value])))
    chosen = f"it is {_text(value)} here" + (f", as other fields of the file are those of {why} alone" if why else "")
    return (f"{spec.where}: {spec.name} ({spec.type}): {message}.{name} is not set, and forks differ in its default: "
            f"{known}; {chosen}; set it if another is meant")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
