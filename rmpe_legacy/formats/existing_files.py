"""Decides which files a conversion may replace: those that an earlier conversion wrote under the same names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import kind_of_file

from .base import Format

REPORT_SUFFIX = ".verify.html"
REPORT_MARK = '<meta name="generator" content="rmpe">'
_START = 4096  # bytes that are searched for a mark


def check_replaceable(files: Sequence[Path], target: Format, force: bool) -> list[str]:
    """Return a note for each existing file that a conversion will replace.

    Without `force`, a file may be replaced if an earlier conversion wrote it: the destination if the report beside it
    is ours, the others if they carry the format's mark.

    Args:
        files: The files of one conversion, the destination first.
        target: The format.
        force: Also replace files that no earlier conversion wrote.

    Raises:
        FileError: A file exists that must not be replaced.
    """
    if special := next((file for file in files if os.path.exists(file) and not os.path.isfile(file)), None):
        raise FileError(f"{special}: is a directory, a device or a pipe, but a conversion must be read back to be "
                        "compared; give another name")
    existing = [file for file in files if os.path.isfile(file) and file.stat().st_size]
    marks = target.marks(files) if target.marks else {}
    for file in existing:
        is_ours = file == files[0] and _contains(file.with_name(file.name + REPORT_SUFFIX), REPORT_MARK)
        if not force and not is_ours and not (file in marks and _contains(*marks[file])):
            raise FileError(f"{file}: already exists, and no earlier conversion to {files[0].name} wrote it; give "
                            "another name, or replace it with --force")
    return [f"{file} already existed and is replaced" for file in existing]


def report_path(first: Path) -> Path:
    """Return where to write the comparison of a conversion. Raises FileError rather than replace a foreign page."""
    report = first.with_name(first.name + REPORT_SUFFIX)
    if kind_of_file(report) and not _contains(report, REPORT_MARK):
        raise FileError(f"{report}: already exists and was not written by rmpe; move it away")
    return report


def _contains(path: Path, mark: str) -> bool:
    try:
        with open(path, "rb") as file:
            return mark.encode() in file.read(_START)
    except OSError:
        return False
