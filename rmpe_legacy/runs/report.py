"""A self-contained HTML page that shows a run: boxes, crops, heatmaps, poses before and after the pose NMS.

Skeletons and boxes are SVG drawn over the images, so that each image is stored once.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.draw import colored_limbs
from rmpe_legacy.pose.joints import MPII16, JointSet
from rmpe_legacy.pose.labels import place_labels
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.results import Persons, Poses
from rmpe_legacy.wording import html_text, pluralize

from .report_images import CropPanel, Panels

MAX_REPORT_IMAGES = 40  # about 10 MB
OPEN = 3  # images whose crops are shown without a click
_MIN_SCORE = 0.1  # joints with a lower score are not drawn, as in the demo
# Distinguishable with any colour vision, side by side and on photographs (after Okabe and Ito)
COLORS = ("#56b4e9", "#e69f00", "#4be0a8", "#f0e442", "#ff7fbf", "#d55e00", "#b39ddb", "#a5d65c")
_UNUSED = "#c8c8c8"  # a pose that was merged into no person


@dataclass(frozen=True, eq=False)
class ReportImage:
    """One image of the report."""

    name: str
    people: PoseResult
    grown_xyxy: np.ndarray  # (P, 4)
    panels: Panels


@dataclass(frozen=True)
class Summary:
    """The head of the page."""

    title: str
    facts: Mapping[str, str]
    images: int  # in the run, shown or not
    skipped: Mapping[str, str]  # name -> reason
    table: str = ""  # numbers, as text


def write_report(path: str | Path, summary: Summary, shown: Sequence[ReportImage]) -> None:
    """Write the page; the file appears whole or not at all."""
    path = Path(path)
    check_page(path)
    write_together(path.parent, {path.name: page(summary, shown).encode("utf-8", "backslashreplace")})


def check_page(path: Path | None) -> None:
    """Raise FileError if no page can be written under this name; called before the work."""
    if path is not None and os.path.isdir(path):
        raise FileError(f"{path}: is a folder; give the name of a page in it, such as {path / 'report.html'}")


def page(summary: Summary, shown: Sequence[ReportImage]) -> str:
    """Return the page as HTML."""
    body = [*_head(summary, shown), *(section(i, each) for i, each in enumerate(shown))]
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html_text(summary.title)}</title>", f"<style>\n{style()}</style>", "</head>",
        "<body>", *body, "</body>", "</html>", ""])


def style() -> str:
    """Return the page's style sheet."""
    return files(__package__).joinpath("report.css").read_text("utf-8")


def section(i: int, shown: ReportImage) -> str:
    """Return what the page shows of image number `i`, from 0."""
    return "\n".join(_section(i, shown))


def _head(summary: Summary, shown: Sequence[ReportImage]) -> Iterator[str]:
    yield f"<header><h1>{html_text(summary.title)}</h1>"
    yield ("<p>For each image: the detector's boxes, the pose in each box, and the persons that the pose NMS made of "
           "the poses. Each person has a letter and a colour; the poses merged into it have the same colour.</p>")
    yield "<dl>"
    for name, value in summary.facts.items():
        yield f"<dt>{html_text(name)}</dt><dd>{html_text(value)}</dd>"
    yield "</dl>"
    if summary.table:
        yield f'<pre class="scroll">{html_text(summary.table)}</pre>'
    if summary.images - len(summary.skipped) > len(shown):
        yield f"<p>The first {len(shown)} of {summary.images - len(summary.skipped)} images are shown.</p>"
    if summary.skipped:
        yield f"<p>Skipped, because they could not be read: {len(summary.skipped)}</p><ul>"
        yield from (f"<li>{html_text(reason)}</li>" for reason in list(summary.skipped.values())[:MAX_REPORT_IMAGES])
        yield "</ul>"
    yield "</header>"
    if len(shown) > 1:
        links = "".join(f'<li><a href="#picture-{i + 1}">{html_text(each.name)}</a></li>'
                        for i, each in enumerate(shown))
        yield f'<nav aria-label="Images"><ul>{links}</ul></nav>'


