"""Caffe's message types per dialect: field names, numbers, types and defaults.

Read from schema.txt for a base; a fork's are its base's with what its file adds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from .dialects import BASES, MIXED, dialect_named, dialects, forks

SCALARS = {"int32", "int64", "uint32", "float", "double", "bool", "string", "bytes"}
EFFECTS = ("none", "refused", "fed")
SPARE = 200_000_000  # added to the number of a field whose own is taken
ARRAYS = {"float": "f", "double": "d"}  # those of which a packed field becomes an array: NumPy's dtype
ZERO = {"bool": False, "string": "", "bytes": b"", "float": 0.0, "double": 0.0}  # of an unset scalar; else 0

_HEADER = re.compile(r"(\w+)(?: @(\S+))?$")
_ENUM = re.compile(r"enum (\w+)(?: @(\S+))?: (.+)$")
_FIELD = re.compile(r"(\d+) (\w+) ([\w.]+)(\*\*|[*!])?(?: = (.*?))?(?: @(\S+))?$")


@dataclass(frozen=True)
class EnumType:
    """Names and numbers of one enum."""

    name: str
    numbers: dict[str, int]

    @cached_property
    def names(self) -> dict[int, str]:
        return {number: name for name, number in self.numbers.items()}


@dataclass(frozen=True)
class Field:
    """One field: its number on the wire, its type and its default."""

    number: int
    name: str
    type: str  # a scalar's name, or that of a message or enum
    repeated: bool
    packed: bool
    required: bool
    default: Any  # None where the schema gives none
    effect: str = ""  # of a fork's field: "none" on the numbers, "refused" or "fed" (see dialects.py)
    enum: EnumType | None = None
    message: MessageType | None = None

    @property
    def absent(self) -> Any:
        """The value of the field if it is not set, as in protobuf."""
        if self.repeated:
            return ()
        if self.message is not None:
            return self.message.empty
        if self.default is not None:
            return self.default
        if self.enum is not None:
            return next(iter(self.enum.numbers))
        return ZERO.get(self.type, 0)


@dataclass
class MessageType:
    """The fields of one message, by name and by number."""

    name: str
    schema: Schema = field(repr=False)
    fields: dict[str, Field] = field(default_factory=dict, repr=False)
    enums: dict[str, EnumType] = field(default_factory=dict, repr=False)

    @cached_property
    def by_number(self) -> dict[int, Field]:
        return {f.number: f for f in self.fields.values()}

    @cached_property
    def arrays(self) -> tuple[tuple[str, str], ...]:
        """The repeated fields that hold a blob's values, which Messages store as arrays: (name, NumPy's dtype)."""
        return tuple((f.name, ARRAYS[f.type]) for f in self.fields.values() if f.packed and f.type in ARRAYS)

    @cached_property
    def empty(self):
        from .message import Message

        return Message(self)

    def __reduce__(self) -> tuple:
        return _message_type, (self.schema.name, self.name)  # a copy, and what pickle reads back, is this one


@dataclass
class Schema:
    """All messages and enums of one dialect."""

    name: str
    dialect: str  # the base, whose arithmetic holds
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what a fork adds: layer type -> its forms
    messages: dict[str, MessageType] = field(default_factory=dict)
    enums: dict[str, EnumType] = field(default_factory=dict)

    def __getitem__(self, name: str) -> MessageType:
        return self.messages[name]


def _field_match(text: str) -> re.Match:
    match = _FIELD.match(text)
    assert match is not None, text  # the schema is ours
    return match


@cache
def load_schema(dialect: str = "rmpe") -> Schema:
    """Return the schema of one dialect.

    Raises:
        RmpeError: There is no such dialect.
    """
    own = dialect_named(dialect)
    schema = Schema(own.name, own.base, own.types)
    raw: list[tuple[MessageType, re.Match]] = []
    for base in sorted(BASES, key=lambda name: name != own.base) if dialect == MIXED else [own.base]:
        _add(schema, _base_lines(), base, raw)
    for fork in forks().values() if dialect == MIXED else (own,):
        _add(schema, fork.lines, None, raw)
    for message in schema.messages.values():
        _separate(message.enums)
    twins: list[tuple[MessageType, MessageType]] = []  # messages that forks have as a field of one name
    for message, match in raw:
        made = _field(schema, message, match)
        before = message.fields.get(made.name)
        if before is None or dialect != MIXED:
            message.fields[made.name] = made
        elif before.message is not None and made.message not in (None, before.message):
            twins.append((before.message, made.message))
    for one, other in twins:
        for name, inner in other.fields.items():
            if inner.enum is None:  # two enums of a message may not share a value's name
                one.fields.setdefault(name, inner)
    for message in schema.messages.values():
        _give_numbers(message)
    return schema


@cache
def _base_lines() -> tuple[str, ...]:
    lines = files(__package__).joinpath("schema.txt").read_text("utf-8").splitlines()
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))


def _add(schema: Schema, lines: Iterable[str], base: str | None, raw: list[tuple[MessageType, re.Match]]) -> None:
    """Add messages and enums of a base (with its @dialects), or of a fork (None); fields go to `raw`, for later."""
    message: Any = None
    for line in lines:
        text, inner = line.strip(), line.startswith(" ")
        if enum := _ENUM.match(text):
            if (message is None and inner) or not _holds(enum[2], base):
                continue
            owner = message.enums if inner else schema.enums
            known = owner[enum[1]].numbers if enum[1] in owner else {}
            owner[enum[1]] = EnumType(enum[1], _values(enum[3], base) | known if schema.name == MIXED else
                                      known | _values(enum[3], base))
        elif not inner:
            header: Any = _HEADER.match(text)
            message = None
            if _holds(header[2], base):
                message = schema.messages.setdefault(header[1], MessageType(header[1], schema))
        elif message is not None and _holds((match := _field_match(text))[6], base):
            raw.append((message, match))


def _give_numbers(message: MessageType) -> None:
    """Let each field have a number of its own: where two claim one, the field added last has it.

    The other can still be written in a prototxt.
    """
    taken: dict[int, str] = {}
    for i, made in enumerate(list(message.fields.values())):
        if made.number in taken:
            other = message.fields[taken[made.number]]
            message.fields[other.name] = replace(other, number=SPARE + i)
        taken[made.number] = made.name


def _separate(enums: dict[str, EnumType]) -> None:
    """Let each value of an enum have a number of its own: the one named first keeps it."""
    for name, enum in enums.items():
        first = {number: key for key, number in reversed(enum.numbers.items())}
        enums[name] = EnumType(name, {key: number if first[number] == key else SPARE + i
                                      for i, (key, number) in enumerate(enum.numbers.items())})


@cache
def agreed_numbers() -> frozenset[tuple[str, int, str]]:
    """(message, number, field) of the fields whose number no dialect uses for another field of the message."""
    schema = Schema(MIXED, BASES["ssd"].base)
    raw: list[tuple[MessageType, re.Match]] = []
    for base in BASES:
        _add(schema, _base_lines(), base, raw)
    for fork in forks().values():
        _add(schema, fork.lines, None, raw)
    uses: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for message, match in raw:
        uses.setdefault((message.name, int(match[1])), set()).add((match[2], match[3]))
    return frozenset((message, number, name) for (message, number), fields in uses.items() if len(fields) == 1
                     for name, _ in fields)


def _message_type(dialect: str, name: str) -> MessageType:
    return load_schema(dialect)[name]


def known_elsewhere(message: str, name: str, dialect: str) -> list[str]:
    """Return the other dialects in which `message` has a field `name`."""
    return [other for other in dialects()
            if other not in (dialect, MIXED) and (message, name) in _names_of(other)]


def may_have(dialect: str, wanted: Set[tuple[str, str]]) -> bool:
    """Return whether a dialect has all these (message, field) pairs. Does not load its schema."""
    own = dialect_named(dialect)
    return wanted <= _names_of(own.base) | _names_of(own.name)


@cache
def differing_defaults() -> Mapping[tuple[str, str], Mapping[Any, tuple[str, ...]]]:
    """Return (message, field) -> default -> the dialects that have it, where forks give a number or a bool different
    ones. Of the bases only `mixed`'s own is listed."""
    found: dict[tuple[str, str], dict[Any, tuple[str, ...]]] = {}
    for name in (BASES["ssd"].name, *forks()):
        for message, match in _lines_of(name):
            if match[3] not in SCALARS or match[4]:
                continue
            default = ZERO.get(match[3], 0) if match[5] is None else _scalar_default(match[3], match[5])
            of_field = found.setdefault((message.name, match[2]), {})
            of_field[default] = (*of_field.get(default, ()), name)
    return {key: values for key, values in found.items() if len(values) > 1}


