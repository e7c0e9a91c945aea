"""Caffe's messages as protobuf classes, made from our schema: for scripts that know ``caffe_pb2``.

The package itself reads and writes without them; tests use them to compare our readers with Google's library.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .schema import EnumType, Field, MessageType, load_schema

_F = descriptor_pb2.FieldDescriptorProto


@cache
def caffe_pb2(dialect: str = "rmpe") -> SimpleNamespace:
    """The message classes, enums and values of one dialect by name: ``caffe_pb2().NetParameter()``.

    They live in a descriptor pool of their own, so that another caffe_pb2 in the process does not clash.
    """
    schema = load_schema(dialect)
    file = descriptor_pb2.FileDescriptorProto(name=f"rmpe_legacy/{dialect}/caffe.proto", package="caffe",
                                              syntax="proto2")
    for enum in schema.enums.values():
        _add_enum(file.enum_type.add(), enum)
    for message in schema.messages.values():
        _add_message(file.message_type.add(), message)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
               for name in schema.messages}
    enums = {name: EnumTypeWrapper(pool.FindEnumTypeByName(f"caffe.{name}")) for name in schema.enums}
    values = {name: number for enum in schema.enums.values() for name, number in enum.numbers.items()}
    return SimpleNamespace(**classes, **enums, **values)


def _add_enum(target: descriptor_pb2.EnumDescriptorProto, enum: EnumType) -> None:
    target.name = enum.name
    for name, number in enum.numbers.items():
        target.value.add(name=name, number=number)


def _add_message(target: descriptor_pb2.DescriptorProto, message: MessageType) -> None:
    target.name = message.name
    for enum in message.enums.values():
        _add_enum(target.enum_type.add(), enum)
    for field in message.fields.values():
        _add_field(target.field.add(), field, message)


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
