"""A comparison of two networks as an HTML page: the verdict, and a bar for each blob."""

from __future__ import annotations

import math

from rmpe_legacy.formats.existing_files import REPORT_MARK
from rmpe_legacy.wording import html_text

from .verify import Difference, Verdict, difference_text

_FLOOR = 1e-9  # relative difference at which bars start
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222 }
h1 { font-size: 1.25em; margin-bottom: .3em } .yes { color: #17632d } .no { color: #a11 }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
th, td { padding: .15em .8em .15em 0; border-bottom: 1px solid #eee; vertical-align: top }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td.bar { width: 20em; min-width: 8em } .apart td { background: #fdecec } .by { color: #666; font-size: .9em }
.track { position: relative; height: 1.1em; background: #f3f3f3; margin-top: .2em }
.track i { position: absolute; left: 0; top: 0; bottom: 0; background: #4a78b5 } .apart .track i { background: #c33 }
.track b { position: absolute; top: 0; bottom: 0; width: 1px; background: #222 }
"""


def html_report(verdict: Verdict) -> str:
    """Return the page: self-contained, without scripts. Bars are logarithmic; the mark is the accepted difference."""
    rows = "\n".join(_row(difference) for difference in verdict.differences)
    notes = "".join(f"<p>Only in {html_text(side)}: {html_text(', '.join(blobs))}.</p>\n"
                    for side, blobs in ((verdict.a, verdict.only_a), (verdict.b, verdict.only_b)) if blobs)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">{REPORT_MARK}
<title>{html_text(verdict.a)} and {html_text(verdict.b)}</title>
<style>{_STYLE}</style></head><body>
<h1 class="{'yes' if verdict.same else 'no'}">{html_text(verdict.sentence)}</h1>
<p>A: {html_text(verdict.a)}<br>B: {html_text(verdict.b)}<br>Run on: {html_text(verdict.inputs)}</p>
{notes}<table>
<tr><th>blob</th><th>difference relative to the blob's range ({_FLOOR:g} to 1; the mark is the accepted difference)</th>
<th>relative</th><th>largest</th><th>ulp</th></tr>
{rows}
</table></body></html>
"""


def _row(d: Difference) -> str:
    apart = not d.is_same
    name = f"{html_text(d.blob)}<div class=by>{html_text(d.made_by)}</div>"
    bar = (f'<div class=track><i style="width:{_place(d.relative):.1f}%"></i>'
           f'<b style="left:{_place(d.allowed):.1f}%"></b></div>')
    if math.isfinite(d.relative):
        numbers = "".join(f"<td class=n>{value:.3g}</td>" for value in (d.relative, d.absolute, d.ulp))
    else:
        numbers = f"<td colspan=3>{html_text(difference_text(d))}</td>"
    return f"<tr{' class=apart' if apart else ''}><td>{name}</td><td class=bar>{bar}</td>{numbers}</tr>"


def _place(relative: float) -> float:
    """Return the position of a difference on the axis, in percent."""
    if not relative > _FLOOR:
        return 0.0
    return 100.0 if relative >= 1 else 100 * (1 - math.log10(relative) / math.log10(_FLOOR))
