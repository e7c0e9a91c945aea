"""DeepLab's results. Source: mat_write_layer.cpp of TheLegendAli/DeepLab-Context@fb04e9e."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape
from .registry import register
from .uncomputed import Uncomputed


@register("MatWrite", form="")
class MatWrite(Uncomputed):
    """Its blobs would go to MATLAB files. It loads, and refuses to run; with strict=False it is left out."""

    tops = 0
    not_exportable = "writes files"
    reason = "MATLAB files are not written here; remove the layer, or leave it out with strict=False (--lenient)"

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []
