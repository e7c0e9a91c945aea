"""Pooling, and other functions of windows of pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def windows(size: int, kernel: int, stride: int, pad: int, padded: bool, floor: bool) -> tuple[int, int]:
    """How many windows Caffe puts along an axis, and by how much the last one reaches beyond it.

    Sizes are rounded up. If there is padding at all (`padded`), a window that would begin behind the axis is dropped.
    """
    span = size + 2 * pad - kernel
    count = (span // stride if floor else -(-span // stride)) + 1
    if padded and (count - 1) * stride >= size + pad:
        count -= 1
    return count, (count - 1) * stride + kernel - size - pad


def margin(x: Tensor, kernel: tuple, stride: tuple, pad: tuple, floor: bool) -> list[int]:
    """What F.pad must add to the planes of x so that Caffe's windows fit exactly: left, right, top, bottom."""
    sides: list[int] = []
    for size, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True):
        sides = [p, windows(size, k, s, p, any(pad), floor)[1], *sides]
    return sides


def max_pool(x: Tensor, kernel: tuple, stride: tuple = (1, 1), pad: tuple = (0, 0), floor: bool = False) -> Tensor:
    """The maximum of each window, with Caffe's choice of windows: (N, C, H, W) -> (N, C, h, w)."""
    lowest = torch.finfo(torch.float32).min
    return F.max_pool2d(F.pad(x, margin(x, kernel, stride, pad, floor), value=lowest), kernel, stride)


def max_pool_with_mask(x: Tensor, kernel: tuple, stride: tuple = (1, 1), pad: tuple = (0, 0),
                       floor: bool = False) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and its place in its plane of H x W, as a number; -1 for a window outside."""
    left, right, top, bottom = margin(x, kernel, stride, pad, floor)
    padded = F.pad(x, [left, right, top, bottom], value=torch.finfo(torch.float32).min)
    y, place = F.max_pool2d(padded, kernel, stride, return_indices=True)
    row, column = place // padded.shape[3] - top, place % padded.shape[3] - left
    inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
    return y, torch.where(inside, row * x.shape[3] + column, -1).to(x.dtype)


def average_pool(x: Tensor, kernel: tuple, stride: tuple = (1, 1), pad: tuple = (0, 0), floor: bool = False) -> Tensor:
    """The mean of each window, with Caffe's choice of windows: its padding counts, what lies behind that does not."""
    total = F.avg_pool2d(F.pad(x, margin(x, kernel, stride, pad, floor)), kernel, stride, divisor_override=1)
    cells = []
    for size, n, k, s, p in zip(x.shape[2:], total.shape[2:], kernel, stride, pad, strict=True):
        start = torch.arange(n, device=x.device) * s - p
        cells.append(((start + k).clamp(max=size + p) - start).to(x.dtype))
    return total / torch.outer(*cells)


def sum_pool(x: Tensor, kernel: tuple, stride: tuple = (1, 1), pad: tuple = (0, 0), floor: bool = False) -> Tensor:
    """The sum of each window, with Caffe's choice of windows."""
    return F.avg_pool2d(F.pad(x, margin(x, kernel, stride, pad, floor)), kernel, stride, divisor_override=1)


def windows_as_channels(x: Tensor, axis: int, kernel: tuple, stride: tuple, dilation: tuple, margin: tuple) -> Tensor:
    """The windows of a convolution, with the places in a window as channels, the given axis."""
    x, dims, first = F.pad(x, margin), len(kernel), axis + 1
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        grid = (x.shape[first + 2 * i] - d * (k - 1) - 1) // s + 1
        place = torch.arange(k, device=x.device)[:, None] * d + torch.arange(grid, device=x.device) * s
        x = x[(slice(None),) * (first + 2 * i) + (place,)]
    x = x.permute(*range(first), *range(first, first + 2 * dims, 2), *range(first + 1, first + 2 * dims, 2))
    return x.flatten(axis, axis + dims)


