"""Features pooled from regions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .elements import half_away


def regions_of(rois: Tensor, pad_ratio: float = 0) -> tuple[list[int], Tensor]:
    """Rows of image, x1, y1, x2, y2 as the images' numbers and boxes, each moved out by that part of its size.

    An infinite corner is nan; then nothing is pooled.
    """
    flat = rois.reshape(len(rois), 5)
    box = flat[:, 1:].where(flat[:, 1:].isfinite(), float("nan"))
    pad = (box[:, 2:] - box[:, :2] + 1) * pad_ratio
    return flat[:, 0].long().tolist(), torch.cat([box[:, :2] - pad, box[:, 2:] + pad], 1) if pad_ratio else box


def roi_max_pool(x: Tensor, rois: Tensor, pooled: tuple, scale: float, pad_ratio: float = 0) -> Tensor:
    """The largest value in each bin of each region, 0 in empty ones: (N, C, H, W), (R, 5) -> (R, C, *pooled)."""
    images, boxes = regions_of(rois, pad_ratio)
    corner = half_away(boxes * scale)
    top = x.new_zeros(len(images), x.shape[1], *pooled)
    spans = []
    for axis in range(2):
        first, last = corner[:, 1 - axis, None], corner[:, 3 - axis, None]
        step = (last - first + 1).clamp(min=1) / pooled[axis]
        k = torch.arange(pooled[axis], dtype=x.dtype, device=x.device)
        ends = [((k * step).floor() + first), (((k + 1) * step).ceil() + first)]
        spans.append([end.clamp(0, x.shape[2 + axis]).long().tolist() for end in ends])
    (rows, to_rows), (columns, to_columns) = spans
    for r, image in enumerate(images):
        for i, (y1, y2) in enumerate(zip(rows[r], to_rows[r], strict=True)):
            for j, (x1, x2) in enumerate(zip(columns[r], to_columns[r], strict=True)):
                if y1 < y2 and x1 < x2:
                    top[r, :, i, j] = x[image, :, y1:y2, x1:x2].amax((1, 2))
    return top


def span_max_pool(x: Tensor, rois: Tensor, pooled: tuple, scale: float) -> Tensor:
    """The largest value in each bin of spans of time, 0 in empty ones: (N, C, L, H, W), (R, 3) -> (R, C, *pooled).

    Rows and columns are pooled as if there were 7 of each.
    """
    span, bins = half_away(rois[:, 1:] * scale), []
    for axis, count in enumerate(pooled):
        first, last = (torch.zeros_like(span[:, :1]), torch.full_like(span[:, :1], 6)) if axis else span.split(1, 1)
        step, k = (last - first + 1).clamp(min=1) / count, torch.arange(count, dtype=x.dtype, device=x.device)
        ends = [(k * step).floor() + first, ((k + 1) * step).ceil() + first]
        bins.append([list(zip(*pair, strict=True)) for pair in zip(
            *(end.clamp(0, x.shape[2 + axis]).long().tolist() for end in ends), strict=True)])
    top = x.new_zeros(len(rois), x.shape[1], *pooled)
    for r, video in enumerate(rois[:, 0].long().tolist()):
        for i, (t1, t2) in enumerate(bins[0][r]):
            for j, (y1, y2) in enumerate(bins[1][r]):
                for n, (x1, x2) in enumerate(bins[2][r]):
                    if t1 < t2 and y1 < y2 and x1 < x2:
                        top[r, :, i, j, n] = x[video, :, t1:t2, y1:y2, x1:x2].amax((1, 2, 3))
    return top


def parts_around(x: Tensor, points: Tensor, size: tuple, scale: float) -> tuple[Tensor, ...]:
    """What lies around points (N, P, 2), columns first: of a map (N, C, H, W), P times (N, C, *size); 0 outside it."""
    wide = F.pad(x, [size[1], size[1], size[0], size[0]])
    image, places = torch.arange(len(x), device=x.device)[:, None, None], []
    for axis, pooled in enumerate(size):
        begin = half_away(points[..., 1 - axis] * scale - pooled // 2).clamp(-pooled, x.shape[2 + axis]).long() + pooled
        places.append(begin[..., None] + torch.arange(pooled, device=x.device))
    return tuple(wide[image, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
                 for rows, columns in zip(*(place.unbind(1) for place in places), strict=True))


def psroi_pool(x: Tensor, rois: Tensor, dim: int, group: int, scale: float) -> Tensor:
    """The mean of each bin, of the channel that belongs to it: (N, K, H, W), (R, 5) -> (R, dim, group, group).

    Corners are rounded before they are scaled; a region is at least 0.1 wide and high; an empty bin is 0.
    """
    images, boxes = regions_of(rois)
    corner = half_away(boxes)
    inside = []
    for axis in range(2):
        begin = corner[:, 1 - axis, None] * scale
        step = ((corner[:, 3 - axis, None] + 1) * scale - begin).clamp(min=0.1) / group
        k = torch.arange(group, dtype=x.dtype, device=x.device)
        first, last = (k * step + begin).floor(), ((k + 1) * step + begin).ceil()
        cell = torch.arange(x.shape[2 + axis], device=x.device)
        inside.append(((cell >= first[..., None]) & (cell < last[..., None])).to(x.dtype))
    maps = x.reshape(len(x), dim, group, group, *x.shape[2:])
    sums = [torch.einsum("dijhw,ih,jw->dij", maps[image], inside[0][r], inside[1][r])
            for r, image in enumerate(images)]
    area = inside[0].sum(2)[:, None, :, None] * inside[1].sum(2)[:, None, None, :]
    return torch.stack(sums) / area.clamp(min=1) if sums else x.new_zeros(0, dim, group, group)


def psroi_align(x: Tensor, rois: Tensor, dim: int, group: int, samples: int, scale: float) -> Tensor:
    """The mean of samples x samples places in each bin, of the channel that belongs to it: (N, K, H, W), (R, 5) ->
    (R, dim, group, group).

    A region is at least 0.1 wide and high; bins are cut at the map, and samples behind the cut count as 0.
    """
    images, boxes = regions_of(rois)
    shares = []
    for axis in range(2):
        extent = x.shape[2 + axis]
        begin = boxes[:, 1 - axis, None] * scale
        step = ((boxes[:, 3 - axis, None] + 1) * scale - begin).clamp(min=0.1) / group
        k = torch.arange(group, dtype=x.dtype, device=x.device)
        first, last = ((n * step + begin).clamp(0, extent - 1)[..., None] for n in (k, k + 1))
        i = torch.arange(1, samples + 1, dtype=x.dtype, device=x.device)
        at = first + i * (step / (samples + 1))[..., None]
        beside = (1 - (at[..., None] - torch.arange(extent, device=x.device)).abs()).clamp(min=0).nan_to_num()
        shares.append((beside * ((at < last) & (last > first))[..., None]).sum(2))
    maps = x.reshape(len(x), dim, group, group, *x.shape[2:])
    sums = [torch.einsum("dijhw,ih,jw->dij", maps[image], shares[0][r], shares[1][r])
            for r, image in enumerate(images)]
    return torch.stack(sums) / samples**2 if sums else x.new_zeros(0, dim, group, group)


def roi_grid_sample(x: Tensor, rois: Tensor, pooled: tuple, scale: float, pad_ratio: float = 0) -> Tensor:
    """Bilinear samples at a grid of points over each region: (N, C, H, W), (R, 5) -> (R, C, h + 1, w + 1).

    A point off the map, and one of a region without a size, is 0.
    """
    images, boxes = regions_of(rois, pad_ratio)
    corner = boxes * scale - 0.5
    length = corner[:, 2:] - corner[:, :2]
    top = sample_grids(x, images, corner, length, pooled, tuple(bins + 1 for bins in pooled))
    return torch.where((length > 0).all(1)[:, None, None, None], top, 0)


def roi_warp(x: Tensor, rois: Tensor, pooled: tuple, scale: float) -> Tensor:
    """The same with rounded corners and without each region's last row and column: -> (R, C, h, w)."""
    images, boxes = regions_of(rois)
    corner = half_away(boxes * scale)
    return sample_grids(x, images, corner, (corner[:, 2:] - corner[:, :2]).clamp(min=0), pooled, pooled)


