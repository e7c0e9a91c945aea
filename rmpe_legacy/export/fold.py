"""Passes over a graph that give the same outputs with fewer layers. Each takes a graph and returns a new one.

``fold_affine`` computes the parameters of a convolution or inner product anew, so that they include the per-channel
scales and shifts behind it; values between them no longer exist. ``drop_copies`` removes layers that change nothing.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.caffe.layers.base import Declared, Layer, Shape
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.spec import LayerSpec

from .graph import Dims, Graph, Node, Value

_STORED = ("BN=pspnet", "BN=tsn", "BN=happynear", "CuDNNBatchNorm")  # in TEST they use stored statistics


def fold_affine(graph: Graph) -> Graph:
    """Fold BatchNorm, Scale, Bias, EltwiseAffine and the forks' BN into the Convolution, Deconvolution or InnerProduct
    that they follow; what follows another layer becomes a single Scale.

    A value that is an output, or that another layer reads too, is kept, and with it the layer that computes it. The
    new parameters are computed in double precision and rounded once.
    """
    readers = count_readers(graph)
    nodes: list[Node] = []
    made: dict[Value, int] = {}  # value -> index of the node in `nodes` that computes it
    for node in graph.nodes:
        before = made.get(node.bottom[0]) if node.bottom else None
        if before is not None and readers[node.bottom[0]] == 1 and (joined := _join(graph, nodes[before], node)):
            nodes[before] = joined
            made[joined.top[0]] = before
            continue
        made |= dict.fromkeys(node.top, len(nodes))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def drop_copies(graph: Graph) -> Graph:
    """Remove layers whose top is their bottom: Dropout in TEST, Split, a Concat or Slice of one blob.

    In place, the value before such a layer takes the place of the one after it, so that the blob keeps its name.
    """
    outputs = set(graph.outputs)
    same: dict[Value, Value] = {}  # top -> the value that it is a copy of
    after: dict[Value, Value] = {}  # such a value -> its last copy in place
    nodes = []
    for node in graph.nodes:
        node = replace(node, bottom=tuple(same.get(value, value) for value in node.bottom))
        if node.layer is not None and _is_copy(node.layer, node) and not outputs & set(node.top):
            before = node.bottom[0]
            same |= dict.fromkeys(node.top, before)
            for top in node.top:
                if top.blob == before.blob and before not in {*graph.inputs, *outputs}:
                    after[before] = top
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(replace(node, bottom=tuple(after.get(value, value) for value in node.bottom),
                                              top=tuple(after.get(value, value) for value in node.top))
                                      for node in nodes))


def count_readers(graph: Graph) -> Counter[Value]:
    """Return how often each value is read; being an output counts as well."""
    return Counter(value for node in graph.nodes for value in node.bottom) + Counter(graph.outputs)


def _is_copy(layer: Layer, node: Node) -> bool:
    kind = layer.spec.type
    return (kind == "Split" or (kind == "Dropout" and not layer.drops and layer.scale == 1)
            or (kind in ("Concat", "Slice") and len(node.bottom) == len(node.top) == 1))


# --- two nodes into one -------------------------------------------------------------------------------------------


def _join(graph: Graph, first: Node, second: Node) -> Node | None:
    """Return one node that computes what two in a row do; None if they cannot be joined."""
    if first.layer is None or second.layer is None or len(first.top) != 1 or len(second.top) != 1:
        return None
    shape = second.bottom[0].shape
    affine = channel_affine(second.layer, second, shape)
    if affine is None:
        return None
    if is_foldable(first.layer, shape):
        return replace(first, layer=_scaled(first.layer, *affine), top=second.top)
    inner = channel_affine(first.layer, first, shape)
    if inner is None:
        return None
    scale, shift = inner[0] * affine[0], inner[1] * affine[0] + affine[1]
    any_size = tuple(dim if isinstance(dim, int) else 1 for dim in shape)
    return replace(first, layer=_scale_layer(second.layer, any_size, scale, shift), top=second.top)


def is_foldable(layer: Layer, top: Dims) -> bool:
    """Return whether a layer is linear with an output channel on axis 1, and does not share its weights."""
    kind = layer.spec.type
    if kind in ("Convolution", "ConvolutionDeeplab", "HoleConvolution", "Deconvolution"):
        return layer.channel_axis == 1
    return kind == "InnerProduct" and layer.lead == 1 and len(top) == 2


def channel_affine(layer: Layer, node: Node, shape: Dims) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift, (C,) float64, of a layer that computes scale * x + shift per channel; None for others."""
    channels = shape[1] if len(shape) > 1 else None
    if len(node.bottom) != 1 or len(node.top) != 1 or not isinstance(channels, int) or not _is_affine(layer, channels):
        return None
    device = next((value.device for value in layer.parameters(recurse=False)), None)
    probe = copy.copy(layer)
    probe._parameters = {name: nn.Parameter(value.detach().double(), requires_grad=False)
                         for name, value in layer.named_parameters(recurse=False)}
    zero = torch.zeros(1, channels, *[1] * (len(shape) - 2), dtype=torch.float64, device=device)
    with torch.no_grad():
        shift, total = (torch.as_tensor(probe(x)).reshape(channels) for x in (zero, zero + 1))
    scale = total - shift
    return (scale, shift) if bool(torch.isfinite(scale).all() and torch.isfinite(shift).all()) else None


