"""Values moved between axes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def depth_to_space(x: Tensor, block: int, channels_last: bool = False) -> Tensor:
    """Channels moved into blocks of pixels, places in the block first: (N, C, H, W) -> (N, C / b^2, H * b, W * b)."""
    x = x.movedim(3, 1) if channels_last else x
    n, c, h, w = x.shape
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    y = y.reshape(n, c // block**2, h * block, w * block)
    return y.movedim(1, 3) if channels_last else y


def space_to_batch(x: Tensor, blocks: list, margin: list) -> Tensor:
    """Each place in a block of the axes from 1 on as batches of their own, after zeros at the ends of these axes."""
    axes = len(blocks)
    x = F.pad(x, [0, 0] * (x.dim() - axes - 1) + [n for pair in margin[::-1] for n in pair])
    parts = [n for size, block in zip(x.shape[1:], blocks, strict=False) for n in (size // block, block)]
    x = x.reshape(len(x), *parts, *x.shape[axes + 1 :])
    x = x.permute(*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2), *range(2 * axes + 1, x.dim()))
    return x.flatten(0, axes)


def batch_to_space(x: Tensor, blocks: list, margin: list) -> Tensor:
    """The reverse of space_to_batch; then the ends of the axes are cut off."""
    axes, sizes = len(blocks), x.shape[1:]
    x = x.reshape(*blocks, -1, *sizes)
    order = [axes, *(axis for i in range(axes) for axis in (axes + 1 + i, i)), *range(2 * axes + 1, x.dim())]
    whole = [size * block for size, block in zip(sizes, blocks, strict=False)]
    x = x.permute(order).reshape(-1, *whole, *sizes[axes:])
    for axis, (size, (before, end)) in enumerate(zip(whole, margin, strict=True), 1):
        x = x.narrow(axis, before, size - before - end)
    return x


def as_sequence(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, 1, T) -> steps (T, N, C), and whether each goes on with the sequence (T, N)."""
    steps = x.reshape(*x.shape[:2], -1).permute(2, 0, 1)
    goes_on = torch.ones_like(steps[..., 0])
    goes_on[:1] = 0
    return steps, goes_on


def joined_maps(*maps: Tensor) -> Tensor:
    """The channels of maps (N, C, H, W), each pixel repeated up to the first map's size; what is left over is 0."""
    h, w = maps[0].shape[2:]
    parts = []
    for x in maps:
        x = x.repeat_interleave(h // x.shape[2], 2).repeat_interleave(w // x.shape[3], 3)
        parts.append(F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2])))
    return torch.cat(parts, 1)


def pasted(parts: list, places: list, size: tuple) -> Tensor:
    """Parts (N, C, h, w), pasted one after the other at their first rows and columns into zeros (N, C, *size)."""
    whole = parts[0].new_zeros(*parts[0].shape[:2], *size)
    for (row, column), part in zip(places, parts, strict=True):
        whole[:, :, row : row + part.shape[2], column : column + part.shape[3]] = part
    return whole
