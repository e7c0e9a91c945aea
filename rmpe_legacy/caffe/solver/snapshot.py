"""The weights of a network in training, in files as Caffe's Net::ToProto and Net::ToHDF5 write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType

import h5py
import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.step import Step

Added = Mapping[str, Sequence[np.ndarray]]  # layer -> arrays that it stores after its parameters


def write_weights(path: str | PathLike, net: Net, diffs: bool = False, added: Added = MappingProxyType({})) -> None:
    """Write a .caffemodel byte for byte as Caffe does: every layer with its blobs, including the inserted Splits.

    Args:
        path: The file; it appears whole or not at all.
        net: The network.
        diffs: Also store each parameter's gradient, which holds the last update after a solver's step.
        added: Further blobs of a layer, by the layer's name.

    Raises:
        FileError: The file cannot be written, or would exceed 2 GiB.
    """
    layers = [_definition(step) for step in net.steps]
    message = Message(load_schema(net.steps[0].layer.spec.dialect)["NetParameter"], {"name": net.name, "layer": layers})
    write_caffemodel(path, _trained(net, diffs, added), message)


def write_weights_hdf5(path: str | PathLike, net: Net, diffs: bool = False,
                       added: Added = MappingProxyType({})) -> None:
    """Write a .caffemodel.h5: a group per layer in `data`, and in `diff` if `diffs` is set.

    A shared parameter is stored only in its owner's group; its diff is stored in the groups of all sharers. The
    arguments are those of ``write_weights``.

    Source: Net::ToHDF5 (net.cpp) of RMPE@5188c23.
    """
    with h5py.File(path, "w") as file:
        groups = [file.create_group("data"), *([file.create_group("diff")] if diffs else [])]
        written: set[int] = set()
        for step in net.steps:
            layer = step.layer
            inside = [group.require_group(layer.spec.name) for group in groups]
            for i, declared in enumerate(layer.declared):
                value = getattr(layer, declared.name)
                own = id(value) not in written
                written.add(id(value))
                if own:
                    inside[0].create_dataset(str(i), data=_array(value).reshape(declared.shape))
                if diffs:  # a sharer's diff is stored, too
                    inside[1].create_dataset(str(i), data=_array(_diff(value)).reshape(declared.shape))
            for i, array in enumerate(added.get(layer.spec.name, ()), len(layer.declared)):
                inside[0].create_dataset(str(i), data=array)


def _definition(step: Step) -> Message:
    """A layer as Caffe's Net holds it after set-up: its phase set, and the weight of a loss."""
    spec, layer = step.layer.spec, step.layer
    changes: dict[str, object] = {"phase": spec.phase, "blobs": None}
    if spec.is_inserted:
        changes |= {"name": spec.name, "type": spec.type}
    changes |= {"bottom": list(spec.bottom) or None, "top": list(spec.top) or None}
    if spec.loss_weight or layer.is_loss:
        changes["loss_weight"] = list(spec.loss_weight) or [1.0]
    return spec.message.replace(**changes)


def _trained(net: Net, diffs: bool, added: Added) -> Iterator[TrainedLayer]:
    for step in net.steps:
        layer = step.layer
        blobs = [_blob(getattr(layer, declared.name), declared.shape, diffs) for declared in layer.declared]
        blobs += [StoredBlob(array.shape, array.reshape(-1)) for array in added.get(layer.spec.name, ())]
        yield TrainedLayer(layer.spec.name, layer.spec.type, tuple(blobs))


def _blob(value: Tensor, shape: tuple[int, ...], diffs: bool) -> StoredBlob:
    diff = _array(_diff(value)).reshape(-1) if diffs else None
    return StoredBlob(shape, _array(value).reshape(-1), diff=diff)


def _diff(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy()


def stored_blobs(values: Iterable[Tensor]) -> tuple[StoredBlob, ...]:
    """Convert tensors of any shape, such as a solver's history, to blobs that a file can store."""
    return tuple(StoredBlob(tuple(value.shape), _array(value).reshape(-1)) for value in values)
