"""L2 normalisation with a learnt scale. Source: normalize_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register


class _Normalize(torch.autograd.Function):
    """x / |x| * scale, with |x| over `axes`; Backward is that of normalize_layer.cpp:122-204."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, axes: tuple[int, ...], eps: float, in_place: bool) -> Tensor:
        norm = ((x * x).sum(axes, keepdim=True) + eps).sqrt()
        y = x / norm * scale
        ctx.save_for_backward(x, scale, norm, y)
        ctx.axes, ctx.in_place = axes, in_place
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, norm, y = ctx.saved_tensors
        to_x = to_scale = None
        if ctx.needs_input_grad[1]:
            # y / scale is x / |x| except for a scale of 0, where the published gradient is 0 / 0, as here.
            total = (y * grad).sum() if scale.numel() == 1 else (y * grad).sum([i for i in range(y.dim()) if i != 1])
            to_scale = total.view(scale.shape) / scale
        if ctx.needs_input_grad[0]:
            # As published, this is not the derivative if scales differ: the sum along x is of unscaled terms.
            seen = y if ctx.in_place else x
            along = seen * ((seen * grad).sum(ctx.axes, keepdim=True) / norm / norm)
            # Differs from the derivative, as published: in place, Backward overwrites the top's diff with this term
            # and then subtracts it from itself, which leaves 0.
            to_x = along - along if ctx.in_place else (grad - along) / norm * scale
        return to_x, to_scale, None, None, None


@register("Normalize", dialects=("rmpe", "ssd"))
class Normalize(Layer):
    """x / sqrt(sum of x^2 + eps) * scale: (N, C, H, W) -> the same shape.

    The sum runs over C, H and W, or only over C with across_spatial: false. There is one scale, or one per channel
    with channel_shared: false.
    """

    params = ("norm_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("norm_param")
        self.across_spatial, self.channel_shared, self.eps = param.across_spatial, param.channel_shared, param.eps
        self._check(bottom[0])
        filler = param.scale_filler if param.has("scale_filler") else 1.0
        self.declare("scale", () if self.channel_shared else bottom[0][1:2], filler, learns=self.scale_learns(param))

    def scale_learns(self, param: Message) -> bool:
        return True

    def _check(self, shape: Shape) -> None:
        if not 2 <= len(shape) <= 4:
            raise self.spec.error(f"needs a bottom with 2 to 4 axes, (N, C, H, W), not {shape_text(shape)}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self._check(bottom[0])
        channels = self.declared[0].shape
        if channels and bottom[0][1] != channels[0]:
            raise self.spec.error(f"was set up for {channels[0]} channels; its bottom is {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        (scale,) = self.blobs()
        scale = scale.view(1, -1, *[1] * (x.dim() - 2)) if scale.dim() else scale
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        return _Normalize.apply(x, scale, axes, self.eps, self.in_place)


@register("Normalize", form="pixelnet")
class NormalizeByFixedScale(Normalize):
    """The same, with a scale that learns only with fix_scale: false. Source: tools/caffe/src/caffe/layers/
    normalize_layer.cpp of aayushbansal/PixelNet@227c48e."""

    def scale_learns(self, param: Message) -> bool:
        return not param.fix_scale
