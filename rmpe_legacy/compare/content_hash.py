"""What a network or its weights are called by their content alone, whichever file they come in.

Weights: each layer that has any, by name: its blobs' shapes without leading ones (a V1 file says 1 x 1 x 1 x 64 where a
V2 file says 64) and values, as single precision where that holds them exactly, else as double.
Network: the layers in order, in today's layout, with fields that only repeat a default left out; the network's own name
does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import Field
from rmpe_legacy.errors import NetError
from rmpe_legacy.formats.network_json import Setting, field_data
from rmpe_legacy.formats.source import is_weights, read_network, read_weights_alone

ALGORITHM = "sha256"


def content_hashes(sources: Sequence[str | PathLike], setting: Setting) -> dict[str, str]:
    """"network" and "weights" of one or two files, as far as these hold them: -> 64 hexadecimal digits.

    A .t7 file counts as the Caffe network that it is converted to. NetError where weights alone do not say which
    blob is whose.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and is_weights(paths[0]):
        return {"weights": weights_hash(read_weights_alone(paths[0]), str(paths[0]))}
    network = read_network(paths, setting, weights_needed=False)
    found = {"network": network_hash(network.message)}
    if network.trained is not None:
        found["weights"] = weights_hash(network.weights, network.title)
    return found


def weights_hash(layers: Iterable[TrainedLayer], title: str = "weights") -> str:
    """The identity of weights, as hexadecimal digits."""
    whole = hashlib.new(ALGORITHM)
    for layer in sorted((layer for layer in layers if layer.blobs), key=lambda layer: layer.name):
        if None in layer.blobs:
            raise NetError(f"{title}: a blob of {layer.name} is another layer's, and the file does not say whose; give "
                           "the prototxt too")
        whole.update(_line(layer.name, len(layer.blobs)))
        for blob in layer.blobs:
            _add_blob(whole, blob)
    return whole.hexdigest()


def _add_blob(whole: Any, blob: StoredBlob) -> None:
    shape = list(blob.shape)
    while shape and shape[0] == 1:
        del shape[0]
    values = np.ascontiguousarray(blob.data)
    if values.dtype.newbyteorder("=") != np.float32:
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        values = single if np.array_equal(single, values, equal_nan=True) else values.astype(np.float64)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    whole.update(_line(shape, values.dtype.name))
    whole.update(memoryview(values.reshape(-1).view(np.uint8)))


def network_hash(net: Message) -> str:
    """The identity of a NetParameter in today's layout, as hexadecimal digits."""
    whole = hashlib.new(ALGORITHM)
    for name, value in _message(net.replace(name=None, layer=None)).items():
        whole.update(_line(name, value))
    for layer in net.layer:
        whole.update(_line("layer", _message(layer)))
    return whole.hexdigest()


def _message(message: Message) -> dict[str, Any]:
    """A message's fields that say more than the defaults do."""
    out = {}
    for name, field in message.descriptor.fields.items():
        if name in message.fields and name != "blobs" and (value := _plain(field, message.fields[name])) is not None:
            out[name] = value
    return out


def _plain(field: Field, value: Any) -> Any:
    """A field's value as data; None where it is the default."""
    if field.repeated:
        items = [_message(item) if field.message is not None else field_data(field, item) for item in value]
        return items or None
    if field.message is not None:
        return _message(value) or None
    data = field_data(field, value)  # rounds to what the field's type can hold
    return None if field.default is not None and data == field_data(field, field.default) else data


def _line(*parts: Any) -> bytes:
    return json.dumps(parts, sort_keys=True).encode() + b"\n"
