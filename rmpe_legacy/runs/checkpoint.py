"""Finished pictures of a run, a file each: a run that was interrupted goes on where it stopped.

They lie in the folder ``.parts`` of the output. All processes of a run write there, and the first one reads them all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.pipeline import Found
from rmpe_legacy.pose.results import Detections, Poses
from rmpe_legacy.readers.npy import Npz

from .inputs import Picture

FOLDER, SETTINGS = ".parts", "run.json"


@dataclass(frozen=True, eq=False)
class Part:
    """One picture's share of the results."""

    name: str
    found: Found | None = None  # None: skipped
    skipped: str = ""  # why
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # what the report shows


class Store:
    """The parts of one output folder; they were made with the same settings, or it cannot be opened."""

    def __init__(self, output: str | Path, settings: Mapping[str, Any]):
        self.folder = Path(output) / FOLDER
        self._open(Path(output), json.loads(json.dumps(settings)))

    def _open(self, output: Path, settings: dict[str, Any]) -> None:
        try:
            before = json.loads((self.folder / SETTINGS).read_text("utf-8"))
        except FileNotFoundError:
            write_together(self.folder, {SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()})
            return
        except OSError as error:
            raise FileError(f"{self.folder / SETTINGS}: {error.strerror or error}") from None
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise FileError(f"{self.folder / SETTINGS}: is damaged; remove the folder {self.folder}, which begins anew")
        changed = [f"{key} was {before.get(key)}, is now {settings.get(key)}" for key in {**before, **settings}
                   if before.get(key) != settings.get(key)]
        if changed:
            raise RmpeError(f"{output}: holds results of another run: {'; '.join(changed)}. Choose another output "
                            "folder, or remove this one to begin anew")

    def write(self, picture: Picture, part: Part) -> None:
        """Keep a part; it is there whole, or not at all."""
        buffer = BytesIO()
        np.savez(buffer, **_arrays(part), digest=np.array(picture.digest()))
        write_together(self.folder, {self._file(picture.name): buffer.getvalue()})

    def read(self, name: str) -> Part | None:
        """What is kept of a picture; None if nothing, or if the file is damaged."""
        found = self._read(name)
        return found and found[0]

    def finished(self, picture: Picture, extra: bool = False) -> Part | None:
        """The part of a picture that has not changed since; None if there is none, or if it was skipped.

        extra: it must have what the report shows.
        """
        kept = self._read(picture.name)
        if kept is None or kept[0].found is None or kept[1] != picture.digest() or (extra and not kept[0].extra):
            return None
        return kept[0]

    def _file(self, name: str) -> str:
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".npz"

    def _read(self, name: str) -> tuple[Part, str] | None:
        try:
            stored = Npz(self.folder / self._file(name))
            values = {key: stored.read(key) for key in stored.names}
            return _part(name, values), str(values["digest"])
        except (RmpeError, ValueError, KeyError):
            return None


def _arrays(part: Part) -> dict[str, np.ndarray]:
    found = part.found
    if found is None:
        return {"skipped": np.array(part.skipped)}
    return {"size_wh": np.array(found.size_wh), "boxes": found.proposals.boxes_xyxy, "scores": found.proposals.scores,
            "joints": found.poses.joints_xy, "heights": found.poses.scores, "beyond": np.array(found.beyond),
            **{f"extra_{key}": value for key, value in part.extra.items()}}


def _part(name: str, arrays: Mapping[str, np.ndarray]) -> Part:
    if "skipped" in arrays:
        return Part(name, skipped=str(arrays["skipped"]))
    width, height = arrays["size_wh"].tolist()
    found = Found((width, height), Detections(arrays["boxes"], arrays["scores"]),
                  Poses(arrays["joints"], arrays["heights"]), int(arrays["beyond"]))
    extra = {key.removeprefix("extra_"): value for key, value in arrays.items() if key.startswith("extra_")}
    return Part(name, found, extra=extra)
