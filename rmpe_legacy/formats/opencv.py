"""OpenCV 4's importer of Caffe files, as an independent implementation to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.reading import first_line
from rmpe_legacy.silence import silent_stderr

from .base import Arrays, RunResult

PREFIX = "opencv:"  # marks a prototxt and caffemodel on the command line


class OpenCvRunner:
    """Runs Caffe files in OpenCV 4; gives every blob that one of its layers outputs."""

    def __init__(self, prototxt: Path, weights: Path, net: Net, title: str):
        import cv2

        self.title, self.net, self.cv2 = title, net, cv2
        if not hasattr(cv2.dnn, "readNetFromCaffe"):
            raise RmpeError(f"OpenCV {cv2.__version__} cannot import Caffe files; install "
                            "'opencv-python-headless<5'")
        try:
            with silent_stderr():
                self.model = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
            self.model.enableFusion(False)  # otherwise values between fused layers are missing
        except cv2.error as error:
            raise NetError(f"{title}: OpenCV cannot read it: {first_line(error)}") from None

    def inputs(self) -> dict[str, Shape]:
        return dict(self.net.inputs)

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        places = self._places()
        names = list(dict.fromkeys(layer for layer, _ in places.values()))
        try:
            for name, value in inputs.items():
                self.model.setInput(np.asarray(value, np.float32), name)
            found = dict(zip(names, self.model.forwardAndRetrieve(names), strict=True))
        except self.cv2.error as error:
            raise NetError(f"{self.title}: OpenCV cannot run it: {first_line(error)}; convert a part with --until") \
                from None
        blobs = {}
        for step in self.net.steps:
            for blob, shape in zip(step.top, step.top_shapes, strict=True):
                if blob in places:
                    layer, index = places[blob]
                    blobs[blob] = self._like_caffe(step.layer.spec, found[layer][index], shape)
        return RunResult(blobs, tuple(blob for blob in self.net.outputs if blob in blobs))

    def _places(self) -> dict[str, tuple[str, int]]:
        """Return blob -> (OpenCV layer, output index). OpenCV may name a layer after its single top.

        OpenCV numbers further layers of the same name: conv, conv_1, conv_2.
        """
        layers = set(self.model.getLayerNames())
        places: dict[str, tuple[str, int]] = {}
        count: Counter[str] = Counter()
        for step in self.net.steps:
            spec = step.layer.spec
            if spec.is_inserted:
                continue
            own = spec.name if not count[spec.name] else f"{spec.name}_{count[spec.name]}"
            count[spec.name] += 1
            if spec.type in ("Split", "Input"):
                continue
            for index, blob in enumerate(step.top):
                name = next((n for n in (own, blob) if n in layers), None)
                places.pop(blob, None)
                if name is not None:
                    places[blob] = (name, index)
        return places

    @staticmethod
    def _like_caffe(spec: Any, value: np.ndarray, shape: Shape) -> np.ndarray:
        """Undo OpenCV's differences: detections are padded with zeros and not clipped; blobs may be reshaped."""
        if spec.type == "DetectionOutput":
            rows = value.reshape(-1, 7)
            rows = rows[rows[:, 2] > 0]
            if spec.dialect == "rmpe":
                rows = np.concatenate([rows[:, :3], rows[:, 3:].clip(0, 1)], 1)
            return rows.reshape(1, 1, -1, 7)
        return value.reshape(shape) if value.size == np.prod(shape) else value
