"""From an image to boxes around its people: RMPE's SSD, as demo.py of RMPE@5188c23 runs it, or another detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image
from rmpe_legacy.caffe.net import Net

from .crop import pixel_boxes
from .decode import THRESHOLDS
from .detector_options import DetectorOptions, person_label
from .detector_output import SSD_IMAGE, output_of
from .networks import copy_sharing_weights, device_of, inference_mode_fp32, keeping, load_trained
from .results import Detections


class Detector:
    """Finds people in images, with any detector whose output ``detector_output`` knows.

    Attributes:
        output: What kind of detector it is.
        label: The class of the output that is person.
        image: How images become the network's input.
        engine: What runs it, as ``Net.compiled`` names it; of "auto", the one that was chosen.
    """

    def __init__(self, net: Net, options: DetectorOptions | None = None, engine: str = "exact"):
        self.net, self.options = net, options or DetectorOptions()
        self.output = output_of(net)
        self.label = person_label(self.output.labels, self.options, net.name or "(unnamed)")
        self.image = self.options.applied_to(self.output.usual)
        self.compiled: Any = None if engine == "exact" else net.compiled(engine, blobs=self.output.tops)
        self.engine = "exact" if self.compiled is None else str(self.compiled.settle())

    def blobs(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run the network on an image.

        Args:
            image: (H, W, 3) RGB from 0 to 1.

        Returns:
            The blobs that ``output`` reads, and the inputs: name -> array, in the blobs' shapes.
        """
        inputs = self.output.inputs(image, self.image)
        device = device_of(self.net)
        values = {name: torch.from_numpy(value).to(device) for name, value in inputs.items()}
        with inference_mode_fp32():
            made = self._run(values)
        return {name: made[name].cpu().numpy() for name in self.output.tops}, inputs

    def _run(self, inputs: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        if self.compiled is not None:
            return self.compiled(inputs)
        with keeping(self.net, self.output.tops) as kept:
            self.net(inputs)
        return kept

    def __call__(self, image: np.ndarray, threshold: float = THRESHOLDS["demo"],
                 rounding: str = "demo") -> Detections:
        """Detect the people in an image.

        Args:
            image: (H, W, 3) RGB from 0 to 1, or anything that ``as_image`` accepts.
            threshold: Detections with a higher score are people.
            rounding: How boxes are rounded to pixels, see ``crop.pixel_boxes``.

        Returns:
            Boxes in pixels, which may extend beyond the image, and scores.
        """
        image = as_image(image)
        size_wh = image.shape[1], image.shape[0]
        boxes, scores = self.output.people(*self.blobs(image), size_wh, self.label, threshold)
        return Detections(pixel_boxes(boxes, size_wh if self.output.relative else (1, 1), rounding), scores)

    def for_another_thread(self) -> Detector:
        """Return a detector that may run at the same time as this one; they share the weights."""
        return self if self.compiled is not None else copy_sharing_weights(self, self.net)

    @property
    def size(self) -> str:
        """The input size: height x width, or the limits of the sides if the network resizes by them."""
        return self.output.size_text(self.image)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine its results besides the files; empty for RMPE's detectors without options."""
        usual = len(self.output.labels) == 1 and self.image == SSD_IMAGE
        return {} if usual else {"person_class": self.label, "detector_input": f"{self.image}, {self.size}"}

    def __str__(self) -> str:
        """The kind, the class of person and the preprocessing, in a line."""
        return (f"{self.output.kind}, person is class {self.label} of {len(self.output.labels)}; images are "
                f"{self.image}, {self.size}")


def load_detector(prototxt: str | Path, weights: str | Path, *, device: torch.device | str = "cpu",
                  allow_python: bool = False, options: DetectorOptions | None = None,
                  engine: str = "exact") -> Detector:
    """Load a detector's deploy.prototxt and its caffemodel.

    Args:
        prototxt: Of an SSD, a Faster R-CNN, an R-FCN or a YOLO v2 or v3.
        weights: As for ``load_net``.
        device: Where the network runs.
        allow_python: As for ``load_net``.
        options: The class of person, and how images become the input.
        engine: What runs the network: "exact", or a faster one, see ``Net.compiled``.

    Raises:
        RmpeError: A file cannot be read, is not a detector, or nothing says which of its classes is person.
    """
    return Detector(load_trained(prototxt, weights, allow_python=allow_python).to(device), options, engine)
