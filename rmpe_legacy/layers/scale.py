"""Multiply by, or add, a smaller blob along given axes. Sources: scale_layer.cpp, bias_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register


class _Along(Layer):
    """An operand whose shape is that of the first bottom's axes from `axis` on: learnt, or the second bottom."""

    bottoms = (1, 2)

    def operand_shape(self, bottom: Sequence[Shape], param: Message) -> Shape:
        """The operand's shape, from the second bottom or from num_axes."""
        if len(bottom) == 2 and param.axis == 0 and not bottom[1]:
            self.at = 0
            return ()
        self.at = self.axis(param.axis, len(bottom[0]))
        if len(bottom) == 2:
            return bottom[1]
        end = len(bottom[0]) if param.num_axes == -1 else self.at + param.num_axes
        if param.num_axes < -1 or end > len(bottom[0]):
            raise self.spec.error(f"num_axes {param.num_axes} from axis {self.at} is outside a bottom of "
                                  f"{shape_text(bottom[0])}")
        return bottom[0][self.at : end]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        operand = bottom[1] if len(bottom) == 2 else self.declared[0].shape
        if bottom[0][self.at : self.at + len(operand)] != operand:
            raise self.spec.error(f"an operand of {shape_text(operand)} does not fit axis {self.at} of a bottom of "
                                  f"{shape_text(bottom[0])}")
        return [bottom[0]]

    def spread(self, operand: Tensor, like: Tensor) -> Tensor:
        """The operand with axes of size 1 behind it, so that it broadcasts from axis `at` on."""
        return operand.reshape(operand.shape + (1,) * (like.dim() - self.at - operand.dim()))


@register("Scale")
class Scale(_Along):
    """x * scale (+ bias), the scale broadcast from `axis` on."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("scale_param")
        shape = self.operand_shape(bottom, param)
        if len(bottom) == 1:
            self.declare("scale", shape, param.filler if param.has("filler") else 1.0)
        if param.bias_term:
            self.declare("bias", shape, param.bias_filler)

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        blobs = self.blobs()
        scale = blobs.pop(0) if operand is None else operand
        y = x * self.spread(scale, x)
        return y + self.spread(blobs[0], x) if blobs else y


@register("Bias")
class Bias(_Along):
    """x + bias, the bias broadcast from `axis` on."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bias_param")
        shape = self.operand_shape(bottom, param)
        if len(bottom) == 1:
            self.declare("bias", shape, param.filler)

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        return x + self.spread(self.blobs()[0] if operand is None else operand, x)