@cache
def owners_of(message: str, name: str) -> tuple[str, ...]:
    """Return the dialects, bases first, in which `message` has a field `name` of its own."""
    return tuple(dialect for dialect in (*BASES, *forks()) if (message, name) in _names_of(dialect))


def added_fields(dialect: str) -> frozenset[tuple[str, str]]:
    """Return the (message, field) pairs that a dialect adds to its base; empty for a base."""
    if dialect == MIXED:
        return frozenset().union(*(_names_of(name) for name in forks()))
    return frozenset() if dialect in BASES else _names_of(dialect)


@cache
def _names_of(dialect: str) -> frozenset[tuple[str, str]]:
    """The (message, field) pairs of a base, or those that a fork adds."""
    return frozenset((message.name, match[2]) for message, match in _lines_of(dialect))


def _lines_of(dialect: str) -> list[tuple[MessageType, re.Match]]:
    """The messages and fields of a base, or those that a fork adds."""
    own = dialects()[dialect]
    raw: list[tuple[MessageType, re.Match]] = []
    _add(Schema(own.name, own.base), _base_lines() if dialect in BASES else own.lines,
         dialect if dialect in BASES else None, raw)
    return raw


def float32(value: float) -> float:
    """Round to single precision, as Caffe stores a float field; a number that is too large becomes infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _holds(dialects: str | None, base: str | None) -> bool:
    """Whether what follows an @ lets a line count for a base; a fork's lines all do."""
    return dialects is None or base is None or base in dialects.split(",")


def _values(text: str, base: str | None) -> dict[str, int]:
    numbers = {}
    for item in text.split():
        value, _, dialects = item.partition("@")
        if _holds(dialects or None, base):
            key, number = value.split("=")
            numbers[key] = int(number)
    return numbers


def _field(schema: Schema, owner: MessageType, match: re.Match) -> Field:
    number, name, kind, mark, default, tag = match.groups()
    enum = message = None
    if kind not in SCALARS:
        outer, _, inner = kind.rpartition(".")
        enum = (schema[outer].enums if outer else schema.enums | owner.enums).get(inner)  # the nearest, as in protobuf
        message = None if enum else schema[kind]
    if default is not None and enum is None:
        default = _scalar_default(kind, default)
    return Field(int(number), name, kind, (mark or "").startswith("*"), mark == "**", mark == "!",
                 default, tag if tag in EFFECTS else "", enum, message)


def _scalar_default(kind: str, text: str) -> Any:
    if kind == "bool":
        return text == "true"
    if kind == "string":
        return text.strip('"')
    if kind == "float":
        return float32(float(text))
    return float(text) if kind == "double" else int(text)
