"""Errors about layers that cannot be written, with what to do instead."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.uncomputed import Uncomputed
from rmpe_legacy.errors import LayerError, NetError

from .graph import Graph, Value

MOST = 6  # blobs that the advice names


def refuse_unsupported(graph: Graph, types: Container[str], target: str) -> None:
    """Raise a NetError that lists every layer of a type outside `types`, the types with an emitter for `target`."""
    layers = [node.layer for node in graph.nodes if node.layer is not None
              and (node.layer.not_exportable or node.layer.written_as not in types)]
    if layers:
        what = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
        raise NetError("\n  ".join([f"{what} cannot be converted to {target}:", *(
            str(layer.spec.error(layer.not_exportable or "has no emitter")) for layer in layers)])
            + f"\n{_advice(graph, layers)}")


def with_advice(graph: Graph, layer: Layer, error: LayerError) -> LayerError:
    """Return the error of a layer's emitter with what to do about it, unless it says so."""
    if "--until" in str(error):
        return error
    return layer.spec.error(f"{error.reason or error}. {_advice(graph, [layer])}")


def _advice(graph: Graph, layers: Sequence[Layer]) -> str:
    ends, computes = _ends_without(graph, layers), not any(isinstance(layer, Uncomputed) for layer in layers)
    cut = " ".join(f"--until {shlex.quote(blob)}" for blob in ends[:MOST]) + (" ..." if len(ends) > MOST else "")
    before = f"convert the layers before, with {cut}" if ends else ""
    stay = "keep PyTorch, where the whole network runs: load_net, or `rmpe forward`" if computes else ""
    text = "; or ".join(filter(None, (before, stay))) or "remove it from the prototxt"
    return text[0].upper() + text[1:]


def _ends_without(graph: Graph, layers: Sequence[Layer]) -> list[str]:
    """Return the blobs with which a network ends that has none of these layers, nor what depends on them. Inputs and
    blobs that later layers overwrite do not count."""
    lost: set[Value] = set()
    ends: dict[Value, None] = {}
    for node in graph.nodes:
        if any(node.layer is layer for layer in layers) or lost & set(node.bottom):
            ends |= dict.fromkeys(value for value in node.bottom if value not in lost)
            lost |= set(node.top)
    ends |= dict.fromkeys(value for value in graph.outputs if value not in lost)
    return list(dict.fromkeys(value.blob for value in ends
                              if value not in graph.inputs and graph.final.get(value.blob) == value))
