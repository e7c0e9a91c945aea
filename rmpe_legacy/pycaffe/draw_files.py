"""The graph that ``caffe.draw`` draws, laid out in ranks, and its files: SVG, PNG or JPEG, and Graphviz's text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rmpe_legacy.caffe.drawing.markup import document, quoted, rectangle, text
from rmpe_legacy.errors import RmpeError

MAX_PIXELS, MAX_SIDE = 60_000_000, 65_500  # of a PNG or JPEG; OpenCV writes no longer side of a JPEG
LINE, CHARACTER, MARGIN, GAP = 16, 7, 10, 40  # pixels
_GREY = "#555555"


@dataclass
class Node:
    """A layer or a blob."""

    lines: list[str]
    color: str  # #RRGGBB
    rank: int
    is_blob: bool = False
    box: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, width, height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return max(map(len, self.lines)) * CHARACTER + 2 * MARGIN, len(self.lines) * LINE + 2 * MARGIN

    def line_places(self) -> Iterable[tuple[str, tuple[int, int]]]:
        """Return each line of text, and where its baseline starts."""
        x, y = self.box[:2]
        return ((line, (x + MARGIN, y + MARGIN + LINE * i + 12)) for i, line in enumerate(self.lines))


@dataclass
class Graph:
    """Layers and blobs by key, and the edges between them."""

    name: str
    rankdir: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)  # from, to, label

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        boxes = [node.box for node in self.nodes.values()] or [(0, 0, 0, 0)]
        return max(x + w for x, _, w, _ in boxes) + GAP, max(y + h for _, y, _, h in boxes) + GAP

    def lay_out(self) -> None:
        """Set each node's box: one rank after the other along `rankdir`, the nodes of a rank side by side."""
        across = self.rankdir in ("LR", "RL")
        ranks: dict[int, list[Node]] = {}
        for node in self.nodes.values():
            ranks.setdefault(node.rank, []).append(node)
        position = GAP
        for rank in sorted(ranks, reverse=self.rankdir in ("RL", "BT")):
            beside, thickness = GAP, 0
            for node in ranks[rank]:
                width, height = node.size
                node.box = (position, beside, width, height) if across else (beside, position, width, height)
                beside += (height if across else width) + GAP
                thickness = max(thickness, width if across else height)
            position += thickness + GAP

    def lines(self) -> Iterable[tuple[tuple[int, int], tuple[int, int], str]]:
        """Return each edge as a line between the centres of two boxes, with its label."""
        for a, b, label in self.edges:
            (x1, y1, w1, h1), (x2, y2, w2, h2) = self.nodes[a].box, self.nodes[b].box
            yield (x1 + w1 // 2, y1 + h1 // 2), (x2 + w2 // 2, y2 + h2 // 2), label


def to_dot(graph: Graph) -> str:
    """Return the graph in the DOT language."""
    names = {key: f"n{i}" for i, key in enumerate(graph.nodes)}
    lines = [f"digraph {quoted(graph.name)} {{", f"  rankdir={graph.rankdir};"]
    for key, node in graph.nodes.items():
        shape = "octagon" if node.is_blob else "box"
        label = "\\n".join(quoted(line)[1:-1] for line in node.lines)
        lines.append(f'  {names[key]} [label="{label}", shape={shape}, style=filled, fillcolor="{node.color}"];')
    lines += [f"  {names[a]} -> {names[b]} [label={quoted(label)}];" for a, b, label in graph.edges]
    return "\n".join([*lines, "}", ""])


def to_svg(graph: Graph) -> str:
    """Return the laid-out graph as SVG."""
    return document(*graph.size, "monospace", 12, graph.name, _svg_elements(graph))


def _svg_elements(graph: Graph) -> Iterable[str]:
    for start, end, label in graph.lines():
        yield f'<path d="M{start[0]} {start[1]} L{end[0]} {end[1]}" stroke="{_GREY}"/>'
        if label:
            yield text(*_label_place(start, end), label, f'fill="{_GREY}"')
    for node in graph.nodes.values():
        yield rectangle(node.box, node.box[3] // 3 if node.is_blob else 2, node.color, "#000000")
        yield from (text(*place, line) for line, place in node.line_places())


def to_image(graph: Graph, suffix: str) -> bytes:
    """Return the laid-out graph as an image file; `suffix` is png, jpg or jpeg.

    Raises:
        RmpeError: The image would have more than MAX_PIXELS, or a side longer than MAX_SIDE.
    """
    import cv2

    width, height = graph.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise RmpeError(f"an image of {width} x {height} pixels is too large to draw; choose svg")
    canvas = np.full((height, width, 3), 255, np.uint8)
    for start, end, label in graph.lines():
        cv2.line(canvas, start, end, _bgr(_GREY), 1, cv2.LINE_AA)
        if label:
            _write(canvas, label, _label_place(start, end))
    for node in graph.nodes.values():
        x, y, w, h = node.box
        cv2.rectangle(canvas, (x, y), (x + w, y + h), _bgr(node.color), cv2.FILLED)
        cv2.rectangle(canvas, (x, y), (x + w, y + h), (0, 0, 0), 1)
        for line, place in node.line_places():
            _write(canvas, line, place)
    return cv2.imencode(f".{suffix}", canvas)[1].tobytes()


def _label_place(start: tuple[int, int], end: tuple[int, int]) -> tuple[int, int]:
    return (start[0] + end[0]) // 2, (start[1] + end[1]) // 2 - 3


def _bgr(color: str) -> tuple[int, ...]:
    return tuple(int(color[i:i + 2], 16) for i in (5, 3, 1))


def _write(canvas: np.ndarray, words: str, place: tuple[int, int]) -> None:
    import cv2

    cv2.putText(canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
