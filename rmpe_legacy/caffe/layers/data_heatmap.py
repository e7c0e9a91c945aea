"""Persons cropped from images, and heatmaps of their joints. Source: data_heatmap.cpp of RMPE@5188c23."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.heatmap import (
    MASK_THRESHOLD,
    Person,
    cut_by_box,
    cut_by_centre,
    gaussians,
    is_absent,
    read_persons,
    rotate,
)
from rmpe_legacy.caffe.data.opencv_compat import resize_linear
from rmpe_legacy.caffe.data.opencv_image import check_opencv, decode_image, read_image
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import read_bytes

from .base import Shape
from .base_data import SourceLayer
from .fed import COLORS
from .registry import register

F = np.float32
CROP_VALUES = {"centerscale": 3, "bbox": 4}


@register("DataHeatmap", dialects=("rmpe",))
class DataHeatmap(SourceLayer):
    """The next persons of a list: RGB crops in 0..1, (batch, 3, outsize, outsize), and one heatmap per joint,
    (batch, joints, label_height, label_width).

    As published, heatmaps are scaled by label_height / outsize in both directions. The only augmentation is rotation.
    """

    params = ("heatmap_data_param", "visualise", "transform_param")
    tops = 2
    unread = ("num_channels",)
    _persons: list[Person] | None = None

    def check(self) -> None:
        self.param = param = self.spec.get("heatmap_data_param")
        if param.bbox_or_centerscale not in CROP_VALUES:
            raise self.spec.error(f"bbox_or_centerscale {param.bbox_or_centerscale!r} is neither 'bbox' nor "
                                  "'centerscale'")
        if not param.outsize or not param.multfact:
            raise self.spec.error("needs an outsize and a multfact above 0")
        if self.spec.get("visualise"):
            self.set_aside("visualise: true opens windows, which are not supported; remove it")

    @property
    def batch_size(self) -> int:
        return self.param.batchsize

    @property
    def source(self) -> str:
        return self.param.source

    @property
    def is_random(self) -> bool:
        param = self.param
        return param.shuffle or param.sample_per_cluster or (param.data_augment and param.angle_max != 0)

    def rewind(self, main: CaffeRandom) -> None:
        self._persons = None
        self._library = LibraryRandom(main.raw() + self.rank)  # each process draws angles of its own
        self._order = CaffeRandom(main.raw()) if self.param.shuffle else None

    # --- which person ----------------------------------------------------------------------------------------

    @property
    def persons(self) -> list[Person]:
        """In the order of the file; `_epoch` has their numbers in the order of this epoch."""
        if self._persons is None:
            param = self.param
            persons = read_persons(self.source, param.labelinds, CROP_VALUES[param.bbox_or_centerscale])
            if other := next((p for p in persons if len(p.joints) != len(persons[0].joints)), None):
                raise FileError(f"{other.where}: {len(other.joints)} joints, but the first person has "
                                f"{len(persons[0].joints)}; all people need the same number")
            if param.sample_per_cluster:
                self._clusters = _by_cluster(persons)
                self._places = [self._library.rand() % len(cluster) for cluster in self._clusters]
            self._persons, self._epoch, self._at = persons, list(range(len(persons))), 0
            if not param.sample_per_cluster:
                self._shuffle()
            for _ in range(self.rank):
                self._advance()
        return self._persons

    def _shuffle(self) -> None:
        if self._order:
            self._epoch = list(self._epoch)  # a position may refer to the old one
            self._order.shuffle(self._epoch)

    def _current(self) -> Person:
        persons = self.persons
        if self.param.sample_per_cluster:
            return self._clusters[self._at][self._places[self._at]]
        return persons[self._epoch[self._at]]

    def _advance(self) -> None:
        if self.param.sample_per_cluster:
            self._places[self._at] = (self._places[self._at] + 1) % len(self._clusters[self._at])
            self._at = (self._at + 1) % len(self._clusters)
            return
        self._at += 1
        if self._at == len(self.persons):
            self._at = 0
            if self._order:
                self._order = CaffeRandom(self.transformer.draws.thread.raw())
                self._shuffle()

    def place_in_source(self) -> dict[str, Any]:
        if self._persons is None:
            return {"at": None, "library": self._library.state()}
        places = {"places": list(self._places)} if self.param.sample_per_cluster else {}
        order = {"epoch": self._epoch} if self._order else {}  # its own stream begins anew with each epoch
        return {"at": self._at, "persons": len(self._persons), "library": self._library.state(), **places, **order}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self._persons = None
        if position["at"] is not None:
            if position["persons"] != len(self.persons):
                raise RmpeError(f"{self.source}: lists {len(self.persons)} persons, but {position['persons']} when the "
                                "run stopped")
            if self.param.sample_per_cluster:
                self._places = [range(len(cluster))[place]
                                for cluster, place in zip(self._clusters, position["places"], strict=True)]
            if self._order:
                epoch = [int(i) for i in position["epoch"]]
                if sorted(epoch) != list(range(len(self.persons))):
                    raise ValueError("not an order of the persons")
                self._epoch = epoch
            self._at = range(len(self._clusters if self.param.sample_per_cluster else self.persons))[position["at"]]
        self._library.restore(position["library"])

    # --- blobs -----------------------------------------------------------------------------------------------

    def shapes(self) -> list[Shape]:
        param = self.param
        self.assumes = not (self.source_exists() or param.labelinds)
        if self.source_exists():
            joints = len(self.persons[0].joints)
        elif param.labelinds:
            joints = len(param.labelinds.rstrip(",").split(",")) // 2
        else:
            joints = 1
            self.warn(f"{self.missing()}, and without labelinds only the layers that read its heatmaps can tell the "
                      "number of joints; create it, or set labelinds")
        batch = self.batch_or_one()
        return [(batch, COLORS, param.outsize, param.outsize),
                (batch, joints, param.label_height, param.label_width)]

    def batch(self) -> Sequence[np.ndarray]:
        blob, labels = (np.empty(shape, F) for shape in self.shapes())
        for i in range(self.batch_size):
            person = self._next_with_mask() if self.param.segmentation else self._current()
            check_opencv(self._write, person, blob[i], labels[i])
            for _ in range(self.processes):
                self._advance()
        return blob, labels

    def _mask_path(self, person: Person) -> str:
        return f"{self.param.root_img_dir}segs/{person.image}"

    def _next_with_mask(self) -> Person:
        """Return the next person that has a segmentation. Without any, Caffe loops forever; this raises FileError."""
        for _ in range(len(self.persons)):
            person = self._current()
            if os.path.exists(self._mask_path(person)):
                return person
            self._advance()
        raise FileError(f"{self.param.root_img_dir}segs: no segmentation for any image of {self.source}")

    def _write(self, person: Person, blob: np.ndarray, label: np.ndarray) -> None:
        param = self.param
        image = self._image(person)
        if param.bbox_or_centerscale == "bbox":
            crop = cut_by_box(image, person, param.multfact, param.scale_width, param.scale_height)
        else:
            crop = cut_by_centre(image, person, param.multfact)
        if param.data_augment:
            crop = rotate(crop, self._library.uniform(-param.angle_max, param.angle_max), param.multfact)
        resized = resize_linear(crop.image, param.outsize, param.outsize)
        np.divide(resized.transpose(2, 0, 1), F(255), out=blob)
        joints = crop.joints * (F(param.outsize) / crop.length)
        cells = F(param.label_height) / F(param.outsize) * joints * F(param.multfact)
        label[:] = gaussians(cells, is_absent(person.joints), param.label_height, param.label_width)

    def _image(self, person: Person) -> np.ndarray:
        """Return the RGB image, (H, W, 3) float32; a segmentation masks the other persons."""
        path = self.param.root_img_dir + person.image
        image = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB).astype(F)
        if self.param.segmentation:
            mask_path = self._mask_path(person)
            mask = decode_image(read_bytes(mask_path), "gray", mask_path)
            if mask.shape != image.shape[:2]:
                raise RmpeError(f"{mask_path}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image has "
                                f"{image.shape[1]} x {image.shape[0]}")
            image[mask > MASK_THRESHOLD] = 0
        return image


def _by_cluster(persons: list[Person]) -> list[list[Person]]:
    """Return one list of persons per cluster. Raises FileError if a cluster number is skipped."""
    numbers = {person.cluster for person in persons}
    if numbers != set(range(len(numbers))):
        raise FileError(f"{persons[0].where.rpartition(':')[0]}: clusters {', '.join(map(str, sorted(numbers)))}; "
                        "sample_per_cluster needs 0, 1, 2, ... without a gap")
    return [[person for person in persons if person.cluster == n] for n in range(len(numbers))]
