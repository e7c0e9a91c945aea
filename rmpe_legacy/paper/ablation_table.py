"""The ablation as a table, paper | synthetic people, and as a figure, made only from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.optional import optional
from rmpe_legacy.wording import pluralize

from .ablation import ROWS, Ablation, Budget, Result
from .comparison import NAME, line
from .tables import MPII_COLUMNS, TABLE_3

LEAST_SEEDS = 3  # of a row, before its difference from another is taken for an effect


def write_ablation(ablation: Ablation) -> str:
    """Write table.txt and figure.png beside the results, and return the table.

    Raises:
        RmpeError: There are no results.
    """
    results = ablation.found()
    if not results:
        raise RmpeError(f"{ablation.results}: has no results yet; run the same command again to continue")
    table = ablation_table(results, ablation.budget)
    write_together(ablation.results, {"table.txt": (table + "\n").encode(),
                                      "figure.png": ablation_figure(results, ablation.budget)})
    return table


def by_row(results: Sequence[Result]) -> dict[str, np.ndarray]:
    """(seeds, columns) AP in per cent of each row that has results, in the order of ROWS."""
    return {row: np.array([[result.ap[column] for column in MPII_COLUMNS] for result in found])
            for row in ROWS if (found := [result for result in results if result.row == row])}


def ablation_table(results: Sequence[Result], budget: Budget) -> str:
    """Each row of Table 3: the paper's numbers, the mean over seeds with synthetic people, and half their range."""
    measured = by_row(results)
    lines = [f"{TABLE_3.source}, and the same comparison with synthetic people: AP in per cent",
             f"ours: {pluralize(budget.pictures, 'image')} of synthetic people, the demo detector's boxes; budget "
             f"{budget.name!r}: {budget.base_iterations} iterations of the SPPE alone, then {budget.iterations} of "
             f"each row, batches of {budget.batch}; mean of n seeds, and (+-) half their range",
             line("", "", MPII_COLUMNS, MPII_COLUMNS)]
    for row in ROWS:
        paper = TABLE_3.row(row)
        lines.append(line(row, "paper", MPII_COLUMNS, [f"{paper[column]:.1f}" for column in MPII_COLUMNS]))
        if row not in measured:
            lines.append("    ours: no result yet")
            continue
        values = measured[row]
        means = [f"{value:.1f}" for value in values.mean(axis=0)]
        lines.append(line("", f"ours, n={len(values)}", MPII_COLUMNS, means))
        if len(values) > 1:
            half = (values.max(axis=0) - values.min(axis=0)) / 2
            lines.append(line("", "  +-", MPII_COLUMNS, [f"{value:.1f}" for value in half]))
    lines += ["", _verdict(measured)]
    return "\n".join(lines)


def _verdict(measured: dict[str, np.ndarray]) -> str:
    """Which of the paper's differences from "full" show here: an effect shows if the two ranges of seeds are apart."""
    if "full" not in measured:
        return "The row \"full\" has no result yet, so differences from it cannot be given."
    full, lines = measured["full"][:, -1], ["Total, difference from \"full\" (paper | ours):"]
    for row, values in measured.items():
        if row == "full":
            continue
        paper = TABLE_3.row(row)["Total"] - TABLE_3.row("full")["Total"]
        ours = values[:, -1].mean() - full.mean()
        if min(len(values), len(full)) < LEAST_SEEDS:
            shows = f"fewer than {LEAST_SEEDS} seeds: nothing shown"
        elif values[:, -1].max() < full.min() or values[:, -1].min() > full.max():
            shows = "as in the paper" if ours * paper > 0 else "not as in the paper"
        else:
            shows = "within the spread of the seeds: no difference shown"
        lines.append(f"  {row:<{NAME}} {paper:+6.1f} | {ours:+6.1f}  {shows}")
    return "\n".join(lines)


def ablation_figure(results: Sequence[Result], budget: Budget) -> bytes:
    """A PNG: for each row the difference of Total from "full", the paper's beside ours, seed by seed."""
    purpose = "the figure of the ablation"
    measured = by_row(results)
    figure = optional("matplotlib.figure", purpose).Figure(figsize=(8, 4.2), dpi=120)
    axes = figure.add_subplot()
    rows = [row for row in ROWS if row != "full"]
    places = np.arange(len(rows))
    full = TABLE_3.row("full")["Total"]
    axes.barh(places - 0.2, [TABLE_3.row(row)["Total"] - full for row in rows], 0.38, color="0.7", label="paper")
    if "full" in measured:
        ours = measured["full"][:, -1].mean()
        shown = [(place, measured[row][:, -1] - ours)
                 for place, row in zip(places, rows, strict=True) if row in measured]
        axes.barh([p + 0.2 for p, _ in shown], [v.mean() for _, v in shown], 0.38, color="C0", label="synthetic people")
        for place, values in shown:
            axes.plot(values, [place + 0.2] * len(values), "k.", markersize=4)
    axes.set_yticks(places, rows)
    axes.invert_yaxis()
    axes.axvline(0, color="k", linewidth=0.8)
    axes.set_xlabel(f"mAP, difference from \"full\" (budget {budget.name!r}; dots: seeds)")
    axes.legend(fontsize=8)
    figure.tight_layout()
    out = BytesIO()
    optional("matplotlib.backends.backend_agg", purpose).FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
