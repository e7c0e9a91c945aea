"""Hashes of a network and its weights that depend on their content only, not on the file format.

Weights: each layer with weights, by name: the shapes of its blobs without leading ones (1 x 1 x 1 x 64 in a V1 file is
64 in a V2 file), and the values, in single precision if that is exact, otherwise in double.
Network: the layers in order, in the current layout, without the network's name and fields that repeat a default.
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
from rmpe_legacy.formats.base import Setting
from rmpe_legacy.formats.network_json import field_data
from rmpe_legacy.formats.read import is_weights, read_network, read_weights_alone

ALGORITHM = "sha256"


def content_hashes(sources: Sequence[str | PathLike], setting: Setting) -> dict[str, str]:
    """Hash what one or two files contain: "network" and "weights" -> 64 hexadecimal digits.

    A .t7 file is hashed as the Caffe network that it is converted to.

    Raises:
        RmpeError: A file cannot be read.
        NetError: Weights alone do not say which layer a shared blob belongs to.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and is_weights(paths[0]):
        return {"weights": weights_hash(read_weights_alone(paths[0]), str(paths[0]))}
    network = read_network(paths, setting, weights_needed=False)
    hashes = {"network": network_hash(network.message)}
    if network.trained is not None:
        hashes["weights"] = weights_hash(network.weights, network.title)
    return hashes


def weights_hash(layers: Iterable[TrainedLayer], title: str = "weights") -> str:
    """Return the hash of weights, as hexadecimal digits.

    Raises:
        NetError: A layer shares a blob with a layer that `layers` does not contain.
    """
    digest = hashlib.new(ALGORITHM)
    for layer in sorted((layer for layer in layers if layer.blobs), key=lambda layer: layer.name):
        digest.update(_line(layer.name, len(layer.blobs)))
        for blob in layer.blobs:
            if blob is None:
                raise NetError(f"{title}: layer {layer.name} shares a blob with a layer that the file does not name; "
                               "give the prototxt too")
            _add_blob(digest, blob)
    return digest.hexdigest()


def _add_blob(digest: Any, blob: StoredBlob) -> None:
    shape = list(blob.shape)
    while shape and shape[0] == 1:
        del shape[0]
    values = np.ascontiguousarray(blob.data)
    if values.dtype.newbyteorder("=") != np.float32:
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        values = single if np.array_equal(single, values, equal_nan=True) else values.astype(np.float64)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    digest.update(_line(shape, values.dtype.name))
    digest.update(values.reshape(-1).view(np.uint8).data)


def network_hash(net: Message) -> str:
    """Return the hash of a NetParameter in the current layout, as hexadecimal digits."""
    digest = hashlib.new(ALGORITHM)
    for name, value in _message(net.replace(name=None, layer=None)).items():
        digest.update(_line(name, value))
    for layer in net.layer:
        digest.update(_line("layer", _message(layer)))
    return digest.hexdigest()


def layers_hash(layers: Iterable[Message]) -> str:
    """Return the hash of layers in the current layout, without weights, as hexadecimal digits."""
    digest = hashlib.new(ALGORITHM)
    for layer in layers:
        digest.update(_line("layer", _message(layer)))
    return digest.hexdigest()


def _message(message: Message) -> dict[str, Any]:
    """Return the fields of a message that differ from their defaults."""
    out = {}
    for name, field in message.descriptor.fields.items():
        if name in message.fields and name != "blobs" and (value := _plain(field, message.fields[name])) is not None:
            out[name] = value
    return out


def _plain(field: Field, value: Any) -> Any:
    """Return the value of a field; None if it is the default."""
    if field.repeated:
        items = [_message(item) if field.message is not None else field_data(field, item) for item in value]
        return items or None
    if field.message is not None:
        return _message(value) or None
    data = field_data(field, value)  # rounds to the field's type
    return None if field.default is not None and data == field_data(field, field.default) else data


def _line(*parts: Any) -> bytes:
    return json.dumps(parts, sort_keys=True).encode() + b"\n"
