"""Converts affine maps from Torch7's coordinates to Caffe's.

Both have theta = (y y, y x, y 1, x y, x x, x 1), rows first. Torch7 puts -1 and 1 on the centres of the first and
the last pixel, in input and output. The fork's SpatialTransformer puts -1 on the first pixel and 1 one pixel beyond
the last (st_layer.cu of RMPE@5188c23). So the same map has another theta, an affine function of the first.
"""

from __future__ import annotations

import numpy as np

Size = tuple[int, int]


def to_caffe(image: Size, output: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return (A, b), float64, with theta_caffe = A @ theta_torch7 + b, for image and output sizes (h, w)."""
    r = [n / (n - 1) for n in output]
    s = [(n - 1) / n for n in image]
    matrix, shift = np.zeros((6, 6)), np.zeros(6)
    for axis, scale in enumerate(s):
        row = 3 * axis
        matrix[row, row] = scale * r[0]
        matrix[row + 1, row + 1] = scale * r[1]
        matrix[row + 2, row : row + 3] = scale * (r[0] - 1), scale * (r[1] - 1), scale
        shift[row + 2] = scale - 1
    return matrix, shift
