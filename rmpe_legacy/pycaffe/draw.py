"""``caffe.draw``: a NetParameter as an image: SVG, PNG or JPEG, or as text for Graphviz.

Source of the labels and colours: python/caffe/draw.py of BVLC/caffe@9b89154.
Differs: the layout is our own, in ranks by the longest way from an input; Graphviz and pydot are not needed.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import whole_file
from rmpe_legacy.wording import printable, shorten

from .proto import caffe_pb2

MAX_PIXELS = 60_000_000  # of a PNG or JPEG
_MAX_LABEL = 60  # characters of one line
_LINE, _CHARACTER, _MARGIN, _GAP = 16, 7, 10, 40  # pixels
_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_OTHER, _IN_PLACE, _BLOB = "#6495ED", "#90EE90", "#E0E0E0"
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")


@dataclass
class _Node:
    lines: list[str]
    color: str
    rank: int
    box: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, width, height

    @property
    def size(self) -> tuple[int, int]:
        width = max(map(len, self.lines)) * _CHARACTER + 2 * _MARGIN
        return width, len(self.lines) * _LINE + 2 * _MARGIN


@dataclass
class _Graph:
    name: str
    nodes: dict[str, _Node] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)  # from, to, label

    @property
    def size(self) -> tuple[int, int]:
        boxes = [node.box for node in self.nodes.values()] or [(0, 0, 0, 0)]
        return max(x + w for x, _, w, _ in boxes) + _GAP, max(y + h for _, y, _, h in boxes) + _GAP


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


def _graph(net: Any, rankdir: str, label_edges: bool, phase: int | None, display_lrm: bool) -> _Graph:
    if rankdir not in ("LR", "TB", "BT", "RL"):
        raise RmpeError(f"rankdir must be LR, RL, TB or BT, not {rankdir!r}")
    graph = _Graph(net.name or "Net")
    depth: Counter[str] = Counter()  # blob -> the rank of the layer that wrote it last
    for i, layer in enumerate(layer for layer in net.layer if _included(layer, phase)):
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        rank = max((depth[blob] + 1 for blob in layer.bottom), default=0)
        color = _IN_PLACE if in_place else choose_color_by_layertype(layer.type)
        lines = [shorten(line, _MAX_LABEL) for line in _layer_lines(layer, display_lrm)]
        graph.nodes[f"layer {i}"] = _Node(lines, color, rank)
        for blob in layer.bottom:
            graph.nodes.setdefault(f"blob {blob}", _Node([shorten(blob, _MAX_LABEL)], _BLOB, 0))
            graph.edges.append((f"blob {blob}", f"layer {i}", ""))
        for blob in layer.top:
            depth[blob] = rank if in_place else rank + 1
            graph.nodes.setdefault(f"blob {blob}", _Node([shorten(blob, _MAX_LABEL)], _BLOB, rank + 1))
            graph.edges.append((f"layer {i}", f"blob {blob}", get_edge_label(layer).strip('"') if label_edges else ""))
    _lay_out(list(graph.nodes.values()), rankdir)
    return graph


def _included(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise DrawError(f"{shorten(layer.name)}: has include rules and exclude rules; keep one kind")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def _lay_out(nodes: Sequence[_Node], rankdir: str) -> None:
    """Set each node's box: ranks in sequence, the nodes of a rank side by side."""
    across = rankdir in ("LR", "RL")
    ranks: dict[int, list[_Node]] = {}
    for node in nodes:
        ranks.setdefault(node.rank, []).append(node)
    position = _GAP
    for rank in sorted(ranks, reverse=rankdir in ("RL", "BT")):
        beside, thickness = _GAP, 0
        for node in ranks[rank]:
            width, height = node.size
            node.box = (position, beside, width, height) if across else (beside, position, width, height)
            beside += (height if across else width) + _GAP
            thickness = max(thickness, width if across else height)
        position += thickness + _GAP


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
        return _dot(graph, rankdir).encode()
    if ext == "svg":
        return _svg(graph).encode()
    if ext in ("png", "jpg", "jpeg"):
        return _pixels(graph, ext)
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
    return pydot.graph_from_dot_data(_dot(_graph(caffe_net, rankdir, label_edges, phase, display_lrm), rankdir))[0]


def _dot(graph: _Graph, rankdir: str) -> str:
    def quoted(text: str) -> str:
        return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'

    names = {key: f"n{i}" for i, key in enumerate(graph.nodes)}
    lines = [f"digraph {quoted(graph.name)} {{", f"  rankdir={rankdir};"]
    for key, node in graph.nodes.items():
        shape = "octagon" if key.startswith("blob ") else "box"
        label = "\\n".join(quoted(line)[1:-1] for line in node.lines)
        lines.append(f'  {names[key]} [label="{label}", shape={shape}, style=filled, fillcolor="{node.color}"];')
    lines += [f"  {names[a]} -> {names[b]} [label={quoted(label)}];" for a, b, label in graph.edges]
    return "\n".join([*lines, "}", ""])


def _svg(graph: _Graph) -> str:
    width, height = graph.size
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" '
             'font-size="12">', f"<title>{_text(graph.name)}</title>"]
    for (x1, y1), (x2, y2), label in _lines(graph):
        parts.append(f'<path d="M{x1} {y1} L{x2} {y2}" stroke="#555"/>')
        if label:
            parts.append(f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 3}" fill="#555">{_text(label)}</text>')
    for key, node in graph.nodes.items():
        x, y, w, h = node.box
        corner = h // 3 if key.startswith("blob ") else 2
        parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{corner}" fill="{node.color}" '
                     'stroke="#000"/>')
        parts += [f'<text x="{x + _MARGIN}" y="{y + _MARGIN + _LINE * i + 12}">{_text(line)}</text>'
                  for i, line in enumerate(node.lines)]
    return "\n".join([*parts, "</svg>", ""])


def _text(text: str) -> str:
    return html.escape(printable(text))


def _pixels(graph: _Graph, ext: str) -> bytes:
    import cv2

    width, height = graph.size
    if width * height > MAX_PIXELS:
        raise RmpeError(f"an image of {width} x {height} pixels is too large to draw; choose svg")
    canvas = np.full((height, width, 3), 255, np.uint8)
    for start, end, label in _lines(graph):
        cv2.line(canvas, start, end, (85, 85, 85), 1, cv2.LINE_AA)
        if label:
            _write(canvas, label, ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2 - 3))
    for node in graph.nodes.values():
        x, y, w, h = node.box
        color = tuple(int(node.color[i:i + 2], 16) for i in (5, 3, 1))  # blue, green, red
        cv2.rectangle(canvas, (x, y), (x + w, y + h), color, cv2.FILLED)
        cv2.rectangle(canvas, (x, y), (x + w, y + h), (0, 0, 0), 1)
        for i, line in enumerate(node.lines):
            _write(canvas, line, (x + _MARGIN, y + _MARGIN + _LINE * i + 12))
    return cv2.imencode(f".{ext}", canvas)[1].tobytes()


def _write(canvas: np.ndarray, text: str, place: tuple[int, int]) -> None:
    import cv2

    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)


def _lines(graph: _Graph) -> Iterable[tuple[tuple[int, int], tuple[int, int], str]]:
    """The edges from the middle of one box to that of the other."""
    for a, b, label in graph.edges:
        (x1, y1, w1, h1), (x2, y2, w2, h2) = graph.nodes[a].box, graph.nodes[b].box
        yield (x1 + w1 // 2, y1 + h1 // 2), (x2 + w2 // 2, y2 + h2 // 2), label
