"""Prototxt, protobuf's text format, read into Messages; ``text_writer`` writes it.

Fields that the schema lacks are kept, not refused: ``Message.unknown`` has their names, values and positions.
"""

from __future__ import annotations

import os
import re
from array import array
from os import PathLike
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, PrototxtError
from rmpe_legacy.files import is_utf16
from rmpe_legacy.reading import cannot_open, other_kind
from rmpe_legacy.wording import did_you_mean, printable, shorten

from .dialects import having
from .message import Message, TextSource, Unknown, decoded
from .schema import ARRAYS, Field, MessageType, float32, known_elsewhere, load_schema
from .solver_text import network_within
from .text_values import (
    INT_RANGE,
    PLAIN_FIELD,
    numbers_of_run,
    parse_integer,
    parse_number,
    reader_of_plain,
    run_of_numbers,
    unescape,
)
from .upgrade import v1_type

MAX_DEPTH = 100  # of nested messages, as protobuf's binary reader
MAX_BYTES = 256 << 20  # of a prototxt; those with weights written out as text stay below
BOM = "\xef\xbb\xbf"  # of UTF-8, in Latin-1: what some editors put before the text; protobuf passes over it

# What a parsed file may take in memory, so that a file of empty messages does not take a hundred times its size.
ROOM, ROOM_PER_BYTE = 48 << 20, 2
MESSAGE_SIZE, UNKNOWN_SIZE, VALUE_SIZE = 400, 800, 40  # bytes in memory, about

_TOKEN = re.compile(
    r"""\s*
    (?: (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[{}:<>\[\],;/-])
      | (?P<number>0[xX][0-9a-fA-F]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)
      | (?P<string>"[^"\\\n]*" | '[^'\\\n]*')
      | (?P<quote>["'])
      | (?P<comment>\#[^\n]*)
      | (?P<end>\Z)
      | (?P<other>.) )""",
    re.X | re.S | re.A,
)
_PLACEHOLDER = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]{0,99}\}?", re.A)  # such as DeepLab's scripts fill in
_EXTENSION = re.compile(r"\[\s*([A-Za-z_][A-Za-z0-9_./-]*)\s*\]", re.A)
_CLOSING = {"{": "}", "<": ">"}
_STOP = {'"': re.compile(r'["\\\n]'), "'": re.compile(r"['\\\n]")}  # where a string needs a look
_ESCAPE = re.compile(
    r"""\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"""
    r"""|u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4}))"""
    r"""|([abfnrtv\\?'"]))""", re.A)


def read_text(path: str | PathLike, message: str = "NetParameter", dialect: str = "rmpe",
              strict: bool = True) -> Message:
    """Read a prototxt file as one message of the dialect; as a network, a solver that contains one too.

    Args:
        path: The file.
        message: The message's type.
        dialect: The dialect's name.
        strict: False keeps repeated values of a field that takes one in ``Message.unknown``, because some fork's schema
            may have the field as a list; the first value counts.

    Raises:
        FileError: The file cannot be read, or is not text.
        PrototxtError: The text cannot be parsed; names line and column.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from None
    if max(size, len(data)) > MAX_BYTES:
        raise FileError(f"{path}: {max(size, len(data))} bytes is too large for a prototxt; is this the weights file?")
    if what := other_kind(data[:64]):
        raise FileError(f"{path}: this is {what}; a prototxt is expected")
    if is_utf16(data):
        raise FileError(f"{path}: not UTF-8 but apparently UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise FileError(f"{path}: not text; a prototxt is expected here (is this the caffemodel?)")
    text = data.decode("latin-1")
    return _parse(network_within(text) if message == "NetParameter" else text, message, dialect, str(path), strict)


def parse_text(text: str, message: str = "NetParameter", dialect: str = "rmpe", path: str = "<prototxt>") -> Message:
    """Parse prototxt text as one message of the dialect.

    Args:
        text: The prototxt.
        message: The message's type.
        dialect: The dialect's name.
        path: The path that errors name.

    Raises:
        PrototxtError: The text cannot be parsed; names line and column.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise PrototxtError(f"{path}: character {error.start} is half of a surrogate pair, which is not valid "
                            "alone") from None
    return _parse(data.decode("latin-1"), message, dialect, path, strict=True)


