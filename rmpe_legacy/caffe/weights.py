"""A network's parameters under the names of its state dict, in .safetensors and .pt files.

Blob i of a layer in Caffe is called "<layer>.<name>" here: "conv1.weight", "bn1.scale_factor". Dots in a layer's name
become "_". The layer's class declares the names of its parameters, in Caffe's order of the blobs.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.files import as_os_errors
from rmpe_legacy.readers.torch_file import STARTS, read_state_dict
from rmpe_legacy.reading import cannot_open, item_count, reading

from .net import Net, module_names
from .proto.blobs import StoredBlob, TrainedLayer
from .proto.caffemodel import read_weights
from .spec import LayerSpec
from .step import Step
from .wiring import wire

LAYERS = "rmpe_legacy.layers"  # key of a .safetensors' metadata: [[layer, type, [key of blob 0, ...]], ...] as JSON
MAX_HEADER = 100 << 20  # bytes; the limit of the safetensors library


@dataclass(frozen=True)
class NamedLayer:
    """One layer of a state file: its name in Caffe, and the keys of its blobs in Caffe's order."""

    name: str
    type: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class StateFile:
    """The contents of a .safetensors or .pt file."""

    path: str
    tensors: dict[str, Tensor]
    layers: tuple[NamedLayer, ...] | None  # None: the file does not say
    mapped: mmap.mmap | None = None  # the map of the file that tensors are views of

    def blob(self, key: str) -> StoredBlob:
        """Return a tensor as a blob: float64, float32 and float16 unchanged, bfloat16 as float32.

        Raises:
            FileError: The tensor holds other than floating-point values.
        """
        value = self.tensors[key].detach()
        if value.dtype is torch.bfloat16:
            value = value.float()
        if value.dtype not in (torch.float64, torch.float32, torch.float16):
            raise FileError(f"{self.path}: {key} holds {str(value.dtype).removeprefix('torch.')}; a parameter needs "
                            "floating-point values")
        return StoredBlob(tuple(value.shape), value.contiguous().numpy().reshape(-1), mapped=self.mapped)


# --- names ------------------------------------------------------------------------------------------------------


def named_layers(steps: Sequence[Step]) -> list[NamedLayer]:
    """Return the layers of a network that have parameters, with their keys in its state dict."""
    names = module_names([step.layer.spec.name for step in steps])
    return [NamedLayer(step.layer.spec.name, step.layer.spec.type,
                       tuple(f"{name}.{declared.name}" for declared in step.layer.declared))
            for name, step in zip(names, steps, strict=True) if step.layer.declared]


def trained_layers(net: Net) -> list[TrainedLayer]:
    """Return a network's parameters as Caffe blobs, which are views; shared parameters occur in every layer that uses
    them.
    """
    state = net.state_dict()
    return [TrainedLayer(layer.name, layer.type, tuple(_blob(state[key]) for key in layer.keys))
            for layer in named_layers(net.steps)]


def _blob(value: Tensor) -> StoredBlob:
    array = value.detach().cpu().contiguous().numpy()
    return StoredBlob(array.shape, array.reshape(-1))


# --- reading ----------------------------------------------------------------------------------------------------


def read_trained(path: str | PathLike, specs: Sequence[LayerSpec]) -> list[TrainedLayer]:
    """Read weights in any format, for a network of these layers.

    State files are matched by their keys; tensors that match no layer are returned as layers of their own, which the
    network reports.

    Raises:
        FileError: The file cannot be read, or is damaged.
        NetError: The weights do not fit the layers.
    """
    state = read_state(path)
    if state is None:
        return read_weights(path)
    known = state.layers if state.layers is not None else named_layers(wire(specs))
    return list(_grouped(state, known))


def _grouped(state: StateFile, known: Iterable[NamedLayer]) -> Iterator[TrainedLayer]:
    left = dict.fromkeys(state.tensors)
    for layer in known:
        blobs = tuple(state.blob(key) if key in state.tensors else None for key in layer.keys)
        for key in layer.keys:
            left.pop(key, None)
        if any(blob is not None for blob in blobs):
            yield TrainedLayer(layer.name, layer.type, blobs)
    modules = {layer.keys[0].rpartition(".")[0] for layer in known}
    if strange := [key for key in left if key.rpartition(".")[0] in modules]:
        raise NetError(f"{state.path}: {', '.join(strange)}: the layer has no parameter of this name; convert the "
                       "weights again")
    others: dict[str, list[StoredBlob]] = {}
    for key in left:
        others.setdefault(key.rpartition(".")[0] or key, []).append(state.blob(key))
    for name, extra in others.items():
        yield TrainedLayer(name, "", tuple(extra))


def read_state(path: str | PathLike) -> StateFile | None:
    """Read a .safetensors or .pt file; None for other formats.

    A .pt file must contain a state dict: tensors by name. Nothing in it is executed.

    Raises:
        FileError: The file is damaged, or contains something else.
    """
    try:
        with open(path, "rb") as file:
            kind = _kind(file)
    except OSError as error:
        raise cannot_open(path, error) from None
    return None if kind is None else kind(str(path))


