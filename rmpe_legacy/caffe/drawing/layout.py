"""Where boxes and arrows lie: by graphviz's ``dot`` where it is installed, else in layers found by networkx."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.optional import optional

from .graph import NetworkGraph, box_lines

if TYPE_CHECKING:
    import networkx as nx

CHARACTER, LINE = 6.6, 15.0  # px of a character and a line of 11 px text
PADDING, GAP_X, GAP_Y, LANE = 8.0, 26.0, 34.0, 14.0  # px; LANE: the width that an arrow gets where it passes boxes
_SWEEPS = 8  # of ordering and of straightening; more change little
_DOT_SECONDS = 120
_INCH = 72.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Pixels from the upper left corner."""

    width: float
    height: float
    boxes: list[tuple[float, float, float, float]]  # left, top, width, height
    paths: list[list[Point]]  # of each edge, from the box above to the one below
    curved: bool = False  # paths are control points of cubic Bezier curves, 1 + 3 n, not corners of a line


def box_size(lines: Sequence[str]) -> tuple[float, float]:
    """Width and height of a box with these lines of text."""
    return CHARACTER * max(map(len, lines)) + 2 * PADDING, LINE * len(lines) + 2 * PADDING


def lay_out(graph: NetworkGraph) -> Layout:
    """Boxes from top to bottom in the order of the data."""
    sizes = [box_size(box_lines(box)) for box in graph.boxes]
    dot = shutil.which("dot")
    return _by_dot(dot, graph, sizes) if dot else _by_layers(graph, sizes)


# --- graphviz ----------------------------------------------------------------------------------------------------


