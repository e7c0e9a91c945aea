"""Gaussian filtering on the permutohedral lattice. Source: modified_permutohedral.cpp of torrvision/caffe@d779ee3.

Each point of d features lies in a simplex of the lattice, whose d + 1 vertices share its value. The values are blurred
along d + 1 axes, and a point takes back what its vertices have then. All coordinates are float32, step by step as
published: a last bit can put a point into the next simplex.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.errors import RmpeError

FURTHEST = 3000  # of a feature; the published code keeps coordinates in 16 bits, and would wrap around
TOGETHER = 4  # points that the published code computes at once; it pads them with points whose features are 0


class Lattice:
    """The lattice of some points, (N, d) float32."""

    def __init__(self, features: np.ndarray):
        self.points, d = features.shape
        padded = np.zeros((-(-self.points // TOGETHER) * TOGETHER, d), np.float32)
        padded[: self.points] = features
        if not np.isfinite(padded).all() or np.abs(padded).max(initial=0) > FURTHEST:
            raise RmpeError(f"filters points that are not numbers, or beyond {FURTHEST} times a theta")
        keys, weights = _simplices(padded)
        codes = _Codes(keys.reshape(-1, d))
        self.vertex = torch.from_numpy(codes.of_rows.reshape(len(padded), d + 1)[: self.points])
        self.weight = torch.from_numpy(weights[: self.points])
        self.size = len(codes.rows)
        self.neighbors = [[torch.from_numpy(codes.find(codes.rows + sign * step_along(axis, d))) for sign in (-1, 1)]
                          for axis in range(d + 1)]
        self.scale = float(np.float32(1) / (1 + np.float32(2.0) ** -d))

    def filter(self, values: Tensor, back: bool = False) -> Tensor:
        """Filter (C, N) values; back: by the transpose, which is what a gradient needs."""
        weight = self.weight.to(values)
        at = values.new_zeros(len(values), self.size + 1)  # the last place stands for vertices that no point has
        for j in range(self.vertex.shape[1]):
            at.index_add_(1, self.vertex[:, j].to(values.device), values * weight[:, j])
        for low, high in reversed(self.neighbors) if back else self.neighbors:
            blurred = at[:, :-1] + 0.5 * (at[:, low.to(values.device)] + at[:, high.to(values.device)])
            at = torch.cat([blurred, at[:, -1:]], 1)
        out = torch.zeros_like(values)
        for j in range(self.vertex.shape[1]):
            out += weight[:, j] * self.scale * at[:, self.vertex[:, j].to(values.device)]
        return out


class Filtered(torch.autograd.Function):
    """`Lattice.filter` with its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lattice: Lattice) -> Tensor:
        ctx.lattice = lattice
        return lattice.filter(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return ctx.lattice.filter(dy, back=True), None


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys (N, d + 1, d) of each point's vertices, and their weights (N, d + 1)."""
    n, d = features.shape
    one = np.float32(1)
    deviation = np.float32(np.sqrt(2.0 / 3.0) * (d + 1))
    scale = np.array([1.0 / np.sqrt((i + 2) * (i + 1)) * float(deviation) for i in range(d)], np.float32)
    elevated = np.zeros((d + 1, n), np.float32)
    total = np.zeros(n, np.float32)
    for j in range(d, 0, -1):
        part = features[:, j - 1] * scale[j - 1]
        elevated[j] = total - np.float32(j) * part
        total = total + part
    elevated[0] = total
    down = one / np.float32(d + 1)
    nearest = np.rint(down * elevated)
    base = nearest * np.float32(d + 1)
    apart = elevated - base
    rank = np.zeros((d + 1, n), np.int64)
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = apart[i] < apart[j]
            rank[i] += less
            rank[j] += ~less
    rank += nearest.sum(0).astype(np.int64)
    shift = (rank < 0) * (d + 1) - (rank > d) * (d + 1)
    rank += shift
    base = base + shift.astype(np.float32)
    share = (elevated - base) * down
    weights = np.zeros((d + 2, n), np.float32)
    places = np.arange(n)
    for i in range(d + 1):
        weights[d - rank[i], places] += share[i]
        weights[d - rank[i] + 1, places] -= share[i]
    weights[0] += one + weights[d + 1]
    keys = np.empty((n, d + 1, d), np.int64)
    whole = base[:d].astype(np.int64)
    for remainder in range(d + 1):
        keys[:, remainder] = (whole + remainder - (rank[:d] > d - remainder) * (d + 1)).T
    return keys, np.ascontiguousarray(weights[: d + 1].T)


def step_along(axis: int, d: int) -> np.ndarray:
    """From a vertex to the next along an axis."""
    step = np.ones(d, np.int64)
    if axis < d:
        step[axis] = -d
    return step


class _Codes:
    """Numbers for distinct rows of whole numbers, (K, d)."""

    def __init__(self, rows: np.ndarray):
        self._seen: list[np.ndarray] = []  # for each column: the sorted pairs of the code so far and the column's value
        code = np.zeros(len(rows), np.int64)
        self._low, self._span = int(rows.min(initial=0)), int(rows.max(initial=0)) - int(rows.min(initial=0)) + 1
        for column in rows.T:
            pairs, code = np.unique(code * self._span + (column - self._low), return_inverse=True)
            self._seen.append(pairs)
        self.of_rows = code
        first = np.zeros(len(self._seen[-1]), np.int64)
        first[code] = np.arange(len(rows))
        self.rows = rows[first]

    def find(self, rows: np.ndarray) -> np.ndarray:
        """The code of each row; as many as there are codes for a row that has none."""
        code = np.zeros(len(rows), np.int64)
        known = ((rows >= self._low) & (rows < self._low + self._span)).all(1)
        for pairs, column in zip(self._seen, rows.T, strict=True):
            wanted = code * self._span + (column - self._low)
            code = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
            known &= pairs[code] == wanted
        return np.where(known, code, len(self._seen[-1]))
