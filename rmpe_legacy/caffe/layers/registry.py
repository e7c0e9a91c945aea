"""The registry of layer types: Caffe's type name -> layer class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rmpe_legacy.caffe.proto.dialects import BASES, MIXED, dialects, having
from rmpe_legacy.caffe.proto.message import Message, fields_with_effect
from rmpe_legacy.caffe.proto.schema import Schema
from rmpe_legacy.caffe.proto.upgrade import V0_TYPES, v1_type
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError
from rmpe_legacy.registry import Registry
from rmpe_legacy.wording import did_you_mean

from .base import Layer

_LAYERS: Registry[str, type[Layer]] = Registry("layer type")
_FORMS: Registry[tuple[str, str], type[Layer]] = Registry("form of a layer type")  # those of forks

_CHOOSERS: Registry[str, Chooser] = Registry("layer type with several forms")


@dataclass(frozen=True)
class Choice:
    """Which of its type's forms a layer has."""

    form: str
    others: tuple[str, ...] = ()  # forms that do as well, where the dialect lacks this one
    doubt: str = ""  # what else it may be and how to say so, where the file cannot tell; else empty
    instead: str | None = None  # the form that it may else be: where a dialect has that one, there is no doubt


Chooser = Callable[[LayerSpec], Choice]


def register(name: str, dialects: Iterable[str] = tuple(BASES), form: str | None = None
             ) -> Callable[[type[Layer]], type[Layer]]:
    """Register a subclass of Layer for a layer type: ``@register("Pooling")``.

    Args:
        name: The type's name in a prototxt. It can be registered once.
        dialects: The base dialects that have the type (default: all).
        form: For a type that only forks have, or that some forks have in another form: its name in their files, which
            list it as Type, or as Type=form.

    Raises:
        ValueError: The name is taken.
        TypeError: The decorated object is not a subclass of Layer.
    """

    def add(cls: type[Layer]) -> type[Layer]:
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise TypeError(f"layer type {name!r}: {cls!r} is not a subclass of rmpe_legacy.Layer")
        if form is None:
            _LAYERS.add(name, cls)
            cls.dialects = tuple(dialects)
        else:
            _FORMS.add((name, form), cls)
            cls.dialects, cls.form = (), form
        return cls

    return add


def chooses(name: str) -> Callable[[Chooser], Chooser]:
    """``@chooses("BN")`` above a function of a spec: which of its type's forms it has."""
    return _CHOOSERS.register(name)


def choice(spec: LayerSpec) -> Choice | None:
    """Which form a layer of a type with several forms has, by what its prototxt gives; None for any other type.

    The form "" is the bases'.
    """
    choose = None if is_users_own(spec.type) else _CHOOSERS.get(spec.type)
    return None if choose is None else choose(spec)


def forms_in(type_name: str, schema: Schema) -> tuple[str, ...]:
    """The forms in which a dialect has a type; none if it lacks the type."""
    if is_users_own(type_name):
        return ("",)
    own = schema.types.get(type_name, ())
    cls = _LAYERS.get(type_name)
    has_base = cls is not None and (schema.dialect in cls.dialects or schema.name == MIXED)
    return tuple(dict.fromkeys((*own, ""))) if has_base and (not own or schema.name == MIXED) else own


def form_of(spec: LayerSpec) -> str | None:
    """The form that a layer has in its dialect; None where the dialect lacks the type."""
    forms = forms_in(spec.type, spec.message.descriptor.schema)
    if not forms:
        return None
    chosen = choice(spec) if len(forms) > 1 else None
    wanted = () if chosen is None else (chosen.form, *chosen.others)
    return next((form for form in wanted if form in forms), forms[0])


def class_of(spec: LayerSpec) -> type[Layer] | None:
    """Return the class of a layer in its dialect; None where the dialect lacks the type."""
    if spec.is_fed:
        from .unknown_data import UnknownData  # it imports this module

        return UnknownData
    form = form_of(spec)
    if form is None:
        return None
    own = None if is_users_own(spec.type) else _FORMS.get((spec.type, form))
    cls = own or _LAYERS.get(spec.type)
    return None if cls is None else cls.for_spec(spec)


