"""The networks of this project, as prototxt files.

A checkout has them in `prototxt/`; building a wheel copies that folder into the package.
"""

from __future__ import annotations

from pathlib import Path

from .errors import FileError
from .wording import did_you_mean

_PACKAGE = Path(__file__).parent


def folder() -> Path:
    """The folder of the prototxt files; FileError if this installation lacks it."""
    for place in (_PACKAGE / "prototxt", _PACKAGE.parent / "prototxt"):
        if place.is_dir():
            return place
    raise FileError(f"{_PACKAGE / 'prototxt'}: no such folder; install rmpe_legacy again, from a wheel or a checkout")


def names() -> list[str]:
    """Names that `find` takes: "demo/pose_deploy", "ssd500/deploy", ..."""
    root = folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.prototxt"))


def find(name: str) -> Path:
    """The file of a network: "ssd500/train", or "ssd500" for its deploy.prototxt.

    Raises:
        FileError: No network has this name; the message says which may be meant.
    """
    known = names()
    chosen = name if name in known else f"{name}/deploy"
    if chosen not in known:
        shorter = [*known, *(each.removesuffix("/deploy") for each in known)]
        raise FileError(f"there is no network {name!r}{did_you_mean(name, shorter) or '; `rmpe prototxt` lists them'}")
    return folder() / f"{chosen}.prototxt"
