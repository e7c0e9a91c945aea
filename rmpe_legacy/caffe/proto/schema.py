"""Caffe's message types per dialect, read from schema.txt: field names, numbers, types and defaults."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from rmpe_legacy.errors import RmpeError

DIALECTS = {
    "rmpe": "MVIG-SJTU/RMPE, the fork of the paper",
    "ssd": "weiliu89/caffe, branch ssd",
    "bvlc": "BVLC/caffe master",
}
SCALARS = {"int32", "int64", "uint32", "float", "double", "bool", "string", "bytes"}
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
    """One field: its number on the wire, its type and what an absent one means."""

    number: int
    name: str
    type: str  # a scalar's name, or that of a message or enum
    repeated: bool
    packed: bool
    required: bool
    default: Any  # None where the schema gives none
    enum: EnumType | None = None
    message: MessageType | None = None

    @property
    def absent(self) -> Any:
        """The value that reading an unset field gives, as protobuf has it."""
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
        return _message_type, (self.schema.dialect, self.name)  # a copy, and what pickle reads back, is this one


@dataclass
class Schema:
    """All messages and enums of one dialect."""

    dialect: str
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
    """The schema of one dialect; raises RmpeError for a name that is none."""
    if dialect not in DIALECTS:
        raise RmpeError(f"no dialect {dialect!r}; choose one of {', '.join(map(repr, DIALECTS))}")
    schema = Schema(dialect)
    raw: list[tuple[MessageType, re.Match]] = []
    message: Any = None
    for line in files(__package__).joinpath("schema.txt").read_text("utf-8").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if enum := _ENUM.match(text):
            if (message is None and line.startswith(" ")) or not _holds(enum[2], dialect):
                continue
            owner = schema.enums if not line.startswith(" ") else message.enums
            owner[enum[1]] = _enum(enum[1], enum[3], dialect)
        elif not line.startswith(" "):
            header: Any = _HEADER.match(text)
            message = MessageType(header[1], schema) if _holds(header[2], dialect) else None
            if message:
                schema.messages[message.name] = message
        elif message and _holds((match := _field_match(text))[6], dialect):
            raw.append((message, match))
    for message, match in raw:
        made = _field(schema, message, match)
        message.fields[made.name] = made
    return schema


def _message_type(dialect: str, name: str) -> MessageType:
    return load_schema(dialect)[name]


def known_elsewhere(message: str, name: str, dialect: str) -> list[str]:
    """The other dialects whose `message` has a field `name`."""
    return [
        other
        for other in DIALECTS
        if other != dialect
        and message in load_schema(other).messages
        and name in load_schema(other)[message].fields
    ]


def float32(value: float) -> float:
    """The nearest single-precision number, as Caffe stores a float field; too large gives infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _holds(dialects: str | None, dialect: str) -> bool:
    return dialects is None or dialect in dialects.split(",")


def _enum(name: str, text: str, dialect: str) -> EnumType:
    numbers = {}
    for item in text.split():
        value, _, dialects = item.partition("@")
        if _holds(dialects or None, dialect):
            key, number = value.split("=")
            numbers[key] = int(number)
    return EnumType(name, numbers)


def _field(schema: Schema, owner: MessageType, match: re.Match) -> Field:
    number, name, kind, mark, default, _ = match.groups()
    enum = message = None
    if kind not in SCALARS:
        outer, _, inner = kind.rpartition(".")
        enum = (schema[outer].enums if outer else owner.enums | schema.enums).get(inner)
        message = None if enum else schema[kind]
    if default is not None and enum is None:
        default = _scalar_default(kind, default)
    return Field(int(number), name, kind, (mark or "").startswith("*"), mark == "**", mark == "!",
                 default, enum, message)


def _scalar_default(kind: str, text: str) -> Any:
    if kind == "bool":
        return text == "true"
    if kind == "string":
        return text.strip('"')
    if kind == "float":
        return float32(float(text))
    return float(text) if kind == "double" else int(text)
