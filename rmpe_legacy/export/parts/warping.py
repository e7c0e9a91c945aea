"""Images warped, resized and matched."""

import torch
import torch.nn.functional as F
from torch import Tensor


def between_pixels(x: Tensor, axis: int, place: Tensor) -> Tensor:
    """Values interpolated along an axis at these places, in pixels."""
    lower = place.floor()
    a = x.index_select(axis, lower.clamp(min=0).long())
    b = x.index_select(axis, place.ceil().clamp(0, x.shape[axis] - 1).long())
    return a + (b - a) * (place - lower).to(x).view(-1, *[1] * (x.dim() - axis - 1))


def spatial_transformer(image: Tensor, theta: Tensor, out_h: int, out_w: int) -> Tensor:
    """Warp each image by its own affine map: (N, C, H, W), (N, 6) -> (N, C, out_h, out_w), as the RMPE fork of Caffe.

    theta has rows before columns, and cell i of n sits at 2 i / n - 1, its left edge; beyond the image all is 0.
    Sampled in double precision: grid_sample's own rounding would show.
    """
    h, w = image.shape[2:]
    size = torch.tensor([h, w], dtype=image.dtype, device=image.device).reshape(2, 1, 1)
    u = (torch.arange(out_h, dtype=torch.float64, device=image.device) / out_h * 2 - 1).to(image.dtype).reshape(-1, 1)
    v = (torch.arange(out_w, dtype=torch.float64, device=image.device) / out_w * 2 - 1).to(image.dtype)
    t = theta.reshape(-1, 2, 3, 1, 1)
    point = t[:, :, 0] * u
    point = (point.double() + t[:, :, 1].double() * v.double()).to(image.dtype)  # rounded once, as on a GPU
    point = (point + t[:, :, 2] + 1) / 2 * size
    grid = ((2 * point.double() + 1) / size - 1).flip(1).permute(0, 2, 3, 1)  # grid_sample takes columns first
    return F.grid_sample(image.double(), grid, align_corners=False).to(image.dtype)


def inverse_map(theta: Tensor) -> Tensor:
    """The affine maps that undo these: (N, 6) -> (N, 6); the identity for one that cannot be undone."""
    a, b, c, d, e, f = theta.double().unbind(1)
    determinant = a * e - b * d
    adjugate = torch.stack([e, -b, b * f - e * c, -d, a, d * c - a * f], 1)
    inverse = (adjugate / torch.where(determinant == 0, 1, determinant)[:, None]).to(theta.dtype)
    return torch.where(determinant[:, None] == 0, theta.new_tensor([1, 0, 0, 0, 1, 0]), inverse)


def with_fixed(theta: Tensor, *fixed: float | None) -> Tensor:
    """All six numbers of each map: those given as fixed, and the columns of theta in the places of None."""
    columns = iter(theta.flatten(1).unbind(1))
    return torch.stack([next(columns) if value is None else theta.new_full((len(theta),), value) for value in fixed], 1)


def window_loss(theta: Tensor, h: int, w: int) -> Tensor:
    """Half the mean squared distance of a grid's points from the image, -1 to 1: affine maps (N, 6) -> a scalar."""
    x = torch.arange(h, dtype=torch.float64, device=theta.device) * 2 / h - 1
    y = torch.arange(w, dtype=torch.float64, device=theta.device) * 2 / w - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="ij")).flatten(1)
    points = theta.reshape(-1, 2, 3) @ torch.cat([points, torch.ones_like(points[:1])]).to(theta.dtype)
    return (points - points.clamp(-1, 1)).square().mean()


def correlate(a: Tensor, b: Tensor, reach: int, step: int = 1, window: int = 1, stride: int = 1, pad: int = 0
              ) -> Tensor:
    """How alike two maps are at displacements up to `reach`: (N, C, H, W) twice -> (N, D * D, H', W').

    The mean product over channels and a window, of windows `stride` apart on the padded maps.
    """
    farthest, channels = reach // step * step, a.shape[1]
    moves = range(-farthest, farthest + 1, step)
    a, b = (F.pad(x, [pad] * 4) for x in (a, b))
    h, w = (size - 2 * reach for size in a.shape[2:])
    fixed = a[:, :, reach : reach + h, reach : reach + w]
    costs = [(fixed * b[:, :, reach + y : reach + y + h, reach + x : reach + x + w]).sum(1)
             for y in moves for x in moves]
    return F.avg_pool2d(torch.stack(costs, 1), window, stride) / channels


def correlate_rows(a: Tensor, b: Tensor, reach: int, moves: range, beyond: int = 0, window: int = 1, stride: int = 1,
                   pad: int = 0) -> Tensor:
    """How alike two maps are at displacements within a row: (N, C, H, W) twice -> (N, D, H', W').

    The mean product over channels and a window, of windows `stride` apart on the padded rows. `beyond` columns before
    those are read as 0.
    """
    width, start = a.shape[3] + 2 * (pad - reach), reach + beyond
    fixed, moved = F.pad(a, (pad, pad))[..., reach : reach + width], F.pad(b, (pad + beyond, pad))
    costs = [(fixed * moved[..., start + x : start + x + width]).sum(1) for x in moves]
    return F.avg_pool2d(torch.stack(costs, 1), window, stride) / a.shape[1]


