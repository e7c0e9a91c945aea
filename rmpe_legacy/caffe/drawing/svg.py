"""A laid-out network as SVG: text stays text, boxes have tooltips with all their parameters."""

from __future__ import annotations

from collections.abc import Iterator

from rmpe_legacy.wording import html_text

from .graph import Box, NetworkGraph, box_lines, box_title
from .layout import LINE, PADDING, Layout
from .markup import document, rectangle, text

HEAD = 26  # px above the drawing, for its title
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
# Fill by what a layer does; text on each of them has a contrast of more than 7.
_FILLS = (
    ("#dcebfa", ("Convolution", "Deconvolution", "InnerProduct", "Embed", "LSTM", "RNN")),
    ("#e3f3df", ("Pooling", "LRN", "SPP", "Interp", "Upsample")),
    ("#fbe8d3", ("Eltwise", "Concat", "Slice", "Split", "Reshape", "Flatten", "Permute", "EltwiseAffine", "Crop")),
    ("#efe3f7", ("SpatialTransformer", "PredictionHeatmap", "PriorBox", "DetectionOutput")),
    ("#f9dfe1", ("SoftmaxWithLoss", "EuclideanLoss", "MultiBoxLoss", "Accuracy", "SmoothL1Loss", "HeatmapLoss")),
)
_PLAIN, _INPUT, _LINE, _SHARED, _GROUP = "#f2f2f2", "#ffffff", "#555555", "#b3446c", "#f7f7f2"


def fill_of(box: Box) -> str:
    """The colour of a box."""
    kind = box.layers[0].type
    if kind == "Input" or kind.endswith("Data"):
        return _INPUT
    return next((fill for fill, kinds in _FILLS if kind in kinds), _PLAIN)


def to_svg(graph: NetworkGraph, layout: Layout) -> str:
    """The drawing as a file."""
    width, height = max(layout.width, 7 * len(graph.title) + 2 * PADDING), layout.height + HEAD
    return document(width, height, FONT, 11, graph.title, [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_LINE}"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        text(PADDING, 17, graph.title, 'font-size="13" font-weight="bold"'),
        f'<g transform="translate(0 {HEAD})">',
        *_groups(graph, layout), *_edges(graph, layout), *_boxes(graph, layout), *_shared(graph, layout),
        "</g>"])


def group_frames(graph: NetworkGraph, layout: Layout) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Name, and left, top, width, height, of the frame around each block that no other box lies in."""
    members: dict[str, list[int]] = {}
    for i, box in enumerate(graph.boxes):
        if box.group:
            members.setdefault(box.group, []).append(i)
    frames = []
    for name, group in members.items():
        left = min(layout.boxes[i][0] for i in group) - 5
        top = min(layout.boxes[i][1] for i in group) - 13
        right = max(layout.boxes[i][0] + layout.boxes[i][2] for i in group) + 5
        bottom = max(layout.boxes[i][1] + layout.boxes[i][3] for i in group) + 5
        own = set(group)
        if not any(x < right and x + w > left and y < bottom and y + h > top
                   for i, (x, y, w, h) in enumerate(layout.boxes) if i not in own):
            frames.append((name, (left, top, right - left, bottom - top)))
    return frames


def _groups(graph: NetworkGraph, layout: Layout) -> Iterator[str]:
    for name, frame in group_frames(graph, layout):
        yield rectangle(frame, 6, _GROUP, "#d8d8cc")
        yield text(frame[0] + 4, frame[1] + 10, name, 'font-size="9" fill="#666655"')


def _edges(graph: NetworkGraph, layout: Layout) -> Iterator[str]:
    for (a, b, blob), path in zip(graph.edges, layout.paths, strict=True):
        (x, y), *rest = path
        line = f"M{x:.1f} {y:.1f}{'C' if layout.curved else 'L'}" + " ".join(f"{u:.1f} {v:.1f}" for u, v in rest)
        title = html_text(f"{blob}: {graph.boxes[a].name} to {graph.boxes[b].name}")
        yield (f'<path d="{line}" fill="none" stroke="{_LINE}" stroke-linejoin="round" marker-end="url(#tip)">'
               f"<title>{title}</title></path>")


def _boxes(graph: NetworkGraph, layout: Layout) -> Iterator[str]:
    for box, place in zip(graph.boxes, layout.boxes, strict=True):
        x, y, w, _ = place
        yield f"<g><title>{html_text(box_title(box))}</title>{rectangle(place, 4, fill_of(box), _LINE)}"
        for i, line in enumerate(box_lines(box)):
            weight = ' font-weight="bold"' if i == 0 else ""
            yield text(x + w / 2, y + PADDING + LINE * (i + 0.75), line, f'text-anchor="middle"{weight}')
        yield "</g>"


def _shared(graph: NetworkGraph, layout: Layout) -> Iterator[str]:
    """Dashed arcs between layers of one parameter."""
    for a, b, name in graph.shared:
        (xa, ya, wa, ha), (xb, yb, wb, hb) = layout.boxes[a], layout.boxes[b]
        x, y, u, v = xa + wa, ya + ha / 2, xb + wb, yb + hb / 2
        bulge = max(x, u) + 16
        yield (f'<path d="M{x:.1f} {y:.1f}C{bulge:.1f} {y:.1f} {bulge:.1f} {v:.1f} {u:.1f} {v:.1f}" fill="none" '
               f'stroke="{_SHARED}" stroke-dasharray="4 3"><title>shared parameter {html_text(name)}</title></path>')