def _is_affine(layer: Layer, channels: int) -> bool:
    kind, counts = layer.written_as, [value.shape.numel() for value in layer.parameters(recurse=False)]
    if kind in ("Scale", "Bias"):
        fits = all(size == 1 for size in counts) or (
            layer.at == 1 and all(size == channels and declared.shape == (channels,)
                                  for size, declared in zip(counts, layer.declared, strict=True)))
        return fits and bool(counts)
    if kind == "BatchNorm":
        return bool(layer.use_global_stats)
    if kind == "EltwiseAffine":
        return True
    if kind == "BN=segnet":
        return not layer.learn
    if kind == "BN=averaged":
        return layer.spec.phase == "TEST" and not layer.of_batch
    return kind in _STORED and layer.spec.phase == "TEST"


def _scaled(layer: Layer, scale: Tensor, shift: Tensor) -> Layer:
    """Return the layer with its output channels scaled and shifted."""
    weight, *rest = (value.detach().double() for value in layer.blobs())
    bias = rest[0] * scale + shift if rest else shift
    return _with_parameters(layer, _times(layer, weight, scale), bias)


def _times(layer: Layer, weight: Tensor, scale: Tensor) -> Tensor:
    if layer.spec.type == "Deconvolution":  # (C, num_output / group, kernel)
        group, inputs, outputs = layer.group, weight.shape[0], weight.shape[1]
        grouped = weight.view(group, inputs // group, outputs, -1) * scale.view(group, 1, outputs, 1)
        return grouped.view(weight.shape)
    if layer.spec.type == "InnerProduct" and layer.transpose:
        return weight * scale
    return weight * scale.view(-1, *[1] * (weight.dim() - 1))


def _with_parameters(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """Return a copy of a linear layer with other parameters; the layer itself does not change."""
    made = copy.copy(layer)
    own = layer.blobs()[0].dtype
    made._parameters = {"weight": nn.Parameter(weight.to(own), requires_grad=False),
                        "bias": nn.Parameter(bias.to(own), requires_grad=False)}
    if len(layer.declared) == 1:
        made.declared = [*layer.declared, Declared("bias", tuple(bias.shape), layer.declared[0].filler, True)]
        vars(made)["bias_term"] = True
    return made


def _scale_layer(last: Layer, shape: Shape, scale: Tensor, shift: Tensor) -> Layer:
    """Make a Scale layer in place of several layers in a row, the last of which gives it its name."""
    old = last.spec
    schema = load_schema(old.dialect)
    param = Message(schema["ScaleParameter"], {"bias_term": True})
    message = Message(schema["LayerParameter"], {"scale_param": param}, old.message.origin, old.message.position)
    layer = registry.create(LayerSpec(old.name, "Scale", old.bottom[:1], old.top[:1], old.phase, message, old.where))
    layer.setup(shape)
    layer.reshape(shape)
    own = next((value.dtype for value in last.parameters()), torch.get_default_dtype())
    for declared, value in zip(layer.declared, (scale, shift), strict=True):
        layer.register_parameter(declared.name, nn.Parameter(value.to(own), requires_grad=False))
    return layer