def _kind(file: IO[bytes]) -> Any:
    start = file.read(9)
    # Headers come first: one of 640 bytes begins with 80 02, as a pickle does, while nothing that torch.save writes has
    # such a length and a brace behind it.
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        return _read_safetensors
    return _read_torch if start.startswith(STARTS) else None


def _read_safetensors(path: str) -> StateFile:
    with reading(path, "safetensors file"), safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118  it is no dict
            _check_shape(path, key, file.get_slice(key).get_shape())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        listing = (file.metadata() or {}).get(LAYERS)
        mapped = _map_floats(path, tensors)
    return StateFile(path, tensors, None if listing is None else _parse_layers(path, listing, tensors), mapped)


def _map_floats(path: str, tensors: dict[str, Tensor]) -> mmap.mmap:
    """Replace the tensors of single precision by views of a map of our own, whose pages can be released.

    The library has checked the header: tensors do not overlap, and lie in the file.
    """
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8 : 8 + length])
    for key, tensor in tensors.items():
        start = 8 + length + header[key]["data_offsets"][0]
        if tensor.dtype is torch.float32 and tensor.numel() and start % 4 == 0:
            tensors[key] = torch.frombuffer(mapped, dtype=torch.float32, count=tensor.numel(),
                                            offset=start).view(tensor.shape)
    return mapped


def _check_shape(path: str, key: str, shape: Sequence[int]) -> None:
    if item_count(shape) is None:
        raise FileError(f"{path}: {key} has a shape of {len(shape)} dimensions, which no array has; the file is "
                        "damaged")


def _parse_layers(path: str, listing: str, tensors: dict[str, Tensor]) -> tuple[NamedLayer, ...]:
    try:
        layers = tuple(NamedLayer(name, kind, tuple(keys)) for name, kind, keys in json.loads(listing))
        fine = all(isinstance(text, str) for layer in layers for text in (layer.name, layer.type, *layer.keys))
    except (ValueError, TypeError, RecursionError):
        fine = False
    if not fine or any(not layer.keys or not set(layer.keys) <= tensors.keys() for layer in layers):
        raise FileError(f"{path}: its metadata {LAYERS!r} does not list the file's tensors by layer; the file is "
                        "damaged")
    return layers


def _read_torch(path: str) -> StateFile:
    tensors, mapped = read_state_dict(path)
    return StateFile(path, tensors, None, mapped)


# --- writing ----------------------------------------------------------------------------------------------------


def write_safetensors(path: str | PathLike, layers: Sequence[NamedLayer], trained: Sequence[TrainedLayer]) -> None:
    """Write blobs under their keys, with their dtypes; the metadata lists the keys of each layer's blobs."""
    metadata = {"format": "pt", LAYERS: json.dumps([[e.name, e.type, list(e.keys)] for e in layers])}
    Path(path).touch()
    mode = Path(path).stat().st_mode  # save_file makes the file readable for its owner only
    arrays = {key: blob.data.reshape(blob.shape) for key, blob in _keyed(layers, trained)}
    with as_os_errors(SafetensorError):
        save_file(arrays, Path(path), metadata)
    Path(path).chmod(mode)


def write_state_dict(path: str | PathLike, layers: Sequence[NamedLayer], trained: Sequence[TrainedLayer]) -> None:
    """Write blobs as a PyTorch state dict, under their keys and with their dtypes.

    ``torch.load(path, weights_only=True)`` loads it.
    """
    state = {key: torch.from_numpy(np.array(blob.data).reshape(blob.shape)) for key, blob in _keyed(layers, trained)}
    with open(path, "wb") as file, as_os_errors():
        torch.save(state, file)


def _keyed(layers: Sequence[NamedLayer], trained: Sequence[TrainedLayer]) -> Iterator[tuple[str, StoredBlob]]:
    for layer, stored in zip(layers, trained, strict=True):
        yield from zip(layer.keys, stored.blobs, strict=True)


# --- copying ----------------------------------------------------------------------------------------------------


def copy_trained(net: Net, layers: Iterable[TrainedLayer]) -> list[str]:
    """Copy weights into a network, layer by layer by name.

    Returns:
        The names of layers that the network does not have.

    Raises:
        LayerError: The blobs do not fit a layer.

    Source: Net::CopyTrainedLayersFrom (net.cpp) of RMPE@5188c23.
    """
    targets: dict[str, Any] = {}
    for step in net.steps:
        targets.setdefault(step.layer.spec.name, step.layer)
    strangers = []
    for stored in layers:
        layer = targets.get(stored.name)
        if layer is None:
            strangers += [stored.name] * bool(stored.blobs)
            continue
        if stored.blobs and len(stored.blobs) != len(layer.declared):
            raise layer.spec.error(f"has {len(layer.declared)} parameters, but {len(stored.blobs)} in the weights; "
                                   "load the weights of this network, or rename the layer")
        for i, blob in enumerate(stored.blobs):
            if blob is not None:
                layer.check_fits(i, blob)
                value = getattr(layer, layer.declared[i].name)
                value.data.copy_(torch.from_numpy(np.array(blob.data, np.float32)).view(value.shape))
    return strangers
