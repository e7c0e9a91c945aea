"""A network as JSON: the upgraded NetParameter as data, and what it was loaded with; ``load_converted`` reads it back.

    {"format": "rmpe_legacy network", "version": 1, "dialect": "rmpe", "phase": "TEST", "level": 0, "stages": [],
     "de_transform": null, "weights": "pose.safetensors", "net": {"name": ..., "layer": [{"name": ..., ...}]}}

Fields have Caffe's names; absent ones are at the dialect's defaults. Enum values are their names, numbers the
shortest that single precision tells apart, numbers that JSON lacks "inf", "-inf" and "nan".
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from dataclasses import dataclass, replace
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

FORMAT, VERSION = "rmpe_legacy network", 1
MAX_BYTES = 256 << 20  # as of a prototxt
MAX_DEPTH = 64  # of an unknown field's messages
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # stands for a byte that is not UTF-8; a file takes it only escaped
_UNKNOWN = "(unknown fields)"  # no field of protobuf can be called so
_INTEGERS = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@dataclass(frozen=True)
class Setting:
    """What a network is loaded with besides its file; as the arguments of ``load_net``."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()
    dialect: str = "auto"
    de_transform: str | None = None
    allow_python: bool | None = False  # None: neither import a module nor refuse one, as for ``parse_net``


def load_converted(path: str | PathLike, keep_blobs: bool = False, allow_python: bool = False) -> Net:
    """Load what ``rmpe convert`` wrote as JSON and safetensors: a Net, as ``load_net`` gives it.

    path: the .json, or the .safetensors beside it. The network has the phase, stages and dialect it was converted
    with. FileError says what is wrong with the files, NetError or LayerError with what they say.
    allow_python: as for ``load_net``.
    """
    parsed, weights, _ = read_json_network(path, allow_python)
    return parsed.build(None if weights is None else read_trained(weights, parsed.specs), keep_blobs)


def read_json_network(path: str | PathLike, allow_python: bool | None = False
                      ) -> tuple[ParsedNet, Path | None, Setting]:
    """The network of a .json (or beside a .safetensors), where its weights are, and what it is to be loaded with."""
    path = Path(path)
    path = path.with_suffix(".json") if path.suffix == ".safetensors" else path
    document = _read(path)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise FileError(f"{path}: is no {FORMAT} of version {VERSION}, which rmpe convert writes")
    setting = replace(_setting(path, document), allow_python=allow_python)
    weights = document.get("weights")
    if weights is not None and (not isinstance(weights, str) or Path(weights).name != weights or weights in ("", "..")):
        raise FileError(f"{path}: weights is {weights!r}; the name of a file beside this one is needed")
    reader = _Reader(Source(str(path)))
    message = reader.message(load_schema(setting.dialect)["NetParameter"], document.get("net"), "net")
    parsed = parse_net(message, setting.phase, setting.level, setting.stages, setting.de_transform,
                       allow_python=allow_python)
    return parsed, None if weights is None else path.with_name(weights), setting


def network_json(net: Message, setting: Setting, weights: str | None) -> str:
    """The JSON of an upgraded NetParameter. weights: the name of the file beside it, if there is one."""
    document = {"format": FORMAT, "version": VERSION, "dialect": net.descriptor.schema.name, "phase": setting.phase,
                "level": setting.level, "stages": list(setting.stages), "de_transform": setting.de_transform,
                "weights": weights, "net": {}}
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    data = _data(net)
    layers = data.pop("layer", [])
    head = [f"  {json.dumps(key)}: {_line(value)}" for key, value in data.items()]
    body = ",\n".join(f"   {_line(layer)}" for layer in layers)  # a layer a line: short, and a diff shows layers
    inside = ",\n".join([*head, f'  "layer": [\n{body}\n  ]'])
    text = text.replace('"net": {}', f'"net": {{\n{inside}\n }}') + "\n"
    return _SURROGATE.sub(lambda byte: f"\\u{ord(byte[0]):04x}", text)


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


# --- messages as data ---------------------------------------------------------------------------------------------


def _data(message: Message) -> dict[str, Any]:
    """A message as a dict."""
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
    """One value of a field as JSON has it."""
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
    """A value that no schema describes."""
    if isinstance(value, Message):
        return _data(value)
    if isinstance(value, list):
        return [_free(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Reader:
    """Makes messages of parsed JSON, and checks each value against the schema."""

    def __init__(self, source: Source):
        self.source = source

    def error(self, where: str, reason: str) -> FileError:
        return FileError(f"{self.source.path}: {where}: {reason}; the file is damaged, or of another dialect")

    def message(self, kind: MessageType, data: Any, where: str) -> Message:
        if not isinstance(data, dict):
            raise self.error(where, f"a {kind.name} is needed")
        fields, unknown = {}, []
        for name, value in data.items():
            if name == _UNKNOWN:
                unknown = self._unknown(kind, value, where)
            elif (field := kind.fields.get(name)) is None:
                raise self.error(where, f"{kind.name} has no field {name!r}")
            else:
                fields[name] = self._field(field, value, f"{where}.{name}")
                unknown += self._strange_values(kind, field, fields[name], where)
        return Message(kind, fields, self.source, 0, unknown)

    def _field(self, field: Field, value: Any, where: str) -> Any:
        if not field.repeated:
            return self._one(field, value, where)
        if not isinstance(value, list):
            raise self.error(where, "a list is needed")
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
        raise self.error(where, f"{field.type} is needed, not {_shown(value)}")

    def _bytes(self, value: str, where: str) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise self.error(where, "base64 is needed") from None

    def _unknown(self, kind: MessageType, data: Any, where: str) -> list[Unknown]:
        if not isinstance(data, list) or not all(
                isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in data):
            raise self.error(where, f"{_UNKNOWN} is a list of names and values")
        return [Unknown(kind.name, name, self._free(value, where, 0), self.source.path) for name, value in data]

    def _free(self, value: Any, where: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(where, f"more than {MAX_DEPTH} levels in {_UNKNOWN}")
        if isinstance(value, dict):
            fields = {name: self._free(item, where, depth + 1) for name, item in value.items()}
            return Message(None, fields, self.source)
        return [self._free(item, where, depth + 1) for item in value] if isinstance(value, list) else value

    def _strange_values(self, kind: MessageType, field: Field, value: Any, where: str) -> list[Unknown]:
        """Enum values that the dialect does not have: kept, as the text reader keeps them."""
        if field.enum is None:
            return []
        values = value if field.repeated else [value]
        return [Unknown(kind.name, field.name, v, f"{self.source.path}: {where}", True)
                for v in values if v not in field.enum.numbers]


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path, MAX_BYTES)
    if not isinstance(document, dict):
        raise FileError(f"{path}: is no {FORMAT}; rmpe convert writes them")
    return document


def _setting(path: Path, document: dict[str, Any]) -> Setting:
    phase, level, stages = (document.get(key) for key in ("phase", "level", "stages"))
    dialect, de_transform = document.get("dialect"), document.get("de_transform")
    for key, value, choices in (("phase", phase, PHASES), ("dialect", dialect, tuple(dialects())),
                                ("de_transform", de_transform, (None, *DE_TRANSFORM))):
        if value not in choices if isinstance(value, str | None) else True:
            raise FileError(f"{path}: {key} is {_shown(value)}; one of {', '.join(map(str, choices))} is needed")
    if not isinstance(level, int) or not isinstance(stages, list) or not all(isinstance(s, str) for s in stages):
        raise FileError(f"{path}: level must be a whole number, and stages a list of names")
    return Setting(phase, level, tuple(stages), dialect, de_transform)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
