"""Reads joints from heatmaps. Source: prediction_heatmap_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy import ops

from .base import Layer, Shape, shape_text
from .registry import register


@register("PredictionHeatmap", dialects=("rmpe",))
class PredictionHeatmap(Layer):
    """The peak of each joint's heatmap: (N, J, H, W) -> (1, 1, N, 3 J), x, y, score per joint.

    The published code swaps rows and columns in a matrix without transposing it: this decides among equal values, and
    scrambles heatmaps that are not square. See ops.prediction_heatmap.
    Differs: for a heatmap wider than high it writes outside the matrix; here such a heatmap is not scrambled.
    """

    params = ("prediction_heatmap_param", "visualise")
    is_discontinuous = True
    exact = True
    bottoms = (1, None)  # further bottoms are only displayed
    refuses = (0,)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("prediction_heatmap_param")
        if not param.has("num_joints"):
            raise self.spec.error("must specify num_joints in prediction_heatmap_param")
        maps = self._maps(bottom[0])
        if param.num_joints != maps[1]:
            raise self.spec.error(f"num_joints is {param.num_joints}, but its bottom has {maps[1]} channels; "
                                  "they must be equal")
        if self.spec.get("visualise"):
            self.set_aside("visualise: true opens windows, which is not supported; remove it")

    def _maps(self, bottom: Shape) -> Shape:
        """Return the bottom's shape with missing axes as 1, as Caffe's accessors give it."""
        if len(bottom) > 4:
            raise self.spec.error(f"needs a bottom (N, J, H, W), not {shape_text(bottom)}")
        return (*bottom, *(1,) * (4 - len(bottom)))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, joints, h, w = self._maps(bottom[0])
        if n * joints and not h * w:
            raise self.spec.error(f"an empty map has no peak; its bottom is {shape_text(bottom[0])}")
        return [(1, 1, n, 3 * joints)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        maps = bottoms[0].reshape(self._maps(tuple(bottoms[0].shape)))
        return ops.prediction_heatmap(maps).reshape(1, 1, maps.shape[0], 3 * maps.shape[1])
