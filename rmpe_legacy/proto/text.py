"""Prototxt: protobuf's text format, read into Messages and written from them.

What the schema lacks is kept, not refused: the field's name, value and place stand in ``Message.unknown``.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, PrototxtError

from .message import Message, Source, Unknown
from .schema import Field, MessageType, float32, known_elsewhere, load_schema

MAX_DEPTH = 100  # of nested messages, as protobuf's binary reader
MAX_BYTES = 256 << 20  # of a prototxt; those with weights written out as text stay below

_TOKEN = re.compile(
    r"""(?:\s+|\#[^\n]*)*
    (?: (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[{}:<>\[\],;/-])
      | (?P<number>0[xX][0-9a-fA-F]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<end>\Z)
      | (?P<other>.) )""",
    re.X | re.S,
)
_CLOSING = {"{": "}", "<": ">"}
_INT_RANGE = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.S)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def read_text(path: str | Path, message: str = "NetParameter", dialect: str = "rmpe") -> Message:
    """Read a prototxt file as one message of the dialect. FileError or PrototxtError say where and why not."""
    try:
        size = Path(path).stat().st_size
        data = Path(path).read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    if size > MAX_BYTES:
        raise FileError(f"{path}: {size} bytes is too large for a prototxt; is this the weights file?")
    try:
        text = data.decode("utf-8")
        if "\0" in text:
            raise ValueError
    except ValueError:
        raise FileError(f"{path}: not text; a prototxt is expected here (is this the caffemodel?)") from None
    return parse_text(text, message, dialect, str(path))


def parse_text(text: str, message: str = "NetParameter", dialect: str = "rmpe", path: str = "<prototxt>") -> Message:
    """Parse prototxt text as one message of the dialect; see ``read_text``."""
    return _Parser(Source(path, text)).parse(load_schema(dialect)[message])


def explain(source: Source, offset: int, reason: str) -> str:
    """"path:line:column: reason", the line itself and a caret below the place."""
    begin = source.text.rfind("\n", 0, offset) + 1
    end = source.text.find("\n", offset)
    line = source.text[begin : end if end >= 0 else None]
    column = offset - begin
    cut = max(0, column - 80)  # one-line files stay readable
    line, column = line[cut : cut + 160].rstrip("\r"), column - cut
    caret = re.sub(r"\S", " ", line[:column]).ljust(column) + "^"  # keeps the tabs
    return f"{source.at(offset)}: {reason}\n    {line}\n    {caret}"


def suggest(owner: MessageType, name: str) -> str:
    """The end of a sentence about an unknown field: where it is known, or what is spelled alike."""
    dialect = owner.schema.dialect
    if elsewhere := known_elsewhere(owner.name, name, dialect):
        return f"; dialect {' and '.join(map(repr, elsewhere))} has it"
    near = get_close_matches(name, owner.fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class _Parser:
    """A recursive descent over the tokens of one file."""

    def __init__(self, source: Source):
        self.source = source
        self.tokens = [(m.lastgroup, m[m.lastgroup], m.start(m.lastgroup)) for m in _TOKEN.finditer(source.text)]
        self.at = 0

    def parse(self, type: MessageType) -> Message:
        return self._body(Message(type, origin=self.source), None, 0)

    def _error(self, reason: str, offset: int | None = None) -> PrototxtError:
        offset = self.tokens[self.at][2] if offset is None else offset
        return PrototxtError(explain(self.source, offset, reason))

    def _accept(self, mark: str) -> bool:
        if self.tokens[self.at][1] == mark and self.tokens[self.at][0] == "mark":
            self.at += 1
            return True
        return False

    def _body(self, message: Message, closing: str | None, depth: int) -> Message:
        """The fields up to `closing` (None: the end of the text)."""
        if depth > MAX_DEPTH:
            raise self._error(f"messages nested more than {MAX_DEPTH} deep")
        while True:
            kind, name, offset = self.tokens[self.at]
            if kind == "mark" and name in ",;":
                self.at += 1
            elif kind == "name" or (name == "[" and kind == "mark"):
                self.at += 1
                if kind == "mark":
                    name = self._extension()
                field = message.descriptor.fields.get(name) if message.descriptor else None
                (self._unknown if field is None else self._known)(message, field, name, offset, depth)
            elif closing is None and kind == "end":
                return message
            elif kind == "mark" and name == closing:
                self.at += 1
                return message
            elif kind == "end":
                raise self._error(f"the file ends before the {closing!r} that closes the message opened at "
                                  f"{self.source.at(message.position).removeprefix(self.source.path + ':')}")
            else:
                raise self._error(f"expected a field name{f' or {closing!r}' if closing else ''}, got {name!r}")

    def _extension(self) -> str:
        start = self.tokens[self.at][2]
        while not self._accept("]"):
            if self.tokens[self.at][0] == "end":
                raise self._error("expected ']'")
            self.at += 1
        return f"[{self.source.text[start:self.tokens[self.at - 1][2]].strip()}]"

    def _opening(self) -> str | None:
        for opening, closing in _CLOSING.items():
            if self._accept(opening):
                return closing
        return None

    def _known(self, message: Message, field: Field, name: str, offset: int, depth: int) -> None:
        colon = self._accept(":")
        if not field.repeated:
            if name in message.fields:
                owner = message.descriptor.name
                raise self._error(f"{owner}.{name} is given a second time; it takes one value", offset)
            message.fields[name] = self._value(message, field, offset, colon, depth)
            return
        values = message.fields.setdefault(name, [])
        if not self._accept("["):
            values.append(self._value(message, field, offset, colon, depth))
        elif not self._accept("]"):
            values.append(self._value(message, field, offset, True, depth))
            while self._accept(","):
                values.append(self._value(message, field, offset, True, depth))
            if not self._accept("]"):
                raise self._error(f"expected ',' or ']' in the list of {name}")

    def _value(self, message: Message, field: Field, offset: int, colon: bool, depth: int) -> Any:
        if field.message is not None:
            closing = self._opening()
            if closing is None:
                raise self._error(f"{field.name} is a message; write {field.name} {{ ... }}")
            return self._body(Message(field.message, None, self.source, offset), closing, depth + 1)
        if not colon:
            raise self._error(f"expected ':' after {field.name}")
        return self._scalar(message, field)

    def _scalar(self, message: Message, field: Field) -> Any:
        minus = self._accept("-")
        kind, text, offset = self.tokens[self.at]
        if kind in ("name", "number", "string"):
            self.at += 1
        owner = f"{message.descriptor.name}.{field.name}"
        if field.enum is not None:
            return self._enum(message, field, kind, text, offset, minus)
        if field.type in ("string", "bytes"):
            if kind != "string" or minus:
                raise self._error(f"{owner} is a string; write it in quotes", offset)
            raw = self._string(text)
            return raw if field.type == "bytes" else raw.decode("utf-8", "surrogateescape")
        if field.type == "bool":
            if text not in ("true", "false", "True", "False", "t", "f", "0", "1") or minus or kind == "string":
                raise self._error(f"{owner} is true or false, not {text!r}", offset)
            return text in ("true", "True", "t", "1")
        if field.type in _INT_RANGE:
            return self._int(owner, field, kind, text, offset, minus)
        number = self._float(kind, text)
        if number is None:
            raise self._error(f"{owner} is a number, not {text!r}", offset)
        number = -number if minus else number
        return float32(number) if field.type == "float" else number

    def _int(self, owner: str, field: Field, kind: str, text: str, offset: int, minus: bool) -> int:
        number = _integer(text) if kind == "number" else None
        if number is None:
            raise self._error(f"{owner} is a whole number ({field.type}), not {text!r}", offset)
        number = -number if minus else number
        low, high = _INT_RANGE[field.type]
        if not low <= number <= high:
            raise self._error(f"{owner} is a {field.type}, from {low} to {high}; {number} is outside", offset)
        return number

    @staticmethod
    def _float(kind: str, text: str) -> float | None:
        if kind == "name":
            return float(text) if text.lower() in ("inf", "infinity", "nan") else None
        if kind != "number":
            return None
        whole = _integer(text)
        return float(whole) if whole is not None else float(text.rstrip("fF"))

    def _enum(self, message: Message, field: Field, kind: str, text: str, offset: int, minus: bool) -> str:
        name = text
        if kind == "number":
            number = _integer(text)
            name = field.enum.names.get(-number if minus and number else number, text)
        elif kind != "name" or minus:
            raise self._error(f"{message.descriptor.name}.{field.name} is one of {', '.join(field.enum.numbers)}, "
                              f"not {text!r}", offset)
        if name not in field.enum.numbers:
            where = self.source.at(offset)
            message.unknown.append(Unknown(message.descriptor.name, field.name, name, where, is_value=True))
        return name

    def _string(self, text: str) -> bytes:
        parts = [_unescape(text)]
        while self.tokens[self.at][0] == "string":  # "a" "b" is "ab"
            parts.append(_unescape(self.tokens[self.at][1]))
            self.at += 1
        return b"".join(parts)

    def _unknown(self, message: Message, field: None, name: str, offset: int, depth: int) -> None:
        """Keep a field that the schema lacks: as an Unknown, or as a value of a message without a type."""
        colon = self._accept(":")
        if self._accept("["):
            value = []
            while not self._accept("]"):
                value.append(self._free(name, True, offset, depth))
                if not self._accept(",") and self.tokens[self.at][1] != "]":
                    raise self._error(f"expected ',' or ']' in the list of {name}")
        else:
            value = self._free(name, colon, offset, depth)
        if message.descriptor is not None:
            message.unknown.append(Unknown(message.descriptor.name, name, value, self.source.at(offset)))
        elif name not in message.fields:
            message.fields[name] = value
        else:
            kept = message.fields[name]
            message.fields[name] = (kept if isinstance(kept, list) else [kept]) + [value]

    def _free(self, name: str, colon: bool, offset: int, depth: int) -> Any:
        if closing := self._opening():
            return self._body(Message(None, None, self.source, offset), closing, depth + 1)
        if not colon:
            raise self._error(f"expected ':' or '{{' after {name}")
        minus = self._accept("-")
        kind, text, _ = self.tokens[self.at]
        if kind not in ("name", "number", "string"):
            raise self._error(f"expected a value for {name}, got {text!r}" if text else f"expected a value for {name}")
        self.at += 1
        if kind == "string":
            return self._string(text).decode("utf-8", "surrogateescape")
        if kind == "name" and text in ("true", "false"):
            return text == "true"
        number = _integer(text) if kind == "number" else None
        if number is None:
            number = self._float(kind, text)
        return text if number is None else -number if minus else number


def _integer(text: str) -> int | None:
    """A whole number in decimal, hexadecimal or (leading 0) octal; None for anything else."""
    try:
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        return int(text, 8) if len(text) > 1 and text[0] == "0" and text.isdigit() else int(text)
    except ValueError:
        return None


def _unescape(token: str) -> bytes:
    def one(match: re.Match) -> bytes:
        octal, hexadecimal, letter = match.groups()
        if octal:
            return bytes([int(octal, 8) & 255])
        return bytes([int(hexadecimal, 16)]) if hexadecimal else _ESCAPED.get(letter, letter)

    raw = token[1:-1].encode("utf-8")
    return _ESCAPE.sub(one, raw) if b"\\" in raw else raw


def format_text(message: Message, indent: str = "") -> str:
    """Write a message as prototxt, unknown fields included; ``parse_text`` reads it back."""
    lines = []
    known = message.descriptor.fields.values() if message.descriptor else ()
    items = [(f.name, f, message.fields[f.name]) for f in known if f.name in message.fields]
    if message.descriptor is None:
        items = [(name, None, value) for name, value in message.fields.items()]
    items += [(u.name, None, u.value) for u in message.unknown if not u.is_value]
    for name, field, value in items:
        for item in value if isinstance(value, list | np.ndarray) else (value,):
            if isinstance(item, Message):
                lines.append(f"{indent}{name} {{\n{format_text(item, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_format_scalar(item, field)}\n")
    return "".join(lines)


def _format_scalar(value: Any, field: Field | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | bytes) and (field is None or field.enum is None):
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        if field is None and isinstance(value, str) and value.isupper() and value.isidentifier():
            return value  # an unknown enum's value
        return '"' + re.sub(r'[\\"]', r"\\\g<0>", raw.decode("latin-1")).translate(_PRINTABLE) + '"'
    if isinstance(value, float | np.floating):
        single = field is None or field.type == "float"
        text = repr(float(str(np.float32(value)))) if single else repr(float(value))
        return text.removesuffix(".0")
    return str(value)


_PRINTABLE = {code: f"\\{code:03o}" for code in [*range(32), *range(127, 256)]}
