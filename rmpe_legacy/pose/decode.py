"""Decodes the two networks' last blobs: people from detection_out, joints from prediction_heatmap.

Source: examples/rmpe/demo.py:59-92,113-121 of RMPE@5188c23.
"""

from __future__ import annotations

import numpy as np

from rmpe_legacy.errors import NetError

PERSON = 1  # the label that the authors' detector gives it
THRESHOLDS = {"demo": 0.3, "paper": 0.09, "alphapose": 0.1}  # the last: detector/yolo_cfg.py of AlphaPose
JOINT_VALUES = 3 * 16  # x, y and height of each joint


def read_detections(detection_out: np.ndarray, threshold: float = THRESHOLDS["demo"],
                    item: int = 0, label: int = PERSON) -> tuple[np.ndarray, np.ndarray]:
    """Return the people that the detector found in one image of a batch.

    The threshold is compared in double precision, as in the original: a single-precision score of 0.3 exceeds 0.3.

    Args:
        detection_out: (1, 1, D, 7); each row is item, label, score, xmin, ymin, xmax, ymax. A single row with label -1
            means that nothing was found.
        threshold: Detections with a higher score are people.
        item: The index of the image in the batch.
        label: The label of the class person.

    Returns:
        Boxes (P, 4), relative to the image (0 to 1, but they may extend beyond it), in the detector's order, and scores
        (P,), both float32.

    Raises:
        NetError: The blob has another shape.
    """
    rows = np.asarray(detection_out)
    if rows.ndim == 0 or rows.shape[-1] != 7:
        raise NetError(f"a blob of shape {rows.shape} does not hold detections, which are rows of 7 values")
    rows = rows.reshape(-1, 7)
    people = rows[(rows[:, 0] == item) & (rows[:, 1] == label) & (rows[:, 2].astype(np.float64) > threshold)]
    return people[:, 3:], people[:, 2]


def read_joints(prediction_heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints of each crop in a batch.

    Args:
        prediction_heatmap: (N, 1, 1, 48): x, y and height of each joint in turn.

    Returns:
        Points (N, 16, 2) as (column, row) in the heatmap, which ``crop.uncrop`` maps to the image, and peak heights
        (N, 16).

    Raises:
        NetError: The blob has another shape.
    """
    blob = np.asarray(prediction_heatmap)
    if blob.ndim == 0 or blob.shape[-1] != JOINT_VALUES:
        raise NetError(f"a blob of shape {blob.shape} does not hold joints, which are {JOINT_VALUES} values per crop")
    joints = blob.reshape(-1, 16, 3)
    return joints[:, :, :2], joints[:, :, 2]