def _section(i: int, shown: ReportImage) -> Iterator[str]:
    width, height = shown.people.size_wh
    proposals, persons = len(shown.people.proposals), len(shown.people.nms_result.persons)
    yield f'<section id="picture-{i + 1}" aria-labelledby="name-{i + 1}">'
    yield f'<h2 id="name-{i + 1}">{html_text(shown.name)}</h2>'
    beyond = f", {pluralize(shown.people.beyond, 'detection')} outside the image" if shown.people.beyond else ""
    yield (f'<p class="soft">{width} × {height} pixels; {pluralize(proposals, "detection")}, '
           f"{pluralize(persons, 'person')}{beyond}</p>")
    yield (f'<svg class="store" aria-hidden="true"><defs><image id="image-{i + 1}" width="{width}" height="{height}" '
           f'preserveAspectRatio="none" href="{_data(shown.panels.image)}"/></defs></svg>')
    yield from _views(i, shown)
    if proposals:
        yield from _persons(shown)
        yield from _crops(i, shown)
    yield "</section>"


# --- three views of the image ----------------------------------------------------------------------------------


def _views(i: int, shown: ReportImage) -> Iterator[str]:
    people, persons = shown.people, shown.people.nms_result.persons
    colors = _colors(shown)
    boxes = [_box(box, colors[p], people.size_wh) for p, box in enumerate(people.proposals.boxes_xyxy.tolist())]
    numbered = [f"{p + 1}: {score:.2f}" for p, score in enumerate(people.proposals.scores)]
    boxes += _labels(people.proposals.boxes_xyxy[:, :2], numbered, colors, people.size_wh)
    before = [_skeleton(people.poses.joints_xy[p], people.poses.scores[p], people.size_wh, color=colors[p],
                        title=f"pose {p + 1}", joint_set=people.joints)
              for p in range(len(people.poses))]
    before += _labels_above(people.poses, [str(p + 1) for p in range(len(people.poses))], colors,
                            people.size_wh)
    person_colors = [COLORS[k % len(COLORS)] for k in range(len(persons))]
    after = [_skeleton(persons.joints_xy[k], persons.scores[k], people.size_wh, color=person_colors[k],
                       title=f"person {_letter(k)}", joint_set=people.joints)
             for k in range(len(persons))]
    after += _labels_above(persons, [_letter(k) for k in range(len(persons))], person_colors, people.size_wh)
    yield '<div class="views">'
    yield from _view(i, people.size_wh, boxes, f"Detections in {shown.name}: {pluralize(len(boxes), 'box')}",
                     "Detections, numbered, with their scores")
    yield from _view(i, people.size_wh, before,
                     f"Poses before the NMS in {shown.name}: {pluralize(len(before), 'pose')}",
                     "Poses before the NMS, one per detection")
    yield from _view(i, people.size_wh, after,
                     f"Persons after the NMS in {shown.name}: {pluralize(len(after), 'person')}",
                     "Persons after the NMS")
    yield "</div>"


def _view(i: int, size_wh: tuple[int, int], shapes: Iterable[str], alt: str, caption: str) -> Iterator[str]:
    width, height = size_wh
    yield (f'<figure><svg class="view" viewBox="0 0 {width} {height}" role="img" aria-label="{html_text(alt)}">'
           f'<use href="#image-{i + 1}"/>')
    yield from shapes
    yield f"</svg><figcaption>{html_text(caption)}</figcaption></figure>"


def _box(box: Sequence[int], color: str, size_wh: tuple[int, int]) -> str:
    xmin, ymin, xmax, ymax = box
    size = max(size_wh)
    rect = f'x="{xmin}" y="{ymin}" width="{max(xmax - xmin, 0)}" height="{max(ymax - ymin, 0)}"'
    return (f'<rect class="rim" {rect} stroke-width="{_n(size / 110)}"/>'
            f'<rect class="limb" {rect} stroke="{color}" stroke-width="{_n(size / 200)}"/>')