def roi_middles(x: Tensor, rois: Tensor, pooled: tuple, scale: float) -> Tensor:
    """The values in the middle of bins that are cut at the map: (N, C, H, W), (R, 5) -> (R, C, *pooled)."""
    images, boxes = regions_of(rois)
    shares, empty = [], []
    for axis, bins in enumerate(pooled):
        first, last, size = boxes[:, 1 - axis, None] * scale, boxes[:, 3 - axis, None] * scale, x.shape[2 + axis]
        edge = torch.arange(bins + 1, dtype=x.dtype, device=x.device) * ((last - first + 1).clamp(min=1) / bins) + first
        edge = edge.clamp(0, size - 1)
        middle = (edge[:, :-1] + edge[:, 1:]) / 2
        shares.append((1 - (middle[..., None] - torch.arange(size, device=x.device)).abs()).clamp(min=0).nan_to_num())
        empty.append(~(edge[:, 1:] >= edge[:, :-1]))
    top = torch.einsum("rph,rchw,rqw->rcpq", shares[0], x[images], shares[1])
    return top.masked_fill((empty[0][:, :, None] | empty[1][:, None])[:, None], 0)


def roi_best_samples(x: Tensor, rois: Tensor, pooled: tuple, scale: float) -> Tensor:
    """The largest of four samples of the first four points of each bin: (N, C, H, W), (R, 5) -> (R, C, *pooled).

    A sample weighs points by how near they lie to a point of the region. One row and column beyond a map is what
    follows in memory, as published.
    """
    images, boxes = regions_of(rois)
    first, number, at, empty = [], [], [], []
    k = torch.arange(4, device=x.device)
    for axis, bins in enumerate(pooled):
        low, high = boxes[:, 1 - axis, None] * scale, boxes[:, 3 - axis, None] * scale
        step = (high - low + 1).clamp(min=1) / bins
        begin, end = ((torch.arange(bins, device=x.device) + i) * step + low for i in (0, 1))
        begin, end = begin.clamp(0, x.shape[2 + axis]), end.clamp(0, x.shape[2 + axis])
        first.append(begin.ceil().nan_to_num().long())
        number.append((end.floor().nan_to_num().long() - first[-1] + 1).clamp(min=0))
        empty.append(~(end > begin))
    many = number[1][:, None, :, None].clamp(min=1)
    places = first[0][:, :, None, None] + k // many, first[1][:, None, :, None] + k % many
    there = k < number[0][:, :, None, None] * number[1][:, None, :, None]
    for axis, place in enumerate(places):
        low, high = (boxes[:, i - axis].view(-1, 1, 1, 1) * scale for i in (1, 3))
        extent = high - low
        share = 2 * (place - low) / torch.where(extent == 0, 1, extent) - 1
        at.append(torch.where(extent == 0, 0, share).clamp(-1, 1))
    near = [[(1 - (at[axis] - side).abs()).clamp(min=0).nan_to_num() for side in (-0.5, 0.5)] for axis in range(2)]
    index = torch.where(there, places[0] * x.shape[3] + places[1], 0)
    plane = (torch.tensor(images, device=x.device)[:, None] * x.shape[1] + torch.arange(x.shape[1], device=x.device))
    values = F.pad(x.flatten(), (0, x.shape[3] + 4))[plane.long()[:, :, None, None, None] * x[0, 0].numel()
                                                     + index[:, None]]
    best = torch.stack([(values * (a * b * there)[:, None]).sum(4) for a in near[1] for b in near[0]]).amax(0)
    return torch.where((empty[0][:, :, None] | empty[1][:, None])[:, None], best.clamp(min=0), best)


