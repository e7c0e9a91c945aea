"""A learnt blob as a top. Source: parameter_layer.hpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Parameter")
class Parameter(Layer):
    """A learnt blob of a given shape, initialised to zero, or by the filler that training_toolbox_caffe has, which
    is happynear's blob_filler."""

    params = ("parameter_param",)
    exact = True
    bottoms = 0
    is_constant = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("parameter_param")
        self.declare("value", tuple(param.shape.dim), param.fields.get("filler", param.fields.get("blob_filler", 0.0)))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.declared[0].shape]

    def forward(self) -> Tensor:
        return self.blobs()[0].view_as(self.blobs()[0])  # a separate blob, because a reader may work in place