def create(spec: LayerSpec) -> Layer:
    """Return the module for one layer of a prototxt. Raises LayerError if its type is unknown."""
    if (error := unsupported(spec)) is not None:
        raise error
    cls = class_of(spec)
    assert cls is not None  # or it would be unsupported
    layer = cls(spec)
    layer.check_arity()
    return layer


def unsupported(spec: LayerSpec) -> LayerError | None:
    """Return why a layer cannot be loaded, whatever its bottoms are; None if it can."""
    cls = class_of(spec)
    if spec.is_fed:
        return None
    if cls is not None:
        return _refused_field(spec, cls) or cls.unavailable(spec)
    if spec.type not in known_types():
        return spec.error(f"unknown layer type{_meant(spec.type)}")
    return spec.error(f"dialect {spec.message.descriptor.schema.name!r} has no such layer; "
                      f"{having(dialects_of(spec.type))}")



def _refused_field(spec: LayerSpec, cls: type[Layer]) -> LayerError | None:
    """That a layer sets a field of a fork which is known but not computed here. What stands in the parameters of
    another type has no effect."""
    if spec.message.descriptor.schema.name in BASES:
        return None
    others = {id(value) for name, value in spec.message.fields.items()
              if isinstance(value, Message) and name.endswith("_param") and name not in cls.params}
    for owner, name, value in fields_with_effect(spec.message, "refused"):
        if id(owner) not in others and value != owner.descriptor.fields[name].absent:
            return spec.error(f"{owner.descriptor.name}.{name} of the fork's layer is not supported; remove it if its "
                              "effect does not matter to you")
    return None


def dialects_of(type_name: str) -> list[str]:
    """The bases that have a known type, then the forks that add it to theirs."""
    cls = _LAYERS.get(type_name)
    own = [] if cls is None else list(cls.dialects)
    return own + [d.name for d in dialects().values() if d.name != MIXED and type_name in d.types]


def _meant(type_name: str) -> str:
    """Return a hint for an unknown type: its name in today's format if it is an old one, or a similar name."""
    old = v1_type(V0_TYPES.get(type_name, type_name))
    return f"; did you mean {old!r}?" if old in known_types() else did_you_mean(type_name, known_types())


def classes_of(type_name: str) -> list[type[Layer]]:
    """The classes that load a type: the bases' one first, then those of its forms."""
    own = [_LAYERS[type_name]] if type_name in _LAYERS else []
    return own + [cls for (name, _), cls in sorted(_FORMS.items(), key=lambda item: item[0]) if name == type_name]


def may_share_data(type_name: str) -> bool:
    """Whether this type's tops may share the first bottom's data, so that an in-place layer changes both."""
    return any(cls.shares_data is not False for cls in classes_of(type_name))


def is_users_own(type_name: str) -> bool:
    """Whether a type was registered from outside this package."""
    cls = _LAYERS.get(type_name)
    return cls is not None and not cls.__module__.startswith("rmpe_legacy.")


def declared_fields(type_name: str) -> Mapping[str, Sequence[str]] | None:
    """Return the fields that a user's own type declares; None for a built-in type, or if it declares none."""
    return _LAYERS[type_name].fields if is_users_own(type_name) else None


def known_types() -> list[str]:
    """Return all registered types, sorted."""
    return sorted({*_LAYERS, *(name for name, _ in _FORMS)})


def layer_class(type_name: str) -> type[Layer]:
    """Return the class of a registered type; of several forms, the bases' or else the first."""
    return classes_of(type_name)[0]


def forms() -> dict[str, type[Layer]]:
    """Return the classes that only forks have, by type, or by Type=form where a type has several."""
    return {f"{name}={form}" if form else name: cls for (name, form), cls in _FORMS.items()}