def convolve_each(kernels: Tensor, x: Tensor, side: int) -> Tensor:
    """Each pixel's own kernels: (N, C * side * side, H, W), (N, C, H, W) -> (N, C, H, W)."""
    near = F.unfold(x, side, padding=side // 2).view(*x.shape[:2], side * side, *x.shape[2:])
    return (kernels.view(near.shape) * near).sum(2)


def window_places(x: Tensor, kernel: tuple, dilation: tuple, pad: tuple, stride: tuple) -> tuple[Tensor, Tensor, int]:
    """The places of windows, (N, C, places, windows), 0 outside; which are inside x; and which one is the center."""
    columns = F.unfold(x, kernel, dilation, pad, stride)
    inside = F.unfold(torch.ones_like(x[:1, :1]), kernel, dilation, pad, stride)[0] > 0
    return columns.view(*x.shape[:2], *inside.shape), inside, kernel[0] // 2 * kernel[1] + kernel[1] // 2


def neighbour_distances(x: Tensor, kernel: tuple, dilation: tuple, pad: tuple, stride: tuple, size: tuple,
                        absolute: bool = False, far_outside: bool = False, far_center: bool = False) -> Tensor:
    """How far each place of a window is from its center, over all channels: (N, C, H, W) -> (N, places, *size).

    Half the sum of squares, or the sum of absolute differences. What is far is so by a hundredth of the largest float;
    other places outside are at distance 0, and so is a whole window whose center is outside.
    """
    values, inside, center = window_places(x, kernel, dilation, pad, stride)
    apart = torch.where(inside & inside[center], values[:, :, center, None] - values, 0)
    distance = apart.abs().sum(1) if absolute else (apart * apart).sum(1) * 0.5
    far = ~inside & far_outside
    far[center] |= far_center
    distance = distance + torch.where(far & inside[center], torch.finfo(torch.float32).max / 100, 0.0)
    return distance.view(len(x), -1, *size)


def equal_neighbours(x: Tensor, kernel: tuple, dilation: tuple, pad: tuple, stride: tuple, size: tuple, ignored: float,
                     ignores: bool = False) -> Tensor:
    """1 where a place of a window has its center's label, else 0: (N, 1, H, W) -> (N, places, *size).

    A window whose center is outside is `ignored`; with `ignores` also a place if it or its center has that label.
    """
    values, inside, center = window_places(x, kernel, dilation, pad, stride)
    labels = values[:, 0].trunc()
    middle = labels[:, center, None]
    same = (labels == middle).to(x)
    if ignores:
        same = torch.where((labels == ignored) | (middle == ignored), ignored, same)
    return torch.where(inside[center], same, ignored).view(len(x), -1, *size)


def pool_axes(x: Tensor, kernel: tuple, stride: tuple, margin: tuple, maximum: bool) -> Tensor:
    """The maximum or mean of windows along the 1 to 3 axes after the channels; margin is as F.pad takes it."""
    x = F.pad(x, margin, value=torch.finfo(torch.float32).min if maximum else 0)
    pools = (F.max_pool1d, F.max_pool2d, F.max_pool3d) if maximum else (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
    return pools[len(kernel) - 1](x, kernel, stride)


def pyramid_pool(x: Tensor, levels: int, maximum: bool) -> Tensor:
    """Pools into 1, 2 x 2, 4 x 4 ... bins, one row of values after the other: (N, C, H, W) -> (N, C * bins)."""
    pooled = []
    for level in range(levels):
        bins = 2**level
        kernel = tuple(-(-size // bins) for size in x.shape[2:])
        pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, x.shape[2:], strict=True))
        pooled.append((max_pool if maximum else average_pool)(x, kernel, kernel, pad))
    return pooled[0] if levels == 1 else torch.cat([values.flatten(1) for values in pooled], 1)


def spread(x: Tensor, kernel: tuple, stride: tuple, size: tuple, divide: bool) -> Tensor:
    """Each value added to the whole of its window, or if `divide` its share: (N, C, h, w) -> (N, C, *size)."""
    windows = []
    for axis in range(2):
        cell = torch.arange(size[axis], device=x.device)[:, None]
        begin = torch.arange(x.shape[2 + axis], device=x.device) * stride[axis]
        windows.append(((cell >= begin) & (cell < begin + kernel[axis])).to(x.dtype))
    rows, columns = windows
    return rows @ (x / torch.outer(rows.sum(0), columns.sum(0)) if divide else x) @ columns.t()


def winners(x: Tensor, kernel: tuple = (), stride: tuple = (1, 1)) -> tuple[Tensor, Tensor]:
    """The value of the largest magnitude in each window, or without a kernel in each plane, with 0 in all other places;
    and 1 in its place."""
    kernel, wins = kernel or tuple(x.shape[2:]), torch.zeros_like(x).flatten(2)
    if kernel[0] <= x.shape[2] and kernel[1] <= x.shape[3]:
        place = F.max_pool2d(x.abs(), kernel, stride, return_indices=True)[1]
        wins = wins.scatter(2, place.flatten(2), 1)
    return torch.where(wins.view(x.shape) > 0, x, 0), wins.view(x.shape)


def attend(x: Tensor, weight: Tensor, pad: int = 0, stride: int = 1, dilation: int = 1) -> Tensor:
    """Weighted sums of windows, one for each place: (N, C, H, W), (N, k * k, P, Q) -> (N, C, P, Q)."""
    x, kernel, top = F.pad(x, [pad] * 4), round(weight.shape[1] ** 0.5), x.new_zeros(())
    for cell in range(kernel * kernel):
        row, column = (slice(start * dilation, start * dilation + (size - 1) * stride + 1, stride)
                       for start, size in zip((cell // kernel, cell % kernel), weight.shape[2:], strict=True))
        top = top + x[:, :, row, column] * weight[:, cell : cell + 1]
    return top


def attend_everywhere(x: Tensor, weight: Tensor, pad: int = 0, dilation: int = 1) -> Tensor:
    """Weighted sums of the whole map, one for each place: (N, C, H, W), (N, k * k, P, Q) -> (N, C, P, Q)."""
    whole = F.pad(x, [pad] * 4)[:, :, ::dilation, ::dilation].flatten(2)
    return (whole @ weight.flatten(2)).unflatten(2, weight.shape[2:])
