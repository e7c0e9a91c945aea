"""From a picture to boxes around its people: the SSD detector, as demo.py of RMPE@5188c23 runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image, detector_input
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError

from .crop import pixel_boxes
from .decode import THRESHOLDS, read_detections
from .networks import answering, device_of, load_trained, picture_input, steps_of_type
from .results import Detections


class Detector:
    """Finds people in pictures. The network's input has the size that its prototxt says, 500 x 500 for the authors'."""

    def __init__(self, net: Net):
        self.net = net
        self.input, self.height, self.width = picture_input(net, "detector")
        found = steps_of_type(net, "DetectionOutput")
        if not found:
            raise NetError(f"the detector {net.name or 'without a name'} has no DetectionOutput layer, which gives the "
                           "boxes; give its deploy.prototxt")
        self.output = found[-1].top[0]
        if self.output not in net.outputs:
            raise NetError(f"the detector's boxes {self.output!r} go into another layer; give its deploy.prototxt")

    def detection_out(self, image: np.ndarray) -> np.ndarray:
        """The network's last blob for a picture (H, W, 3), RGB from 0 to 1: (1, 1, D, 7)."""
        given = torch.from_numpy(detector_input(image, self.height, self.width))
        with answering():
            return self.net({self.input: given[None].to(device_of(self.net))})[self.output].cpu().numpy()

    def __call__(self, image: np.ndarray, threshold: float = THRESHOLDS["demo"],
                 rounding: str = "demo") -> Detections:
        """The people in an image, (H, W, 3) RGB from 0 to 1 or what ``as_image`` takes, with scores above a threshold.

        Boxes are in pixels, rounded as ``geometry.pixel_boxes`` does; they may reach out of the picture.
        """
        image = as_image(image)
        boxes_norm, scores = read_detections(self.detection_out(image), threshold)
        return Detections(pixel_boxes(boxes_norm, (image.shape[1], image.shape[0]), rounding), scores)


def load_detector(prototxt: str | Path, weights: str | Path, *, device: torch.device | str = "cpu",
                  allow_python: bool = False) -> Detector:
    """The detector of a deploy.prototxt and its caffemodel. RmpeError says which of them does not fit.

    allow_python: as for ``load_net``.
    """
    return Detector(load_trained(prototxt, weights, allow_python=allow_python).to(device))
