"""DeepLab's results. Source: mat_write_layer.cpp of TheLegendAli/DeepLab-Context@fb04e9e."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError

from .base import Layer, Shape
from .registry import register

REASON = "MATLAB files are not written here; remove the layer, or leave it out with strict=False (--lenient)"


@register("MatWrite", form="")
class MatWrite(Layer):
    """Its blobs would go to MATLAB files. It loads, and refuses to run; with strict=False it is left out."""

    bottoms = (1, None)
    tops = 0
    not_exportable = "writes files"

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> LayerError | None:
        return None if spec.strict else spec.error(REASON)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        raise self.spec.error(REASON)