def dot_source(graph: NetworkGraph, sizes: Sequence[tuple[float, float]]) -> str:
    """Return the graph in DOT. Boxes are named b0, b1, ..., so that no name from a file gets into it."""
    lines = ["digraph net {", '  node [shape=box, fixedsize=true, label=""];', "  edge [dir=none];"]
    lines += [f"  b{i} [width={w / _INCH:.4f}, height={h / _INCH:.4f}];" for i, (w, h) in enumerate(sizes)]
    lines += [f"  b{a} -> b{b};" for a, b, _ in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _by_dot(dot: str, graph: NetworkGraph, sizes: Sequence[tuple[float, float]]) -> Layout:
    try:
        run = subprocess.run([dot, "-Tplain"], input=dot_source(graph, sizes), capture_output=True, text=True,
                             timeout=_DOT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RmpeError(f"graphviz's {dot} cannot be run: {error}; take it off PATH to draw without it") from None
    if run.returncode:
        reason = run.stderr.strip().splitlines()
        raise RmpeError(f"graphviz's {dot} failed: {reason[0] if reason else run.returncode}; take it off PATH to draw "
                        "without it")
    return parse_plain(run.stdout, graph, sizes)


def parse_plain(text: str, graph: NetworkGraph, sizes: Sequence[tuple[float, float]]) -> Layout:
    """The layout in graphviz's plain format: inches, y upwards, splines of control points."""
    width = height = 0.0
    boxes = [(0.0, 0.0, *size) for size in sizes]
    splines: dict[tuple[int, int], list[list[Point]]] = {}
    for line in text.splitlines():
        kind, *words = shlex.split(line)
        if kind == "graph":
            width, height = (float(word) * _INCH for word in words[1:3])
        elif kind == "node":
            i, x, y = int(words[0][1:]), *(float(word) * _INCH for word in words[1:3])
            boxes[i] = (x - sizes[i][0] / 2, height - y - sizes[i][1] / 2, *sizes[i])
        elif kind == "edge":
            points = [float(word) * _INCH for word in words[3 : 3 + 2 * int(words[2])]]
            path = [(x, height - y) for x, y in zip(points[::2], points[1::2], strict=True)]
            splines.setdefault((int(words[0][1:]), int(words[1][1:])), []).append(path)
    return Layout(width, height, boxes, [splines[a, b].pop(0) for a, b, _ in graph.edges], curved=True)


# --- layers ------------------------------------------------------------------------------------------------------


def _by_layers(graph: NetworkGraph, sizes: Sequence[tuple[float, float]]) -> Layout:
    """Each box one layer below the lowest box that it depends on; an arrow over several layers gets a lane in each."""
    net, lanes = _with_lanes(graph)
    layers = _ordered_layers(net)
    width = {node: sizes[node][0] if isinstance(node, int) else LANE for node in net}
    center = _straightened(net, layers, width)
    top, tops = PADDING, []
    for layer in layers:
        tops.append(top)
        top += max((sizes[node][1] for node in layer if isinstance(node, int)), default=0) + GAP_Y
    left = min((center[node] - width[node] / 2 for node in net), default=0) - PADDING
    right = max((center[node] + width[node] / 2 for node in net), default=0) + PADDING
    place = {node: (center[node] - left, tops[depth]) for depth, layer in enumerate(layers) for node in layer}
    boxes = [(place[i][0] - w / 2, place[i][1], w, h) for i, (w, h) in enumerate(sizes)]
    depth_of = {node: depth for depth, layer in enumerate(layers) for node in layer}
    heights = [tops[depth + 1] - tops[depth] - GAP_Y if depth + 1 < len(tops) else 0 for depth in range(len(tops))]
    paths = []
    for (a, b, _), passed in zip(graph.edges, lanes, strict=True):
        path = [(place[a][0], boxes[a][1] + boxes[a][3])]
        for lane in passed:
            x, y = place[lane]
            path += [(x, y), (x, y + heights[depth_of[lane]])]
        paths.append([*path, (place[b][0], boxes[b][1])])
    return Layout(right - left, top - GAP_Y + PADDING, boxes, paths)


def _with_lanes(graph: NetworkGraph) -> tuple[nx.DiGraph, list[list[tuple]]]:
    """The boxes with their layers, and lanes for arrows that pass layers: nodes of their own, (edge, layer)."""
    nx = optional("networkx", "drawing a network without graphviz")
    net = nx.DiGraph()
    net.add_nodes_from(range(len(graph.boxes)))
    net.add_edges_from((a, b) for a, b, _ in graph.edges)
    depth = {node: i for i, layer in enumerate(nx.topological_generations(net)) for node in layer}
    nx.set_node_attributes(net, depth, "depth")
    lanes = []
    for number, (a, b, _) in enumerate(graph.edges):
        passed = [(number, layer) for layer in range(depth[a] + 1, depth[b])]
        if passed:
            for lane in passed:
                net.add_node(lane, depth=lane[1])
            net.add_edges_from(pairwise([a, *passed, b]))
            if net.has_edge(a, b):
                net.remove_edge(a, b)
        lanes.append(passed)
    return net, lanes


def _ordered_layers(net: nx.DiGraph) -> list[list]:
    """The nodes of each layer from left to right, so that few arrows cross: by the mean place of their neighbours."""
    layers: dict[int, list] = {}
    for node, depth in net.nodes(data="depth"):
        layers.setdefault(depth, []).append(node)
    ordered = [layers[depth] for depth in sorted(layers)]
    for sweep in range(_SWEEPS):
        neighbours = net.predecessors if sweep % 2 == 0 else net.successors
        place = {node: i for layer in ordered for i, node in enumerate(layer)}
        for layer in ordered if sweep % 2 == 0 else reversed(ordered):
            layer.sort(key=lambda node: _mean([place[n] for n in neighbours(node)], place[node]))
            place |= {node: i for i, node in enumerate(layer)}
    return ordered


def _straightened(net: nx.DiGraph, layers: Sequence[Sequence], width: dict) -> dict:
    """x of each node's middle: near its neighbours' as far as the order and the widths leave room."""
    center: dict = {}
    for layer in layers:
        center |= _spread([(node, 0.0) for node in layer], width)
    for sweep in range(_SWEEPS):
        neighbours = net.predecessors if sweep % 2 == 0 else net.successors
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            center |= _spread([(node, _mean([center[n] for n in neighbours(node)], center[node])) for node in layer],
                              width)
    return center


def _spread(wanted: Sequence[tuple[object, float]], width: dict) -> dict:
    """Places as near to the wanted ones as the order allows, without overlap: neighbours that collide share the move.

    Runs of colliding nodes are kept as blocks whose place is the mean of what their members want.
    """
    blocks: list[tuple[float, int, list[tuple[object, float]]]] = []  # sum of wishes, count, members with offsets
    for node, x in wanted:
        total, count, members = x, 1, [(node, 0.0)]
        while blocks:
            before_total, before_count, before = blocks[-1]
            last, offset = before[-1]
            step = (width[last] + width[members[0][0]]) / 2 + GAP_X
            if total / count >= before_total / before_count + offset + step:
                break
            blocks.pop()
            shift = offset + step
            total, count = before_total + total - count * shift, before_count + count
            members = before + [(each, own + shift) for each, own in members]
        blocks.append((total, count, members))
    return {node: total / count + offset for total, count, members in blocks for node, offset in members}


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
