"""Tables and paragraphs as text that fits 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from heapq import nlargest
from itertools import zip_longest

from rmpe_legacy.wording import shorten

WIDTH = 100
_GAP = "  "
_LONG = 40  # longer words may be cut
_MAX_CELL = 1000
_JUDGED = 200  # rows, the longest, for which the columns' widths are chosen
_NO_BREAK = "\N{NO-BREAK SPACE}"


def text_table(rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Align rows of cells; where a line would be too long, wrap the cells of some columns at spaces.

    Shapes (1 x 3 x 500 x 500) and words of up to 40 characters are never cut, so a table of many columns can be wider
    than `width`. Cells may come from a file: what a terminal would act on is escaped, and what follows the first 1000
    characters is left out.
    """
    rows = [tuple(shorten(cell, _MAX_CELL) for cell in row) for row in rows]
    widths = _widths(rows, width - len(_GAP) * (len(rows[0]) - 1))
    return [line for row in rows for line in _lines(row, widths)]


def wrapped(text: str, indent: str = "", width: int = WIDTH) -> str:
    """Wrap a paragraph. indent: of every line but the first."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [_wrapped_cell(cell, width) for cell, width in zip(row, widths, strict=True)]
    return [_GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()
            for line in zip_longest(*cells, fillvalue="")]


def _wrapped_cell(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return [line.replace(_NO_BREAK, " ") for line in textwrap.wrap(_keep_shapes(cell), width, break_on_hyphens=False)]


def _keep_shapes(cell: str) -> str:
    """Make each shape a single word."""
    return cell.replace(" x ", f"{_NO_BREAK}x{_NO_BREAK}")


def _widths(rows: Sequence[Sequence[str]], total: int) -> list[int]:
    """Return the columns' widths. Columns are narrowed step by step, each time the one that adds the fewest lines."""
    least = [min(_LONG, max(max(_word_lengths(cell)) for cell in column)) for column in zip(*rows, strict=True)]
    rows = nlargest(_JUDGED, rows, key=lambda row: sum(map(len, row)))
    columns = list(zip(*rows, strict=True))
    widths = [max(low, *map(len, column)) for low, column in zip(least, columns, strict=True)]
    if sum(widths) <= total:
        return widths
    widths = [max(low, min(width, total)) for low, width in zip(least, widths, strict=True)]
    words = [[_word_lengths(cell) for cell in column] for column in columns]
    heights = [1] * len(rows)
    while sum(widths) > total and (open_ := [i for i, width in enumerate(widths) if width > least[i]]):
        trials = {i: [max(height, _line_count(cell, widths[i] - 1)) for height, cell in
                      zip(heights, words[i], strict=True)] for i in open_}
        i = min(open_, key=lambda i: (sum(trials[i]), -widths[i]))
        widths[i], heights = widths[i] - 1, trials[i]
    return widths


def _word_lengths(cell: str) -> list[int]:
    return [len(word) for word in _keep_shapes(cell).split(" ")]


def _line_count(words: Sequence[int], width: int) -> int:
    """Return how many lines words of these lengths take."""
    lines, used = 1, -1
    for length in words:
        if used >= 0 and used + 1 + length > width:
            lines, used = lines + 1, -1
        used += 1 + length
    return lines
