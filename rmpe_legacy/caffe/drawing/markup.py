"""Elements of SVG and DOT files. Names from prototxts cannot add markup to them."""

from __future__ import annotations

from collections.abc import Iterable

from rmpe_legacy.wording import html_text, printable


def quoted(words: str) -> str:
    """Return text as a string of the DOT language."""
    return '"' + printable(words).replace("\\", "\\\\").replace('"', '\\"') + '"'


def document(width: float, height: float, font: str, font_size: int, title: str, elements: Iterable[str]) -> str:
    """Return an SVG file of width x height pixels; `elements` are its parts, from back to front."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{font}" font-size="{font_size}">',
        f"<title>{html_text(title)}</title>", *elements, "</svg>", ""])


def rectangle(box: tuple[float, float, float, float], radius: float, fill: str, stroke: str) -> str:
    """Return a rectangle with rounded corners; the box is (left, top, width, height)."""
    x, y, w, h = box
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius:.0f}" fill="{fill}" '
            f'stroke="{stroke}"/>')


def text(x: float, y: float, words: str, attributes: str = "") -> str:
    """Return a line of text whose baseline starts at (x, y), unless `attributes` give another anchor."""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes and " " + attributes}>{html_text(words)}</text>'
