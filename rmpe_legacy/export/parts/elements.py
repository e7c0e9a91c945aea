"""Functions of single values, pixels or rows."""

import torch
import torch.nn.functional as F
from torch import Tensor


def response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float = 1, across: bool = True,
                  in_place: bool = False) -> Tensor:
    """x / (k + alpha * mean of x^2) ^ beta, the mean over `size` channels, or over size x size pixels around.

    in_place: what Caffe gives if the layer works in place across channels, where it reads back what it has written.
    """
    squares = x * x
    if across:
        planes = squares.reshape(len(x), 1, x.shape[1], -1)
        mean = F.avg_pool2d(planes, (size, 1), 1, (size // 2, 0)).reshape(x.shape)
    else:
        mean = F.avg_pool2d(squares, size, 1, size // 2)
    factor = (k + alpha * mean) ** -beta
    return factor * (factor if in_place else x)


def mean_variance_norm(x: Tensor, across: bool, variance: bool, eps: float) -> Tensor:
    """(x - mean) / (deviation + eps) over each plane, or `across` over each sample; without `variance`, x - mean."""
    axes = (1, 2, 3) if across else (2, 3)
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + eps) if variance else centred


def largest(x: Tensor, axis: int, count: int) -> tuple[Tensor, Tensor]:
    """The largest values along an axis and their places, as numbers; at a tie the later place goes first."""
    turned = x.flip(axis)
    places = torch.sort(turned, dim=axis, descending=True, stable=True).indices.narrow(axis, 0, count)
    return turned.gather(axis, places), (x.shape[axis] - 1 - places).to(x.dtype)


def bnll(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def read_best(x: Tensor, go: Tensor | None, blank: int, merged: bool) -> tuple[Tensor, Tensor]:
    """The labels that scores (T, N, C) read, (N, T, 1, 1), -1 behind the last, and the negative sum of their scores.

    go: 0 where a sequence begins, (T, N); only the first counts. merged: equal labels running count once.
    """
    value, best = x.flatten(2).max(2)
    counts = best != blank
    if merged:
        counts[1:] &= best[1:] != best[:-1]
    inside = torch.ones_like(counts)
    if go is not None:
        inside[1:] = ((go.flatten(1)[1:] + 0.5).abs() < 1).cumsum(0) == 0
    counts &= inside
    place = torch.where(counts, counts.cumsum(0) - 1, len(x))
    top = x.new_full((len(x) + 1, x.shape[1]), -1).scatter(0, place, best.to(x.dtype))
    return top[:-1].t()[..., None, None], -(value * inside).sum(0)[:, None, None, None]


def four_steps(x: Tensor, thresh: float, delta: float) -> Tensor:
    """0 up to thresh, delta up to 1.5 delta, 2 delta up to 2.5 delta, else 3 delta."""
    y = torch.full_like(x, 3 * delta)
    for end, value in ((2.5 * delta, 2 * delta), (1.5 * delta, delta), (thresh, 0)):
        y = torch.where(x <= end, torch.full_like(x, value), y)
    return y


def matrix_products(left: Tensor, right: Tensor) -> Tensor:
    """(L, K, M) times (L, M, N); one matrix (1, L, M) has a row for each of the L, and gives (1, L, N)."""
    return (left.transpose(0, 1) @ right).transpose(0, 1) if len(left) == 1 else left @ right


def half_away(x: Tensor) -> Tensor:
    """Round as C does: halves go away from 0."""
    return torch.where(x < 0, (x - 0.5).ceil(), (x + 0.5).floor())


def half_up(x: Tensor) -> Tensor:
    """Round values that are not negative; halves go up."""
    whole = x.floor()
    return torch.where(x - whole >= 0.5, whole + 1, whole)


def netvlad(share: Tensor, feature: Tensor, centers: Tensor) -> Tensor:
    """For each cluster, the sum over all places of its share times (feature + center): (N, K, H, W), (N, D, H, W)."""
    share, feature = share.flatten(2), feature.flatten(2)
    return (share @ feature.transpose(1, 2) + share.sum(2, keepdim=True) * centers).flatten(1)


def own_classes(x: Tensor, classes: Tensor, count: int, size: int) -> Tensor:
    """The `size` channels that belong to each sample's own of `count` classes: (N, C, H, W) -> (N, size, H, W)."""
    own = classes.flatten()[: len(x)].long()
    return x[:, : count * size].unflatten(1, (count, size))[torch.arange(len(x), device=x.device), own]


def unit_parts(x: Tensor, parts: int, epsilon: float) -> Tensor:
    """Each of the equal parts of a row, divided by its length."""
    part = x.reshape(len(x), parts, -1)
    return (part / (part.square().sum(2, keepdim=True) + epsilon).sqrt()).view(x.shape)


def route(tops: list, least: float, end: float, middle: float) -> tuple[Tensor, ...]:
    """The rows that belong to regions (R, 5) with a side (square root of the area) from `least` to below `end`; of none
    the one nearest to `middle`."""
    box = tops[0].flatten(1)[:, 1:]
    size = box[:, 2:] - box[:, :2]
    side = torch.where((size < 0).any(1), 0, (size + 1).prod(1)).sqrt()
    chosen = ((side >= least) & (side < end)).nonzero().flatten()
    if not len(chosen) and len(side):
        chosen = (side / middle).log2().abs().argmin().view(1)
    return tuple(x.reshape(*x.shape, *[1] * (4 - x.dim()))[chosen] for x in tops)


def shift_channels(x: Tensor, values: list, scale: float = 1, scale_all: float = 1) -> Tensor:
    """scale_all * (scale * x + a value of each channel); the values begin anew if there are more channels."""
    return scale_all * (scale * x + x.new_tensor(values).repeat(x.shape[1] // len(values)).view(1, -1, 1, 1))


def distances(rows: Tensor, centres: Tensor, absolute: bool) -> Tensor:
    """Squared distances of rows (N, K) to others (M, K), or sums of absolute differences: (N, M)."""
    if absolute:
        return torch.cdist(rows, centres, p=1)
    return torch.cdist(rows, centres, compute_mode="donot_use_mm_for_euclid_dist").square()


def guided_filter_rest(x: Tensor, radius: int, epsilon: float) -> Tensor:
    """Images (N, C, H, W) of 0 to 255, less what a guided filter leaves of them. Each channel is its own guide."""

    def total(values: Tensor) -> Tensor:  # of each pixel's window, as far as it is on the image
        for axis in (2, 3):
            place = torch.arange(values.shape[axis], device=x.device)
            within = ((place[:, None] - place).abs() <= radius).double()
            values = (values.movedim(axis, -1) @ within).movedim(-1, axis)
        return values

    image = x / 255
    size = total(torch.ones_like(image[:1, :1]).double())
    mean, energy = (total(values.double()).to(x.dtype) / size for values in (image, image * image))
    variance = energy - mean * mean
    slope = variance / (variance + epsilon)
    smooth = total(slope) / size * image + total(mean - slope * mean) / size
    return (x - smooth * 255).to(x.dtype)
