"""From an image to boxes around its people: the SSD detector, as demo.py of RMPE@5188c23 runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image, detector_input
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError

from .crop import pixel_boxes
from .decode import THRESHOLDS, read_detections
from .networks import device_of, image_input, inference_mode_fp32, load_trained, steps_of_type
from .results import Detections


class Detector:
    """Finds people in images. The input size is that of the prototxt, 500 x 500 for the authors' detector."""

    def __init__(self, net: Net, engine: str = "exact"):
        self.net = net
        self.input, self.height, self.width = image_input(net, "detector")
        steps = steps_of_type(net, "DetectionOutput")
        if not steps:
            raise NetError(f"the detector {net.name or '(unnamed)'} has no DetectionOutput layer, so it outputs no "
                           "boxes; give its deploy.prototxt")
        self.output = steps[-1].top[0]
        if self.output not in net.outputs:
            raise NetError(f"the detector's boxes {self.output!r} are not an output of the network; give its "
                           "deploy.prototxt")
        self.runs: Any = net if engine == "exact" else net.compiled(engine)
        self.engine = "exact" if engine == "exact" else str(self.runs.engine)

    def detection_out(self, image: np.ndarray) -> np.ndarray:
        """Run the network on an image, (H, W, 3) RGB from 0 to 1, and return its last blob, (1, 1, D, 7)."""
        pixels = torch.from_numpy(detector_input(image, self.height, self.width))
        with inference_mode_fp32():
            return self.runs({self.input: pixels[None].to(device_of(self.net))})[self.output].cpu().numpy()

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
        boxes_norm, scores = read_detections(self.detection_out(image), threshold)
        return Detections(pixel_boxes(boxes_norm, (image.shape[1], image.shape[0]), rounding), scores)


def load_detector(prototxt: str | Path, weights: str | Path, *, device: torch.device | str = "cpu",
                  allow_python: bool = False, engine: str = "exact") -> Detector:
    """Load the detector of a deploy.prototxt and its caffemodel.

    Args:
        allow_python: As for ``load_net``.
        engine: What runs it, see ``Net.compiled``.

    Raises RmpeError if a file cannot be read or is not a detector.
    """
    return Detector(load_trained(prototxt, weights, allow_python=allow_python).to(device), engine)