def _parse(text: str, message: str, dialect: str, path: str, strict: bool) -> Message:
    return _Parser(TextSource(path, text.removeprefix(BOM)), strict).parse(load_schema(dialect)[message])


def explain(source: TextSource, offset: int, reason: str) -> str:
    """Return "path:line:column: reason", the line itself, and a caret below the position."""
    begin = source.text.rfind("\n", 0, offset) + 1
    end = source.text.find("\n", offset)
    begin, end = max(begin, offset - 80), min(len(source.text) if end < 0 else end, offset + 80)  # a file of one line
    before = printable(decoded(source.text[begin:offset]))
    line = before + printable(decoded(source.text[offset:end]).rstrip("\r"))
    caret = re.sub(r"[^\t]", " ", before) + "^"
    return f"{source.at(offset)}: {reason}\n    {line}\n    {caret}"


def suggest(owner: MessageType, name: str) -> str:
    """Return the end of an error message about an unknown field: dialects that have it, or a similar name."""
    if elsewhere := known_elsewhere(owner.name, name, owner.schema.name):
        return f"; {having(elsewhere)}"
    return did_you_mean(name, owner.fields)


class _Parser:
    """A recursive descent over the tokens of one file, which are read one at a time."""

    def __init__(self, source: TextSource, strict: bool):
        self.source, self.strict = source, strict
        self.room = ROOM + ROOM_PER_BYTE * len(source.text)
        self._go_on(0)

    def parse(self, type: MessageType) -> Message:
        return self._body(Message(type, origin=self.source), None, 0)

    # --- tokens -----------------------------------------------------------------------------------------------

    def _go_on(self, offset: int) -> None:
        """Read the next token at or behind an offset."""
        self._matches = _TOKEN.finditer(self.source.text, offset)
        self._advance()

    def _advance(self) -> None:
        for match in self._matches:
            kind = match.lastgroup or ""
            if kind != "comment":
                self.kind, self.token, self.offset = kind, match[kind], match.start(kind)
                return

    def _accept(self, mark: str) -> bool:
        if self.token == mark and self.kind == "mark":
            self._advance()
            return True
        return False

    def _opening(self) -> str | None:
        for opening, closing in _CLOSING.items():
            if self._accept(opening):
                return closing
        return None

    def _extension(self) -> str:
        match = _EXTENSION.match(self.source.text, self.offset)
        if match is None:
            raise self._error("expected the name of an extension and ']'")
        self._go_on(match.end())
        return f"[{match[1]}]"

    def _string(self) -> bytes:
        """A string, or several in a row: "a" "b" is "ab"."""
        parts = []
        while self.kind in ("string", "quote"):
            self._take(VALUE_SIZE)
            if self.kind == "string":
                parts.append(self.token[1:-1].encode("latin-1"))
                self._advance()
            else:
                parts.append(self._escaped_string())
        return b"".join(parts)

    def _escaped_string(self) -> bytes:
        text, begin = self.source.text, self.offset
        out, at = bytearray(), begin + 1
        while (stop := _STOP[self.token].search(text, at)) is not None and stop[0] != "\n":
            out += text[at : stop.start()].encode("latin-1")
            if stop[0] == self.token:
                self._go_on(stop.end())
                return bytes(out)
            match = _ESCAPE.match(text, stop.start())
            if match is None:
                raise self._error(f"{self._shown(stop.start(), 2)} is not a valid escape in a string; write a "
                                  "backslash as \\\\, or the path with /", stop.start())
            out += unescape(match)
            at = match.end()
        raise self._error(f"the string is not closed before the end of its line; it needs another {self.token}", begin)

    # --- errors -----------------------------------------------------------------------------------------------

    def _error(self, reason: str, offset: int | None = None) -> PrototxtError:
        return PrototxtError(explain(self.source, self.offset if offset is None else offset, reason))

    def _shown(self, offset: int | None = None, most: int = 100) -> str:
        """What stands at an offset, in quotes; the current token without one."""
        placeholder = _PLACEHOLDER.match(self.source.text, self.offset) if offset is None else None
        if placeholder:
            return f"'{shorten(placeholder[0])}', a placeholder of a template; put a value in its place"
        if offset is None and self.kind in ("quote", "other"):
            offset, most = self.offset, 1
        # a character of UTF-8 takes up to 4 bytes
        text = self.token if offset is None else decoded(self.source.text[offset : offset + 4 * most])[:most]
        return f"'{shorten(text)}'" if text else "the end of the file"

    def _take(self, size: int) -> None:
        """Count the memory that a value takes."""
        self.room -= size
        if self.room < 0:
            raise self._error("the file holds more messages and values than a network of its size can; it is damaged")

    # --- fields -----------------------------------------------------------------------------------------------

    def _body(self, message: Message, closing: str | None, depth: int) -> Message:
        """The fields up to `closing` (None: the end of the text)."""
        if depth > MAX_DEPTH:
            raise self._error(f"messages nested more than {MAX_DEPTH} deep")
        self._take(MESSAGE_SIZE)
        while True:
            if self.kind == "name":
                self._plain_fields(message)
            kind, name, offset = self.kind, self.token, self.offset
            if kind == "name" or (name == "[" and kind == "mark"):
                if kind == "name":
                    self._advance()
                else:
                    name = self._extension()
                field = message.descriptor.fields.get(name) if message.descriptor else None
                if field is None:
                    self._unknown(message, name, offset, depth)
                else:
                    self._known(message, field, offset, depth)
            elif kind == "mark" and name in ",;":
                self._advance()
            elif kind == "mark" and name == closing:
                self._advance()
                return _with_arrays(message)
            elif kind != "end":
                raise self._error(f"expected a field name{f' or {closing!r}' if closing else ''}, got {self._shown()}")
            elif closing is None:
                return _with_arrays(message)
            else:
                raise self._error(f"the file ends before the {closing!r} that closes the message opened at "
                                  f"{self.source.at(message.position).removeprefix(self.source.path + ':')}")

    def _plain_fields(self, message: Message) -> None:
        """Read fields from here on as long as they have a plain value, each by one match, numbers in a row together.

        They are most of a prototxt; weights and quantisation parameters are thousands of them. Whatever needs a closer
        look, as errors do, is left to the other methods.
        """
        text, at, descriptor, last = self.source.text, self.offset, message.descriptor, ""
        fits = True
        while (match := PLAIN_FIELD.match(text, at)) is not None:
            name = match[1]
            if name != last:
                last, field = name, None if descriptor is None else descriptor.fields.get(name)
                read = reader_of_plain(field)
                values, size = _values_of(message, field, name)
            elif values is not None and fits and (run := run_of_numbers(text, at, field)):
                needed = run.count(":") * size
                fits = needed <= self.room  # else they are read one by one, for an error at the first without room
                if fits:
                    values.extend(numbers_of_run(run, name, field))
                    self.room -= needed
                    at += len(run)
                    continue
            value = read(match, field)
            if value is None or self.room < size:
                break
            if values is not None:
                values.append(value)
            elif field is not None and name not in message.fields:
                message.fields[name] = value
            else:
                break
            self.room -= size
            at = match.end()
        if at > self.offset:
            self._go_on(at)

    def _known(self, message: Message, field: Field, offset: int, depth: int) -> None:
        name = field.name
        if not self._accept(":") and field.message is None:
            raise self._error(f"expected ':' after {name}{_of_another_format(message, field, self.token)}")
        if not field.repeated:
            listed = not self.strict and field.message is None and self._accept("[")
            if name not in message.fields:
                message.fields[name] = self._value(message, field, offset, depth)
                if not listed:
                    return
            else:
                self._again(message, field, offset, depth)
            while listed and self._accept(","):
                self._again(message, field, offset, depth)
            if listed and not self._accept("]"):
                raise self._error(f"expected ',' or ']' in the list of {name}")
            return
        values = message.fields.get(name)
        if values is None:
            values = message.fields[name] = _no_values(field)
        size = _size_in(values)
        if not self._accept("["):
            self._take(size)
            values.append(self._value(message, field, offset, depth))
        elif not self._accept("]"):
            values.append(self._value(message, field, offset, depth))
            while self._accept(","):
                self._take(size)
                values.append(self._value(message, field, offset, depth))
            if not self._accept("]"):
                raise self._error(f"expected ',' or ']' in the list of {name}")

    def _again(self, message: Message, field: Field, offset: int, depth: int) -> None:
        """A further value of a field that takes one, which another dialect may take."""
        owner, name = message.descriptor.name, field.name
        if self.strict:
            raise self._error(f"{owner}.{name} is given twice, but takes one value", offset)
        self._take(UNKNOWN_SIZE)
        where = self.source.at(offset)
        value = self._value(message, field, offset, depth)
        message.unknown.append(Unknown(owner, name, value, where, is_again=True))

    def _value(self, message: Message, field: Field, offset: int, depth: int) -> Any:
        if field.message is not None:
            closing = self._opening()
            if closing is None:
                raise self._error(f"{field.name} is a message; write {field.name} {{ ... }}")
            return self._body(Message(field.message, None, self.source, offset), closing, depth + 1)
        return self._scalar(message, field)

    def _scalar(self, message: Message, field: Field) -> Any:
        minus = self._accept("-")
        owner = f"{message.descriptor.name}.{field.name}"
        if field.enum is not None:
            return self._enum(message, field, owner, minus)
        if field.type in ("string", "bytes"):
            if self.kind not in ("string", "quote") or minus:
                hint = _of_another_format(message, field, self.token)
                raise self._error(f"{owner} is a string; write it in quotes{hint}")
            raw = self._string()
            return raw if field.type == "bytes" else raw.decode("utf-8", "surrogateescape")
        if field.type == "bool":
            if self.token not in ("true", "false", "True", "False", "t", "f", "0", "1") or minus:
                raise self._error(f"{owner} is true or false, not {self._shown()}")
            value: Any = self.token in ("true", "True", "t", "1")
        elif field.type in INT_RANGE:
            value = self._int(owner, field, minus)
        else:
            value = self._float(owner, field, minus)
        self._advance()
        return value

    def _int(self, owner: str, field: Field, minus: bool) -> int:
        number = parse_integer(self.token) if self.kind == "number" else None
        if number is None:
            raise self._error(f"{owner} is a whole number ({field.type}), not {self._shown()}")
        number = -number if minus else number
        low, high = INT_RANGE[field.type]
        if not low <= number <= high:
            raise self._error(f"{owner} is a {field.type}, from {low} to {high}; "
                              f"'{'-' if minus else ''}{self._shown()[1:]} is outside")
        return number

    def _float(self, owner: str, field: Field, minus: bool) -> float:
        number = parse_number(self.kind, self.token)
        if number is None:
            raise self._error(f"{owner} is a number, not {self._shown()}")
        number = -number if minus else number
        return float32(number) if field.type == "float" else number

    def _enum(self, message: Message, field: Field, owner: str, minus: bool) -> str:
        name, offset = self.token, self.offset
        enum: Any = field.enum
        if self.kind == "number":
            number = parse_integer(name)
            name = f"-{name}" if minus else name
            name = enum.names.get(-number if minus and number else number, name)
        elif self.kind != "name" or minus:
            hint = _of_another_format(message, field, name)
            raise self._error(f"{owner} is one of {', '.join(enum.numbers)}, not {self._shown()}; write it "
                              "without quotes" if not hint else f"{owner} has no value {self._shown()}{hint}")
        self._advance()
        if name not in enum.numbers:
            self._take(UNKNOWN_SIZE)
            where = self.source.at(offset)
            message.unknown.append(Unknown(message.descriptor.name, field.name, name, where, is_value=True))
        return name

    # --- what the schema lacks --------------------------------------------------------------------------------

    def _unknown(self, message: Message, name: str, offset: int, depth: int) -> None:
        """Keep a field that the schema lacks: as an Unknown, or as a value of a message without a type."""
        self._take(UNKNOWN_SIZE)
        where = self.source.at(offset) if message.descriptor is not None else ""
        colon = self._accept(":")
        if self._accept("["):
            value = []
            if not self._accept("]"):
                value.append(self._free(name, colon, offset, depth))
                while self._accept(","):
                    self._take(VALUE_SIZE)
                    value.append(self._free(name, colon, offset, depth))
                if not self._accept("]"):
                    raise self._error(f"expected ',' or ']' in the list of {shorten(name)}")
        else:
            value = self._free(name, colon, offset, depth)
        if message.descriptor is not None:
            message.unknown.append(Unknown(message.descriptor.name, name, value, where))
        elif name not in message.fields:
            message.fields[name] = value
        elif isinstance(message.fields[name], list):
            message.fields[name].append(value)
        else:
            message.fields[name] = [message.fields[name], value]

    def _free(self, name: str, colon: bool, offset: int, depth: int) -> Any:
        if closing := self._opening():
            return self._body(Message(None, None, self.source, offset), closing, depth + 1)
        if not colon:
            raise self._error(f"expected ':' or '{{' after {shorten(name)}")
        minus = self._accept("-")
        kind, token = self.kind, self.token
        if kind in ("string", "quote") and not minus:
            return self._string().decode("utf-8", "surrogateescape")
        if kind not in ("name", "number") or (minus and parse_number(kind, token) is None):
            raise self._error(f"expected a {'number' if minus else 'value'} for {shorten(name)}, got {self._shown()}")
        self._advance()
        if kind == "name" and token in ("true", "false") and not minus:
            return token == "true"
        number: float | None = parse_integer(token) if kind == "number" else None
        if not isinstance(number, int) or number.bit_length() > 64:
            number = parse_number(kind, token)
        return token if number is None else -number if minus else number


