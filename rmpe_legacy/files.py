"""Files that appear whole, or not at all: written in a hidden folder beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import FileError


@contextmanager
def all_or_none(*paths: str | os.PathLike) -> Iterator[list[Path]]:
    """Places for files that shall appear together: each gets its own name when the block has ended well.

    Gives a path for each, of the same name, in a hidden folder beside it. After any exception nothing is left behind,
    and files that were there before are as they were. FileError says why a place cannot be written.
    """
    targets = [Path(path) for path in paths]
    check_places(*targets)
    hidden: dict[Path, Path] = {}  # folder -> the hidden one in it
    try:
        for folder in dict.fromkeys(target.parent for target in targets):
            hidden[folder] = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder))
        places = [hidden[target.parent] / target.name for target in targets]
        yield places
        for place, target in zip(places, targets, strict=True):
            os.replace(place, target)
    except OSError as error:
        what = targets[0] if len(targets) == 1 else targets[0].parent
        raise FileError(f"{what}: cannot be written: {error.strerror or error}") from None
    finally:
        for folder in hidden.values():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open one file for writing, as `all_or_none`. mode: "wb", or "w" for text (UTF-8)."""
    with all_or_none(path) as [place], open(place, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


def write_together(folder: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, made if missing: name -> content, all of them or none."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with all_or_none(*(folder / name for name in files)) as places:
        for place, content in zip(places, files.values(), strict=True):
            place.write_bytes(content)


def check_places(*paths: str | os.PathLike) -> None:
    """FileError where a file of this name cannot be: before long work, rather than after it."""
    for path in map(Path, paths):
        if path.is_dir():
            raise FileError(f"{path}: is a folder; give the name of a file in it, or remove it")
        if not path.parent.is_dir():
            raise FileError(f"{path}: there is no folder {path.parent}; make it first")
