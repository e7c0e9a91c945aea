"""Multiply by, or add, a smaller blob along given axes. Sources: scale_layer.cpp, bias_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register


class _Along(Layer):
    """An operand whose shape is that of the first bottom's axes from `axis` on: learnt, or the second bottom."""

    bottoms = (1, 2)

    def operand_shape(self, bottom: Sequence[Shape], param: Message) -> Shape:
        """The operand's shape: the second bottom's, the prototxt's blob's, or what num_axes says."""
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
        """The bottom's axis that the operand's first axis goes with; 0 for an operand without axes."""
        at = self.axis(axis, len(bottom)) if operand else 0
        if bottom[at : at + len(operand)] != operand:
            raise self.spec.error(f"an operand of {shape_text(operand)} does not fit axis {at} of a bottom of "
                                  f"{shape_text(bottom)}")
        return at


def _spread(operand: Tensor, like: Tensor, at: int) -> Tensor:
    """The operand with axes of size 1 behind it, so that it broadcasts from axis `at` on."""
    return operand.reshape(operand.shape + (1,) * (like.dim() - at - operand.dim()))


@register("Scale")
class Scale(_Along):
    """x * scale (+ bias), the scale broadcast from `axis` on.

    Where the prototxt holds blobs, the published layer hands them to the Bias layer inside it as well, which takes
    the first: dialect rmpe appends that copy as one more parameter and adds it, so a bias in the prototxt is not used
    (scale_layer.cpp:44-62). Dialects ssd and bvlc use a bias that is there, and copy the scale where it is not.

    Differs: the scale's gradient is added to what is there, as every other; the published Backward overwrites it where
    the axes before `axis` hold one place, as in a batch of 1, and the scale more than one (scale_layer.cpp:155-178).
    """

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("scale_param")
        given = len(self.spec.message.blobs)
        shape = self.operand_shape(bottom, param)
        if given:
            names = ("scale", "bias") if len(bottom) == 1 else ("bias",)
            for i in range(given):
                self.declare(names[i] if i < len(names) else f"blob{i}", self.from_prototxt(i).shape)
        elif len(bottom) == 1:
            self.declare("scale", shape, param.filler if param.has("filler") else 1.0)
        self.copied = None  # the parameter that begins as a copy of the prototxt's first blob
        if param.bias_term:
            if given and (self.spec.dialect == "rmpe" or given + len(bottom) < 3):
                self.copied = len(self.declared)
                self.declare("bias_copied", self.from_prototxt(0).shape)
            elif not given:
                self.declare("bias", shape, param.bias_filler)

    def make(self, index: int, stored: StoredBlob | None) -> nn.Parameter:
        if stored is None and index == self.copied:
            stored = self.from_prototxt(0)
        return super().make(index, stored)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("scale_param")
        self.at = self.place(bottom[0], bottom[1] if len(bottom) == 2 else self.declared[0].shape, param.axis)
        if param.bias_term:
            self.bias_at = self.place(bottom[0], self.declared[-1].shape, param.axis)
        return [bottom[0]]

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        blobs = self.blobs()
        y = x * _spread(blobs[0] if operand is None else operand, x, self.at)
        return y + _spread(blobs[-1], x, self.bias_at) if self.spec.get("scale_param").bias_term else y


@register("Bias")
class Bias(_Along):
    """x + bias, the bias broadcast from `axis` on."""

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
        return x + _spread(self.blobs()[0] if operand is None else operand, x, self.at)
