"""Notebooks as code: the cells of an .ipynb file, with IPython's magics put into Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import cannot_open
from rmpe_legacy.wording import shorten

MAX_BYTES = 256 << 20

_MAGIC = re.compile(r"(?P<indent>\s*)(?P<mark>%%?|!)\s*(?P<name>\w*)\s*(?P<rest>.*)")
_WITHOUT_EFFECT = {"matplotlib", "load_ext", "autoreload", "config", "reload_ext", "capture", "precision"}
_TIMED = {"time", "timeit", "prun"}


@dataclass(frozen=True)
class Cell:
    """One code cell of a notebook."""

    number: int  # among the cells of code, from 1
    source: str  # Python, without magics


def read_notebook(path: str | PathLike) -> list[Cell]:
    """Return the code cells of a notebook of any format version.

    Raises:
        FileError: The file is not a notebook.
        RmpeError: A magic is not supported; the message names the cell and the line.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise FileError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; notebooks are smaller")
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise cannot_open(path, error) from None
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: not a notebook: {shorten(str(error))}") from None
    sources = [_source(path, cell) for cell in _cells(path, content) if cell.get("cell_type") == "code"]
    return [Cell(i, without_magics(f"{path}: cell {i}", source)) for i, source in enumerate(sources, 1)]


def _cells(path: str | PathLike, content: Any) -> Iterator[dict]:
    sheets = content.get("worksheets", [content]) if isinstance(content, dict) else ()  # format 3 has sheets
    for sheet in sheets if isinstance(sheets, list) else ():
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
            break
        yield from cells
    else:
        if sheets:
            return
    raise FileError(f"{path}: not a notebook: it has no list of cells")


def _source(path: str | PathLike, cell: dict) -> str:
    source = cell.get("source", cell.get("input", ""))
    lines = [source] if isinstance(source, str) else source
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise FileError(f"{path}: not a notebook: a cell's source is not text")
    return "".join(lines)


def without_magics(where: str, source: str) -> str:
    """Return a cell's source with every magic replaced by a line of Python, or removed.

    Raises:
        RmpeError: A magic is not supported.
    """
    lines = source.split("\n")
    if lines[0].startswith("%%"):
        match: Any = _MAGIC.match(lines[0])  # it begins with %%
        if match["name"] in ("bash", "sh"):
            return _shell(match["indent"], "\n".join(lines[1:]))
        if match["name"] not in _TIMED | _WITHOUT_EFFECT:
            raise RmpeError(f"{where}, line 1: the magic {shorten(lines[0])!r} is not supported; remove it")
        lines[0] = "pass"
    return "\n".join(_line(f"{where}, line {i}", line) for i, line in enumerate(lines, 1))


def _line(where: str, line: str) -> str:
    stripped = line.lstrip()
    if line.startswith("?") or (line.rstrip().endswith("?") and "#" not in line):
        return "pass"  # asks for help
    if not (stripped.startswith("!") or line.startswith("%")):  # an indented % goes on with an expression
        return line
    match: Any = _MAGIC.match(line)  # it begins with ! or %
    indent, name, rest = match["indent"], match["name"], match["rest"]
    if match["mark"] == "!":
        return _shell(indent, stripped[1:])
    if name in _WITHOUT_EFFECT:
        return f"{indent}pass"
    if name in _TIMED:
        return f"{indent}{rest}"
    if name == "xdel":
        return f"{indent}del {rest}"
    if name == "cd":
        return f"{indent}import os; os.chdir({rest.strip()!r})"
    if name == "pylab":
        return f"{indent}import numpy as np, matplotlib.pyplot as plt; from pylab import *"
    raise RmpeError(f"{where}: the magic {shorten(stripped)!r} is not supported; remove it")


class Shell:
    """The result of ``get_ipython()`` in a notebook that was exported as a script, where magics are method calls."""

    def __init__(self, where: str, names: dict[str, Any]):
        self._where = where  # the script, for errors
        self._names = names  # the script's variables

    def magic(self, line: str) -> None:
        """Run ``%line``."""
        exec(without_magics(self._where, f"%{line}"), self._names)

    def run_line_magic(self, name: str, line: str) -> None:
        """Run ``%name line``."""
        self.magic(f"{name} {line}")

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """Run a cell that begins with ``%%name line``."""
        exec(without_magics(self._where, f"%%{name} {line}\n{cell}"), self._names)

    def system(self, command: str) -> None:
        """Run ``!command``."""
        exec(without_magics(self._where, f"!{command}"), self._names)


def _shell(indent: str, command: str) -> str:
    run = f"_exit_code = subprocess.run({command!r}, shell=True, check=False).returncode"
    return f"{indent}import subprocess, sys; sys.stdout.flush(); {run}"
