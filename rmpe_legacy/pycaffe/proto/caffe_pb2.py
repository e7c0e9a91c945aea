"""``caffe_pb2``: the message classes, enums and values of the dialect in use, made from our schema.

``google.protobuf.text_format`` and the like work on them.
"""

from __future__ import annotations

from typing import Any

from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.pycaffe import settings
from rmpe_legacy.pycaffe.errors import NoFieldError


def __getattr__(name: str) -> Any:
    try:
        return getattr(caffe_pb2(settings.current.messages), name)
    except AttributeError:
        raise NoFieldError(f"dialect {settings.current.messages!r} has no message, enum or value {name!r}; "
                           "caffe.configure(dialect=...) chooses another") from None


def __dir__() -> list[str]:
    return sorted(vars(caffe_pb2(settings.current.messages)))
