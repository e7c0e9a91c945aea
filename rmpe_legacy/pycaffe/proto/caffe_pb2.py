"""``caffe_pb2``: the message classes, enums and values of the dialect in use, made from our schema.

``google.protobuf.text_format`` and the like work on them. Where no dialect is chosen, they are RMPE's with what only
other dialects have besides.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rmpe_legacy.caffe.proto.dialects import AUTO
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.pycaffe import settings
from rmpe_legacy.pycaffe.errors import NoFieldError


def _classes() -> SimpleNamespace:
    return caffe_pb2(settings.current.messages, widened=settings.current.dialect == AUTO)


def __getattr__(name: str) -> Any:
    try:
        return getattr(_classes(), name)
    except AttributeError:
        raise NoFieldError(f"dialect {settings.current.messages!r} has no message, enum or value {name!r}; "
                           "caffe.configure(dialect=...) chooses another") from None


def __dir__() -> list[str]:
    return sorted(vars(_classes()))
