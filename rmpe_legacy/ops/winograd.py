"""3 x 3 convolutions of stride 1 with a quarter of the products, on the CPU: csrc/cpu/winograd.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import rmpe_legacy._C

from .registration import no_gradient

IS_FAST: bool = rmpe_legacy._C.HAS_VECTORS
"""Whether this processor and this build have vector loops for it; without them it is slower than other ways."""


def winograd_weight(weight: Tensor) -> Tensor:
    """Transform weights for ``winograd``: (K, C, 3, 3) float -> (36, blocks of 16 outputs, C, 16).

    The result takes four times as much memory.
    """
    return torch.ops.rmpe.winograd_weight.default(weight)


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, term: Tensor | None, outputs: int, pad: Sequence[int],
             dilation: Sequence[int], relu: bool) -> Tensor:
    """Convolve: (N, C, H, W) float in any memory format -> (N, K, h, w) in channels-last format.

    A NaN or an infinity in x makes every output NaN or infinite whose tile of 4 x 4 outputs reads it.

    Args:
        weight: What ``winograd_weight`` gives.
        bias: (K,), or None.
        term: Added to the result, in its shape; or None.
        outputs: K.
        pad: Rows above and below x, and columns left and right of it, that are zeros.
        dilation: Distance of the rows, and of the columns, that an output reads.
        relu: Whether to return max(result, 0), after `term` was added.

    Raises:
        RuntimeError: An argument has another type or shape.
    """
    return torch.ops.rmpe.winograd.default(x, weight, bias, term, outputs, *pad, *dilation, relu)


no_gradient("rmpe::winograd_weight", "has no gradient; use torch.nn.functional.conv2d")
no_gradient("rmpe::winograd", "has no gradient; use torch.nn.functional.conv2d")


@torch.library.register_fake("rmpe::winograd_weight")
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(36, (weight.shape[0] + 15) // 16, weight.shape[1], 16)


@torch.library.register_fake("rmpe::winograd")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, term: Tensor | None, outputs: int, pad_h: int, pad_w: int,
      dilation_h: int, dilation_w: int, relu: bool) -> Tensor:
    n, _, h, w = x.shape
    return x.new_empty(n, h + 2 * (pad_h - dilation_h), w + 2 * (pad_w - dilation_w), outputs).permute(0, 3, 1, 2)
