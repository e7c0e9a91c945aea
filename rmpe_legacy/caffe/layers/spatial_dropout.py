"""ENet's dropout of whole channels. Source: python/spatial_dropout.py of TimoSaemann/caffe-enet@22d356c."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .known_python import known_python, parameters


@known_python(("spatial_dropout", "SpatialDropoutLayer"))
class SpatialDropout(Layer):
    """(N, C, H, W): with 'phase': 'TRAIN' in the param_str, zeroes each channel with probability p and divides the rest
    by 1 - p; as published, any other phase divides all of them. The network's own phase does not count.

    torch's generator picks them.
    """

    params = ("python_param",)

    def setup(self, *bottom: Shape) -> None:
        given = parameters(self.spec)
        try:
            self.p = float(given.get("p", ""))
        except (TypeError, ValueError):
            self.p = 0.0
        self.drops = given.get("phase") == "TRAIN"
        self.not_exportable = "drops channels, as its param_str has 'phase': 'TRAIN'" if self.drops else ""
        if not 0 < self.p < 1:
            raise self.spec.error("its param_str needs 'p': a number between 0 and 1")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        scale = 1 / (1 - self.p)
        if not self.drops:
            return x * scale
        return x * x.new_empty(*x.shape[:2], 1, 1).bernoulli_(1 - self.p).mul_(scale)