def _no_values(field: Field) -> list | array:
    """What the values of a repeated field are added to."""
    return array(ARRAYS[field.type]) if field.packed and field.type in ARRAYS else []


def _size_in(values: list | array) -> int:
    """The memory that one value of a repeated field takes."""
    return values.itemsize if isinstance(values, array) else VALUE_SIZE


def _values_of(message: Message, field: Field | None, name: str) -> tuple[Any, int]:
    """The values that a field's next plain one is added to, None for a field that takes one; and the memory of one."""
    text = VALUE_SIZE if field is not None and field.type in ("string", "bytes") else 0
    values = message.fields.get(name)
    if field is None:
        return (values if message.descriptor is None and isinstance(values, list) else None), UNKNOWN_SIZE
    if not field.repeated:
        return None, text
    if values is None:
        values = message.fields[name] = _no_values(field)
    return values, _size_in(values) + text


def _with_arrays(message: Message) -> Message:
    """A message whose fields are all read, with its blob's values as NumPy arrays."""
    if message.descriptor is not None and message.descriptor.arrays:
        for name, dtype in message.descriptor.arrays:
            if name in message.fields:
                message.fields[name] = np.frombuffer(message.fields[name], dtype)
    return message


def _of_another_format(message: Message, field: Field, token: str) -> str:
    """The end of a sentence about a value of today's format in an old layer, or the other way round; else empty."""
    owner = message.descriptor.name
    old = message.descriptor.schema["V1LayerParameter"].fields
    if owner == "V1LayerParameter" and field.name == "type":
        names = [name for name in old["type"].enum.numbers if v1_type(name) == token[1:-1]]
        today = names[0] if names else "CONVOLUTION"
        return f": layers {{ ... }} is the old format, with types as type: {today}; for types in quotes write layer"
    if owner == "V1LayerParameter" and field.name == "param" and token in _CLOSING:
        return ": param { ... } belongs to the current format; with it, write layer and the type in quotes, not layers"
    if owner == "LayerParameter" and field.name == "type" and token in old["type"].enum.numbers:
        return f': type: "{v1_type(token)}"'
    return ""
