"""``caffe.draw``: a NetParameter as an image: SVG, PNG or JPEG, or as text for Graphviz.

Source of the labels and colours: python/caffe/draw.py of BVLC/caffe@9b89154.
Differs: the layout is our own, in ranks by the longest way from an input; Graphviz and pydot are not needed.
"""

from __future__ import annotations

from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import whole_file
from rmpe_legacy.wording import shorten

from .draw_files import Graph, Node, to_dot, to_image, to_svg
from .proto import caffe_pb2

_MAX_LABEL = 60  # characters of one line
_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_OTHER, _IN_PLACE, _BLOB = "#6495ED", "#90EE90", "#E0E0E0"
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")


# --- labels ---------------------------------------------------------------------------------------------------------


def get_pooling_types_dict() -> dict[int, str]:
    """Return the names of the pooling methods by number."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: Any) -> str:
    """Return the label of the edge from a layer to its top: the batch size, or the number of outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    return str(layer.inner_product_param.num_output) if layer.type == "InnerProduct" else '""'


def get_layer_lr_mult(layer: Any) -> tuple[float, float]:
    """Return the lr_mult of a layer's weights and of its bias.

    Raises:
        DrawError: The layer's type has none, or the layer does not have two; also a ValueError, as in pycaffe.
    """
    if layer.type not in _LEARNING:
        raise DrawError(f"{shorten(layer.name)}: a {shorten(layer.type)} layer has no learning rate multiplier")
    given = [param.lr_mult for param in layer.param]
    if len(given) > 2:
        raise DrawError(f"{shorten(layer.name)}: has {len(given)} learning rate multipliers; 2 are expected")
    weight, bias = (*given, 1.0, 1.0)[:2]
    return weight, bias


class DrawError(RmpeError, ValueError):
    """A layer lacks the requested value, or has contradictory rules."""


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:
    """Return the text in a layer's box, in quotes; its lines are separated by blanks if the graph runs down or up."""
    return f'"{(" " if rankdir in ("TB", "BT") else chr(92) + "n").join(_layer_lines(layer, display_lrm))}"'


def _layer_lines(layer: Any, display_lrm: bool) -> list[str]:
    method = f" {get_pooling_types_dict()[layer.pooling_param.pool]}" if layer.type == "Pooling" else ""
    lines = [layer.name, f"({layer.type}{method})"]
    if layer.type == "Pooling":
        own = layer.pooling_param
        lines += [f"kernel size: {own.kernel_size}", f"stride: {own.stride}", f"pad: {own.pad}"]
    elif layer.type in ("Convolution", "Deconvolution"):
        own = layer.convolution_param
        sizes = {"kernel size": [*own.kernel_size, 1], "stride": [*own.stride, 1], "pad": [*own.pad, 0]}
        lines += [f"{name}: {values[0]}" for name, values in sizes.items()]
    if display_lrm and layer.type in _LEARNING and any(multipliers := get_layer_lr_mult(layer)):
        lines.append("lr mult: " + ", ".join(f"{value:.1f}" for value in multipliers))
    return lines


def choose_color_by_layertype(layertype: str) -> str:
    """Return the colour of a layer's box as #RRGGBB."""
    return _COLORS.get(layertype, _OTHER)


# --- graph ----------------------------------------------------------------------------------------------------------


def _graph(net: Any, rankdir: str, label_edges: bool, phase: int | None, display_lrm: bool) -> Graph:
    if rankdir not in ("LR", "TB", "BT", "RL"):
        raise RmpeError(f"rankdir must be LR, RL, TB or BT, not {rankdir!r}")
    graph = Graph(net.name or "Net", rankdir)
    depth: Counter[str] = Counter()  # blob -> the rank of the layer that wrote it last
    for i, layer in enumerate(layer for layer in net.layer if _included(layer, phase)):
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        rank = max((depth[blob] + 1 for blob in layer.bottom), default=0)
        color = _IN_PLACE if in_place else choose_color_by_layertype(layer.type)
        lines = [shorten(line, _MAX_LABEL) for line in _layer_lines(layer, display_lrm)]
        graph.nodes[f"layer {i}"] = Node(lines, color, rank)
        for blob in layer.bottom:
            graph.nodes.setdefault(f"blob {blob}", Node([shorten(blob, _MAX_LABEL)], _BLOB, 0, is_blob=True))
            graph.edges.append((f"blob {blob}", f"layer {i}", ""))
        for blob in layer.top:
            depth[blob] = rank if in_place else rank + 1
            graph.nodes.setdefault(f"blob {blob}", Node([shorten(blob, _MAX_LABEL)], _BLOB, rank + 1, is_blob=True))
            graph.edges.append((f"layer {i}", f"blob {blob}", get_edge_label(layer).strip('"') if label_edges else ""))
    graph.lay_out()
    return graph


def _included(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise DrawError(f"{shorten(layer.name)}: has include rules and exclude rules; keep one kind")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


# --- drawing ------------------------------------------------------------------------------------------------------


def draw_net(caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None,
             display_lrm: bool = False) -> bytes:
    """Draw a network as the content of an image file.

    Args:
        caffe_net: A NetParameter.
        rankdir: The direction of the graph: "LR", "RL", "TB" or "BT".
        ext: The kind of file: "svg", "png", "jpg", or "dot" ("raw") for Graphviz's text.
        phase: caffe.TRAIN or caffe.TEST to leave out the layers of the other phase; None keeps all.
        display_lrm: Show the learning rate multipliers.

    Raises:
        RmpeError: The kind of file is unknown, or the image would be too large.
    """
    graph = _graph(caffe_net, rankdir, True, phase, display_lrm)
    if ext in ("dot", "raw"):
        return to_dot(graph).encode()
    if ext == "svg":
        return to_svg(graph).encode()
    if ext in ("png", "jpg", "jpeg"):
        return to_image(graph, ext)
    raise RmpeError(f"a network cannot be drawn as {shorten(str(ext))!r}; choose svg, png, jpg or dot")


def draw_net_to_file(caffe_net: Any, filename: str | PathLike, rankdir: str = "LR", phase: int | None = None,
                     display_lrm: bool = False) -> None:
    """Draw a network into a file, whose suffix selects the format; arguments and errors as for ``draw_net``."""
    content = draw_net(caffe_net, rankdir, Path(filename).suffix.lstrip("."), phase, display_lrm)
    with whole_file(filename) as file:
        file.write(content)


def get_pydot_graph(caffe_net: Any, rankdir: str, label_edges: bool = True, phase: int | None = None,
                    display_lrm: bool = False) -> Any:
    """Return the network as a graph of pydot.

    Raises:
        RmpeError: pydot is not installed.
    """
    try:
        import pydot
    except ImportError:
        raise RmpeError("get_pydot_graph needs pydot, which is not installed; draw_net draws without it") from None
    return pydot.graph_from_dot_data(to_dot(_graph(caffe_net, rankdir, label_edges, phase, display_lrm)))[0]
