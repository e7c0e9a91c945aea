"""dialect="auto": the dialect in which everything in a file is known, and what remains in doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike

from rmpe_legacy.errors import NetError, PrototxtError
from rmpe_legacy.wording import shorten_list

from .layers import registry
from .mixed_defaults import settle_defaults
from .proto.dialects import AUTO, BASES, MIXED, forks
from .proto.message import Message, Unknown, fields_with_effect
from .proto.schema import MessageType, load_schema, may_have
from .proto.text import read_text
from .proto.upgrade import upgrade_net
from .spec import LayerSpec

FIRST = "rmpe"  # what a file means that every dialect knows
NOTHING = (0, 0, 0)
READ_AGAIN = 3 << 19  # bytes of text that are read in further dialects: two seconds' worth, with what comes after


Layers = tuple[Message, Sequence[LayerSpec]]


@dataclass(frozen=True)
class Reading:
    """A prototxt as one dialect reads it."""

    message: Message
    dialect: str
    notes: tuple[str, ...] = ()  # a sentence for each thing that another dialect would compute differently
    layers: Layers | None = None  # where the choice of the dialect made them


def read_network(path: str | PathLike, dialect: str, strict: bool,
                 specs_of: Callable[[Message], Sequence[LayerSpec]]) -> Reading:
    """Read a prototxt in a dialect; with "auto", in the dialect that knows most of what the file contains.

    Args:
        path: The prototxt.
        dialect: A dialect's name, or "auto".
        strict: As for ``load_net``.
        specs_of: Returns the layers of an upgraded NetParameter that will be built. The types of the other layers
            only decide between dialects that know all of these.

    Raises:
        FileError: The file cannot be read.
        PrototxtError: It cannot be parsed.
        RmpeError: There is no such dialect.
    """
    if dialect != AUTO:
        message = read_text(path, "NetParameter", dialect, strict)
        return Reading(message, dialect, tuple(_without_effect(message)))
    first = read_text(path, "NetParameter", FIRST, strict=False)
    layers = _layers(first, specs_of)
    lacking = _lacking(first, layers)
    best = (lacking, first, FIRST, layers)
    if lacking != NOTHING:
        for name in (*_candidates(first), MIXED):
            try:
                message = read_text(path, "NetParameter", name, strict=False)
            except PrototxtError:  # it has a field of this name, of another type
                continue
            layers = _layers(message, specs_of)
            lacking = _lacking(message, layers)
            if lacking < best[0] if name != MIXED else lacking[:2] < best[0][:2]:
                best = (lacking, message, name, layers)
            if lacking == NOTHING:
                break
    _, message, name, layers = best
    if strict and any(unknown.is_again for unknown in message.unknowns()):
        message = read_text(path, "NetParameter", name)  # which raises the error, with the place
    settled = tuple(settle_defaults(layers[1])) if name == MIXED and layers is not None else ()
    return Reading(message, name, (*_doubts(message, name, layers), *settled, *_without_effect(message)), layers)


def _candidates(first: Message) -> list[str]:
    """The dialects to try after the first, those that have most of the layer types before others: of a large file, no
    more than `READ_AGAIN` allows."""
    most = READ_AGAIN // max(1, len(first.origin.text or ""))
    if most == 0:
        return []
    unknown = list(first.unknowns())
    types = {layer.fields.get("type", "") for layer in first.layer}
    lacked = {(each.owner, each.name) for each in unknown}
    able = [name for name in (*(base for base in BASES if base != FIRST), *_smallest_first())
            if may_have(name, lacked) and _may_know(unknown, load_schema(name)["NetParameter"])]
    able.sort(key=lambda name: sum(not registry.forms_in(type_name, load_schema(name)) for type_name in types))
    return able[:most]


def _smallest_first() -> list[str]:
    """The forks, starting with those that add least, so an ambiguous file is read as most forks read it."""
    return sorted(forks(), key=lambda name: (len(forks()[name].lines), name))


def _layers(message: Message, specs_of: Callable[[Message], Sequence[LayerSpec]]) -> Layers | None:
    """The upgraded NetParameter and its layers that will be built; None if building the network will fail."""
    try:
        net = upgrade_net(message)
        return net, specs_of(net)
    except NetError:
        return None


def _lacking(message: Message, layers: Layers | None) -> tuple[int, int, int]:
    """Count what a dialect does not know: in the layers that will be built, and in the whole file.

    The third number counts layers that the dialect has in another form, which serves as well.
    """
    schema = message.descriptor.schema
    fields = sum(1 for _ in message.unknowns())
    if layers is None:  # building the network reports it
        return fields, fields, 0
    net, specs = layers
    misfits = [_misfit(spec) for spec in specs]
    wrong = fields + misfits.count(2)
    types = {layer.fields.get("type", "") for layer in net.layer}
    missing = sum(not registry.forms_in(name, schema) for name in types)
    return wrong, wrong + missing, misfits.count(1)


def _misfit(spec: LayerSpec) -> int:
    """0 if a dialect has a layer's type in the form that the layer has, 1 if in another that does as well, else 2."""
    forms = registry.forms_in(spec.type, spec.message.descriptor.schema)
    chosen = registry.choice(spec) if forms else None
    if not forms or chosen is None:
        return 0 if forms else 2
    return 0 if chosen.form in forms else 2 if set(chosen.others).isdisjoint(forms) else 1


def _may_know(unknown: Sequence[Unknown], net: MessageType) -> bool:
    """Whether a schema has all fields that another lacked; a quick look, before the file is read again."""
    schema = net.schema
    for lacked in unknown:
        owner = schema.messages.get(lacked.owner)
        field = None if owner is None else owner.fields.get(lacked.name)
        if field is None or (lacked.is_value and field.enum is not None and lacked.value not in field.enum.numbers):
            return False
        if isinstance(lacked.value, Message) and not _has_fields(field.message, lacked.value):
            return False
    return True


def _has_fields(kind: MessageType | None, message: Message) -> bool:
    if kind is None:
        return False
    for name, value in message.fields.items():
        field = kind.fields.get(name)
        inner = value[0] if isinstance(value, list) and value else value
        if field is None or (isinstance(inner, Message) and not _has_fields(field.message, inner)):
            return False
    return True


def _doubts(message: Message, dialect: str, layers: Layers | None) -> Iterator[str]:
    """What the file leaves open and dialects answer differently: a sentence of each kind, with the first layer."""
    if layers is None:
        return
    told = set()
    for spec in layers[1]:
        chosen = registry.choice(spec)
        if chosen is None or not chosen.doubt or (chosen.instead is not None
                                                  and registry.form_of(spec) != chosen.form):
            continue
        if spec.type not in told:
            told.add(spec.type)
            yield f"{spec.where}: {spec.name} ({spec.type}): dialect {dialect!r} was chosen; {chosen.doubt}"
    if dialect == MIXED:
        yield (f"{message.origin.path}: no single dialect knows everything in it, so each field has the meaning of the "
               "forks that define it (dialect 'mixed')")


def _without_effect(message: Message) -> Iterator[str]:
    """One sentence that names the fields which change no number here."""
    if message.descriptor.schema.name in BASES:
        return
    names = dict.fromkeys(f"{owner.descriptor.name}.{name}" for owner, name, _ in fields_with_effect(message, "none"))
    if names:
        yield f"{message.origin.path}: these fields do not change any number here: {shorten_list(list(names))}"
