"""Normalize as happynear's fork has it: each place by the norm of its channels.

Source: normalize_layer.cpp of happynear/caffe-windows@967eedf.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape
from .registry import Choice, chooses, register


@register("Normalize", form="happynear")
class NormalizeChannels(Layer):
    """x / sqrt(sum of x^2 + 1e-6), or with normalize_type L1 x / (sum of |x| + 1e-6), over the channels: (N, C, H, W)
    -> the same; a second top is the norm, (N, 1, H, W), whose gradient counts only with bp_norm.
    """

    params = ("normalize_param",)
    tops = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("normalize_param")
        self.kind, self.bp_norm = param.normalize_type, param.bp_norm
        if self.kind not in ("L1", "L2"):
            raise self.spec.error(f"normalize_type {self.kind!r} is neither L1 nor L2")
        if param.fix_gradient:
            raise self.spec.error("fix_gradient is not supported; remove it if you do not need the gradient")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        return [(n, c, h, w), (n, 1, h, w)][: self.top_count]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = x.reshape(self.nchw(tuple(x.shape)))
        if self.kind == "L2":
            norm = (x.square().sum(1, keepdim=True) + 1e-6).sqrt()
        else:
            norm = x.abs().sum(1, keepdim=True) + 1e-6
        return (x / norm, norm if self.bp_norm else norm.detach())[: self.top_count]


@chooses("Normalize")
def _choose(spec: LayerSpec) -> Choice:
    """normalize_param, or the norm as a second top, is happynear's, and fix_scale PixelNet's; else it is SSD's, which
    learns a scale."""
    if spec.has("normalize_param") or len(spec.top) > 1:
        return Choice("happynear")
    if spec.has("norm_param"):
        return Choice("pixelnet") if spec.get("norm_param").has("fix_scale") else Choice("")
    return Choice("", ("happynear", "crn"), "it is read as SSD's, with a learnt scale; in dialect 'happynear' it "
                                             "normalises over the channels and has none", "happynear")
