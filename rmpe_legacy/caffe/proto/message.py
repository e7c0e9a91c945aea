"""One parsed message: known fields by name, and whatever else the file had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmpe_legacy.errors import PrototxtError
from rmpe_legacy.wording import shorten

from .schema import MessageType


class Source:
    """Where a message came from: a path, and the text if the file is text.

    The text holds the file's bytes as one character each (Latin-1). Caffe ignores the encoding of a prototxt, so a
    comment in GBK or a name that is not UTF-8 must be preserved; ``decoded`` converts parts of it for messages.
    """

    def __init__(self, path: str, text: str | None = None):
        self.path = path
        self.text = text
        self._mark = (0, 1, 1)  # an offset that was asked for, its line and column

    def at(self, offset: int) -> str:
        """Return "path:line:column" of a position in the text; for a binary file, only the path.

        Counts from the last position, so that reading a file in order takes time proportional to its size.
        """
        if self.text is None:
            return self.path
        known, line, column = self._mark if self._mark[0] <= offset else (0, 1, 1)
        between = self.text[known:offset]
        start = between.rfind("\n") + 1
        if start:
            line, column = line + between.count("\n"), 1
        self._mark = offset, line, column + len(decoded(between[start:]))
        return f"{self.path}:{line}:{self._mark[2]}"

    def __deepcopy__(self, memo: dict) -> Source:
        return self  # nothing in it changes


class TextSource(Source):
    """A Source with its text."""

    text: str


def decoded(text: str) -> str:
    """Decode a part of a Source's text for display; bytes that are not UTF-8 become surrogates (surrogateescape)."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


NOWHERE = Source("<made in memory>")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field or an enum value that the dialect's schema lacks, with its value from the file."""

    owner: str  # the message it stood in
    name: str
    value: Any  # scalar, str, or a Message without a type
    where: str
    is_value: bool = False  # the field is known, its enum value is not
    is_again: bool = False  # the field is known and takes one value; this is a further one


class FieldError(PrototxtError, AttributeError):
    """A field was read that neither the schema nor the file contains: a layer and its prototxt disagree about a name.
    """

    def __init__(self, message: Message, name: str):
        what = message.descriptor.name if message.descriptor else "this message"
        given = ", ".join(f"'{shorten(field)}'" for field in [*message.fields, *(u.name for u in message.unknown)][:10])
        super().__init__(f"{message.where}: {what} has no field {name!r}; the file gives it {given or 'none'}")


class Message:
    """The values of one message: attributes by field name, with defaults for fields that the file does not set.

    Enum values are their names. A message that the schema does not know (``descriptor`` is None) has every field under
    its name: a single value as it is, repeated values as a list. Treat as immutable once parsed.
    """

    __slots__ = ("descriptor", "fields", "origin", "position", "unknown")

    def __init__(self, descriptor: MessageType | None, fields: dict[str, Any] | None = None,
                 origin: Source = NOWHERE, position: int = 0, unknown: list[Unknown] | None = None):
        self.descriptor: Any = descriptor  # None is rare, and each place that can meet it looks
        self.fields = {} if fields is None else fields  # only those that are set
        self.origin = origin
        self.position = position  # offset in the text or file
        self.unknown = [] if unknown is None else unknown

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Message.__slots__:  # asked by copy and pickle before there are fields
            raise AttributeError(name)
        if name in self.fields:
            return self.fields[name]
        if self.descriptor is not None and name in self.descriptor.fields:
            return self.descriptor.fields[name].absent
        for field in self.unknown:
            if field.name == name and not field.is_value:
                return field.value
        raise FieldError(self, name)

    def __deepcopy__(self, memo: dict) -> Message:
        return self  # nothing in it changes once it is parsed

    def has(self, name: str) -> bool:
        """Return whether the file sets this field (a repeated one: at least once)."""
        return name in self.fields

    def replace(self, **changes: Any) -> Message:
        """Return a copy with fields set; None removes a field."""
        fields = {**self.fields, **changes}
        return Message(self.descriptor, {k: v for k, v in fields.items() if v is not None},
                       self.origin, self.position, list(self.unknown))

    @property
    def where(self) -> str:
        return self.origin.at(self.position)

    def walk(self) -> Iterator[Message]:
        """Yield this message and every message in it that has a type."""
        yield self
        for value in self.fields.values():
            first = value[0] if isinstance(value, list) and value else value  # the others are of its type
            if isinstance(first, Message) and first.descriptor is not None:
                for item in value if isinstance(value, list) else (value,):
                    yield from item.walk()

    def unknowns(self) -> Iterator[Unknown]:
        """Yield every unknown field and value of this message and of the messages in it."""
        for message in self.walk():
            yield from message.unknown

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.descriptor is other.descriptor and self.fields.keys() == other.fields.keys()
                and all(_same(value, other.fields[name]) for name, value in self.fields.items()))


    def __repr__(self) -> str:
        return f"{self.descriptor.name if self.descriptor else 'message'}({self.fields})"


def fields_with_effect(message: Message, effect: str) -> Iterator[tuple[Message, str, Any]]:
    """Yield each set field of a fork that has this effect, here or in nested messages: its message, name and value."""
    for owner in message.walk():
        for name, value in owner.fields.items() if owner.descriptor is not None else ():
            if owner.descriptor.fields[name].effect == effect:
                yield owner, name, value


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else a == b
