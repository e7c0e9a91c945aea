"""Adds a smaller blob along given axes. Source: bias_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register


class Broadcast(Layer):
    """Base of Bias and Scale: an operand, learnt or the second bottom, that is broadcast from `axis` on."""

    bottoms = (1, 2)

    def operand_shape(self, bottom: Sequence[Shape], param: Message) -> Shape:
        """Return the operand's shape: that of the second bottom, of the blob in the prototxt, or from num_axes.

        Raises:
            LayerError: num_axes extends beyond the bottom's axes.
        """
        if len(bottom) == 2:
            return bottom[1]
        if self.spec.message.blobs:
            return self.from_prototxt(0).shape
        at = self.axis(param.axis, len(bottom[0]))
        end = len(bottom[0]) if param.num_axes == -1 else at + param.num_axes
        if param.num_axes < -1 or end > len(bottom[0]):
            raise self.spec.error(f"num_axes {param.num_axes} from axis {at} is outside a bottom of "
                                  f"{shape_text(bottom[0])}")
        return bottom[0][at:end]

    def place(self, bottom: Shape, operand: Shape, axis: int) -> int:
        """Return the bottom's axis that matches the operand's first axis; 0 for an operand without axes.

        Raises:
            LayerError: The operand does not fit the bottom there.
        """
        at = self.axis(axis, len(bottom)) if operand else 0
        if bottom[at : at + len(operand)] != operand:
            raise self.spec.error(f"an operand of {shape_text(operand)} does not fit axis {at} of a bottom of "
                                  f"{shape_text(bottom)}")
        return at


def spread(operand: Tensor, like: Tensor, at: int) -> Tensor:
    """Append axes of size 1 to the operand, (...) -> (..., 1, ...), so that it broadcasts from axis `at` on."""
    return operand.reshape(operand.shape + (1,) * (like.dim() - at - operand.dim()))


@register("Bias")
class Bias(Broadcast):
    """x + bias, the bias broadcast from `axis` on."""

    params = ("bias_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bias_param")
        shape = self.operand_shape(bottom, param)
        if len(bottom) == 1:
            self.declare("bias", shape, param.filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        operand = bottom[1] if len(bottom) == 2 else self.declared[0].shape
        self.at = self.place(bottom[0], operand, self.spec.get("bias_param").axis)
        return [bottom[0]]

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        return x + spread(self.blobs()[0] if operand is None else operand, x, self.at)
