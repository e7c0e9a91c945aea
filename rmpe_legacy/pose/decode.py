"""What the two networks' last blobs say: people from detection_out, joints from prediction_heatmap.

Source: examples/rmpe/demo.py:59-92,113-121 of RMPE@5188c23.
"""

from __future__ import annotations

import numpy as np

from rmpe_legacy.errors import NetError

PERSON = 1  # the detector's label
THRESHOLDS = {"demo": 0.3, "paper": 0.09}
JOINT_VALUES = 3 * 16  # x, y, height of each joint


def read_detections(detection_out: np.ndarray, threshold: float = THRESHOLDS["demo"],
                    item: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The people that the detector found in one picture of its batch: boxes (P, 4), 0 to 1, and scores (P,), float32.

    detection_out: (1, 1, D, 7), each item, label, score, xmin, ymin, xmax, ymax; where nothing was found, one row of
    label -1. Boxes stay in its order and may reach out of the picture.

    The threshold counts in double precision, as it does in the original: a score of single-precision 0.3 passes 0.3.
    """
    rows = np.asarray(detection_out)
    if rows.ndim == 0 or rows.shape[-1] != 7:
        raise NetError(f"a blob of shape {rows.shape} holds no detections; they are rows of 7 values")
    rows = rows.reshape(-1, 7)
    people = rows[(rows[:, 0] == item) & (rows[:, 1] == PERSON) & (rows[:, 2].astype(np.float64) > threshold)]
    return people[:, 3:], people[:, 2]


def read_joints(prediction_heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The joints of each crop of a batch: points (N, 16, 2), columns and rows of the heat map, and heights (N, 16).

    prediction_heatmap: (N, 1, 1, 48), x, y and height by turns. ``geometry.uncrop`` brings the points to the picture.
    """
    blob = np.asarray(prediction_heatmap)
    if blob.ndim == 0 or blob.shape[-1] != JOINT_VALUES:
        raise NetError(f"a blob of shape {blob.shape} holds no joints; they are {JOINT_VALUES} values a crop")
    joints = blob.reshape(-1, 16, 3)
    return joints[:, :, :2], joints[:, :, 2]
