"""Finished images of a run, one file each, so that an interrupted run resumes where it stopped.

They are stored in the folder ``.parts`` of the output. Every process of a run writes there; the first one reads all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.joints import JointSet
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.results import Detections, Persons, Poses
from rmpe_legacy.readers.npy import Npz

from .inputs import ImageSource

FOLDER, SETTINGS = ".parts", "run.json"
_PERSONS = ("picks", "joints_xy", "scores", "members", "member_ends", "image_ends")  # the arrays of Persons


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The result for one image of a run."""

    name: str
    people: PoseResult | None = None  # None: skipped
    skipped: str = ""  # why it was skipped
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # images for the report, see Panels.arrays


class Checkpoint:
    """The finished images of one output folder. Opening it raises RmpeError if a run with other settings wrote it."""

    def __init__(self, output: str | Path, settings: Mapping[str, Any]):
        self.folder = Path(output) / FOLDER
        self._open(Path(output), json.loads(json.dumps(settings)))

    def _open(self, output: Path, settings: dict[str, Any]) -> None:
        try:
            before = json.loads((self.folder / SETTINGS).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            write_together(self.folder, {SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()})
            return
        except OSError as error:
            raise FileError(f"{self.folder / SETTINGS}: {error.strerror or error}") from None
        except ValueError:
            before = None
        if not isinstance(before, dict):
            raise FileError(f"{self.folder / SETTINGS}: is damaged; remove the folder {self.folder} to start again")
        changed = [f"{key} was {before.get(key)}, is now {settings.get(key)}" for key in {**before, **settings}
                   if before.get(key) != settings.get(key)]
        if changed:
            raise RmpeError(f"{output}: holds results of another run: {'; '.join(changed)}. Choose another output "
                            "folder, or remove this one to start again")

    def write(self, source: ImageSource, result: ImageResult) -> None:
        """Save one image's result; the file appears whole or not at all."""
        buffer = BytesIO()
        arrays: dict[str, Any] = {**_arrays(result), "digest": np.array(source.digest())}
        np.savez(buffer, **arrays)
        write_together(self.folder, {self._file(source.name): buffer.getvalue()})

    def read(self, name: str) -> ImageResult | None:
        """Return what is saved for an image; None if nothing is, or if the file is damaged."""
        saved = self._read(name)
        return saved and saved[0]

    def finished(self, source: ImageSource, extra: bool = False) -> ImageResult | None:
        """Return the result of an image that has not changed since; None if there is none or it was skipped.

        extra: require the images for the report too.
        """
        saved = self._read(source.name)
        if saved is None or saved[0].people is None or saved[1] != source.digest() or (extra and not saved[0].extra):
            return None
        return saved[0]

    def _file(self, name: str) -> str:
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".npz"

    def _read(self, name: str) -> tuple[ImageResult, str] | None:
        try:
            stored = Npz(self.folder / self._file(name))
            values = {key: stored.read(key) for key in stored.names}
            return _result(name, values), str(values["digest"])
        except (RmpeError, ValueError, KeyError):
            return None


def _arrays(result: ImageResult) -> dict[str, np.ndarray]:
    people = result.people
    if people is None:
        return {"skipped": np.array(result.skipped)}
    arrays = {"size_wh": np.array(people.size_wh), "beyond": np.array(people.beyond),
              "boxes": people.proposals.boxes_xyxy, "scores": people.proposals.scores,
              "joints": people.poses.joints_xy, "heights": people.poses.scores,
              "joint_set": np.array(json.dumps(asdict(people.joints))),
              "has_nms": np.array(people.nms is not None)}
    if people.nms is not None:
        for group, persons in (("persons", people.nms.persons), ("dropped", people.nms.dropped)):
            arrays |= {f"{group}_{key}": getattr(persons, key) for key in _PERSONS}
    return arrays | {f"extra_{key}": value for key, value in result.extra.items()}


def _result(name: str, arrays: Mapping[str, np.ndarray]) -> ImageResult:
    if "skipped" in arrays:
        return ImageResult(name, skipped=str(arrays["skipped"]))
    width, height = arrays["size_wh"].tolist()
    nms = None
    if arrays["has_nms"]:
        nms = NmsResult(*(Persons(*(arrays[f"{group}_{key}"] for key in _PERSONS)) for group in ("persons", "dropped")))
    people = PoseResult((width, height), Detections(arrays["boxes"], arrays["scores"]),
                        Poses(arrays["joints"], arrays["heights"]), int(arrays["beyond"]), nms=nms,
                        joints=_joint_set(str(arrays["joint_set"])))
    extra = {key.removeprefix("extra_"): value for key, value in arrays.items() if key.startswith("extra_")}
    return ImageResult(name, people, extra=extra)


def _joint_set(text: str) -> JointSet:
    stored = json.loads(text)
    return JointSet(stored["name"], tuple(stored["joints"]), tuple((a, b) for a, b in stored["limbs"]))