def _skeleton(joints: np.ndarray, scores: np.ndarray, size_wh: tuple[int, int], color: str | None, title: str = "",
              joint_set: JointSet = MPII16) -> str:
    """Draw the limbs whose joints both reach the minimum score, in one colour or, if None, in the demo's colours."""
    size = max(size_wh)
    sure = _sure(joints, scores)
    limbs = [(a, b, color or "#{:02x}{:02x}{:02x}".format(*rgb)) for a, b, rgb in colored_limbs(joint_set)
             if sure[a] and sure[b]]
    strokes = [f"M{_n(joints[a, 0])} {_n(joints[a, 1])}L{_n(joints[b, 0])} {_n(joints[b, 1])}" for a, b, _ in limbs]
    rim = "rim" if color else "rim pale"  # the demo's colours are dark
    results = [f'<path class="{rim}" d="{"".join(strokes)}" stroke-width="{_n(size / 100)}"/>'] if strokes else []
    for hue in dict.fromkeys(hue for _, _, hue in limbs):
        path = "".join(stroke for stroke, (_, _, own) in zip(strokes, limbs, strict=True) if own == hue)
        results.append(f'<path class="limb" d="{path}" stroke="{hue}" stroke-width="{_n(size / 180)}"/>')
    return f"<g>{f'<title>{html_text(title)}</title>' if title else ''}{''.join(results)}</g>"


