"""Protobuf's binary format over a buffer: arrays come out as numpy views, unknown fields are kept.

Every length is checked against the buffer before anything is taken, and the work is linear in the buffer's size, so a
hostile file soon ends in a FileError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError

from .message import NOWHERE, Message, Source, Unknown
from .schema import Field, MessageType

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIRES = frozenset((VARINT, FIXED64, BYTES, FIXED32))
_ARRAYS: dict[str, np.dtype] = {"float": np.dtype("<f4"), "double": np.dtype("<f8")}
_WIRE = {"float": FIXED32, "double": FIXED64, "string": BYTES, "bytes": BYTES}  # others: varints
_SIGNED = {"int32": 1 << 32, "int64": 1 << 64}
# And unknown fields, of one file: an empty one takes 2 bytes there and 500 in memory. Differs: Caffe takes any number;
# the largest networks have a tenth.
MAX_MESSAGES = 1 << 16

Only = Mapping[str, Iterable[str]]  # message name -> the fields worth reading; the others are skipped


def decode(buffer, type: MessageType, source: Source = NOWHERE, only: Only | None = None) -> Message:
    """Read one message. buffer: bytes, memoryview or mmap; `only` limits which fields of some messages are read.

    Repeated float and double fields are arrays: views of the buffer where they lie in one piece.
    """
    reader = _Reader(memoryview(buffer), source, only or {})
    message = reader.message(type, 0, len(buffer))
    for values, name in reader.pieces:
        values[name] = np.concatenate(values[name])
    return message


class _Reader:
    def __init__(self, buffer: memoryview, source: Source, only: Only):
        self.buffer = buffer
        self.source = source
        self.only = only
        self.pieces: list[tuple[dict[str, Any], str]] = []  # arrays to be joined at the end
        self._made = 0  # messages and unknown fields
        self._fields: dict[str, dict[int, Field]] = {}

    def fields(self, type: MessageType) -> dict[int, Field]:
        """The fields of `type` worth reading, by each tag (number and wire type) that they may have."""
        if type.name not in self._fields:
            wanted = self.only.get(type.name, type.fields)
            self._fields[type.name] = {number << 3 | wire: field for number, field in type.by_number.items()
                                       if field.name in wanted for wire in _wires(field)}
        return self._fields[type.name]

    def error(self, reason: str, at: int) -> FileError:
        return FileError(f"{self.source.path}: not a readable protobuf file: {reason} at byte {at}; "
                        "the file is truncated, damaged or of another kind")

    def _count_one_more(self, at: int) -> None:
        self._made += 1
        if self._made > MAX_MESSAGES:
            raise self.error(f"more than {MAX_MESSAGES} messages and unknown fields", at)

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, position after it)."""
        value = shift = 0
        start = at
        while at < end:
            byte = self.buffer[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise self.error("a number of more than 64 bits", start)
        raise self.error("the data ends inside a number", start)

    def length(self, at: int, end: int) -> tuple[int, int]:
        """(begin, end) of a length-delimited field with its length at `at`."""
        if at < end and self.buffer[at] < 128:
            size, begin = self.buffer[at], at + 1
        else:
            size, begin = self.varint(at, end)
        if size > end - begin:
            raise self.error(f"a field of {size} bytes, but only {end - begin} are left", at)
        return begin, begin + size

    def message(self, type: MessageType, at: int, end: int, into: Message | None = None) -> Message:
        """No message of the schema holds itself, so the schema bounds the recursion, not the file."""
        if into is None:
            self._count_one_more(at)
        message = into or Message(type, None, self.source, at)
        fields, buffer = self.fields(type), self.buffer
        skip_rest = type.name in self.only
        while at < end:
            start = at
            tag = buffer[at]
            if tag < 128:
                at += 1
            else:
                tag, at = self.varint(at, end)
            wire = tag & 7
            field = fields.get(tag)
            if field is not None:
                at = self._field(message, field, wire, start, at, end)
                continue
            number = tag >> 3
            if number == 0 or wire not in _WIRES:
                raise self.error(f"field {number} with wire type {wire}", start)
            if skip_rest:
                at = self.skip(wire, at, end)
            else:
                at = self._unknown(message, number, wire, at, end)
        return message

    def skip(self, wire: int, at: int, end: int) -> int:
        if wire == BYTES:
            return self.length(at, end)[1]
        if wire == VARINT:
            return self.varint(at, end)[1]
        after = at + (8 if wire == FIXED64 else 4)
        if after > end:
            raise self.error("the data ends inside a field", at)
        return after

    def _unknown(self, message: Message, number: int, wire: int, at: int, end: int) -> int:
        self._count_one_more(at)
        after = self.skip(wire, at, end)
        if wire == VARINT:
            value: Any = self.varint(at, end)[0]
        else:
            value = bytes(self.buffer[slice(*self.length(at, end))] if wire == BYTES else self.buffer[at:after])
        where = f"{self.source.path}: byte {at}"
        message.unknown.append(Unknown(message.descriptor.name, f"field_{number}", value, where))
        return after

    def _field(self, message: Message, field: Field, wire: int, start: int, at: int, end: int) -> int:
        name, values = field.name, message.fields
        value: Any
        if field.repeated and field.type in _ARRAYS:
            return self._array(values, field, wire, start, at, end)
        if field.message is not None:
            begin, after = self.length(at, end)
            into = None if field.repeated else values.get(name)  # given twice, the parts merge
            value = self.message(field.message, begin, after, into)
        elif wire == BYTES and field.type not in ("string", "bytes"):  # packed numbers
            at, after = self.length(at, end)
            packed = values.setdefault(name, [])
            while at < after:
                number, at = self.varint(at, after)
                packed.append(self._number(message, field, number, at))
            return after
        elif wire == BYTES:
            begin, after = self.length(at, end)
            raw = self.buffer[begin:after]  # bytes fields stay views: images and half-precision weights are large
            value = raw if field.type == "bytes" else bytes(raw).decode("utf-8", "surrogateescape")
        elif wire == VARINT:
            number, after = self.varint(at, end)
            value = self._number(message, field, number, at)
        else:
            after = self.skip(wire, at, end)
            value = struct.unpack("<f" if wire == FIXED32 else "<d", self.buffer[at:after])[0]
        if field.repeated:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
        return after

    def _number(self, message: Message, field: Field, number: int, at: int) -> Any:
        if field.enum is not None:
            if number not in field.enum.names:
                self._count_one_more(at)
                message.unknown.append(Unknown(message.descriptor.name, field.name, number, message.where, True))
            return field.enum.names.get(number, str(number))
        if field.type == "bool":
            return number != 0
        span = _SIGNED.get(field.type)
        if span is None:
            return number & 0xFFFFFFFF
        number &= span - 1
        return number - span if number >= span // 2 else number

    def _array(self, values: dict, field: Field, wire: int, start: int, at: int, end: int) -> int:
        """A repeated float or double field: packed, or single values one after the other."""
        dtype = _ARRAYS[field.type]
        if wire == BYTES:
            begin, after = self.length(at, end)
            if (after - begin) % dtype.itemsize:
                raise self.error(f"{field.name} of {after - begin} bytes, not a multiple of {dtype.itemsize}", begin)
            part = np.frombuffer(self.buffer, dtype, (after - begin) // dtype.itemsize, begin)
        else:
            part, after = self._run(dtype, start, at, end)
        pieces = values.get(field.name)
        if pieces is None or not len(pieces):
            values[field.name] = part
        elif not len(part):
            pass
        elif isinstance(pieces, list):
            pieces.append(part)
        else:
            values[field.name] = [pieces, part]
            self.pieces.append((values, field.name))
        return after

    def _run(self, dtype: np.dtype, start: int, at: int, end: int) -> tuple[np.ndarray, int]:
        """The unpacked values from `start` on whose tags are the same bytes; old files hold millions of them."""
        tag = bytes(self.buffer[start:at])
        after = at + dtype.itemsize
        if after > end:
            raise self.error("the data ends inside a field", at)
        if after + len(tag) > end or self.buffer[after : after + len(tag)] != tag:  # a single one
            return np.frombuffer(self.buffer, dtype, 1, at), after
        record = np.dtype([("tag", np.uint8, (len(tag),)), ("value", dtype)])
        found, count = [], 0
        block = 16
        while True:
            left = (end - start) // record.itemsize - count
            rows = np.frombuffer(self.buffer, record, min(block, left), start + count * record.itemsize)
            same = (rows["tag"] == np.frombuffer(tag, np.uint8)).all(axis=1)
            good = len(rows) if same.all() else int(np.argmin(same))
            found.append(rows["value"][:good])
            count += good
            if good < block:
                break
            block = min(block * 8, 1 << 20)
        return np.concatenate(found), start + count * record.itemsize


def _wires(field: Field) -> set[int]:
    """The wire types in which a file may hold a field: its own, and packed."""
    own = BYTES if field.message else _WIRE.get(field.type, VARINT)
    return {own, BYTES} if field.repeated else {own}


def encode(message: Message) -> bytes:
    """Encode a message as protobuf would: fields in the order of their numbers, without unknown ones."""
    return b"".join(_encode(message))


def _encode(message: Message):
    for field in sorted(message.descriptor.fields.values(), key=lambda f: f.number):
        if field.name not in message.fields:
            continue
        value = message.fields[field.name]
        if field.packed:
            body = _packed(field, value)
            yield varint(field.number << 3 | BYTES) + varint(len(body))
            yield body
            continue
        for item in value if field.repeated else (value,):
            yield from _encode_one(field, item)


def _packed(field: Field, value) -> bytes:
    if field.type in _ARRAYS:
        return np.ascontiguousarray(value, _ARRAYS[field.type]).tobytes()
    return b"".join(varint(int(item)) for item in value)


def _encode_one(field: Field, item: Any):
    wire = BYTES if field.message else _WIRE.get(field.type, VARINT)
    yield varint(field.number << 3 | wire)
    if wire == BYTES:
        if field.message:
            body = encode(item)
        else:
            body = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item)
        yield varint(len(body))
        yield body
    elif wire == VARINT:
        yield varint(field.enum.numbers[item] if field.enum else int(item))
    else:
        yield struct.pack("<f" if wire == FIXED32 else "<d", item)


def varint(number: int) -> bytes:
    """Encode an integer as a protobuf varint; a negative one takes ten bytes."""
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
