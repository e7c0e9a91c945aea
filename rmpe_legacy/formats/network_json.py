"""A network as JSON: the upgraded NetParameter, and the settings it was loaded with. ``load_converted`` reads it.

    {"format": "rmpe_legacy network", "version": 1, "dialect": "rmpe", "phase": "TEST", "level": 0, "stages": [],
     "de_transform": null, "weights": "pose.safetensors", "net": {"name": ..., "layer": [{"name": ..., ...}]}}

Fields have Caffe's names; absent fields have the dialect's defaults. Enum values are written as names, floats with the
fewest digits that restore the same single-precision value, and numbers that JSON lacks as "inf", "-inf" and "nan".
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Collection
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.caffe.load import ParsedNet, parse_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.dialects import dialects
from rmpe_legacy.caffe.proto.message import Message, Source, Unknown
from rmpe_legacy.caffe.proto.schema import Field, MessageType, float32, load_schema
from rmpe_legacy.caffe.spec import DE_TRANSFORM, PHASES
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.json_file import read_json

from .base import Setting

FORMAT, VERSION = "rmpe_legacy network", 1
MAX_BYTES = 256 << 20  # the limit for a prototxt too
MAX_DEPTH = 64  # of an unknown field's messages
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # represents a byte that is not UTF-8; must be escaped in a file
_UNKNOWN = "(unknown fields)"  # not a possible protobuf field name
_INTEGERS = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def load_converted(path: str | PathLike, keep_blobs: bool = False, allow_python: bool = False) -> Net:
    """Load a network that ``rmpe convert`` wrote as JSON and safetensors.

    Args:
        path: The .json, or the .safetensors next to it.
        keep_blobs: Keep every blob of a forward in ``net.blobs``.
        allow_python: As for ``load_net``.

    Returns:
        A Net, as ``load_net`` returns it, with the phase, stages and dialect it was converted with.

    Raises:
        FileError: A file is missing or damaged.
        NetError, LayerError: The network cannot be built.
    """
    parsed, weights, _ = read_json_network(path, allow_python)
    return parsed.build(None if weights is None else read_trained(weights, parsed.specs), keep_blobs)


def read_json_network(path: str | PathLike, allow_python: bool | None = False
                      ) -> tuple[ParsedNet, Path | None, Setting]:
    """Read a .json, or the one beside a .safetensors.

    Returns:
        The network, the path of its weights, and its settings.

    Raises:
        FileError: A file is missing or damaged.
    """
    path = Path(path)
    path = path.with_suffix(".json") if path.suffix == ".safetensors" else path
    document = _read(path)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise FileError(f"{path}: is not an {FORMAT}, version {VERSION}, as written by rmpe convert")
    setting = replace(_setting(path, document), allow_python=allow_python)
    weights = document.get("weights")
    if weights is not None and (not isinstance(weights, str) or Path(weights).name != weights or weights in ("", "..")):
        raise FileError(f"{path}: weights is {weights!r}; expected the name of a file in the same folder")
    reader = _Reader(Source(str(path)))
    message = reader.message(load_schema(setting.dialect)["NetParameter"], document.get("net"), "net")
    parsed = parse_net(message, setting.phase, setting.level, setting.stages, setting.de_transform,
                       allow_python=allow_python)
    return parsed, None if weights is None else path.with_name(weights), setting


def network_json(net: Message, setting: Setting, weights: str | None) -> str:
    """Format an upgraded NetParameter as JSON. weights: the name of the weights file beside it, if any."""
    document = {"format": FORMAT, "version": VERSION, "dialect": net.descriptor.schema.name, "phase": setting.phase,
                "level": setting.level, "stages": list(setting.stages), "de_transform": setting.de_transform,
                "weights": weights, "net": {}}
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    data = _data(net)
    layers = data.pop("layer", [])
    head = [f"  {json.dumps(key)}: {_line(value)}" for key, value in data.items()]
    body = ",\n".join(f"   {_line(layer)}" for layer in layers)  # one layer per line: compact, and diffs show layers
    inside = ",\n".join([*head, f'  "layer": [\n{body}\n  ]'])
    text = text.replace('"net": {}', f'"net": {{\n{inside}\n }}') + "\n"
    return _SURROGATE.sub(lambda byte: f"\\u{ord(byte[0]):04x}", text)


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


# --- messages as data ---------------------------------------------------------------------------------------------


def _data(message: Message) -> dict[str, Any]:
    """Convert a message to a dict."""
    if message.descriptor is None:
        return {name: _free(value) for name, value in message.fields.items()}
    out: dict[str, Any] = {}
    for name, field in message.descriptor.fields.items():
        if name in message.fields:
            value = message.fields[name]
            out[name] = [field_data(field, item) for item in value] if field.repeated else field_data(field, value)
    if unknown := [u for u in message.unknown if not u.is_value]:
        out[_UNKNOWN] = [[u.name, _free(u.value)] for u in unknown]
    return out


def field_data(field: Field, value: Any) -> Any:
    """Convert one value of a field to its JSON form."""
    if field.message is not None:
        return _data(value)
    if field.type == "bytes":
        return base64.b64encode(bytes(value)).decode()
    if field.type in ("float", "double"):
        if not math.isfinite(value):
            return str(float(value))
        short = float(str(np.float32(value))) if field.type == "float" else float(value)
        return int(short) if short == int(short) and abs(short) < 1e9 and str(short)[0] != "-" else short
    return bool(value) if field.type == "bool" else value if isinstance(value, str) else int(value)


def _free(value: Any) -> Any:
    """Convert a value that no schema describes."""
    if isinstance(value, Message):
        return _data(value)
    if isinstance(value, list):
        return [_free(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Reader:
    """Builds messages from parsed JSON and checks each value against the schema."""

    def __init__(self, source: Source):
        self.source = source

    def error(self, where: str, reason: str) -> FileError:
        return FileError(f"{self.source.path}: {where}: {reason}; the file is damaged, or of another dialect")

    def message(self, kind: MessageType, data: Any, where: str) -> Message:
        if not isinstance(data, dict):
            raise self.error(where, f"expected a {kind.name}")
        fields, unknown = {}, []
        for name, value in data.items():
            if name == _UNKNOWN:
                unknown = self._unknown(kind, value, where)
            elif (field := kind.fields.get(name)) is None:
                raise self.error(where, f"{kind.name} has no field {name!r}")
            else:
                fields[name] = self._field(field, value, f"{where}.{name}")
                unknown += self._unknown_values(kind, field, fields[name], where)
        return Message(kind, fields, self.source, 0, unknown)

    def _field(self, field: Field, value: Any, where: str) -> Any:
        if not field.repeated:
            return self._one(field, value, where)
        if not isinstance(value, list):
            raise self.error(where, "expected a list")
        values = [self._one(field, item, f"{where}[{i}]") for i, item in enumerate(value)]
        kinds = {"float": np.float32, "double": np.float64}
        return np.array(values, kinds[field.type]) if field.type in kinds and field.packed else values

    def _one(self, field: Field, value: Any, where: str) -> Any:
        if field.message is not None:
            return self.message(field.message, value, where)
        if field.enum is not None or field.type == "string":
            if isinstance(value, str):
                return value
        elif field.type == "bool":
            if isinstance(value, bool):
                return value
        elif field.type == "bytes":
            if isinstance(value, str):
                return self._bytes(value, where)
        elif field.type in ("float", "double"):
            value = _ODD.get(value, value) if isinstance(value, str) else value
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float32(float(value)) if field.type == "float" else float(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            low, high = _INTEGERS[field.type]
            if low <= value <= high:
                return value
        raise self.error(where, f"expected {field.type}, got {_shorten(value)}")

    def _bytes(self, value: str, where: str) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise self.error(where, "expected base64") from None

    def _unknown(self, kind: MessageType, data: Any, where: str) -> list[Unknown]:
        if not isinstance(data, list) or not all(
                isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in data):
            raise self.error(where, f"{_UNKNOWN} must be a list of names and values")
        return [Unknown(kind.name, name, self._free(value, where, 0), self.source.path) for name, value in data]

    def _free(self, value: Any, where: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(where, f"{_UNKNOWN} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            fields = {name: self._free(item, where, depth + 1) for name, item in value.items()}
            return Message(None, fields, self.source)
        return [self._free(item, where, depth + 1) for item in value] if isinstance(value, list) else value

    def _unknown_values(self, kind: MessageType, field: Field, value: Any, where: str) -> list[Unknown]:
        """Return enum values that the dialect does not have; they are kept, as by the text reader."""
        if field.enum is None:
            return []
        values = value if field.repeated else [value]
        return [Unknown(kind.name, field.name, v, f"{self.source.path}: {where}", True)
                for v in values if v not in field.enum.numbers]


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path, MAX_BYTES)
    if not isinstance(document, dict):
        raise FileError(f"{path}: is not an {FORMAT}, as written by rmpe convert")
    return document


def _setting(path: Path, document: dict[str, Any]) -> Setting:
    def chosen(key: str, choices: Collection[str]) -> str:
        value = document.get(key)
        if not isinstance(value, str) or value not in choices:
            raise FileError(f"{path}: {key} is {_shorten(value)}; expected one of {', '.join(choices)}")
        return value

    phase, dialect = chosen("phase", PHASES), chosen("dialect", dialects())
    de_transform = None if document.get("de_transform") is None else chosen("de_transform", DE_TRANSFORM)
    level, stages = document.get("level"), document.get("stages")
    if not isinstance(level, int) or not isinstance(stages, list) or not all(isinstance(s, str) for s in stages):
        raise FileError(f"{path}: level must be a whole number, and stages a list of names")
    return Setting(phase, level, tuple(stages), dialect, de_transform)


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
