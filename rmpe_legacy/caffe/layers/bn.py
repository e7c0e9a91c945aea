"""Batch normalisation with its own scale and shift, in the meanings that the type BN has.

Sources: bn_layer.cpp of TimoSaemann/caffe-segnet-cudnn5@abcf30d and HyeonwooNoh/caffe@d9e8494 (segnet),
hszhao/PSPNet@798bdc9 and yjxiong/caffe@9831a2b (pspnet), happynear/caffe-windows@967eedf (happynear),
yangguorun/SegStereo@717f590 (averaged);
bnplus_layer.cpp of ArcherFMY/caffe-sal-ensemble@ff8e040; bn_conv_layer.cu of
GuanshuoXu/caffe_deep_learning_for_steganalysis@2139f17.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec

from .base import MAX_AXES, Layer, Shape, count, shape_text
from .registry import Choice, chooses, register

AXES = (0, 2, 3)


class Normalized(torch.autograd.Function):
    """(x - mean) * inv_std * scale + shift; Backward is that of a batch with these statistics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, inv_std: Tensor) -> Tensor:
        normal = (x - mean) * inv_std
        ctx.save_for_backward(normal, scale, inv_std)
        return normal * scale + shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        normal, scale, inv_std = ctx.saved_tensors
        dn = dy * scale
        values = dy.numel() // dy.shape[1]
        along = normal * (normal * dn).sum(AXES, keepdim=True) + dn.sum(AXES, keepdim=True)
        return ((dn - along / values) * inv_std, (dy * normal).sum(AXES, keepdim=True),
                dy.sum(AXES, keepdim=True), None, None)


class _Scaled(torch.autograd.Function):
    """x * scale + shift; in place, the scale's gradient is computed from what has been written over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, in_place: bool) -> Tensor:
        y = x * scale + shift
        ctx.save_for_backward(y if in_place else x, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        seen, scale = ctx.saved_tensors
        return dy * scale, (dy * seen).sum(AXES, keepdim=True), dy.sum(AXES, keepdim=True), None


class _Bn(Layer):
    """What all forms share: (N, C, H, W) -> the same, and that a parameter has a value per channel."""

    blob_axes = 4  # a parameter is (1, C, 1, 1); or with 2, (1, C)

    least_axes, most_axes = 4, 4  # of a bottom

    def parameter_shape(self, bottom: Shape) -> Shape:
        if not self.least_axes <= len(bottom) <= self.most_axes:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom)}")
        return (1, bottom[1], 1, 1)[: self.blob_axes]

    def channel_blobs(self) -> list[Tensor]:
        """The parameters as (1, C, 1, 1)."""
        return [blob.view(1, -1, 1, 1) for blob in self.blobs()]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if self.parameter_shape(bottom[0]) != self.declared[0].shape:
            raise self.spec.error(f"was set up for {self.declared[0].shape[1]} channels; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [self.top_shape(bottom[0]), *[(1, bottom[0][1], 1, 1)] * (self.top_count - 1)]

    def top_shape(self, bottom: Shape) -> Shape:
        """The shape of the first top."""
        return bottom

    def check_fits(self, index: int, stored: StoredBlob) -> None:
        """Some forks store 1 x C, for as many values."""
        if stored.data.size != count(self.declared[index].shape):
            super().check_fits(index, stored)


@register("BN", form="segnet")
class SegnetBN(_Bn):
    """Normalises each channel, (x - mean) / sqrt(variance + 1e-9) * scale + shift.

    bn_mode LEARN takes mean and variance from the batch, in TEST too; INFERENCE takes none, and only scales and
    shifts. Tops 2 and 3 are the batch's mean and variance, (1, C, 1, 1). A bottom may be (N, C) or (N, C, H) too; the
    top has four axes all the same.
    """

    params = ("bn_param",)
    mode = "bn_mode"
    tops = (1, 3)
    eps = 1e-9
    least_axes = 2

    def top_shape(self, bottom: Shape) -> Shape:
        return self.nchw(bottom)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.learn = getattr(param, self.mode) == "LEARN"
        if not self.learn and self.top_count > 1:
            raise self.spec.error("has tops for mean and variance only in mode LEARN; remove them")
        shape = self.parameter_shape(bottom[0])
        self.declare("scale", shape, param.scale_filler)
        self.declare("shift", shape, param.shift_filler)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        scale, shift = self.channel_blobs()
        x = x.reshape(self.nchw(tuple(x.shape)))
        if not self.learn:
            return _Scaled.apply(x, scale, shift, self.in_place)
        seen = x.detach()
        mean = seen.mean(AXES, keepdim=True)
        variance = (seen * seen).mean(AXES, keepdim=True) - mean * mean
        y = Normalized.apply(x, scale, shift, mean, 1 / (variance + self.eps).sqrt())
        return (y, mean, variance)[: self.top_count]


@register("BNplus", form="")
class BNplus(SegnetBN):
    """The same, under the name that it has beside PSPNet's BN."""

    params = ("bnplus_param",)
    mode = "bnplus_mode"


