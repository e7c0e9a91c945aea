"""Dialects of Caffe: three with a complete schema, and forks that each add to one of them.

A fork is one file under forks/: four lines of "key: value" (title, repository as owner/name@commit, base, types), then
messages in the form of schema.txt. The base's messages hold as they are; a line adds a field, a value of an enum or a
message. Of a field, ``@none`` says that it changes no number here, ``@refused`` that a layer which uses it cannot be
computed, ``@fed`` that a data layer which sets it can be fed but does not read its source.

types are the layer types that the fork adds, or has in a form of its own: "ROIPooling Crop=hed". A type that has
several forms there stands once for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.wording import did_you_mean, shorten

AUTO = "auto"
MIXED = "mixed"


@dataclass(frozen=True)
class Dialect:
    """One dialect: its name, where it comes from, the base whose fields and arithmetic hold, and what it adds."""

    name: str
    title: str
    repository: str  # owner/name@commit
    base: str  # one of BASES
    types: Mapping[str, tuple[str, ...]]  # layer type that the base lacks or has in another form -> its forms
    lines: tuple[str, ...] = ()  # what it adds to the base's messages


BASES = {
    "rmpe": Dialect("rmpe", "the fork of the paper", "MVIG-SJTU/RMPE@5188c230ec800c12be7369c3619615bc9b020aa4",
                    "rmpe", {}),
    "ssd": Dialect("ssd", "SSD", "weiliu89/caffe@4817bf8", "ssd", {}),
    "bvlc": Dialect("bvlc", "BVLC's Caffe", "BVLC/caffe@9b891540183ddc834a02b2bd81b31afae71b2153", "bvlc", {}),
}
DIALECTS = (AUTO, *BASES)  # what load_net takes beside the forks' names, which auto tries too


@cache
def forks() -> dict[str, Dialect]:
    """Return the forks that have a schema file, by name."""
    folder = files(__package__).joinpath("forks")
    found = [_read(path.name.removesuffix(".txt"), path.read_text("utf-8"))
             for path in folder.iterdir() if path.name.endswith(".txt")]
    return {fork.name: fork for fork in sorted(found, key=lambda fork: fork.name)}


@cache
def dialects() -> dict[str, Dialect]:
    """Return every dialect by name: the bases, the forks, and `mixed`, which has the fields and types of all."""
    return {**BASES, **forks(), MIXED: _mixed()}


def dialect_named(name: str) -> Dialect:
    """Return the dialect with this name.

    Raises:
        RmpeError: There is no such dialect.
    """
    if name not in dialects():
        meant = did_you_mean(name, dialects())
        raise RmpeError(f"no dialect '{shorten(name)}'" + (meant or "; choose one of "
                        f"{', '.join(map(repr, [AUTO, *BASES]))}, or of the forks' that `rmpe dialects` lists"))
    return dialects()[name]


def having(names: Sequence[str]) -> str:
    """Return the end of a sentence about what several dialects have: "dialects 'a', 'b' and 3 more have it"."""
    *first, last = [*map(repr, names[:4]), *([f"{len(names) - 4} more"] if len(names) > 4 else [])]
    shown = f"{', '.join(first)} and {last}" if first else last
    return f"dialect{'s' if len(names) > 1 else ''} {shown} {'have' if len(names) > 1 else 'has'} it"


def _read(name: str, text: str) -> Dialect:
    header: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if line.startswith("#") or not line.strip():
            continue
        if not lines and key in ("title", "repository", "base", "types"):
            header[key] = value.strip()
        else:
            lines.append(line)
    types: dict[str, tuple[str, ...]] = {}
    for item in header["types"].split():
        type_name, _, form = item.partition("=")
        types[type_name] = (*types.get(type_name, ()), form)
    return Dialect(name, header["title"], header["repository"], header["base"], types, tuple(lines))


def _mixed() -> Dialect:
    types: dict[str, tuple[str, ...]] = {}
    for fork in forks().values():
        for type_name, own in fork.types.items():
            types[type_name] = tuple(sorted({*types.get(type_name, ()), *own}))
    return Dialect(MIXED, "everything that any dialect knows", "the repositories above", "ssd", types)
