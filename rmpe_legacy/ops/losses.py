"""The losses that SSD sums over boxes, with Caffe's values and gradients up to the order of summation.

Torch's own losses differ where a probability underflows, and have another gradient at a few points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FLT_MIN = torch.finfo(torch.float32).tiny  # lower bound of a probability before its logarithm, in every type


class _SmoothL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx, difference: Tensor) -> Tensor:
        ctx.save_for_backward(difference)
        size = difference.abs()
        return torch.where(size < 1, 0.5 * difference * difference, size - 0.5).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        sign = (x > 0).to(x.dtype) - (x < 0).to(x.dtype)  # 0 for NaN, as published
        return grad * torch.where(x.abs() < 1, x, sign)


def smooth_l1_sum(difference: Tensor) -> Tensor:
    """Sum x^2 / 2 where |x| < 1, else |x| - 1/2: any shape -> a scalar.

    Source: smooth_L1_loss_layer.cpp:45-100 of RMPE@5188c23.
    """
    return _SmoothL1.apply(difference)


def _of_few(function: str, x: Tensor) -> Tensor:
    """Compute exp or log, with numpy for small arrays, because torch starts its threads at 2048 numbers."""
    if x.device.type == "cpu" and x.numel() < 1 << 16:
        return torch.from_numpy(getattr(np, function)(x.numpy()))
    return getattr(torch, function)(x)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, label: Tensor) -> Tensor:
        probability = _of_few("exp", logits - logits.amax(1, keepdim=True))
        probability /= probability.sum(1, keepdim=True)
        ctx.save_for_backward(probability, label)
        return -_of_few("log", probability.gather(1, label.unsqueeze(1)).clamp(min=FLT_MIN)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        probability, label = ctx.saved_tensors
        less = probability.new_full((1, 1), -1).expand(len(label), 1)
        return probability.scatter_add(1, label.unsqueeze(1), less) * grad, None


def softmax_loss_sum(logits: Tensor, label: Tensor) -> Tensor:
    """Sum -log of each row's probability for its label: logits (M, C), label (M) int64 -> a scalar.

    The probability is at least FLT_MIN; its gradient ignores that bound.
    Source: softmax_loss_layer.cpp:54-117 of RMPE@5188c23.
    """
    return _Softmax.apply(logits, label)


def sigmoid_loss_terms(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of sigmoid(logits) value by value, without overflow: any shape -> the same.

    Targets may have any value. Has no gradient. Source: sigmoid_cross_entropy_loss_layer.cpp:32-57 of RMPE@5188c23.
    """
    positive = (logits >= 0).to(logits.dtype)
    return _of_few("log", 1 + _of_few("exp", -logits.abs())) - logits * (target - positive)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(logits, target)
        return sigmoid_loss_terms(logits, target).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        logits, target = ctx.saved_tensors
        return (logits.sigmoid() - target) * grad, None


def sigmoid_loss_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Sum the cross entropy of sigmoid(logits): logits (M, C), targets (M, C) of any value -> a scalar.

    Source: sigmoid_cross_entropy_loss_layer.cpp:32-73 of RMPE@5188c23.
    """
    return _Sigmoid.apply(logits, target)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, row: Tensor) -> Tensor:
        ctx.save_for_backward(row)
        ctx.shape = x.shape
        return x.index_select(0, row)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (row,) = ctx.saved_tensors
        if grad.device.type == "cpu":  # uses the system's zeroed pages; torch would fill them with all its threads
            to_x = torch.from_numpy(np.zeros(ctx.shape, grad.numpy().dtype))
        else:
            to_x = grad.new_zeros(ctx.shape)
        return to_x.index_add_(0, row, grad), None


def take_rows(x: Tensor, row: Tensor) -> Tensor:
    """Select a few rows of a large matrix: x (R, C), row (M) int64, which may be on the CPU -> (M, C)."""
    return _Rows.apply(x, row.to(x.device))


class _SeenAs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def seen_as(x: Tensor, value: Tensor) -> Tensor:
    """Return `value` with a gradient that is passed to x unchanged; both have the same shape."""
    return _SeenAs.apply(x, value.detach())
