"""The table of paper, measurement and difference, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from .tables import NUMBERS, TABLE_1, TABLE_2, Row, Table

NAME = 34  # columns of a row's name
# The results in the running text: why each is not measured, unless a run measures it
_TEXT = {
    "MPII validation that training should reach": "needs the row full",
    "pose NMS on the validation images": "needs a run",
    "pose NMS of [5] on the validation images": "another group's method",
    "MPII validation with the Faster R-CNN detector": "its weights were not published; give the boxes of such "
    "a detector (--proposals) and read the row full",
    "difficult joints on MPII test: wrists, elbows, ankles, knees": TABLE_1.unmeasurable,
    "the whole of RMPE, April 2017": "measured on the authors' GPU; the progress bar shows this machine's time",
    "SSD-512 VGG detector on COCO detection test-dev": "COCO withholds the annotations of test-dev",
    "Faster R-CNN ResNet-50 detector on COCO detection test-dev": "COCO withholds the annotations of test-dev",
    "COCO keypoints test-dev with the Faster R-CNN detector": TABLE_2.unmeasurable,
    "COCO keypoints test-dev, first release": TABLE_2.unmeasurable,
}


@dataclass(frozen=True)
class Measurement:
    """The measured values of one row."""

    values: Mapping[str, float]  # by column
    note: str = ""  # how the measurement differs from the paper's


def compare(table: Table, measured: Mapping[str, Measurement], reason: Callable[[Row], str]) -> str:
    """Format a published table, with the measurement below each row or why there is none."""
    lines = [f"{table.source}: {table.dataset}", line("", "", table.columns, table.columns)]
    for row in table.rows:
        paper = dict(zip(table.columns, row.values, strict=True))
        lines.append(line(row.method, "paper", table.columns, [f"{value:.1f}" for value in row.values]))
        if row.method in measured:
            lines += _measured(paper, measured[row.method])
        else:
            lines.append(f"    not measured: {reason(row)}")
        if row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)


def _measured(paper: Mapping[str, float], row: Measurement) -> list[str]:
    values = [row.values.get(column, float("nan")) for column in paper]
    columns = tuple(paper)
    lines = [line("", "measured", columns, [_number(value) for value in values]),
             line("", "difference", columns, [_number(value - stated, "+") for value, stated in
                                              zip(values, paper.values(), strict=True)])]
    return [*lines, f"    {row.note}"] if row.note else lines


def compare_text(measured: Mapping[str, str]) -> str:
    """Format the published results that are in no table, each with its measurement (by name) or why there is none."""
    stated = {number.what: number for number in NUMBERS}
    lines = ["Results in the running text of the paper and of the repositories"]
    for what, reason in _TEXT.items():
        end = f"measured {measured[what]}" if what in measured else f"not measured: {reason}"
        lines.append(f"{what}: paper {stated[what].value:g} {stated[what].unit}; {end}")
    return "\n".join(lines)


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.1f}" if isfinite(value) else "-"


def unmeasurable(table: Table) -> str:
    """Format a table none of whose rows can be measured, with the reason."""
    own = replace(table, rows=tuple(row for row in table.rows if row.ours))
    return compare(own, {}, lambda row: table.unmeasurable)


def line(name: str, what: str, columns: Sequence[str], cells: Sequence[str]) -> str:
    """Format a row of a table; with `columns` as cells, its head."""
    return f"{name:<{NAME}} {what:<11}" + _cells(columns, cells)


def _cells(columns: Sequence[str], cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{max(len(column), 5) + 1}}" for column, cell in zip(columns, cells, strict=True))


def plain(rows: Mapping[str, Measurement], columns: tuple[str, ...]) -> str:
    """Format rows for which nothing was published."""
    lines = [f"{'':<{NAME}}" + _cells(columns, columns)]
    for name, row in rows.items():
        lines.append(f"{name:<{NAME}}" + _cells(columns, [_number(row.values[column]) for column in columns]))
        if row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)
