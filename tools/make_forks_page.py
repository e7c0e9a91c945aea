"""Write the table of docs/forks.md: each fork with its commit, layer types, cases and largest error.

    python tools/make_forks_page.py

The cases are those of tests/golden/forks, the errors those of caffe/layers/evidence.json (tools/measure_layers.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from rmpe_legacy.caffe.layers.registry import classes_of
from rmpe_legacy.caffe.proto.dialects import forks
from rmpe_legacy.cli.layer_report import read_evidence
from rmpe_legacy.files import whole_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "forks.md"
GOLDEN = ROOT / "tests" / "golden"
BEGIN, END = "<!-- table: tools/make_forks_page.py -->", "<!-- end of table -->"


def table() -> str:
    """The table as Markdown."""
    errors = {proof.case: proof.worst.relative for proof in read_evidence().proofs}
    cases = defaultdict(list)
    for path in sorted((GOLDEN / "forks").glob("*/meta.json")):
        meta = json.loads(path.read_text("utf-8"))
        cases[meta["fork"], meta["type"]].append(f"forks/{path.parent.name}")
    rows = ["| dialect | fork | layer types (cases) | cases | largest error |", "|---|---|---|---|---|"]
    for fork in forks().values():
        own = {name: cases[fork.repository, name] for name in fork.types}
        listed = [case for names in own.values() for case in names]
        types = ", ".join(f"{name} ({len(names)})" if names else f"{name}{_note(name)}" for name, names in own.items())
        worst = f"{max(errors[case] for case in listed):.1g}" if listed else ""
        repository, _, commit = fork.repository.partition("@")
        link = f"[{repository}](https://github.com/{repository}/tree/{commit})@{commit[:7]}"
        rows.append(f"| `{fork.name}` | {link} | {types or 'fields only'} | {len(listed) or ''} | {worst} |")
    return "\n".join(rows)


def _note(name: str) -> str:
    """What is to be said of a type without a case from this fork."""
    return " (fed)" if all(cls.__module__.endswith(".fed") for cls in classes_of(name)[-1:]) else ""


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    made = page(PAGE.read_text("utf-8"))
    with whole_file(PAGE, "w") as file:
        file.write(made)