class MovingBN(_Bn):
    """Normalises each channel by the batch's mean and variance in TRAIN, which it also averages; by the averages in
    TEST or if frozen: (N, C), (N, C, H) or (N, C, H, W) -> the same.

    Blobs: slope, bias, moving mean, moving variance. Frozen, slope and bias do not learn. Its Backward in TEST is that
    of a batch, as published.
    """

    least_axes = 2
    statistic = "variance"
    fixed = False  # True: its averages hold in TRAIN too, though slope and bias learn

    def declare_blobs(self, bottom: Shape, slope: tuple[str, Message | float], bias: Message | float, frozen: bool
                      ) -> None:
        """Declare the four blobs: slope by its name and filler, bias by its filler."""
        self.frozen, shape = frozen, self.parameter_shape(bottom)
        self.declare(slope[0], shape, slope[1], learns=not frozen)
        self.declare("bias", shape, bias, learns=not frozen)
        self.declare("moving_mean", shape, 0.0, learns=False)
        self.declare("moving_" + self.statistic, shape, 1.0 if frozen else 0.0, learns=False)

    def stored(self, value: Tensor) -> Tensor:
        """1 / standard deviation, from the fourth blob."""
        return 1 / (value + self.eps).sqrt()

    def kept(self, variance: Tensor) -> Tensor:
        """Return what the fourth blob averages, from the variance of each channel, (C)."""
        return variance

    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x.reshape(self.nchw(tuple(x.shape)))).view(x.shape)

    def normalized(self, x: Tensor) -> Tensor:
        """The top, (N, C, H, W)."""
        slope, bias, mean, second = self.channel_blobs()
        if self.frozen:
            factor = self.stored(second)
            return (x - mean) * factor * slope + bias
        if self.spec.phase == "TEST" or self.fixed:
            return Normalized.apply(x, slope, bias, mean, self.stored(second))
        seen = x.detach()
        batch_mean = seen.mean(AXES, keepdim=True)
        variance = ((seen - batch_mean) ** 2).mean(AXES, keepdim=True)
        with torch.no_grad():
            mean.mul_(self.momentum).add_(batch_mean * (1 - self.momentum))
            second.mul_(self.momentum).add_(self.kept(variance) * (1 - self.momentum))
        return Normalized.apply(x, slope, bias, batch_mean, 1 / (variance + self.eps).sqrt())


@register("BN", form="pspnet")
class PspnetBN(MovingBN):
    __doc__ = MovingBN.__doc__

    params = ("bn_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bn_param")
        self.momentum, self.eps = param.momentum, param.eps
        self.declare_blobs(bottom[0], ("slope", param.slope_filler), param.bias_filler, param.frozen)


@register("BN", form="tsn")
class TsnBN(PspnetBN):
    """The same, with parameters (1, C)."""

    blob_axes = 2


@register("BN", form="p3d")
class Pseudo3dBN(TsnBN):
    """The same, for any number of axes after the channels.

    Source: caffe_add_layers/src/bn_layer.cpp of ZhaofanQiu/pseudo-3d-residual-networks@e91f95d.
    """

    least_axes, most_axes = 2, MAX_AXES

    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x.reshape(*x.shape[:2], 1, -1)).view(x.shape)


@register("BN", form="happynear")
class HappynearBN(TsnBN):
    """The same, but its fourth blob holds the moving average of 1 / standard deviation, with eps in it."""

    statistic = "inverse_std"

    def stored(self, value: Tensor) -> Tensor:
        return value

    def kept(self, variance: Tensor) -> Tensor:
        return 1 / (variance + self.eps).sqrt()


@register("BNConv", form="")
class BNConv(MovingBN):
    """The same of (N, C, H, W): averages that weigh a new batch by `decay`, eps 1e-10, and with `fix` the averages in
    TRAIN too."""

    params = ("bn_conv_param",)
    least_axes = 4
    eps = 1e-10

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bn_conv_param")
        self.momentum, self.fixed = 1 - param.decay, param.fix
        self.declare_blobs(bottom[0], ("scale", 1.0), 0.0, frozen=False)


@register("BN", form="averaged")
class AveragedBN(MovingBN):
    """The same of (N, C, H, W): averages that weigh a new batch by `decay`; with use_history_in_test: false, TEST takes
    mean and variance from its batch, too. Differs: frozen, TRAIN takes the averages, as its code for GPUs does; that
    for CPUs takes the batch's."""

    params = ("bn_param",)
    least_axes = 4

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bn_param")
        if param.axis != 1:
            raise self.spec.error("normalises channels (axis: 1) only")
        self.momentum, self.eps = 1 - param.decay, param.var_eps
        self.of_batch = self.spec.phase == "TEST" and not param.use_history_in_test and not param.frozen
        self.declare_blobs(bottom[0], ("scale", param.scale_filler), param.shift_filler, param.frozen)

    def normalized(self, x: Tensor) -> Tensor:
        if not self.of_batch:
            return super().normalized(x)
        scale, shift, *_ = self.channel_blobs()
        seen = x.detach()
        mean = seen.mean(AXES, keepdim=True)
        variance = ((seen - mean) ** 2).mean(AXES, keepdim=True)
        return Normalized.apply(x, scale, shift, mean, 1 / (variance + self.eps).sqrt())


@register("BN", form="ctpn")
class CtpnBN(_Bn):
    """Only its fields are known; it cannot be computed."""

    not_exportable = "no exporter supports it yet"

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> Any:
        return spec.error("CTPN's form (var_eps, moving_average, decay) is not supported")


@chooses("BN")
def _choose(spec: LayerSpec) -> Choice:
    """SegNet's fields have names of their own; the other two forms share theirs. synopsys has SegNet's, and with icnet
    PSPNet's."""
    param = spec.get("bn_param")
    if any(map(param.has, ("var_eps", "moving_average", "decay", "axis", "use_history_in_test"))):
        return Choice("averaged", ("ctpn",))
    if "icnet" in param.fields and param.icnet:
        return Choice("pspnet")
    if any(map(param.has, ("scale_filler", "shift_filler", "bn_mode"))) or len(spec.top) > 1:
        return Choice("segnet")
    others = ("tsn", "happynear", "p3d")
    return Choice("pspnet", others, "its fourth blob is read as the moving variance (PSPNet, TSN); in dialect "
                                    "'happynear' it is the moving inverse standard deviation, and in 'segnet' there "
                                    "are only two blobs", "happynear")
