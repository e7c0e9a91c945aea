"""Messages written as prototxt."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rmpe_legacy.errors import PrototxtError
from rmpe_legacy.wording import shorten

from .message import Message
from .schema import Field

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\[[A-Za-z_][A-Za-z0-9_./-]*\]", re.A)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+", re.A)
_PRINTABLE = {code: f"\\{code:03o}" for code in [*range(32), *range(127, 256)]}


def format_text(message: Message, indent: str = "") -> str:
    """Format a message as prototxt, including unknown fields; ``parse_text`` reads it back.

    Raises:
        PrototxtError: Prototxt cannot hold a name or an enum value, which may come from a file in another format.
    """
    lines = []
    for field in message.descriptor.fields.values() if message.descriptor else ():
        if field.name in message.fields:
            value = message.fields[field.name]
            lines += [_format_field(field.name, item, field, indent) for item in (value if field.repeated else [value])]
    free = [] if message.descriptor else list(message.fields.items())
    for name, value in free + [(u.name, u.value) for u in message.unknown if not u.is_value]:
        if not _NAME.fullmatch(name):
            raise PrototxtError(f"'{shorten(name)}' cannot be the name of a field in a prototxt")
        lines.append(_format_field(name, value, None, indent))
    return "".join(lines)


def _format_field(name: str, value: Any, field: Field | None, indent: str) -> str:
    colon = "" if isinstance(value, Message) else ":"
    return f"{indent}{name}{colon} {_format_value(value, field, indent)}\n"


def _format_value(value: Any, field: Field | None, indent: str) -> str:
    if isinstance(value, Message):
        return f"{{\n{format_text(value, indent + '  ')}{indent}}}"
    if isinstance(value, list):  # of a field that the schema lacks; it cannot tell one value from a list of one
        return f"[{', '.join(_format_value(item, None, indent) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if field is not None and field.enum is not None:
        if not _WORD.fullmatch(str(value)):
            raise PrototxtError(f"'{shorten(str(value))}' cannot be a value of {field.name} in a prototxt")
        return str(value)
    if isinstance(value, str | bytes | memoryview):
        return _format_string(value, field)
    if isinstance(value, float | np.floating):
        single = field is not None and field.type == "float"
        text = repr(float(str(np.float32(value)))) if single else repr(float(value))
        return text.removesuffix(".0")
    return str(value)


def _format_string(value: str | bytes | memoryview, field: Field | None) -> str:
    if field is None and isinstance(value, str) and value.isupper() and value.isascii() and value.isidentifier():
        return value  # the value of an enum that the schema lacks
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    return '"' + re.sub(r'[\\"]', r"\\\g<0>", raw.decode("latin-1")).translate(_PRINTABLE) + '"'
