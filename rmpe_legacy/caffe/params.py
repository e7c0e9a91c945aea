"""A network's parameters: made by their fillers or loaded, layer by layer, and shared by name.

Source: Net::AppendParam, CopyTrainedLayersFrom (net.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from rmpe_legacy.errors import NetError

from .layers.base import Layer, count, shape_text
from .proto.blobs import StoredBlob, TrainedLayer
from .step import Step

_Owners = dict[str, tuple[Layer, int]]  # the name of a shared parameter -> its first layer, and which one it is there


def make_params(steps: Sequence[Step], trained: Mapping[str, TrainedLayer] | None
                ) -> tuple[dict[str, list[nn.Parameter]], list[str]]:
    """Create, load and share the parameters of a network's layers.

    Args:
        steps: The layers.
        trained: Layers with their weights, by name; None leaves all parameters to their fillers.

    Returns:
        Layer's name -> its parameters, in the shapes that the layers declare; and the names of layers that have
        parameters which `trained` lacks.

    Raises:
        NetError: The parameters exceed the memory.
        LayerError: Weights or a shared parameter do not fit a layer.
    """
    _check_memory(step.layer for step in steps)
    owners: _Owners = {}
    params: dict[str, list[nn.Parameter]] = {}
    bare = []
    for step in steps:
        name = step.layer.spec.name
        stored = trained.get(name) if trained and name not in params else None
        made, is_bare = _params_of(step.layer, stored, owners)
        if is_bare and trained is not None:
            bare.append(name)
        if made:
            params.setdefault(name, made)
    return params, bare


def _params_of(layer: Layer, stored: TrainedLayer | None, owners: _Owners) -> tuple[list[nn.Parameter], bool]:
    """Return a layer's parameters, and whether a filler made some of them."""
    blobs = () if stored is None else stored.blobs
    made, is_bare = [], False
    for i in range(len(layer.declared)):
        owner = _owner(owners, layer, i)
        blob = blobs[i] if i < len(blobs) else None
        if stored is not None and ((blob is None and owner is None) or len(blobs) > len(layer.declared)):
            raise layer.spec.error(f"has {len(layer.declared)} parameters, but {len(blobs)} in the weights; load the "
                                   "weights of this network, or rename the layer")
        if owner is None:
            made.append(layer.make(i, blob))
            is_bare |= blob is None and i >= len(layer.spec.message.blobs)
        else:
            made.append(_share(owner, layer, i, blob))
    return made, is_bare


def _owner(owners: _Owners, layer: Layer, index: int) -> tuple[Layer, int] | None:
    """Return the parameter that this one shares by name; None if it has no name or is the first of its name."""
    params = layer.spec.params
    name = params[index].name if index < len(params) else ""
    if not name:
        return None
    if name in owners:
        return owners[name]
    owners[name] = (layer, index)
    return None


def _check_memory(layers: Iterable[Layer]) -> None:
    """Raise before allocating if the parameters exceed available memory."""
    total = sum(4 * count(declared.shape) for layer in layers for declared in layer.declared)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
        raise NetError(f"the network's parameters take {total / 2**30:.1f} GiB, but this machine has "
                       f"{memory / 2**30:.1f}; check num_output and the input's size")


def _share(owner: tuple[Layer, int], layer: Layer, index: int, stored: StoredBlob | None) -> nn.Parameter:
    """Share another layer's parameter, after Caffe's check of the shapes."""
    other, i = owner
    mine, theirs = layer.declared[index], other.declared[i]
    permissive = layer.spec.params[index].share_mode == "PERMISSIVE"
    if count(mine.shape) != count(theirs.shape) if permissive else mine.shape != theirs.shape:
        hint = "the counts differ" if permissive else "share_mode: PERMISSIVE requires only equal counts"
        raise layer.spec.error(f"cannot share {layer.spec.params[index].name!r}: {other.spec.name} has it as "
                               f"{shape_text(theirs.shape)}, but this layer needs {shape_text(mine.shape)}; {hint}")
    param = getattr(other, theirs.name)
    if stored is not None:
        values = layer.make(index, stored)  # also checks the shape
        param.data.copy_(values.data.view(theirs.shape))
    layer.register_parameter(mine.name, param)
    return param
