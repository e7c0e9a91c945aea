"""Writes DetectionOutput's result files: VOC, COCO and ILSVRC. Source: detection_output_layer.cpp:317-421.

Numbers are formatted as in the published code: by boost's property tree (9 digits) and C++ streams (6 digits).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import write_together

from .ssd_common import missing_file, read_sizes, resize_of

if TYPE_CHECKING:
    from rmpe_legacy.caffe.proto.message import Message
    from rmpe_legacy.ops.boxes import Resize

    from .base import Layer

FORMATS = ("VOC", "COCO", "ILSVRC")
_NUMBER = re.compile(r'"(null|true|false|-?[0-9]+(\.[0-9]+)?)"')
_ESCAPES = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "/": "\\/", '"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class _Detection:
    image: str
    label: int
    score: np.float32
    box: tuple[np.float32, ...]  # x, y, width, height in pixels, rounded to 0.01


class DetectionFiles:
    """Collects the detections of num_test_image images, writes them, and starts over.

    Differs: the first forward creates the directory and empties old files; Caffe does so when the network is loaded.
    """

    def __init__(self, layer: Layer, param: Message, names: dict[int, str]):
        self.layer = layer
        self.names = names  # label -> name, for every class except the background
        self.directory, self.prefix, self.format = param.output_directory, param.output_name_prefix, param.output_format
        self.resize: Resize | None = resize_of(layer, param)
        self.images, self.sizes = read_sizes(layer.spec, param.name_size_file)
        self.per_run = param.num_test_image if param.has("num_test_image") else len(self.images)
        if not 0 < self.per_run <= len(self.images):
            raise layer.spec.error(f"num_test_image is {self.per_run}, but {param.name_size_file} lists "
                                   f"{len(self.images)} images")
        if self.format not in FORMATS:  # the published code accepts any, and writes nothing
            raise layer.spec.error(f"output_format must be one of {', '.join(FORMATS)}, not {self.format!r}")
        self.count = 0
        self.detections: list[_Detection] = []

    @classmethod
    def wanted(cls, layer: Layer, param: Message, background: int) -> DetectionFiles | None:
        """Return a writer, or None if save_output_param lacks a directory, a label map or the images' names.

        Differs: if nothing will be saved, the other files are not read; the published code aborts if one is missing.
        """
        if not (param.output_directory and param.label_map_file and param.name_size_file):
            return None
        try:
            label_map = read_text(param.label_map_file, "LabelMap", layer.spec.dialect)
        except RmpeError as error:
            raise missing_file(layer.spec, f"cannot read label_map_file: {error}") from None
        labels = [item.label for item in label_map.item]
        if len(set(labels)) != len(labels):
            raise layer.spec.error(f"label_map_file {param.label_map_file} lists a label twice")
        named = {item.label: item.name for item in label_map.item}
        classes = range(layer.spec.get("detection_output_param").num_classes)
        missing = next((c for c in classes if c != background and c not in named), None)
        if missing is not None:
            raise layer.spec.error(f"label_map_file {param.label_map_file} has no label {missing}")
        return cls(layer, param, {c: named[c] for c in classes if c != background})

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the next image."""
        return self.sizes[self.count]

    def begin(self) -> None:
        """Start a forward: before the first image of a run, create the directory and empty the VOC files."""
        if self.count:
            return
        self._write({f"{name}.txt": "" for name in self.names.values()} if self.format == "VOC" else {})

    def add(self, labels: list[int], scores: np.ndarray, boxes: np.ndarray) -> None:
        """Add the next image's detections, boxes (K, 4) in pixels. After the last image of a run, write the files."""
        for label, score, (x1, y1, x2, y2) in zip(labels, scores, boxes, strict=True):
            box = tuple(map(_hundredths, (x1, y1, x2 - x1, y2 - y1)))
            self.detections.append(_Detection(self.images[self.count], label, score, box))
        self.count += 1
        if self.count < self.per_run:
            return
        self._write({"VOC": self._voc, "COCO": self._coco, "ILSVRC": self._ilsvrc}[self.format]())
        self.count = 0
        self.detections = []

    def _write(self, files: dict[str, str]) -> None:
        """Write text files, all or none, and create the directory. files: suffix after the prefix -> text."""
        encoded = {f"{self.prefix}{name}": text.encode(errors="surrogateescape") for name, text in files.items()}
        try:
            write_together(self.directory, encoded)
        except RmpeError as error:
            raise self.layer.spec.error(str(error)) from None

    def _voc(self) -> dict[str, str]:
        lines: dict[str, list[str]] = {name: [] for name in self.names.values()}
        for d in self.detections:
            lines[self.names[d.label]].append(f"{d.image} {d.score:.6g} {_corners(d.box)}\n")
        return {f"{name}.txt": "".join(text) for name, text in lines.items()}

    def _ilsvrc(self) -> dict[str, str]:
        lines = (f"{d.image} {d.label} {d.score:.6g} {_corners(d.box)}\n" for d in self.detections)
        return {".txt": "".join(lines)}

    def _coco(self) -> dict[str, str]:
        """Differs: the RMPE fork crashes, because its JSON writer is commented out; this writes the ssd branch's file.

        As there, text that looks like a number loses its quotes (image names too), while 1e-05 keeps them.
        """
        items = ",\n".join(" " * 8 + _json_of(d, self.names[d.label]) for d in self.detections)
        body = f"[\n{items}\n    " if items else "["
        return {".json": _NUMBER.sub(r"\1", body) + "\n]\n"}


def _hundredths(value: np.float32) -> np.float32:
    """Round a pixel coordinate to two decimals, halves away from 0, in float32 as in C++."""
    scaled = float(np.float32(value) * np.float32(100))
    if not math.isfinite(scaled):
        return np.float32(scaled)
    return np.float32(math.copysign(math.floor(abs(scaled) + 0.5), scaled) / 100)


def _whole(value: np.float32) -> int:
    """Truncate a float to a 32-bit integer as x86 does: a value that does not fit becomes the smallest integer."""
    return int(value) if -(1 << 31) <= value < 1 << 31 else -(1 << 31)


def _corners(box: tuple[np.float32, ...]) -> str:
    x, y, width, height = map(_whole, box)
    return f"{x} {y} {x + width} {y + height}"


def _json_of(d: _Detection, category: str) -> str:
    """Format a detection as boost's JSON writer does, indented by eight; every value is a string."""
    numbers = ",\n".join(f'{" " * 16}"{v:.9g}"' for v in d.box)
    return (f'{{\n            "image_id": "{_escape(d.image)}",\n            "category_id": "{_escape(category)}",\n'
            f'            "bbox": [\n{numbers}\n            ],\n            "score": "{d.score:.9g}"\n        }}')


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 0x20 else c) for c in text)
