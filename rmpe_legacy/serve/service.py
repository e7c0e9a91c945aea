"""The networks that the page offers, and what one of them finds in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2

from rmpe_legacy.caffe.data.image import load_image_bytes
from rmpe_legacy.caffe.data.image_file import declared_size
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pose.demo_models import DEMO_NOTE
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.pose.estimate import PoseNetwork
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import default_published, get_recipe
from rmpe_legacy.reading import first_line
from rmpe_legacy.runs.checkpoint import ImageResult
from rmpe_legacy.runs.commands import (
    Files,
    Options,
    detector_files,
    digest_of,
    engine_settings,
    facts_of,
    onnx_settings,
    pose_files,
    settings_of,
)
from rmpe_legacy.runs.outputs import collect, collect_nms, people_json
from rmpe_legacy.runs.report import ReportImage, section
from rmpe_legacy.runs.report_images import panels

N = TypeVar("N", Detector, PoseNetwork)


@dataclass(frozen=True)
class Limits:
    """The limits of one request."""

    upload: int = 20_000_000  # bytes
    pixels: int = 25_000_000
    seconds: float = 60.0  # for the upload, and again for the result
    requests: int = 4  # at a time; one is computed, the others wait


class TooLargeError(RmpeError):
    """The image has too many pixels."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork(Generic[N]):
    """A network that the page offers."""

    network: N
    files: tuple[Path, ...]
    digests: list[str]  # of the files, as poses.json has them
    is_demo: bool  # one of the package's networks, which only know drawn people
    de_transform: str | None = None


@dataclass(frozen=True)
class Choice:
    """What a person chose on the page. An empty name, or None, is the default."""

    detector: str = ""  # of Service.detectors
    pose: str = ""  # of Service.poses
    published: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class View:
    """The result for one image, as the page shows it."""

    facts: dict[str, str]  # name -> value
    section: str  # the report's section, HTML
    poses: bytes  # poses.json, as rmpe demo writes it


@dataclass(frozen=True, eq=False)
class Service:
    """Networks, loaded once, and how to run a choice of them on an image. Not for several threads at a time."""

    detectors: dict[str, LoadedNetwork[Detector]]  # name -> network; the first is the default
    poses: dict[str, LoadedNetwork[PoseNetwork]]
    batch: int
    limits: Limits = Limits()

    @property
    def note(self) -> str:
        """What to say of the default networks; "" if there is nothing."""
        return _note(next(iter(self.detectors.values())), next(iter(self.poses.values())))

    def find_people(self, data: bytes, name: str, choice: Choice) -> View:
        """Run the whole of RMPE on an image.

        Args:
            data: The content of an image file.
            name: What to call it.

        Raises:
            TooLargeError: The image has more than ``limits.pixels`` pixels, or does not fit in memory.
            RmpeError: It is not an image, or the choice is not one that this service offers.
        """
        self._check_size(data, name)
        try:
            return self._find_people(data, name, choice)
        except (MemoryError, cv2.error) as error:
            raise TooLargeError(f"{name}: {first_line(error)}; the image is too large to process, scale it "
                                "down") from None

    def _check_size(self, data: bytes, name: str) -> None:
        height, width = declared_size(data) or (0, 0)
        if height * width > self.limits.pixels:
            raise TooLargeError(f"{name}: has {width} x {height} pixels, more than the {self.limits.pixels / 1e6:g} "
                                "million that this page takes; scale it down, or use rmpe demo")

    def _find_people(self, data: bytes, name: str, choice: Choice) -> View:
        detector = _chosen(self.detectors, choice.detector, "detector")
        pose = _chosen(self.poses, choice.pose, "pose network")
        recipe = get_recipe(choice.published or default_published(pose.files[-1]), choice.threshold)
        pipeline = Pipeline(detector.network, pose.network, recipe, self.batch)
        image = load_image_bytes(data, name)
        people = pipeline(image, keep_crops=True)
        results = [ImageResult(name, people)]
        batch, nms = collect(results, recipe), collect_nms(results)
        note = _note(detector, pose)
        settings = settings_of(recipe, detector=detector.digests, pose=pose.digests, de_transform=pose.de_transform,
                               **onnx_settings(pose.network), **detector.network.settings,
                               **engine_settings(detector=detector.network, pose=pose.network))
        facts = facts_of(recipe, detector.files, pose.files, batch, nms) | ({"Note": note} if note else {})
        shown = ReportImage(name, people, people.grown(recipe), panels(image, people.traces))
        settings |= {"note": note} if note else {}
        return View(facts, section(0, shown), people_json(batch, nms, recipe, {}, settings))


def load_service(detectors: Sequence[Files], poses: Sequence[Files], options: Options, limits: Limits) -> Service:
    """Load the networks; the package's demo networks where none are given.

    Args:
        detectors: A prototxt and a caffemodel each.
        poses: A prototxt and a caffemodel, one .t7, or one .onnx each.
        options: Device, batch, threads, and how .onnx files are run.

    Raises:
        RmpeError: A file cannot be read, or is not such a network.
    """
    device = options.start()
    loaded_detectors = [
        LoadedNetwork(options.load_detector(files, device), files, [digest_of(path) for path in files], given is None)
        for given in detectors or (None,) for files in [detector_files(given)]]
    loaded_poses = [
        LoadedNetwork(options.load_pose(files, mode, device), files, [digest_of(path) for path in files], given is None,
                      mode)
        for given in poses or (None,) for files, mode in [pose_files(given, options.de_transform)]]
    return Service(by_name(loaded_detectors), by_name(loaded_poses), options.batch, limits)


def by_name(networks: Sequence[LoadedNetwork[N]]) -> dict[str, LoadedNetwork[N]]:
    """Name each network after its weights file; if two files have the same name, number them."""
    named: dict[str, LoadedNetwork[N]] = {}
    for network in networks:
        name = network.files[-1].stem
        same = sum(other.files[-1].stem == name for other in named.values())
        named[f"{name} ({same + 1})" if same else name] = network
    return named


def _note(detector: LoadedNetwork, pose: LoadedNetwork) -> str:
    return DEMO_NOTE if detector.is_demo or pose.is_demo else ""


def _chosen(networks: dict[str, LoadedNetwork[N]], name: str, what: str) -> LoadedNetwork[N]:
    name = name or next(iter(networks))
    if name not in networks:
        raise RmpeError(f"there is no {what} with this name; choose one of {', '.join(networks)}")
    return networks[name]


