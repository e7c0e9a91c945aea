"""Keypoints read from heatmaps."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .elements import half_away


def heatmap_peaks(maps: Tensor) -> Tensor:
    """Where each joint's map peaks: (N, J, H, W) -> (1, 1, N, 3 J), for each joint x, y, score.

    The RMPE fork numbers places as if rows and columns were exchanged: of equal values that with the smallest x wins,
    and maps that are higher than wide are scrambled as there.
    """
    n, joints, h, w = maps.shape
    stride = min(h, w)
    y, x = torch.arange(h, device=maps.device)[:, None], torch.arange(w, device=maps.device)
    kept = (y + stride >= h) | (x == 0)  # places that no later row is written over
    value = torch.where(kept & ~maps.isnan(), maps, float("-inf")).flatten(2)
    place = torch.where(kept, x * stride + y, h * w).flatten().expand(n, joints, -1)
    if h > stride and w > 1:  # the first of the places that stay 0
        value = torch.cat([value, value.new_zeros(n, joints, 1)], 2)
        place = torch.cat([place, place.new_full((n, joints, 1), (w - 1) * stride + h)], 2)
    score = value.amax(2)
    first = torch.where(value == score[..., None], place, h * w).amin(2)
    return torch.stack([first // stride, first % stride, score], 2).to(maps.dtype).reshape(1, 1, n, -1)


def refined_peaks(maps: Tensor, parts: int, most: int, threshold: float) -> Tensor:
    """OpenPose's peaks: (N, C, H, W) -> (N, parts, most + 1, 3), their number, then x, y and value of each.

    A peak is above its eight neighbours and `threshold`. Its place is the mean of those up to 3 pixels around, weighted
    by their values; as published, without row and column 0, and with rows counted up to the width.
    """
    n, _, h, w = maps.shape
    memory = F.pad(maps.reshape(-1), (0, max(0, w - h + 1) * w + 3 * w))
    planes = memory[: n * parts * h * w].view(n * parts, h, w)
    around = F.pad(planes, (1, 1, 1, 1), value=float("inf"))
    peak = planes > threshold
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                peak &= planes > around[:, dy : dy + h, dx : dx + w]
    top = maps.new_zeros(n * parts, most + 1, 3)
    top[:, 0, 0] = peak.sum((1, 2)).to(maps.dtype)
    plane, y, x = peak.nonzero().unbind(1)
    rank = torch.arange(len(plane), device=maps.device) - torch.searchsorted(plane, plane)
    plane, y, x, rank = (v[rank < most] for v in (plane, y, x, rank))
    steps = torch.arange(-3, 4, device=maps.device)
    rows, columns = (y[:, None] + steps)[:, :, None], (x[:, None] + steps)[:, None]
    counts = (rows > 0) & (rows < w) & (columns > 0) & (columns < w)
    index = torch.where(counts, plane[:, None, None] * h * w + rows * w + columns, 0)
    value = torch.where(counts, memory[index].clamp(min=0), 0)
    total = value.sum((1, 2))
    places = [(value * at).sum((1, 2)) / total for at in (columns, rows)]
    top[plane, rank + 1] = torch.stack([*places, planes[plane, y, x]], 1)
    return top.reshape(n, parts, most + 1, 3)


def peak_of_planes(maps: Tensor) -> Tensor:
    """x, y and value of each plane's largest value, if it is above 0: (N, C, H, W) -> (N, C, 1, 3)."""
    least = torch.finfo(torch.float32).tiny
    value, place = maps.flatten(2).max(2)
    place = torch.where(value > least, place, 0)
    width = maps.shape[3]
    return torch.stack([place % width, place // width, value.clamp(min=least)], 2)[:, :, None].to(maps.dtype)


def unit_masks(land: Tensor, units: list, eyes: tuple, side: int, size: float, scale: float, ratio: float,
               slope: float, fill: float, *, filled: bool) -> tuple[Tensor, ...]:
    """49 landmarks (N, 98), x before y -> a mask of each unit, and the largest of all, (N, 1, side, side) each.

    A unit has two middles, each a landmark moved down by a share of the eyes' distance. In a square around a middle,
    `ratio` of the image large, values fall from 1 to `fill` at least; of two squares the second counts.
    """
    across, down = land.flatten(1)[:, :98].unflatten(1, (49, 2)).unbind(2)
    apart = (across[:, eyes[0]] - across[:, eyes[1]]).abs()
    cells, half = torch.arange(side, device=land.device), (size - 1) / 2 * ratio
    step = float(100 / (torch.tensor(size) * torch.tensor(scale)))
    masks, largest = [], land.new_full((len(land), 1, side, side), fill)
    for middles in units:
        mask = torch.full_like(largest, fill)
        for mark, share in middles if filled else ():
            x, y = across[:, mark], down[:, mark]
            if share:
                y = y + (1 if share > 0 else -1) * apart / round(1 / abs(share))
            inside, distance = [], []
            for place, cell in ((y, cells[:, None]), (x, cells)):
                place = place.view(-1, 1, 1, 1)
                low, high = (half_away(((place + sign * half) * scale).nan_to_num().clamp(-1, side)).clamp(0, side - 1)
                             for sign in (-1, 1))
                inside.append((cell >= low) & (cell <= high))
                distance.append((cell - place * scale).abs())
            value = (1 - ((distance[0] + distance[1]) * slope).double() * step).to(land.dtype).clamp(min=fill)
            mask = torch.where(inside[0] & inside[1], value, mask)
            largest = torch.where(inside[0] & inside[1], torch.maximum(largest, value), largest)
        masks.append(mask)
    return (*masks, largest)


def align_landmarks(land: Tensor, crop: Tensor, other: Tensor) -> Tensor:
    """Landmarks (N, 2 K) as their images were cropped and mirrored: crop says for each whether it was mirrored, its
    width, first row and first column; other, from 1, which landmark a mirrored face has there. -> (N, K, 2)."""
    x = land.reshape(len(land), -1, 2)
    mirrored, width, row, column = crop.flatten()[: 4 * len(x)].view(-1, 4).t()[:, :, None]
    moved = x - torch.stack([column, row], 2)
    flipped = torch.stack([width - 1 - moved[..., 0], moved[..., 1]], 2)
    return torch.where(mirrored[..., None] != 0, flipped[:, other.flatten()[: x.shape[1]].long() - 1], moved)
