"""``rmpe draw``: from a prototxt to a drawing of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import check_places, write_together
from rmpe_legacy.wording import html_text, pluralize

from ..describe import describe_net
from ..load import read_net
from .graph import NetworkGraph, box_lines, network_graph
from .layout import box_size, dot_source, lay_out
from .png import to_png
from .svg import to_svg

SUFFIXES = (".svg", ".png", ".html", ".dot")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; color: #222; background: #fff; }}
.scroll {{ overflow: auto; max-height: 85vh; border: 1px solid #ccc; }}
pre {{ font-size: 12px; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
<div class="scroll">{svg}</div>
<details><summary>All layers as a table</summary><div class="scroll"><pre>{table}</pre></div></details>
</body>
</html>
"""


def draw_network(prototxt: str | PathLike, output: str | PathLike, phase: str = "TEST", level: int = 0,
                 stages: Sequence[str] = (), dialect: str = "rmpe", until: Sequence[str] = ()) -> str:
    """Draw the layers of a prototxt with their shapes, parameters, phases and shared weights.

    Layers that work in place are drawn with the layer they work on. Layers whose names begin alike form blocks.
    Nothing is computed, and no Python module is imported.

    Args:
        output: a file whose suffix is one of SUFFIXES.
        until: draw only the layers that these blobs depend on.
        phase, level, stages, dialect: as for ``load_net``.

    Returns:
        A sentence about what was drawn.

    Raises:
        RmpeError: another suffix, or a prototxt that cannot be read; see ``load_net``.
    """
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise RmpeError(f"{output}: the suffix selects the format and must be one of {', '.join(SUFFIXES)}")
    check_places(output)
    parsed = read_net(prototxt, phase, level, stages, dialect, "paper", strict=False, until=until)
    name = parsed.name or Path(prototxt).name
    graph = network_graph(f"{name}, phase {phase}", parsed.wire())
    summary = (f"{pluralize(sum(len(box.layers) for box in graph.boxes), 'layer')} in phase {phase}, drawn as "
               f"{pluralize(len(graph.boxes), 'box')}")
    if parsed.findings:
        summary += f"; {pluralize(len(parsed.findings), 'unknown field or layer')} left out, which rmpe show lists"
    if suffix == ".html":
        table = describe_net(str(prototxt), phase, level, stages, dialect).text
        content = _page(graph, summary, table)
    else:
        content = _file(graph, suffix)
    write_together(Path(output).parent, {Path(output).name: content})
    return f"{summary}: {output}"


def _file(graph: NetworkGraph, suffix: str) -> bytes:
    if suffix == ".dot":
        return dot_source(graph, [box_size(box_lines(box)) for box in graph.boxes]).encode()
    layout = lay_out(graph)
    return to_png(graph, layout) if suffix == ".png" else to_svg(graph, layout).encode()


def _page(graph: NetworkGraph, summary: str, table: str) -> bytes:
    return _PAGE.format(title=html_text(graph.title), summary=html_text(summary), svg=to_svg(graph, lay_out(graph)),
                        table=html_text(table)).encode()
