"""Warps images by affine maps, bit for bit like the RMPE fork on a GPU, and inverts such maps, for its SDTN.

Source: st_layer.{cpp,cu} of RMPE@5188c23. The arithmetic and the order of every sum: csrc/spatial_transformer.h.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .registration import (
    autocast_to_single,
    fold,
    is_exporting,
    no_gradient,
    register_gradient,
    say_if_cuda_is_missing,
    unfold,
)

# Looked up once: with cold caches the lookup takes a noticeable part of each call.
_WARP = torch.ops.rmpe.spatial_transformer.default
_WARP_BACKWARD = torch.ops.rmpe.spatial_transformer_backward.default

DeTransform = Literal["paper", "published-identity", "published-ignored"]


def spatial_transformer(image: Tensor, theta: Tensor, out_h: int, out_w: int, fused: bool = True) -> Tensor:
    """Warp each image by its own affine map: (N, C, H, W), (N, 6) -> (N, C, out_h, out_w), float or double.

    theta is [t11 t12 t13; t21 t22 t23] row by row, rows first: cell (s, t) of the output reads the image at

        row    = (t11 u + t12 v + t13 + 1) / 2 * H        u = 2 s / out_h - 1
        column = (t21 u + t22 v + t23 + 1) / 2 * W        v = 2 t / out_w - 1

    Unlike grid_sample, rows come first, and cells are at their left edges. A neighbour outside the image counts as 0.
    fused: with the multiply-adds that a GPU build of the fork fuses (the default), or without.
    NaN in theta gives NaN if the other coordinate is inside the image; infinity is outside.

    Image and theta receive gradients; second and forward-mode derivatives and torch.func raise an error. On CUDA,
    torch.use_deterministic_algorithms(True) sums them in the CPU's order, with the CPU's bits; otherwise the fastest
    order is used.
    torch.export and torch.onnx see `spatial_transformer_composite`.
    """
    if is_exporting():
        return spatial_transformer_composite(image, theta, out_h, out_w, fused)
    return _WARP(image, theta, out_h, out_w, fused)


def spatial_de_transformer(image: Tensor, theta: Tensor, out_h: int, out_w: int, mode: DeTransform = "paper",
                           fused: bool = True) -> Tensor:
    """Undo a warp (the paper's SDTN): `spatial_transformer` with the inverse of theta.

    Args:
        image: (N, C, H, W), float or double.
        theta: (N, 6), as for `spatial_transformer`.
        out_h: Height of the output.
        out_w: Width of the output.
        mode: "paper" is [A^-1 | -A^-1 b] of theta = [A | b], with its true gradient, as in the paper (section 3.2) and
            the authors' Lua code. "published-identity" and "published-ignored" are what the published layer computes,
            depending on a byte of memory that it never sets: it uses the identity, or theta itself.
        fused: As for `spatial_transformer`.

    Returns:
        (N, C, out_h, out_w), with the image's dtype.

    Raises:
        ValueError: There is no such mode.
    """
    if mode == "paper":
        theta = invert_theta(theta)
    elif mode == "published-identity":
        theta = identity_theta(theta)
    elif mode != "published-ignored":
        raise ValueError(f"spatial_de_transformer: mode must be 'paper', 'published-identity' or 'published-ignored', "
                         f"got {mode!r}")
    return spatial_transformer(image, theta, out_h, out_w, fused)


def invert_theta(theta: Tensor) -> Tensor:
    """Invert affine maps, (N, 6) -> (N, 6): [A^-1 | -A^-1 b] of each [A | b]; computed in double, rounded once.

    A singular A gives the identity and no gradient (st_layer.cu:122-125, 346-349). Differs: Torch7 raises.
    """
    if is_exporting():
        return _invert_composite(theta)
    return torch.ops.rmpe.invert_theta.default(theta)


def identity_theta(like: Tensor) -> Tensor:
    """Return the identity map for each row of `like`: (N, 6), with its dtype and device."""
    return torch.eye(2, 3, dtype=like.dtype, device=like.device).reshape(1, 6).repeat(like.shape[0], 1)


def spatial_transformer_composite(image: Tensor, theta: Tensor, out_h: int, out_w: int, fused: bool = True) -> Tensor:
    """`spatial_transformer` with torch's own operators: an affine grid, then grid_sample. For exporters; slow.

    The points are rounded as in the kernel. Sampling is in double precision: in single precision, grid_sample's
    rounding of the coordinates alone changes an output by 3e-5 of the image's range on 256 x 256 noise.
    """
    n, _, h, w = image.shape
    size = torch.tensor([h, w], dtype=image.dtype, device=image.device).reshape(2, 1, 1)
    u = _cells(out_h, image).reshape(-1, 1)
    v = _cells(out_w, image)
    t = theta.reshape(n, 2, 3, 1, 1)
    point = t[:, :, 0] * u  # (N, 2, out_h, out_w) at the end: row, column
    if fused:
        point = (point.double() + t[:, :, 1].double() * v.double()).to(image.dtype)
    else:
        point = point + t[:, :, 1] * v
    point = (point + t[:, :, 2] + 1) / 2 * size
    grid = (2 * point.double() + 1) / size - 1  # grid_sample has cells at their centres, and x first
    grid = grid.flip(1).permute(0, 2, 3, 1)
    return F.grid_sample(image.double(), grid, align_corners=False).to(image.dtype)


def torch7_spatial_transformer(image: Tensor, theta: Tensor, out_h: int, out_w: int) -> Tensor:
    """Warp like the authors' Torch7 code (stnbhwd): (N, C, H, W), (N, 6) -> (N, C, out_h, out_w).

    Rows come first here too, but -1 and 1 are the centres of the first and the last cell, in image and output. Images
    are channels-first, unlike in Torch7. Sums run in another order than in Torch7, so results agree up to rounding.
    """
    t = theta.reshape(-1, 2, 3)
    swapped = t[:, [1, 0]][:, :, [1, 0, 2]]  # torch's grid has x first
    grid = F.affine_grid(swapped, [*image.shape[:2], out_h, out_w], align_corners=True)
    return F.grid_sample(image, grid, align_corners=True)


def torch7_to_caffe_theta(in_size: tuple[int, int], out_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return A and b that convert theta from the authors' Torch7 code to the Caffe layer: theta_caffe = A theta_torch7
    + b.

    The conversion is exact, but depends on the sizes: a network's 64 x 64 heatmaps need another one than its 256 x 256
    images.

    Args:
        in_size: (h, w) of the image.
        out_size: (h, w) of the output; each side must be at least 2, as for Torch7's grid.

    Returns:
        A (6, 6) and b (6,), double.

    Raises:
        ValueError: A side is less than 2.
    """
    if min(out_size) < 2 or min(in_size) < 2:
        raise ValueError(f"torch7_to_caffe_theta: each side of {in_size} and {out_size} must be at least 2; with its "
                         "first and last cell in one place, Torch7's grid has no scale")
    a, b = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    stretch = [n / (n - 1) for n in out_size]  # from left edges to centres, of the output
    for axis, n in enumerate(in_size):
        shrink = (n - 1) / n
        row = 3 * axis
        for k, r in enumerate(stretch):
            a[row + k, row + k] = shrink * r
            a[row + 2, row + k] = shrink * (r - 1)
        a[row + 2, row + 2] = shrink
        b[row + 2] = shrink - 1
    return a, b


def from_torch7_theta(theta: Tensor, in_size: tuple[int, int], out_size: tuple[int, int]) -> Tensor:
    """Convert a Torch7 theta to the Caffe layer's: (N, 6) -> (N, 6). See `torch7_to_caffe_theta`."""
    a, b = torch7_to_caffe_theta(in_size, out_size)
    return (theta.double() @ a.to(theta.device).T + b.to(theta.device)).to(theta.dtype)


def to_torch7_theta(theta: Tensor, in_size: tuple[int, int], out_size: tuple[int, int]) -> Tensor:
    """Convert the Caffe layer's theta to Torch7's: (N, 6) -> (N, 6). The inverse of `from_torch7_theta`."""
    a, b = torch7_to_caffe_theta(in_size, out_size)
    return ((theta.double() - b.to(theta.device)) @ torch.linalg.inv(a).to(theta.device).T).to(theta.dtype)


def _cells(n: int, like: Tensor) -> Tensor:
    """Return the position of each of n cells in [-1, 1), computed in double precision, then rounded."""
    return (torch.arange(n, dtype=torch.float64, device=like.device) / n * 2 - 1).to(like.dtype)


def _invert_composite(theta: Tensor) -> Tensor:
    a, b, c, d, e, f = theta.double().unbind(1)
    det = a * e - b * d
    singular = det == 0
    inverse = torch.stack([e, -b, b * f - e * c, -d, a, d * c - a * f], 1) / torch.where(singular, 1, det)[:, None]
    return torch.where(singular[:, None], identity_theta(theta), inverse.to(theta.dtype))


# --- registration with torch ------------------------------------------------------------------


@torch.library.register_fake("rmpe::spatial_transformer")
def _(image: Tensor, theta: Tensor, out_h: int, out_w: int, fused: bool = True) -> Tensor:
    return image.new_empty(*image.shape[:2], out_h, out_w)


@torch.library.register_fake("rmpe::spatial_transformer_backward")
def _(grad: Tensor, image: Tensor, theta: Tensor, fused: bool = True, deterministic: bool = True,
      need_image: bool = True, need_theta: bool = True) -> tuple[Tensor, Tensor]:
    return image.new_empty(image.shape if need_image else 0), theta.new_empty(theta.shape if need_theta else 0)


@torch.library.register_fake("rmpe::invert_theta")
def _(theta: Tensor) -> Tensor:
    return theta.new_empty(theta.shape)


@torch.library.register_fake("rmpe::invert_theta_backward")
def _(grad: Tensor, theta: Tensor) -> Tensor:
    return theta.new_empty(theta.shape)


def _remember_warp(ctx, inputs: tuple, output: Tensor) -> None:
    image, theta, _, _, ctx.fused = inputs
    ctx.save_for_backward(image, theta)


def _warp_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    need_image, need_theta = ctx.needs_input_grad[:2]
    deterministic = torch.are_deterministic_algorithms_enabled()
    d_image, d_theta = _WARP_BACKWARD(grad, *ctx.saved_tensors, ctx.fused, deterministic, need_image, need_theta)
    return d_image if need_image else None, d_theta if need_theta else None, None, None, None


register_gradient("rmpe::spatial_transformer", _warp_backward, _remember_warp)
register_gradient(
    "rmpe::invert_theta",
    lambda ctx, grad: torch.ops.rmpe.invert_theta_backward.default(grad, *ctx.saved_tensors),
    lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
for _op in ("rmpe::spatial_transformer_backward", "rmpe::invert_theta_backward"):
    no_gradient(_op, "a second derivative is not available; use spatial_transformer_composite, or detach")
for _op in ("rmpe::spatial_transformer", "rmpe::invert_theta"):
    autocast_to_single(_op)
for _op in ("spatial_transformer", "spatial_transformer_backward", "invert_theta", "invert_theta_backward"):
    say_if_cuda_is_missing(f"rmpe::{_op}")


@torch.library.register_vmap("rmpe::spatial_transformer")
def _(info, in_dims, image, theta, out_h, out_w, fused=True):
    size = info.batch_size
    out = _WARP(fold(size, image, in_dims[0]), fold(size, theta, in_dims[1]), out_h, out_w, fused)
    return unfold(size, out)


@torch.library.register_vmap("rmpe::spatial_transformer_backward")
def _(info, in_dims, grad, image, theta, fused=True, deterministic=True, need_image=True, need_theta=True):
    size = info.batch_size
    tensors = [fold(size, t, d) for t, d in zip((grad, image, theta), in_dims[:3], strict=True)]
    d_image, d_theta = _WARP_BACKWARD(*tensors, fused, deterministic, need_image, need_theta)
    d_image, at_image = unfold(size, d_image) if need_image else (d_image, None)
    d_theta, at_theta = unfold(size, d_theta) if need_theta else (d_theta, None)
    return (d_image, d_theta), (at_image, at_theta)


@torch.library.register_vmap("rmpe::invert_theta")
def _(info, in_dims, theta):
    return unfold(info.batch_size, torch.ops.rmpe.invert_theta(fold(info.batch_size, theta, in_dims[0])))


@torch.library.register_vmap("rmpe::invert_theta_backward")
def _(info, in_dims, grad, theta):
    size = info.batch_size
    tensors = [fold(size, t, d) for t, d in zip((grad, theta), in_dims, strict=True)]
    return unfold(size, torch.ops.rmpe.invert_theta_backward(*tensors))
