"""y = x * slope + bias, per channel or for all. Source: eltwise_affine_layer.{cpp,cu} of RMPE@5188c23."""

from __future__ import annotations

import torch
from torch import Tensor

from .registration import autocast_to_single, is_exporting, no_gradient, register_gradient, say_if_cuda_is_missing


def eltwise_affine(x: Tensor, slope: Tensor, bias: Tensor, fused: bool = False) -> Tensor:
    """Scale and shift each channel: (N, C, ...) -> the same, float or double. slope and bias are (C,), or () for all.

    fused: with one rounding, like a GPU build of the fork, or with two, like its CPU code (the default).
    Gradients are exact derivatives, summed over images, then positions (csrc/eltwise_affine.h). On CUDA that order
    needs torch.use_deterministic_algorithms(True); otherwise the fastest order is used.
    """
    if is_exporting():
        spread = [p.reshape(-1, *[1] * (x.dim() - 2)) for p in (slope, bias)]
        return x * spread[0] + spread[1]
    return torch.ops.rmpe.eltwise_affine.default(x, slope, bias, fused)


@torch.library.register_fake("rmpe::eltwise_affine")
def _(x: Tensor, slope: Tensor, bias: Tensor, fused: bool = False) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("rmpe::eltwise_affine_backward")
def _(grad: Tensor, x: Tensor, slope: Tensor, bias: Tensor, deterministic: bool = True) -> tuple[Tensor, ...]:
    return x.new_empty(x.shape), slope.new_empty(slope.shape), bias.new_empty(bias.shape)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    gradients = torch.ops.rmpe.eltwise_affine_backward.default(grad, *ctx.saved_tensors, deterministic)
    return *gradients, None


register_gradient("rmpe::eltwise_affine", _backward,
                  lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:3]))
no_gradient("rmpe::eltwise_affine_backward", "a second derivative is not available; write x * slope + bias, or detach")
autocast_to_single("rmpe::eltwise_affine")
say_if_cuda_is_missing("rmpe::eltwise_affine")
say_if_cuda_is_missing("rmpe::eltwise_affine_backward")