def warp(image: Tensor, flow: Tensor, edge: bool, fill: float = 0) -> Tensor:
    """Pixels (N, C, H, W), read where a flow (N, 2, H, W), columns first, points to, and `fill` outside.

    With `edge`, less than a pixel beyond the last row or column is read as that.
    """
    n, c, h, w = image.shape
    row = torch.arange(h, dtype=flow.dtype, device=flow.device).view(-1, 1) + flow[:, 1]
    column = torch.arange(w, dtype=flow.dtype, device=flow.device) + flow[:, 0]
    inside = (row >= 0) & (column >= 0) & ((row < h) & (column < w) if edge else (row <= h - 1) & (column <= w - 1))
    row, column = (torch.where(inside, place, 0) for place in (row, column))
    y, x = row.floor(), column.floor()
    down, across = (row - y)[:, None], (column - x)[:, None]
    total = image.new_zeros(())
    for rows, by_row in ((y, 1 - down), ((y + 1).clamp(max=h - 1), down)):
        for columns, by_column in ((x, 1 - across), ((x + 1).clamp(max=w - 1), across)):
            index = (rows.long() * w + columns.long()).view(n, 1, -1).expand(-1, c, -1)
            total = total + by_column * by_row * image.flatten(2).gather(2, index).view(image.shape)
    return torch.where(inside[:, None], total, fill)


def warp_into_zeros(image: Tensor, flow: Tensor) -> Tensor:
    """Pixels (N, C, H, W), interpolated where a flow (N, 2, H, W), columns first, points to; those outside are 0."""
    h, w = image.shape[2:]
    rows, columns = (torch.arange(size, dtype=flow.dtype, device=flow.device) for size in (h, w))
    return read_into_zeros(image, rows[:, None] + flow[:, 1], columns + flow[:, 0])


def read_into_zeros(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels (N, C, H, W), interpolated at rows and columns (N, h, w): (N, C, h, w). Those outside are 0."""
    n, c, h, w = image.shape
    wide = F.pad(image, [1, 2, 1, 2]).flatten(2)
    (y, down), (x, across) = ((place.floor(), (place - place.floor())[:, None])
                              for place in (rows.clamp(-1, h), columns.clamp(-1, w)))
    total = image.new_zeros(())
    for i, by_row in ((1, 1 - down), (2, down)):
        for j, by_column in ((1, 1 - across), (2, across)):
            index = ((y.long() + i) * (w + 3) + x.long() + j).view(n, 1, -1).expand(-1, c, -1)
            total = total + by_column * by_row * wide.gather(2, index).view(n, c, *rows.shape[1:])
    return total


def hyper_columns(values: Tensor, maps: list, step: int) -> tuple[Tensor, Tensor]:
    """The maps, interpolated, and the values (N, K, H, W) at every step-th place: (N * P, C, 1, 1), (N * P, K).

    Beyond a map's outer pixels, those pixels count.
    """
    resized = [F.interpolate(x, values.shape[2:], mode="bilinear", align_corners=False) for x in maps]
    rows = [x.flatten(2)[..., ::step].transpose(1, 2).flatten(0, 1) for x in (torch.cat(resized, 1), values)]
    return rows[0][..., None, None], rows[1]


def columns_at(places: Tensor, maps: list, scales: list, tops: list, lefts: list, factors: list) -> Tensor:
    """Maps, interpolated at places (N, P, 2) of rows and columns: (N * P, the sum of the maps' channels).

    A map is read at (place - offset) / scale, beyond its edges at these, and multiplied by its factor.
    """
    at, found = places.reshape(*places.shape[:2], 2), []
    for x, scale, top, left, factor in zip(maps, scales, tops, lefts, factors, strict=True):
        n, c, h, w = x.shape
        row, column = (((at[..., axis] - offset) / scale).clamp(min=0).clamp(max=size - x.new_tensor(1.0001))
                       for axis, offset, size in ((0, top, h), (1, left, w)))
        index = (row.long() * w + column.long())[:, None].expand(-1, c, -1)
        value = x.new_zeros(())
        for k, down in ((0, row.long() + 1 - row), (w, row - row.long())):
            for i, across in ((0, column.long() + 1 - column), (1, column - column.long())):
                value = value + x.reshape(n, c, h * w).gather(2, index + k + i) * (down * across)[:, None]
        found.append(value.transpose(1, 2) * factor)
    return torch.cat(found, 2).flatten(0, 1)


def resize_images(x: Tensor, size: tuple, start: float, gap: float) -> Tensor:
    """The mean of cubic resizes of images, each first cut at its edges: (N, C, H, W) -> (1, C, *size).

    At the left and top edge the cubic goes beyond the last pixel.
    """
    total = x.new_zeros(())
    for n, image in enumerate(x):
        for axis, out in enumerate(size, 1):
            cut = int(image.shape[axis] // 2 * (1 - start + n * gap) // 1)
            extent = image.shape[axis] - 2 * cut
            ratio = torch.tensor(float(extent), device=x.device) / out
            shift = torch.tensor(float(out), device=x.device) / extent / 2 - 0.5
            at = (torch.arange(out, dtype=torch.float32, device=x.device) - shift) * ratio
            second = (at.double() + 1e-5).trunc().clamp(min=0).long()
            third = (second + 1).clamp(max=extent - 1)
            places = (second - 1).clamp(min=0), second, third, (third + 1).clamp(max=extent - 1)
            a, b, c, d = (image.index_select(axis, place + cut) for place in places)
            t = (at - second).view(-1, *[1] * (2 - axis))
            image = (((-0.5 * a + 1.5 * b - 1.5 * c + 0.5 * d) * t + (a - 2.5 * b + 2 * c - 0.5 * d)) * t
                     + 0.5 * (c - a)) * t + b
        total = total + image
    return (total / len(x))[None]
