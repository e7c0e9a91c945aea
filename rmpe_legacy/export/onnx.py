"""Writes a network as ONNX, in standard operators; blobs and weights keep their names."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

import rmpe_legacy
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import LayerError
from rmpe_legacy.optional import optional
from rmpe_legacy.wording import utf8

from .emit import ONNX, OnnxContext
from .fold import drop_copies, fold_affine
from .graph import Graph, Node, make_graph
from .onnx_graph import OnnxGraph, same_bits
from .onnx_model import OnnxModel, check_size
from .onnx_passes import simplify
from .refusals import refuse_unsupported, with_advice

BLOB_NAMES = "rmpe_legacy.blobs"  # key of an ONNX file's metadata: value -> blob, as JSON, where they differ


def to_onnx(net: Net, until: Sequence[str] = (), about: str = "", fold: bool = True,
            dynamic: Collection[str] | None = None) -> tuple[Any, Graph]:
    """Convert a network to ONNX. The batch can have any size, unless `graph.why_fixed` gives a reason.

    Args:
        net: A network in phase TEST.
        until: The blobs to compute (default: the network's outputs).
        about: Text for the model's doc string.
        fold: Write per-channel scales and shifts into the weights before them, leave out layers that change nothing,
            and join reshapes and transposes. False keeps a node, and each blob, for every layer.
        dynamic: Which of "batch", "height" and "width" of the inputs can have any size; no others can. Run the file
            for the sizes `graph.compared_at` too before trusting it, as ``rmpe convert`` does. None: the batch alone,
            where possible.

    Returns:
        The onnx.ModelProto, and the graph it was made from.

    Raises:
        NetError: Layers have types without an ONNX emitter, or `until` names unknown blobs.
        LayerError: A layer uses a feature that ONNX or its emitter does not support, or fits one size of an axis of
            `dynamic` only.
    """
    model, graph = light_onnx(net, until, about, fold, dynamic)
    return model.whole(), graph


def light_onnx(net: Net, until: Sequence[str] = (), about: str = "", fold: bool = True,
               dynamic: Collection[str] | None = None) -> tuple[OnnxModel, Graph]:
    """Do what ``to_onnx`` does, without a copy of the weights, which may be the network's own."""
    optional("onnx", "writing ONNX files")
    graph = _graph(net, until, fold, dynamic=dynamic)
    refuse_unsupported(graph, ONNX, "ONNX")
    built = _build(graph)
    if graph.elsewhere is not None:
        _refuse_own_sizes(built, _build(graph.elsewhere))
    if built.batch_fixed_by:
        graph = _graph(net, until, fold, built.batch_fixed_by)
        built = _build(graph)
    if fold:
        simplify(built)
        made = {name for node in built.nodes for name in node.output} | {value.name for value in graph.inputs}
        graph = replace(graph, final={blob: value for blob, value in graph.final.items() if value.name in made})
    model = built.model("rmpe_legacy", rmpe_legacy.__version__, about)
    if renamed := _renamed(graph):
        model.light.metadata_props.add(key=BLOB_NAMES, value=json.dumps(renamed))
    return model, graph


def _graph(net: Net, until: Sequence[str], fold: bool, fixed: str = "", dynamic: Collection[str] | None = None
           ) -> Graph:
    graph = make_graph(net, until, fixed, dynamic)
    return _folded(graph) if fold else graph


def _folded(graph: Graph) -> Graph:
    elsewhere = None if graph.elsewhere is None else _folded(graph.elsewhere)
    return replace(fold_affine(drop_copies(graph)), elsewhere=elsewhere)


def _refuse_own_sizes(built: OnnxGraph, elsewhere: OnnxGraph) -> None:
    """Raise LayerError for the first layer that is not written in the same way for other sizes of the inputs.

    What an emitter takes from the sizes in the prototxt would be wrong for others. Comparing what is written for two
    sizes finds that, whichever emitter does it.
    """
    for node, other, layer in zip_longest(built.nodes, elsewhere.nodes, built.made_by):
        if node is None or other is None or node != other or not all(
                _same_constant(built, elsewhere, name) for name in node.input):
            layer = layer or next(each for each in (*reversed(built.made_by), *elsewhere.made_by) if each is not None)
            raise built.graph.refuse_dynamic(layer, "what it computes depends on the sizes in the prototxt")


def _same_constant(one: OnnxGraph, other: OnnxGraph, name: str) -> bool:
    """Return whether two graphs have the same initializer of a name, or none."""
    if name in one.initializers and name in other.initializers:
        return same_bits(one.initializers[name], other.initializers[name])
    return name not in one.initializers and name not in other.initializers


def write_onnx(path: str | PathLike, model: Any) -> None:
    """Write the file.

    Raises:
        FileError: The model exceeds the size limit of ONNX files, or the file cannot be written.
    """
    check_size(path, model.ByteSize())
    Path(path).write_bytes(model.SerializeToString())


def _renamed(graph: Graph) -> dict[str, str]:
    """Return value -> blob where the names differ: a blob that overwrites an input, or a name ONNX cannot hold."""
    finals = {value.name: blob for blob, value in graph.final.items() if value.name != blob}
    return finals | {value.name: value.blob for value in graph.inputs if value.name != value.blob}


def _build(graph: Graph) -> OnnxGraph:
    built = OnnxGraph(graph)
    for node in graph.nodes:
        _emit(built, node)
    return built


def _emit(built: OnnxGraph, node: Node) -> None:
    """Add one layer's nodes. Raises LayerError for a feature that ONNX or its emitter does not support."""
    if node.layer is None:
        built.layer, built.now = node.top[0].name, None
        built.reshape(node.bottom[0].name, node.bottom[0].shape, node.top[0].shape, node.top[0].name)
        return
    built.layer, built.now = utf8(node.layer.spec.name) or "unnamed", node.layer
    try:
        ONNX[node.layer.written_as](OnnxContext(
            node.layer, tuple(v.name for v in node.bottom), tuple(v.shape for v in node.bottom),
            tuple(v.shape for v in node.top), built, tuple(v.name for v in node.top)))
    except LayerError as error:
        raise with_advice(built.graph, node.layer, error) from None
