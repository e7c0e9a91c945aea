"""A laid-out network as a PNG, by matplotlib."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO

from rmpe_legacy.errors import NetError
from rmpe_legacy.optional import optional
from rmpe_legacy.wording import printable

from .graph import NetworkGraph, box_lines
from .layout import LINE, PADDING, Layout
from .svg import HEAD, fill_of, group_frames

SCALE, MIN_SCALE = 1.5, 0.75  # pixels of the image for one of the layout: so that text is sharp, or just readable
MAX_SIDE = 24_000  # pixels of the image; viewers fail on more
_DPI = 100


def to_png(graph: NetworkGraph, layout: Layout) -> bytes:
    """The drawing as a file. NetError if it is too large for an image."""
    figures = optional("matplotlib.figure", "drawing a .png")
    patches, paths = import_module("matplotlib.patches"), import_module("matplotlib.path")
    rc_context = import_module("matplotlib").rc_context
    width, height = max(layout.width, 7 * len(graph.title) + 2 * PADDING), layout.height + HEAD
    scale = min(SCALE, MAX_SIDE / max(width, height))
    if scale < MIN_SCALE:
        raise NetError(f"the drawing is {width:.0f} x {height:.0f} pixels, which is too large for a PNG; write an .svg "
                       "or .html")
    figure = figures.Figure((width * scale / _DPI, height * scale / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    point = 72 / _DPI * scale
    font = {"fontfamily": "monospace", "parse_math": False}
    axes.text(PADDING, 17, printable(graph.title), fontsize=13 * point, fontweight="bold", va="baseline", **font)
    for name, (x, y, w, h) in group_frames(graph, layout):
        axes.add_patch(patches.FancyBboxPatch((x, y + HEAD), w, h, "round,pad=0,rounding_size=6", fc="#f7f7f2",
                                              ec="#d8d8cc"))
        axes.text(x + 4, y + HEAD + 10, printable(name), fontsize=9 * point, color="#666655", va="baseline", **font)
    for path in layout.paths:
        step = paths.Path.CURVE4 if layout.curved else paths.Path.LINETO
        codes = [paths.Path.MOVETO, *[step] * (len(path) - 1)]
        line = paths.Path([(x, y + HEAD) for x, y in path], codes)
        axes.add_patch(patches.PathPatch(line, fc="none", ec="#555555", lw=point, zorder=1))
        axes.plot(path[-1][0], path[-1][1] + HEAD - 3, marker="v", color="#555555", ms=5 * point, zorder=1)
    for a, b, _ in graph.shared:
        (xa, ya, wa, ha), (xb, yb, wb, hb) = layout.boxes[a], layout.boxes[b]
        axes.plot([xa + wa, max(xa + wa, xb + wb) + 12, xb + wb],
                  [ya + ha / 2 + HEAD, (ya + yb) / 2 + HEAD, yb + hb / 2 + HEAD], color="#b3446c", lw=point, ls="--")
    for box, (x, y, w, h) in zip(graph.boxes, layout.boxes, strict=True):
        axes.add_patch(patches.FancyBboxPatch((x, y + HEAD), w, h, "round,pad=0,rounding_size=4", fc=fill_of(box),
                                      ec="#555555", zorder=2))
        for i, line in enumerate(box_lines(box)):
            axes.text(x + w / 2, y + HEAD + PADDING + LINE * (i + 0.75), line, ha="center", va="baseline",
                      fontsize=11 * point, fontweight="bold" if i == 0 else "normal", zorder=3, **font)
    buffer = BytesIO()
    with rc_context({"text.hinting": "none"}):  # hinting rounds the widths of letters, and lines outgrow their boxes
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
