"""Finished images of a run, one file each, so that an interrupted run resumes where it stopped.

They are stored in the folder ``.parts`` of the output. Every process of a run writes there; the first one reads all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.joints import JointSet
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.results import Detections, Persons, Poses

from .inputs import ImageSource

FOLDER, SETTINGS = ".parts", "run.json"
_SUFFIX = ".safetensors"  # of an image's result
_FACTS = "facts"  # the array that holds what is not an array, as JSON
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
            self._begin(settings)
            return
        except OSError as error:
            raise FileError(f"{self.folder / SETTINGS}: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise FileError(f"{self.folder / SETTINGS}: is damaged; remove the folder {self.folder} to start again")
        changed = [f"{key} was {before.get(key)}, is now {settings.get(key)}" for key in {**before, **settings}
                   if before.get(key) != settings.get(key)]
        if changed and not any(self.folder.glob(f"*{_SUFFIX}")):
            self._begin(settings)  # the run before ended at its first image
        elif changed:
            raise RmpeError(f"{output}: holds results of another run: {'; '.join(changed)}. Choose another output "
                            "folder, or remove this one to start again")

    def _begin(self, settings: Mapping[str, Any]) -> None:
        write_together(self.folder, {SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()})

    def write(self, source: ImageSource, result: ImageResult) -> None:
        """Save one image's result; the file appears whole or not at all."""
        write_together(self.folder, {self._file(source.name): save(_arrays(result, source.digest()))})

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
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32] + _SUFFIX

    def _read(self, name: str) -> tuple[ImageResult, str] | None:
        try:
            arrays = load((self.folder / self._file(name)).read_bytes())
            facts = json.loads(arrays.pop(_FACTS).tobytes())
            return _result(name, arrays, facts), facts["digest"]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _arrays(result: ImageResult, digest: str) -> dict[str, np.ndarray]:
    """Return what is stored: arrays, and as one of them the rest in JSON."""
    people = result.people
    if people is None:
        return {_FACTS: _as_array({"skipped": result.skipped, "digest": digest})}
    facts = {"digest": digest, "size_wh": people.size_wh, "beyond": people.beyond, "has_nms": people.nms is not None}
    arrays = {_FACTS: _as_array(facts), "joint_set": _joint_set_array(people.joints),
              "boxes": people.proposals.boxes_xyxy, "scores": people.proposals.scores,
              "joints": people.poses.joints_xy, "heights": people.poses.scores}
    if people.nms is not None:
        for group, persons in (("persons", people.nms.persons), ("dropped", people.nms.dropped)):
            arrays |= {f"{group}_{key}": getattr(persons, key) for key in _PERSONS}
    return arrays | {f"extra_{key}": value for key, value in result.extra.items()}


def _result(name: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> ImageResult:
    if "skipped" in facts:
        return ImageResult(name, skipped=facts["skipped"])
    width, height = facts["size_wh"]
    nms = None
    if facts["has_nms"]:
        nms = NmsResult(*(Persons(*(arrays[f"{group}_{key}"] for key in _PERSONS)) for group in ("persons", "dropped")))
    people = PoseResult((width, height), Detections(arrays["boxes"], arrays["scores"]),
                        Poses(arrays["joints"], arrays["heights"]), facts["beyond"], nms=nms,
                        joints=_joint_set(arrays["joint_set"].tobytes()))
    extra = {key.removeprefix("extra_"): value for key, value in arrays.items() if key.startswith("extra_")}
    return ImageResult(name, people, extra=extra)


def _as_array(content: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


@lru_cache(16)
def _joint_set_array(joints: JointSet) -> np.ndarray:
    return _as_array(asdict(joints))


@lru_cache(16)
def _joint_set(text: bytes) -> JointSet:
    stored = json.loads(text)
    return JointSet(stored["name"], tuple(stored["joints"]), tuple((a, b) for a, b in stored["limbs"]))
