"""Caffe's messages as protobuf classes, made from our schema: for scripts that know ``caffe_pb2``.

The package itself reads and writes without them; tests use them to compare our readers with Google's library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import google.protobuf.text_format  # noqa: F401 - generated modules bring it with them, and scripts rely on that
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .dialects import MIXED
from .schema import SPARE, EnumType, Field, MessageType, agreed_numbers, load_schema

_F = descriptor_pb2.FieldDescriptorProto


@cache
def caffe_pb2(dialect: str = "rmpe", widened: bool = False) -> SimpleNamespace:
    """Return the message classes, enums and values of one dialect by name: ``caffe_pb2().NetParameter()``.

    They live in a descriptor pool of their own, so that another caffe_pb2 in the process does not clash.

    Args:
        dialect: The dialect's name.
        widened: Also give the messages the fields of all other dialects, so that they can read any prototxt. Such a
            field
            keeps its number only if no dialect uses that number for another field; binary files leave the rest unknown.

    Raises:
        RmpeError: There is no such dialect.
    """
    schema = load_schema(dialect)
    more = load_schema(MIXED) if widened else schema
    file = descriptor_pb2.FileDescriptorProto(name=f"rmpe_legacy/{dialect}/caffe.proto", package="caffe",
                                              syntax="proto2")
    _add_enums(file.enum_type, schema.enums, more.enums)
    for name in {**schema.messages, **more.messages}:
        own, other = schema.messages.get(name, more[name]), more[name]
        target = file.message_type.add(name=name)
        _add_enums(target.enum_type, own.enums, other.enums)
        for field in _with_more_fields(own, other):
            _add_field(target.field.add(), field, other)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    classes = {name.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name.name}"))
               for name in file.message_type}
    enums = {enum.name: EnumTypeWrapper(pool.FindEnumTypeByName(f"caffe.{enum.name}")) for enum in file.enum_type}
    values = {value.name: value.number for enum in file.enum_type for value in enum.value}
    return SimpleNamespace(**classes, **enums, **values)


def _add_enums(target: Any, own: Mapping[str, EnumType], other: Mapping[str, EnumType]) -> None:
    for name in {**own, **other}:
        numbers = dict(own.get(name, other[name]).numbers)
        for i, value in enumerate(other[name].numbers.items()):
            if value[0] not in numbers:
                numbers[value[0]] = SPARE + i if value[1] in numbers.values() else value[1]
        added = target.add(name=name)
        for key, number in numbers.items():
            added.value.add(name=key, number=number)


def _with_more_fields(own: MessageType, other: MessageType) -> Iterator[Field]:
    """The fields of a message, and those that only the other version of it has, with numbers that are free."""
    yield from own.fields.values()
    if own is other:
        return
    for i, field in enumerate(other.fields.values()):
        if field.name not in own.fields:
            is_agreed = (own.name, field.number, field.name) in agreed_numbers()
            yield field if is_agreed else replace(field, number=SPARE + i)


def _add_field(target: descriptor_pb2.FieldDescriptorProto, field: Field, owner: MessageType) -> None:
    target.name, target.number = field.name, field.number
    target.label = (_F.LABEL_REPEATED if field.repeated else
                    _F.LABEL_REQUIRED if field.required else _F.LABEL_OPTIONAL)
    if field.message is not None:
        target.type, target.type_name = _F.TYPE_MESSAGE, f".caffe.{field.type}"
    elif field.enum is not None:
        scope = f"{owner.name}." if field.type in owner.enums else ""
        target.type, target.type_name = _F.TYPE_ENUM, f".caffe.{scope}{field.type}"
    else:
        target.type = getattr(_F, f"TYPE_{field.type.upper()}")
    if field.packed:
        target.options.packed = True
    if field.default is not None:
        target.default_value = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
