"""Blobs stored in an .npz by ``rmpe forward --blobs all`` or by Caffe, to compare other runs with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.npy import Npz

from .base import Arrays, Format, RunResult, Setting, SourceOptions, has_suffix


class StoredRunner:
    """Returns stored blobs; the inputs among them are used as inputs of the other network."""

    def __init__(self, path: Path, title: str):
        self.title = title
        self.blobs = Npz(path).numbers()
        if not self.blobs:
            raise FileError(f"{path}: contains no numeric arrays")

    def inputs(self) -> None:
        return None

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        return RunResult(self.blobs, tuple(name for name in self.blobs if name not in inputs))


def _run(path: Path, title: str, setting: Setting, options: SourceOptions) -> StoredRunner:
    return StoredRunner(path, title)


NPZ = Format("blobs as .npz", (".npz",), has_suffix(".npz"), run=_run)
