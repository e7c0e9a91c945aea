"""Plots of curves, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.optional import optional

# Colours that are distinguishable with colour blindness (Okabe and Ito's), and black for the total.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: x and y of the same length. Curves with the same colour number share a colour."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: int | None = None  # None: black and thick, the total
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """Curves in one coordinate system."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_max: float = 100.0
    y_max: float = 100.0


def png(plot: Plot) -> bytes:
    """Draw a plot of 1200 x 900 pixels."""
    figure = optional("matplotlib.figure", "drawing curves").Figure(figsize=(8, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel=plot.x_label, ylabel=plot.y_label, xlim=(0, plot.x_max), ylim=(0, plot.y_max))
    axes.set_title(plot.title, parse_math=False)  # it contains a name from a file
    for line in plot.lines:
        total = line.colour is None
        colour = "black" if line.colour is None else _COLOURS[line.colour % len(_COLOURS)]
        axes.plot(line.x, line.y, label=line.label, linestyle="--" if line.dashed else "-", color=colour,
                  linewidth=2.5 if total else 1.5)
    axes.grid(True, alpha=0.4)
    if plot.lines:
        axes.legend(fontsize="small")
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
