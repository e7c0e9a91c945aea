"""``rmpe make-lmdb``: an LMDB of images with boxes, from annotations of COCO or MPII, or a list of boxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rmpe_legacy.caffe.data.annotated_store import LabelledBox, annotated_record, record_key, write_lmdb
from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.opencv_image import decode_image, read_lines
from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.evaluation.files import read_groups
from rmpe_legacy.files import make_folder
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.reading import first_line, read_bytes
from rmpe_legacy.wording import shorten

log = logging.getLogger(__name__)
PERSON = {"person": 1}  # data/MPII_COCO14/labelmap_voc.prototxt of RMPE@5188c23
MARGIN = 0.05  # of a person's extent, at each side: so the boxes of the authors' annotation lists are made
MAX_KEY = 511  # bytes, LMDB's limit


@dataclass(frozen=True)
class AnnotatedImage:
    """A file name, relative to the folder of images, and the boxes in the image."""

    name: str
    boxes: tuple[LabelledBox, ...]


@dataclass(frozen=True)
class StoreSummary:
    """Numbers of images written and left out."""

    written: int
    boxes: int
    without_boxes: int  # images that were left out because nothing in them has a box
    unreadable: Mapping[str, str]  # image -> why


def make_lmdb(images: Sequence[AnnotatedImage], folder: str | PathLike, output: str | PathLike,
              encode_type: str = "jpg", shuffle: int | None = None) -> StoreSummary:
    """Write a store of the images that have boxes.

    Args:
        images: The result of ``coco_images``, ``mpii_images`` or ``listed_images``.
        folder: The folder of the image files.
        output: The store's folder; it is made, and must not contain a store yet.
        encode_type: Files of other types are re-encoded as this: "jpg" or "png".
        shuffle: A seed to shuffle the images, like convert_annoset --shuffle; None keeps their order.

    Raises:
        RmpeError: The store cannot be written; the message says why.
    """
    data = Path(output) / "data.mdb"
    if os.path.exists(data):
        raise FileError(f"{output}: already contains an LMDB; remove it, or give another name")
    chosen = [image for image in images if image.boxes]
    if not chosen:
        raise RmpeError("none of the images has a box with a known label, so there is nothing to write")
    if shuffle is not None:
        CaffeRandom(shuffle).shuffle(chosen)
    make_folder(Path(output))
    unreadable: dict[str, str] = {}
    sizes = [path.stat().st_size for image in chosen if os.path.isfile(path := Path(folder) / image.name)]
    room = 4 * sum(sizes) + 4096 * len(chosen)  # an image encoded again may be larger
    records = _records(chosen, Path(folder), encode_type, unreadable)
    written = write_lmdb(data, records, room)
    if not written:
        data.unlink()
        raise RmpeError(f"none of the {len(chosen)} images can be read: {next(iter(unreadable.values()))}")
    boxes = sum(len(image.boxes) for image in chosen if image.name not in unreadable)
    return StoreSummary(written, boxes, len(images) - len(chosen), unreadable)


def _records(images: Sequence[AnnotatedImage], folder: Path, encode_type: str,
             unreadable: dict[str, str]) -> Iterator[tuple[bytes, bytes]]:
    for number, image in enumerate(images):
        key = record_key(number, image.name)
        try:
            if len(key) > MAX_KEY:
                raise FileError(f"{image.name}: the name is longer than LMDB's keys may be ({MAX_KEY} bytes)")
            encoded, size_hw = _encoded(folder / image.name, encode_type)
        except RmpeError as error:
            log.warning("Failed to read %s: %s", image.name, error)
            unreadable[image.name] = str(error)
            continue
        yield key, annotated_record(encoded, size_hw, image.boxes)


def _encoded(path: Path, encode_type: str) -> tuple[bytes, tuple[int, int]]:
    """An image file as it is if it is of this type and in colour, else encoded as such; and its size."""
    data = read_bytes(path)
    image = decode_image(data, "native", str(path))
    same = path.suffix.lower().replace("jpeg", "jpg") == f".{encode_type}"
    if not (same and image.ndim == 3 and image.shape[2] == 3):
        image = decode_image(data, "color", str(path))
        data = cv2.imencode(f".{encode_type}", image)[1].tobytes()
    return data, image.shape[:2]


# --- annotations ------------------------------------------------------------------------------------------------


def read_label_map(path: str | PathLike) -> dict[str, int]:
    """Return the labels of a LabelMap prototxt by name."""
    return {item.name: item.label for item in read_text(path, "LabelMap").item}


def coco_images(path: str | PathLike, labels: Mapping[str, int] = PERSON) -> list[AnnotatedImage]:
    """Return the images of a COCO annotation file, with the boxes of the categories that have a label.

    Args:
        path: The annotation file.
        labels: Label by the category's name, or by its id as text, as in SSD's labelmap_coco.prototxt. Crowds are
            marked as difficult.

    Raises:
        FileError: The file cannot be read, or has another form.
    """
    content = read_json(path)
    wrong = f"{path}: not COCO annotations with images, categories and boxes"
    if not isinstance(content, Mapping):
        raise FileError(f"{wrong}: expected an object")
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        boxes: dict[Any, list[LabelledBox]] = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            category = entry["category_id"]
            label = labels.get(str(category), labels.get(names.get(category, "")))
            if label is not None:
                boxes[entry["image_id"]].append(_coco_box(entry, label))
        return [AnnotatedImage(_file_name(image["file_name"]), tuple(boxes[image["id"]]))
                for image in content["images"]]
    except KeyError as error:
        raise FileError(f"{wrong}: there is no {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{wrong}: {first_line(error)}") from None


def _coco_box(entry: Mapping[str, Any], label: int) -> LabelledBox:
    with np.errstate(over="ignore"):
        x, y, width, height = map(np.float32, entry["bbox"])
        if not np.isfinite([x, y, x + width, y + height]).all():
            raise ValueError(f"the box of annotation {shorten(str(entry.get('id')))} is not finite")
    return LabelledBox(label, (float(x), float(y), float(x + width), float(y + height)), bool(entry.get("iscrowd", 0)))


def _file_name(name: Any) -> str:
    path = Path(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(name)!r} is outside the folder of images")
    return str(path)


def listed_images(path: str | PathLike) -> list[AnnotatedImage]:
    """Return the images of a list with a line "name xmin ymin xmax ymax" per person, in pixels.

    The authors' binary_MPII+COCO_perline.txt has this form.

    Raises:
        FileError: The file cannot be read, or a line has another form.
    """
    boxes: dict[str, list[LabelledBox]] = {}
    for number, line in enumerate(read_lines(path, "a list of boxes"), 1):
        words = line.split()
        if not words:
            continue
        try:
            name, xmin, ymin, xmax, ymax = _file_name(words[0]), *map(float, words[1:])
            if not np.isfinite([xmin, ymin, xmax, ymax]).all():
                raise ValueError
        except ValueError:
            raise FileError(f"{path}:{number}: {shorten(line)!r} is not a file name below the folder of images and "
                            "xmin ymin xmax ymax") from None
        boxes.setdefault(name, []).append(LabelledBox(PERSON["person"], (xmin, ymin, xmax, ymax)))
    return [AnnotatedImage(name, tuple(own)) for name, own in boxes.items()]


def mpii_images(path: str | PathLike, groups: str | PathLike | None = None,
                split: str = "train") -> list[AnnotatedImage]:
    """Return the images of MPII annotations in any form that ``rmpe evaluate mpii`` reads, with a box per person.

    MPII has no boxes. A person's box is the extent of the annotated joints, enlarged by a twentieth on each side, like
    the boxes in the authors' annotation lists (train.txt).

    Raises:
        FileError: The file cannot be read, or does not name its images.
    """
    found = read_groups(path, groups, split)
    if not all(found.images):
        raise FileError(f"{path}: does not name its images; give --groups with a file that does")
    boxes: dict[str, list[LabelledBox]] = {}
    for name, joints in zip(found.images, found.joints, strict=True):
        boxes.setdefault(_file_name(name), []).extend(filter(None, map(_person_box, joints)))
    return [AnnotatedImage(name, tuple(own)) for name, own in boxes.items()]


def _person_box(joints: np.ndarray) -> LabelledBox | None:
    """The box of one person's joints, (16, 2); None for less than two joints."""
    known = joints[~np.isnan(joints).any(axis=1)]
    if len(known) < 2:
        return None
    low, high = known.min(axis=0), known.max(axis=0)
    margin = MARGIN * (high - low)
    xmin, ymin, xmax, ymax = map(float, (*(low - margin), *(high + margin)))
    return LabelledBox(PERSON["person"], (xmin, ymin, xmax, ymax))
