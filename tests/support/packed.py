"""Goldens that lie packed in tests/golden."""

import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from paths import GOLDEN

_scratch: list[TemporaryDirectory] = []  # emptied when the process ends


@cache
def unpacked(name: str) -> Path:
    """The folder that lies in tests/golden as `name`.tar.xz, unpacked once for this process."""
    _scratch.append(TemporaryDirectory(prefix="rmpe_golden_"))
    path = GOLDEN / f"{name}.tar.xz"
    with tarfile.open(path) as archive:
        archive.extractall(_scratch[-1].name, filter="data")
    return Path(_scratch[-1].name, path.name.partition(".")[0])
