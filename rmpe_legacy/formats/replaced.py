"""Which existing files a conversion may replace: those that an earlier conversion has written under the same names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.export.python_source import PYTHON_MARK
from rmpe_legacy.files import kind_of_file

REPORT_SUFFIX = ".verify.html"
# What `rmpe convert` writes into its text files, so that they can be told from anybody else's.
PROTOTXT_MARK = "# Written by rmpe convert."
REPORT_MARK = '<meta name="generator" content="rmpe">'
_START = 4096  # bytes in which a mark is looked for


def check_replaceable(files: Sequence[Path], force: bool) -> list[str]:
    """Raise FileError if one of the files is there and neither `force` nor its origin lets it be replaced.

    files: those of one conversion, that of the destination first. Returns a sentence for each that will be replaced.
    """
    there = [file for file in files if file.is_file() and file.stat().st_size]
    for file in there:
        if not force and not _is_ours(file, files):
            raise FileError(f"{file}: is there already, and no earlier conversion to {files[0].name} wrote it; give "
                            "another name, or replace it with --force")
    return [f"{file} was there and is replaced" for file in there]


def report_place(first: Path) -> Path:
    """Where the comparison of a conversion is drawn: beside its first file, and never over somebody's own page."""
    report = first.with_name(first.name + REPORT_SUFFIX)
    if kind_of_file(report) and not _begins_with(report, REPORT_MARK):
        raise FileError(f"{report}: is there already, and is no report of ours; move it away")
    return report


def _is_ours(file: Path, files: Sequence[Path]) -> bool:
    """Whether a conversion with the same files has written this one.

    The first file is vouched for by the report beside it, a .py or .prototxt by its first line. The others belong to
    a text file among them that names them.
    """
    first = files[0]
    if file == first and _begins_with(first.with_name(first.name + REPORT_SUFFIX), REPORT_MARK):
        return True
    if file.suffix == ".prototxt":
        return _begins_with(file, PROTOTXT_MARK)
    if first.suffix == ".py":
        return _begins_with(first, f"{PYTHON_MARK}{first.with_suffix('.pt').name!a}.")
    if first.suffix == ".safetensors":
        return _names_weights(first.with_suffix(".json"), first.name)
    return False


def _begins_with(path: Path, mark: str) -> bool:
    try:
        with open(path, "rb") as file:
            return mark.encode() in file.read(_START)
    except OSError:
        return False


def _names_weights(path: Path, weights: str) -> bool:
    """Whether a .json is the description of a network whose weights are the file of this name."""
    return _begins_with(path, f'"weights": {json.dumps(weights, ensure_ascii=False)}')
