"""Multiplies by a smaller blob along given axes. Sources: scale_layer.cpp of RMPE@5188c23, and of
happynear/caffe-windows@967eedf (min_value and max_value)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.proto.blobs import StoredBlob

from .base import Shape
from .bias import Broadcast, spread
from .registry import register


@register("Scale")
class Scale(Broadcast):
    """x * scale (+ bias), the scale broadcast from `axis` on.

    If the prototxt contains blobs, the published layer also passes them to its inner Bias layer, which takes the first:
    dialect rmpe appends that copy as one more parameter and adds it, so a bias in the prototxt is not used
    (scale_layer.cpp:44-62). Dialects ssd and bvlc use a bias if there is one, and copy the scale otherwise.

    Differs: the scale's gradient accumulates like every other. The published Backward overwrites it if the axes before
    `axis` have size 1, as in a batch of 1, and the scale has more than one value (scale_layer.cpp:155-178).
    """

    params = ("scale_param",)

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
        self.copied = None  # index of the parameter initialised with the prototxt's first blob
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
        self.bias_term = param.bias_term
        if self.bias_term:
            self.bias_at = self.place(bottom[0], self.declared[-1].shape, param.axis)
        return [bottom[0]]

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        blobs = self.blobs()
        y = x * spread(blobs[0] if operand is None else operand, x, self.at)
        return y.add_(spread(blobs[-1], x, self.bias_at)) if self.bias_term else y


@register("Scale", form="happynear")
class ScaleWithin(Scale):
    """Scale, whose scale is cut to min_value and max_value before each forward, for good if it is a parameter; its
    gradient is that of the cut scale. A field that is not given cuts nothing."""

    caffe_source = "scale_layer.cpp"

    def limits(self) -> dict[str, float]:
        """What the scale is cut to: "min", "max" or both, and their values."""
        param = self.spec.get("scale_param")
        return {name: getattr(param, f"{name}_value") for name in ("min", "max") if param.has(f"{name}_value")}

    def forward(self, x: Tensor, operand: Tensor | None = None) -> Tensor:
        scale = self.blobs()[0] if operand is None else operand
        with torch.no_grad():
            cut = scale.clone()
            for limit, value in self.limits().items():
                cut.clamp_(**{limit: value})
            if operand is None:
                scale.copy_(cut)
        return super().forward(x) if operand is None else super().forward(x, operand - operand.detach() + cut)