def _sure(joints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return (scores >= _MIN_SCORE) & np.isfinite(joints).all(axis=1)


def _labels_above(poses: Poses | Persons, names: Sequence[str], colors: Sequence[str],
                  size_wh: tuple[int, int]) -> list[str]:
    """Label each pose above its highest joint; a pose without a joint to draw has no label."""
    places, shown, inks = [], [], []
    height = _letter_size(names, size_wh)
    for joints, scores, name, color in zip(poses.joints_xy, poses.scores, names, colors, strict=True):
        sure = joints[_sure(joints, scores)]
        if len(sure):
            x, y = sure[np.argmin(sure[:, 1])]
            places.append((x - _text_width(name) * height / 2, y - 1.5 * height))
            shown.append(name)
            inks.append(color)
    return _labels(places, shown, inks, size_wh)


def _labels(corners_xy: ArrayLike, texts: Sequence[str], colors: Sequence[str],
            size_wh: tuple[int, int]) -> list[str]:
    """Write labels with these upper left corners, moved where they would cover one another or leave the image."""
    height = _letter_size(texts, size_wh)
    sizes = [(_text_width(text) * height, 1.2 * height) for text in texts]
    corners = place_labels(corners_xy, sizes, size_wh).tolist()
    return [f'<rect class="tag" x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" fill="{color}"/>'
            f'<text x="{_n(x + w / 2)}" y="{_n(y + 0.94 * height)}" font-size="{_n(height)}">{html_text(text)}</text>'
            for (x, y), (w, h), text, color in zip(corners, sizes, texts, colors, strict=True)]


def _letter_size(texts: Sequence[str], size_wh: tuple[int, int]) -> float:
    """Return the font size that suits the image and with which every label fits into it, in pixels."""
    longest = max(map(_text_width, texts), default=1)
    return min(0.032 * max(size_wh), size_wh[1] / 1.2, size_wh[0] / longest)


def _text_width(text: str) -> float:
    """Return about the width of a label in the bold letters of usual fonts, in font sizes."""
    return 0.6 * len(text) + 0.4


# --- persons and the poses merged into them ----------------------------------------------------------------------


def _colors(shown: ReportImage) -> list[str]:
    """Return the colour of each pose: that of the person it was merged into."""
    colors = [_UNUSED] * len(shown.people.poses)
    for k in range(len(shown.people.nms_result.persons)):
        for pose in shown.people.nms_result.persons.merged(k).tolist():
            colors[pose] = COLORS[k % len(COLORS)]
    return colors


def _persons(shown: ReportImage) -> Iterator[str]:
    persons, dropped = shown.people.nms_result.persons, shown.people.nms_result.dropped
    yield '<h3>Persons and their poses</h3><div class="scroll"><table>'
    heads = "".join(f'<th scope="col">{words}</th>' for words in ("Person", "Picked pose", "Merged from poses"))
    yield f'<thead><tr>{heads}<th scope="col" class="number">Mean joint score</th></tr></thead><tbody>'
    for k in range(len(persons)):
        swatch = f'<span class="swatch" style="background:{COLORS[k % len(COLORS)]}"></span>'
        yield _row(f"{swatch}{_letter(k)}", persons.picks[k], persons.merged(k), persons.scores[k])
    for k in range(len(dropped)):
        yield _row("dropped (low score)", dropped.picks[k], dropped.merged(k), dropped.scores[k])
    yield "</tbody></table></div>"


def _row(who: str, pick: int, members: np.ndarray, scores: np.ndarray) -> str:
    merged = ", ".join(str(m + 1) for m in sorted(members.tolist()))
    return (f'<tr><th scope="row">{who}</th><td>{pick + 1}</td><td>{merged}</td>'
            f'<td class="number">{np.mean(scores):.3f}</td></tr>')


# --- crops -------------------------------------------------------------------------------------------------------


def _crops(i: int, shown: ReportImage) -> Iterator[str]:
    crops = shown.panels.crops
    more = len(shown.people.proposals) - len(crops)
    yield f"<details{' open' if i < OPEN else ''}><summary>Crops and heatmaps</summary>"
    yield (f'<p class="soft">Heatmaps, row by row: {", ".join(shown.people.joints.joints).replace("_", " ")}.'
           f'{f" The first {len(crops)} of {len(crops) + more} crops." if more else ""}</p><div class="crops">')
    for p, crop in enumerate(crops):
        yield from _crop(p, crop, shown)
    yield "</div></details>"


def _crop(p: int, crop: CropPanel, shown: ReportImage) -> Iterator[str]:
    box = ", ".join(map(str, shown.grown_xyxy[p].tolist()))
    what = f"detection {p + 1} of {shown.name}"
    yield f'<div class="crop"><h4>Pose {p + 1} <span class="soft">box {box}</span></h4>'
    skeleton = _skeleton(crop.points * (200, 200 * crop.aspect), shown.people.poses.scores[p], (300, 300), color=None,
                         joint_set=shown.people.joints)
    alt, height = html_text(f"Crop of {what}, with its pose"), _n(200 * crop.aspect)
    yield (f'<figure><svg class="view" viewBox="0 0 200 {height}" role="img" aria-label="{alt}">'
           f'<image width="200" height="{height}" preserveAspectRatio="none" href="{_data(crop.crop)}"/>'
           f"{skeleton}</svg>"
           "<figcaption>Crop, with the pose decoded from the heatmaps</figcaption></figure>")
    if crop.straightened:
        theta = f": θ = {', '.join(f'{v:.2f}' for v in crop.theta)}" if crop.theta else ""
        yield _figure(crop.straightened, f"Crop of {what} after the STN", f"After the STN{theta}")
    yield _figure(crop.heatmaps, f"{len(crop.points)} heatmaps of {what}", "Heatmaps over the crop")
    yield "</div>"


def _figure(jpeg: bytes, alt: str, caption: str) -> str:
    return (f'<figure><img src="{_data(jpeg)}" alt="{html_text(alt)}"><figcaption>{html_text(caption)}</figcaption>'
            "</figure>")


def _data(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _letter(k: int) -> str:
    """A, B, ..., Z, A2, B2, ..."""
    return chr(ord("A") + k % 26) + (str(k // 26 + 1) if k >= 26 else "")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