def deformable_psroi_pool(x: Tensor, rois: Tensor, moves: Tensor | None, dim: int, group: int, samples: int,
                          scale: float) -> Tensor:
    """The mean of samples of each bin, of the channel that belongs to it: (N, K, H, W), (R, 5) and how far bins are
    moved, in sizes of the region, (R, classes, 2, group, group), columns first -> (R, dim, group, group)."""
    images, boxes = regions_of(rois)
    corner, places, inside = half_away(boxes), [], []
    moves = x.new_zeros(len(boxes), 1, 2, 1, 1) if moves is None else moves.repeat_interleave(dim // moves.shape[1], 1)
    for axis in range(2):
        begin = corner[:, 1 - axis] * scale - 0.5
        size = ((corner[:, 3 - axis] + 1) * scale - 0.5 - begin).clamp(min=0.1)[:, None, None, None]
        bins = torch.arange(group, dtype=x.dtype, device=x.device)
        start = (bins if axis else bins[:, None]) * (size / group) + begin[:, None, None, None]
        start = start + moves[:, :, 1 - axis] * size
        at = start[..., None] + torch.arange(samples, device=x.device) * (size / group / samples)[..., None]
        last = x.shape[2 + axis] - 1
        inside.append((at >= -0.5) & (at <= last + 0.5))
        places.append(at.clamp(0, last).where(inside[-1], 0))
    own = torch.arange(x.shape[1], device=x.device).view(-1, group, group)
    plane = (torch.tensor(images, device=x.device).long().view(-1, 1, 1, 1) * x.shape[1] + own)[..., None, None]
    rows, columns = places[0][..., None], places[1][..., None, :]
    counts = inside[0][..., None] & inside[1][..., None, :]
    total = x.new_zeros(())
    for row, down in ((rows.floor(), 1 - rows + rows.floor()), (rows.ceil(), rows - rows.floor())):
        for column, across in ((columns.floor(), 1 - columns + columns.floor()),
                               (columns.ceil(), columns - columns.floor())):
            index = (plane * x.shape[2] + row.long()) * x.shape[3] + column.long()
            total = total + x.flatten()[index] * (down * across)
    return torch.where(counts, total, 0).sum((4, 5)) / counts.sum((4, 5)).clamp(min=1)


def sample_grids(x: Tensor, images: list, begin: Tensor, length: Tensor, bins: tuple, points: tuple) -> Tensor:
    """Interpolates at points from `begin` (R, 2 or more) on, in steps of `length` (R, 2) / bins; off the map it is 0.

    begin and length have columns first, bins and points rows.
    """
    near, far, share, seen = [], [], [], []
    for axis in range(2):
        last = x.shape[2 + axis] - 1
        k = torch.arange(points[axis], dtype=x.dtype, device=x.device)
        at = begin[:, 1 - axis, None] + k * (length[:, 1 - axis, None] / bins[axis])
        seen.append((at >= -0.5) & (at <= last + 0.5))
        at = at.where(seen[-1], 0)  # nan is no place
        near.append(at.floor().clamp(0, last))
        far.append((at.floor() + 1).clamp(0, last))
        share.append(at.clamp(0, last) - near[-1])
    image = torch.tensor(images, dtype=torch.long, device=x.device)[:, None, None]
    top = 0
    for rows, down in ((near[0], 1 - share[0]), (far[0], share[0])):
        for columns, across in ((near[1], 1 - share[1]), (far[1], share[1])):
            value = x.permute(0, 2, 3, 1)[image, rows.long()[:, :, None], columns.long()[:, None]]
            top = top + (across[:, None] * down[:, :, None])[..., None] * value
    inside = seen[0][:, :, None] & seen[1][:, None]
    return torch.where(inside[..., None], top, 0).permute(0, 3, 1, 2)


def weighed_features(x: Tensor, points: Tensor, offsets: Tensor, weights: Tensor, regions: int, samples: int,
                     parts: int) -> Tensor:
    """The mean over K parts of weighed features of a map (1, K * F, H, W) at points (M, 2) x before y, each moved by
    offsets (M, R, S, 2); weights are (M, R, S, K), the top (M, R, S, F)."""
    grid = (len(points), regions, samples)
    place = (offsets.reshape(*grid, 2) + points.reshape(-1, 1, 1, 2).trunc()).long()
    found = x[0].unflatten(0, (parts, -1))[:, :, place[..., 1], place[..., 0]]
    return torch.einsum("kfmrs,mrsk->mrsf", found, weights.reshape(*grid, parts)) / parts


def features_of_pixels(maps: list, pixels: Tensor, first: list, rates: list) -> Tensor:
    """Maps (N, C, H, W), `rates` times smaller than their images and beginning at the pixels `first`, interpolated at
    pixels (P, 3) of image, row and column: (P, sum of C). What lies before the first place is read as that."""
    image, found = pixels[:, 0].long(), []
    for x, begin, rate in zip(maps, first, rates, strict=True):
        place = (pixels[:, 1:] - begin) / rate
        low, high = (edge.long().clamp(min=0) for edge in (place.floor(), place.ceil()))
        down, across = torch.where(low == high, 0, place - low).double().split(1, 1)
        (top, left), (bottom, right) = low.t(), high.t()
        x = x.permute(0, 2, 3, 1).double()
        columns = [x[image, top, at] * (1 - down) + x[image, bottom, at] * down for at in (left, right)]
        found.append((columns[0] * (1 - across) + columns[1] * across).to(pixels.dtype))
    return torch.cat(found, 1)
