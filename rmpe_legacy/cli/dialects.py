"""rmpe dialects."""

from __future__ import annotations

import argparse

from .terminal import say

_LONG = 32  # characters of a layer type in the table


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="show everything that this dialect adds, for example "
                         "rcnn")
    command.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> None:
    """List the dialects of Caffe with base, repository and additions, or show one with its commit and all fields."""
    import json

    from rmpe_legacy.caffe.proto.dialects import AUTO, dialect_named, dialects
    from rmpe_legacy.text_table import text_table
    from rmpe_legacy.wording import shorten

    if args.name is not None:
        dialect = dialect_named(args.name)
        text = "\n".join([
            f"{dialect.name}: {dialect.title}", f"repository: {dialect.repository}", f"base: {dialect.base}",
            f"layer types: {' '.join(_types(dialect)) or 'those of its base'}", *dialect.lines])
        say(json.dumps(_row(dialect), indent=1) if args.json else text)
        return
    rows = [_row(dialect) for dialect in dialects().values()]
    if args.json:
        say(json.dumps(rows, indent=1))
        return
    cells = []
    for row in rows:
        types = ", ".join(shorten(name, _LONG) for name in row["types"]) or "no types"
        adds = row["title"] if row["name"] == row["base"] else f"{row['base']}; {row['fields']} fields; {types}"
        cells.append((row["name"], row["repository"].partition("@")[0], adds))
    say("\n".join([*text_table([("name", "repository", "base, and what it adds"), *cells]), "",
                   f"The default, {AUTO}, is the first dialect that knows everything in the file."]))


def _types(dialect) -> list[str]:
    return [name + "".join(f"={form}" for form in forms[:1] if form) for name, forms in dialect.types.items()]


def _row(dialect) -> dict:
    from rmpe_legacy.caffe.proto.schema import added_fields

    return {"name": dialect.name, "title": dialect.title, "repository": dialect.repository, "base": dialect.base,
            "types": _types(dialect), "fields": len(added_fields(dialect.name))}
