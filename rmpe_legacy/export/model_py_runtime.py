"""The pieces that a written-out model.py may need. Those it uses are copied into it as they stand here.

So each is complete with what it calls here, imports nothing but torch, and knows nothing of this package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) per channel. As Caffe stores them, both are sums over scale_factor batches."""

    mean: Tensor
    variance: Tensor
    scale_factor: Tensor

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("scale_factor", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.where(self.scale_factor == 0, 0, 1 / self.scale_factor)
        return F.batch_norm(x, self.mean * factor, self.variance * factor, eps=self.eps)


def normalize_by_batch(x: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) per channel, with the mean and variance of the batch itself."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + eps).sqrt()


class StoredNorm(nn.Module):
    """(x - mean) * factor * scale + bias per channel, where `factor` is 1 / sqrt(variance + eps)."""

    mean: Tensor
    factor: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("factor", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (x.dim() - 2)
        scale, bias, mean, factor = (v.reshape(shape) for v in (self.scale, self.bias, self.mean, self.factor))
        return (x - mean) * factor * scale + bias


def normalize_channels(x: Tensor, by_absolute: bool) -> tuple[Tensor, Tensor]:
    """x over its norm along the channels, and the norm: (N, C, H, W) -> the same, (N, 1, H, W)."""
    if by_absolute:
        norm = x.abs().sum(1, keepdim=True) + 1e-6
    else:
        norm = (x.square().sum(1, keepdim=True) + 1e-6).sqrt()
    return x / norm, norm


class Scale(nn.Module):
    """x * scale + bias; both begin at `axis` of x, and are spread over the axes behind theirs."""

    def __init__(self, *shape: int, axis: int = 1, bias: bool = True):
        super().__init__()
        self.axis = axis
        self.scale = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        shape = self.scale.shape + (1,) * (x.dim() - self.axis - self.scale.dim())
        y = x * self.scale.reshape(shape)
        return y if self.bias is None else y + self.bias.reshape(shape)


class Bias(nn.Module):
    """x + bias, which begins at `axis` of x, and is spread over the axes behind its own."""

    def __init__(self, *shape: int, axis: int = 1):
        super().__init__()
        self.axis = axis
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.reshape(self.bias.shape + (1,) * (x.dim() - self.axis - self.bias.dim()))


class PReLU(nn.Module):
    """x where positive, else slope * x; a slope per channel, or without channels one for all."""

    def __init__(self, *channels: int):
        super().__init__()
        self.slope = nn.Parameter(torch.full(channels, 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope.reshape(-1))


class InnerProduct(nn.Module):
    """The axes from `axis` on as one vector, times a matrix: (..., K) -> (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, axis: int = 1, bias: bool = True, transpose: bool = False):
        super().__init__()
        self.axis, self.transpose = axis, transpose
        self.weight = nn.Parameter(torch.zeros((inputs, outputs) if transpose else (outputs, inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.t() if self.transpose else self.weight
        return F.linear(x.reshape(*x.shape[: self.axis], -1), weight, self.bias)


class Local(nn.Module):
    """A convolution whose weights differ from place to place: (N, C, H, W) -> (N, features, places)."""

    def __init__(self, channels: int, features: int, kernel: int, places: int, pad: int = 0, stride: int = 1,
                 bias: bool = True):
        super().__init__()
        self.window = kernel, 1, pad, stride
        self.weight = nn.Parameter(torch.zeros(features, 1, channels * kernel**2, places))
        self.bias = nn.Parameter(torch.zeros(1, 1, features, places)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("nkp,fkp->nfp", F.unfold(x, *self.window), self.weight[:, 0])
        return y if self.bias is None else y + self.bias[0]


class CompactBilinear(nn.Module):
    """(N, C, H, W), (N, C', H, W) -> (N, outputs, H, W): outputs times the circular convolution of the count sketches
    of each place, which add each channel, with a sign, to a cell; summed over the places if `whole`."""

    cells: Tensor
    signs: Tensor
    other_cells: Tensor
    other_signs: Tensor

    def __init__(self, channels: int, others: int, outputs: int, whole: bool = False):
        super().__init__()
        self.outputs, self.whole = outputs, whole
        for name, size in (("", channels), ("other_", others)):
            self.register_buffer(f"{name}cells", torch.zeros(size, dtype=torch.int64))
            self.register_buffer(f"{name}signs", torch.zeros(size))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        transformed = []
        for x, cells, signs in ((a, self.cells, self.signs), (b, self.other_cells, self.other_signs)):
            values = x.movedim(1, -1) * signs
            sketch = values.new_zeros(*values.shape[:-1], self.outputs).index_add(-1, cells, values)
            transformed.append(torch.fft.rfft(sketch))
        y = torch.fft.irfft(transformed[0] * transformed[1], self.outputs, norm="forward").movedim(-1, 1)
        return y.sum((2, 3), keepdim=True) if self.whole else y


class MeanField(nn.Module):
    """Mean field inference of a conditional random field (CRF-RNN): scores (N, C, H, W), those to begin with, images
    (N, 3, H, W) -> scores."""

    def __init__(self, classes: int, iterations: int, thetas: tuple):
        super().__init__()
        self.iterations, self.thetas = iterations, thetas
        self.spatial = nn.Parameter(torch.zeros(classes, classes))
        self.bilateral = nn.Parameter(torch.zeros(classes, classes))
        self.compatibility = nn.Parameter(-torch.eye(classes))

    def forward(self, scores: Tensor, start: Tensor, image: Tensor) -> Tensor:
        h, w = scores.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        place = torch.stack([columns.flatten(), rows.flatten()], 1).to(scores)
        alpha, beta, gamma = self.thetas
        spatial, found = Lattice(place / gamma), []
        for flat, current, picture in zip(scores.flatten(2), start.flatten(2), image.flatten(2), strict=True):
            bilateral = Lattice(torch.cat([place / alpha, picture.t() / beta], 1))
            for _ in range(self.iterations):
                share = current.softmax(0)
                message = self.spatial @ spatial.filter(share) + self.bilateral @ bilateral.filter(share)
                current = flat - self.compatibility @ message
            found.append(current)
        return torch.stack(found).view_as(scores)


class Lattice:
    """The permutohedral lattice of points (N, d), and a Gaussian filter of values (C, N) on it."""

    def __init__(self, features: Tensor):
        points, d = features.shape
        keys, weight = simplices(F.pad(features, (0, 0, 0, -points % 4)))  # as published, with points of 0
        rows, vertex = keys.reshape(-1, d).unique(dim=0, return_inverse=True)
        steps = [sign * (1 - (d + 1) * (torch.arange(d) == axis).long()) for axis in range(d + 1) for sign in (-1, 1)]
        every, code = torch.cat([rows, *(rows + step.to(rows) for step in steps)]).unique(dim=0, return_inverse=True)
        own = torch.arange(len(rows), device=rows.device)
        number = torch.full((len(every),), len(rows), device=rows.device).scatter(0, code[: len(rows)], own)
        self.neighbors = number[code[len(rows) :]].reshape(d + 1, 2, -1)
        self.vertex, self.weight = vertex.reshape(-1, d + 1)[:points], weight[:points]
        self.size, self.scale = len(rows), 1 / (1 + 2.0**-d)
        self.norm = 1 / (self.sums(self.weight.new_ones(1, points)) + 1e-20)

    def filter(self, values: Tensor) -> Tensor:
        return self.sums(values) * self.norm

    def sums(self, values: Tensor) -> Tensor:
        at = values.new_zeros(len(values), self.size + 1)
        at = at.index_add(1, self.vertex.flatten(), (values[:, :, None] * self.weight).flatten(1))
        for low, high in self.neighbors:
            at = F.pad(at[:, :-1] + 0.5 * (at[:, low] + at[:, high]), (0, 1))
        return (self.weight * self.scale * at[:, self.vertex]).sum(2)


def simplices(features: Tensor) -> tuple[Tensor, Tensor]:
    """The keys (N, d + 1, d) of the lattice's vertices around each point (N, d), and their weights (N, d + 1)."""
    d = features.shape[1]
    i, deviation = torch.arange(d, dtype=torch.float64), float(torch.tensor((2 / 3) ** 0.5 * (d + 1)))
    scale = (1 / ((i + 2) * (i + 1)).sqrt() * deviation).to(features)
    part, total, elevated = (features * scale).unbind(1), torch.zeros_like(features[:, 0]), []
    for j in range(d, 0, -1):
        elevated.append(total - j * part[j - 1])
        total = total + part[j - 1]
    up = torch.stack([total, *elevated[::-1]])
    nearest = (up * (1 / torch.tensor(d + 1.0)).to(up)).round()
    base = nearest * (d + 1)
    less = (up - base)[:, None] < (up - base)[None]
    later = torch.ones(d + 1, d + 1, device=up.device).triu(1).bool()[..., None]
    rank = (less & later).sum(1) + (~less & later).sum(0) + nearest.sum(0).long()
    shift = ((rank < 0).long() - (rank > d).long()) * (d + 1)
    rank, base = rank + shift, base + shift
    share = (up - base) * (1 / torch.tensor(d + 1.0)).to(up)
    falling = share.gather(0, rank.argsort(0, descending=True))
    weight = torch.cat([falling[:1] + (1 - falling[-1:]), falling[1:] - falling[:-1]])
    vertex = torch.arange(d + 1, device=up.device)[:, None]
    keys = base[:d].long().t()[:, None] + vertex - (rank[:d].t()[:, None] > d - vertex).long() * (d + 1)
    return keys, weight.t()


class Embed(nn.Module):
    """The rows of a matrix that x names, whole numbers: (...) -> (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        rows = F.embedding(x.long(), self.weight)
        return rows if self.bias is None else rows + self.bias


class Normalize(nn.Module):
    """x / sqrt(sum of x^2 + eps) * scale. The sum runs over channels, or with `whole` over all of a sample."""

    def __init__(self, *channels: int, eps: float = 1e-10, whole: bool = False):
        super().__init__()
        self.eps, self.whole = eps, whole
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        axes = list(range(1, x.dim())) if self.whole else [1]
        norm = ((x * x).sum(axes, keepdim=True) + self.eps).sqrt()
        return x / norm * self.scale.reshape(-1, *[1] * (x.dim() - 2))


class EltwiseAffine(nn.Module):
    """x * slope + bias, per channel, or without channels one pair for all."""

    def __init__(self, *channels: int):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        return x * self.slope.reshape(shape) + self.bias.reshape(shape)


class Interpolated(nn.Module):
    """Each plane times a matrix from the left and from the right: (N, C, H, W) -> (N, C, H', W')."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: tuple, columns: tuple):
        super().__init__()
        self.register_buffer("rows", torch.zeros(rows))
        self.register_buffer("columns", torch.zeros(columns))

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns


class Averaged(nn.Module):
    """Weighted means of planes without the values that are nan; nan where these weigh more than half of the others."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: tuple, columns: tuple):
        super().__init__()
        self.register_buffer("rows", torch.zeros(rows))
        self.register_buffer("columns", torch.zeros(columns))

    def forward(self, x: Tensor) -> Tensor:
        missing = x.isnan()
        value, weight, lost = (self.rows @ v @ self.columns for v in (
            torch.where(missing, 0, x), (~missing).to(x), missing.to(x)))
        return torch.where(lost / weight > 0.5, float("nan"), value / weight)


class Picked(nn.Module):
    """Some rows and columns of each plane."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(rows, dtype=torch.long))
        self.register_buffer("columns", torch.zeros(columns, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.rows][:, :, :, self.columns]


class LSTMLayer(nn.Module):
    """x (T, N, ...), cont (T, N), 0 where a sequence begins [, static (N, ...)] -> (T, N, D).

    The initial state is 0; if `exposed`, states (1, N, D) are further arguments and results.
    """

    def __init__(self, inputs: int, outputs: int, static: int = 0, exposed: bool = False):
        super().__init__()
        self.exposed = exposed
        self.W_xc, self.b_c = nn.Parameter(torch.zeros(4 * outputs, inputs)), nn.Parameter(torch.zeros(4 * outputs))
        self.W_xc_static = nn.Parameter(torch.zeros(4 * outputs, static)) if static else None
        self.W_hc = nn.Parameter(torch.zeros(4 * outputs, outputs))

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = F.linear(x.flatten(2), self.W_xc, self.b_c)
        if self.W_xc_static is not None:
            given = given + F.linear(rest[0].flatten(1), self.W_xc_static)
        h, c = (state[0] for state in rest[-2:]) if self.exposed else (x.new_zeros(x.shape[1], self.W_hc.shape[1]),) * 2
        hidden = []
        for x_t, cont_t in zip(given, cont[..., None], strict=True):
            c, h = lstm_unit(c, F.linear(h * cont_t, self.W_hc) + x_t, cont_t)
            hidden.append(h)
        return (torch.stack(hidden), h[None], c[None]) if self.exposed else torch.stack(hidden)


def lstm_unit(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: cell (..., D), gates (..., 4 D) as i, f, o, g, cont (..., 1) -> the new cell, hidden."""
    i, f, o, g = gates.chunk(4, -1)
    cell = cont * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return cell, torch.sigmoid(o) * torch.tanh(cell)


class RNNLayer(nn.Module):
    """x (T, N, ...), cont (T, N), 0 where a sequence begins [, static (N, ...)] -> (T, N, D).

    The initial state is 0; if `exposed`, a state (1, N, D) is a further argument and result.
    """

    def __init__(self, inputs: int, outputs: int, static: int = 0, exposed: bool = False):
        super().__init__()
        self.exposed = exposed
        self.W_xh, self.b_h = nn.Parameter(torch.zeros(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
        self.W_xh_static = nn.Parameter(torch.zeros(outputs, static)) if static else None
        self.W_hh = nn.Parameter(torch.zeros(outputs, outputs))
        self.W_ho, self.b_o = nn.Parameter(torch.zeros(outputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = F.linear(x.flatten(2), self.W_xh, self.b_h)
        if self.W_xh_static is not None:
            given = given + F.linear(rest[0].flatten(1), self.W_xh_static)
        h = rest[-1][0] if self.exposed else x.new_zeros(x.shape[1], self.W_hh.shape[1])
        hidden = []
        for x_t, cont_t in zip(given, cont[..., None], strict=True):
            h = torch.tanh(F.linear(h * cont_t, self.W_hh) + x_t)
            hidden.append(h)
        y = torch.tanh(F.linear(torch.stack(hidden), self.W_ho, self.b_o))
        return (y, h[None]) if self.exposed else y


class DeformableConvolution(nn.Module):
    """Convolution of values read beside their places: by offsets (N, 2 * kernel * offset_groups, H', W'), rows first.

    They are interpolated, and 0 outside; less than a pixel beyond the last row or column is read as that. With
    factors (N, kernel * offset_groups, H', W'), values are multiplied by these, and fade out beyond every edge.
    """

    def __init__(self, channels: int, outputs: int, kernel: tuple, stride: tuple = (1, 1), pad: tuple = (0, 0),
                 dilation: tuple = (1, 1), groups: int = 1, offset_groups: int = 1, bias: bool = True):
        super().__init__()
        self.stride, self.pad, self.dilation, self.groups, self.parts = stride, pad, dilation, groups, offset_groups
        self.weight = nn.Parameter(torch.zeros(outputs, channels // groups, *kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, offset: Tensor, factor: Tensor | None = None) -> Tensor:
        n, _, h, w = x.shape
        kernel, out = self.weight.shape[2:], offset.shape[2:]
        moves = offset.view(n, self.parts, -1, 2, *out)
        k = torch.arange(kernel[0] * kernel[1], device=x.device)
        sides = []
        for axis, at in enumerate((k // kernel[1], k % kernel[1])):
            begin = torch.arange(out[axis], device=x.device) * self.stride[axis] - self.pad[axis]
            place = (begin + (at * self.dilation[axis])[:, None]).to(x.dtype)
            place = moves[:, :, :, axis] + (place[:, :, None] if axis == 0 else place[:, None])
            sides.append(self.between(place, x.shape[2 + axis], fades=factor is not None))
        flat, read = x.reshape(n, self.parts, -1, h * w), x.new_zeros(())
        for row, down in sides[0]:
            for column, across in sides[1]:
                index = (row * w + column).view(n, self.parts, 1, -1).expand(-1, -1, flat.shape[2], -1)
                pixels = flat.gather(3, index).view(n, self.parts, flat.shape[2], -1, *out)
                read = read + pixels * (down * across)[:, :, None]
        if factor is not None:
            read = read * factor.view(n, self.parts, 1, -1, *out)
        return F.conv2d(read.reshape(n, -1, *out), self.weight.reshape(len(self.weight), -1, 1, 1), self.bias,
                        groups=self.groups)

    @staticmethod
    def between(place: Tensor, size: int, fades: bool) -> list:
        """The two pixels beside each place, and their shares."""
        low = place.nan_to_num().floor()
        if fades:
            pixels = (low, low + 1 - place), (low + 1, place - low)
            return [(pixel.clamp(0, size - 1).long(),
                     torch.where((place > -1) & (pixel >= 0) & (pixel < size), share, 0)) for pixel, share in pixels]
        low, inside = low.clamp(0, size - 1), (place >= 0) & (place < size)
        after = torch.where(low == size - 1, 0, place - low)
        return [(low.long(), torch.where(inside, 1 - after, 0)),
                ((low + 1).clamp(max=size - 1).long(), torch.where(inside, after, 0))]


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


def between_pixels(x: Tensor, axis: int, place: Tensor) -> Tensor:
    """Values interpolated along an axis at these places, in pixels."""
    lower = place.floor()
    a = x.index_select(axis, lower.clamp(min=0).long())
    b = x.index_select(axis, place.ceil().clamp(0, x.shape[axis] - 1).long())
    return a + (b - a) * (place - lower).to(x).view(-1, *[1] * (x.dim() - axis - 1))


def scores_of_maps(maps: list) -> Tensor:
    """Confidences of each map, (N, classes, A, H * W), by box: (N, P, classes)."""
    return torch.cat([scores.flatten(2) for scores in maps], 2).transpose(1, 2)


def moves_of_maps(maps: list) -> Tensor:
    """Predictions of each map, (N, A * 4, H, W), by box: (N, P, 1, 4)."""
    parts = [moves.reshape(len(moves), -1, 4, moves.shape[2] * moves.shape[3]) for moves in maps]
    return torch.cat([part.transpose(2, 3).flatten(1, 2) for part in parts], 1)[:, :, None]


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


def decode_boxes(offset: Tensor, prior: Tensor, variance: Tensor, code: str) -> Tensor:
    """SSD's predictions as boxes: offset (N, P, ..., 4), prior (P, 4) or (N, P, 4), variance (P, 4) -> like offset; x1,
    y1, x2, y2."""
    between = [1] * (offset.dim() - 3)
    prior, variance = (x.reshape(*x.shape[:-1], *between, 4) for x in (prior, variance))
    offset = offset * variance
    low, high = prior[..., :2], prior[..., 2:]
    size = high - low
    if code == "CORNER":
        return prior + offset
    if code == "CORNER_SIZE":
        return prior + offset * torch.cat([size, size], -1)
    middle = offset[..., :2] * size + (low + high) / 2
    half = torch.exp(offset[..., 2:]) * size / 2
    return torch.cat([middle - half, middle + half], -1)


def text_shapes(moves: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
    """Quadrangles, or rectangles by two corners and a height: moves (N, P, places, 8 or 5), P priors -> the same."""
    prior, variance = prior[:, None], variance[:, None]
    low, high = prior[..., :2], prior[..., 2:]
    size = high - low
    if moves.shape[3] == 8:
        start = prior[..., [0, 1, 2, 1, 2, 3, 0, 3]]
        return variance[..., :2].repeat(1, 1, 4) * moves * size.repeat(1, 1, 4) + start
    middle = ((low + high) / 2).repeat(1, 1, 2)
    ends = variance[..., :2].repeat(1, 1, 2) * moves[..., :4] * size.repeat(1, 1, 2) + middle
    return torch.cat([ends, torch.exp(variance[..., 3:] * moves[..., 4:]) * size[..., 1:]], -1)


def of_objects(scores: Tensor, first: Tensor, least: float) -> Tensor:
    """Scores (N, P, C), as of the background 0 where a first stage (N, P, 2) is less sure of an object."""
    background = torch.zeros_like(scores[0, 0])
    background[0] = 1
    return torch.where(first[..., 1:] < least, background, scores)


def overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box (4) with others (K, 4)."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    area = (box[2:] - box[:2]).clamp(min=0).prod() + (others[:, 2:] - others[:, :2]).clamp(min=0).prod(1) - shared
    return torch.where(shared > 0, shared / area, 0)


def suppress(boxes: Tensor, scores: Tensor, threshold: float, eta: float = 1.0, most: int = 0) -> list[int]:
    """Greedy suppression of boxes (K, 4), best first: the places of those that stay, the first `most` if not 0."""
    kept: list[int] = []
    for i in torch.sort(scores, descending=True, stable=True).indices.tolist():
        if most and len(kept) == most:
            break
        if not kept or bool((overlap(boxes[i], boxes[kept]) <= threshold).all()):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def detections(boxes: Tensor, scores: Tensor, *, background: int, above: float, threshold: float, eta: float = 1.0,
               top_k: int = -1, keep_top_k: int = -1, clip: bool = True, number_images: bool = False) -> Tensor:
    """SSD's choice of boxes: boxes (N, P, 1 or C, 4), scores (N, P, C) -> (1, 1, K, 7). A box may have further values,
    which are those of a row too.

    Rows hold image, label, score, x1, y1, x2, y2, by image and label, best first. Per class the top_k scores `above`
    are taken and suppressed, then the keep_top_k of each image. Where nothing is found there is a row of -1; with
    number_images, one for each image.
    """
    rows = []
    for image in range(len(scores)):
        found = []
        for label in range(scores.shape[2]):
            if label == background:
                continue
            score = scores[image, :, label]
            order = torch.sort(score, descending=True, stable=True).indices
            order = order[score[order] > above]
            order = order[:top_k] if top_k >= 0 else order
            box = boxes[image, :, label if boxes.shape[2] > 1 else 0][order]
            found += [(score[order[i]], label, box[i]) for i in suppress(box[:, :4], score[order], threshold, eta)]
        if 0 <= keep_top_k < len(found):
            found = sorted(found, key=lambda one: -float(one[0]))[:keep_top_k]
            found.sort(key=lambda one: one[1])
        rows += [torch.cat([score.new_tensor([image, label]), score[None], box]) for score, label, box in found]
    if not rows:
        none = scores.new_full((len(scores) if number_images else 1, 3 + boxes.shape[3]), -1)
        if number_images:
            none[:, 0] = torch.arange(len(scores))
        return none[None, None]
    table = torch.stack(rows)
    if clip:
        table[:, 3:7] = table[:, 3:7].clamp(0, 1)
    return table[None, None]


def yolo_boxes(x: Tensor, anchors: list, scale: float, above: float, every_class: bool) -> tuple[Tensor, ...]:
    """A map of YOLO (N, A * (5 + C), H, W) as boxes (K, 4), centre and size, with scores (K) and labels (K).

    Of YOLO v2, each box has its best class by softmax; with every_class, of v3, each class by its sigmoid.
    """
    n, _, h, w = x.shape
    x = x.reshape(n, len(anchors), -1, h, w).permute(0, 3, 4, 1, 2)
    across = torch.arange(w, dtype=x.dtype, device=x.device).view(1, 1, -1, 1)
    down = torch.arange(h, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    middle = [(across + torch.sigmoid(x[..., 0])) / w, (down + torch.sigmoid(x[..., 1])) / h]
    size = torch.exp(x[..., 2:4]) * x.new_tensor(anchors) / x.new_tensor([w * scale, h * scale])
    if every_class:
        score = torch.sigmoid(x[..., 5:]) * torch.sigmoid(x[..., 4:5])
        label, kept = torch.arange(score.shape[-1], device=x.device), score > above
    else:
        score, label = x[..., 5:].softmax(-1).max(-1, keepdim=True)
        score = torch.sigmoid(x[..., 4:5]) * score
        kept = score >= above
    box = torch.cat([torch.stack(middle, -1), size], -1)[..., None, :].expand(*score.shape, 4)
    return box[kept], score[kept], label.expand_as(score)[kept]


def yolo_detections(maps: list, images: int, threshold: float) -> Tensor:
    """Boxes, scores and labels of each map -> (1, 1, K, 7) rows of image, label, score, x1, y1, x2, y2, best first.

    Those that a better one overlaps by `threshold` or more are left out. All have image number 0, as published.
    Where nothing is found there is a row of -1 for each image, with its number.
    """
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*maps, strict=True))
    if not len(scores):
        none = scores.new_full((images, 7), -1)
        none[:, 0] = torch.arange(images)
        return none.reshape(1, 1, images, 7)
    scores, order = torch.sort(scores, descending=True, stable=True)
    middle, size = boxes[order].split(2, 1)
    low, high, area = middle - size / 2, middle + size / 2, size.prod(1)
    is_free = torch.ones_like(scores, dtype=torch.bool)
    kept: list[int] = []
    for i in range(len(scores)):
        if is_free[i]:
            kept.append(i)
            sides = torch.minimum(high[i], high) - torch.maximum(low[i], low)
            shared = torch.where((sides < 0).any(1), 0, sides.prod(1))
            is_free &= ~(shared / (area[i] + area - shared) >= threshold)
    label = labels[order][:, None].to(scores.dtype) + 1
    return torch.cat([torch.zeros_like(label), label, scores[:, None], low, high], 1)[kept].reshape(1, 1, -1, 7)


def first_boxes(x: Tensor, biases: list, boxes: int, above: float, threshold: float) -> Tensor:
    """YOLO v2's boxes of one image, in the order of their places: (1, boxes * (5 + classes), H, H) -> (1, 1, K, 7).

    Rows are image, label, score, middle and size. Of boxes that overlap by `threshold` or more, the first stays.
    """
    side = x.shape[3]
    x = x.view(boxes, -1, side, side).permute(2, 3, 0, 1)
    cell = torch.arange(side, dtype=x.dtype, device=x.device)
    middle = [(cell.view(shape) + torch.sigmoid(x[..., i])) / side for i, shape in enumerate(((1, -1, 1), (-1, 1, 1)))]
    size = torch.exp(x[..., 2:4]) * x.new_tensor(biases).view(boxes, 2) / side
    score, label = x[..., 5:].softmax(-1).max(-1)
    score = torch.sigmoid(x[..., 4]) * score
    rows = torch.cat([torch.stack([torch.zeros_like(score), label.to(x.dtype), score, *middle], -1), size], -1)
    rows = rows[score >= above]
    low = (rows[:, 3:5] - rows[:, 5:] / 2).clamp(min=0)
    high = (rows[:, 3:5] + rows[:, 5:] / 2).clamp(max=1)
    area = torch.where((high >= low).all(1), (high - low).prod(1), 0)
    is_free = torch.ones(len(rows), dtype=torch.bool, device=x.device)
    for i in range(len(rows)):
        if is_free[i]:
            sides = torch.minimum(high[i], high[i + 1 :]) - torch.maximum(low[i], low[i + 1 :])
            common = torch.where((sides > 0).all(1), sides.prod(1), 0)
            overlap = torch.where(common > 0, common / (area[i] + area[i + 1 :] - common), 0)
            is_free[i + 1 :] &= overlap < threshold
    rows = rows[is_free]
    return (rows if len(rows) else x.new_tensor([[0.0, *[-1.0] * 6]])).view(1, 1, -1, 7)


def region_scores(x: Tensor, classes: int, softmax: bool) -> Tensor:
    """YOLO v2's predictions, box by box: four coordinates, the confidence through a sigmoid, the classes."""
    rows = x.flatten(2).transpose(1, 2).reshape(-1, 5 + classes)
    scores = rows[:, 5:].softmax(1) if softmax else rows[:, 5:]
    return torch.cat([rows[:, :4], torch.sigmoid(rows[:, 4:5]), scores], 1).view(x.shape)


def half_away(x: Tensor) -> Tensor:
    """Round as C does: halves go away from 0."""
    return torch.where(x < 0, (x - 0.5).ceil(), (x + 0.5).floor())


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


def move_regions(moves: Tensor, rois: Tensor, mean: list, std: list) -> Tensor:
    """Regions (R, 5) moved by the last four of (R, 8): corners by the size, sizes by their logarithms."""
    flat = rois.reshape(len(rois), 5)
    size = flat[:, 3:] - flat[:, 1:3] + 1
    move = moves.reshape(len(moves), 8)[:, 4:] * moves.new_tensor(std) + moves.new_tensor(mean)
    sides = size * torch.exp(move[:, 2:])
    corner = move[:, :2] * size + 0.5 * (flat[:, 3:] + flat[:, 1:3]) - (sides - 1) / 2
    return torch.cat([flat[:, :1], corner, corner + sides - 1], 1)[:, :, None, None]


def moved_anchors(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors (P, 4), moved and cut at the image (height, width, ...), and the scores of their objects (P)."""
    height, width = info.flatten()[:2]
    move = moves.permute(0, 2, 3, 1).reshape(-1, 4)
    size = anchors[:, 2:] - anchors[:, :2] + 1
    middle = move[:, :2] * size + (anchors[:, :2] + 0.5 * size)
    half = 0.5 * (torch.exp(move[:, 2:]) * size)
    end = torch.stack([width, height] * 2) - 1
    box = torch.minimum(torch.cat([middle - half, middle + half], 1).clamp(min=0), end)
    return box, scores[:, scores.shape[1] // 2 :].permute(0, 2, 3, 1).reshape(-1)


def best_boxes(box: Tensor, score: Tensor, before: int, threshold: float, most: int, pixels: bool = True) -> Tensor:
    """The places of `most` of the best `before` boxes (P, 4), best first, that do not overlap by more than `threshold`.

    0 stands for all. With `pixels`, both ends of a box belong to it.
    """
    order = torch.sort(score, descending=True, stable=True).indices
    order = order[:before] if before > 0 else order
    ends = box[order] + box.new_tensor([0, 0, 1, 1]) if pixels else box[order]
    return order[suppress(ends, score[order], threshold, most=most)]


def propose(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, before: int, after: int, threshold: float,
            least: float) -> tuple[Tensor, Tensor]:
    """Faster R-CNN's regions (R, 5), best first, and their scores (R, 1).

    Moves anchors (P, 4), cuts them at the image (height, width, scale), drops those smaller than `least` times the
    scale, and keeps `after` of the best `before` that do not overlap by more than `threshold`.
    """
    box, score = moved_anchors(scores, moves, info, anchors)
    large = (box[:, 2:] - box[:, :2] + 1 >= least * info.flatten()[2]).all(1)
    box, score = box[large].flip(0), score[large].flip(0)  # of equal scores the later anchor goes first
    kept = best_boxes(box, score, before, threshold, after)
    return F.pad(box[kept], (1, 0)), score[kept, None]


def propose_by_scale(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, before: int, after: int,
                     threshold: float, least: float) -> tuple[Tensor, Tensor]:
    """The same of PVANet, with scores (R): info has two scales, and the scores of small boxes are 0."""
    box, score = moved_anchors(scores, moves, info, anchors)
    score = score * (box[:, 2:] - box[:, :2] + 1 >= least * info.flatten()[[3, 2]]).all(1)
    kept = best_boxes(box, score, before, threshold, after)
    return F.pad(box[kept], (1, 0)), score[kept]


def move_by_best(rois: Tensor, moves: Tensor, scores: Tensor, info: Tensor) -> Tensor:
    """Regions (R, 5), each moved by the moves (R, 4K) of its best class, and cut at the image (height, width, ...)."""
    flat = rois.reshape(len(rois), 5)
    move = moves.reshape(len(moves), -1, 4)[torch.arange(len(moves), device=moves.device), scores.argmax(1)]
    size = flat[:, 3:] - flat[:, 1:3] + 1
    middle = move[:, :2] * size + (flat[:, 1:3] + 0.5 * size)
    half = 0.5 * (torch.exp(move[:, 2:]) * size)
    end = info.flatten()[[1, 0, 1, 0]] - 1
    return F.pad(torch.minimum(torch.cat([middle - half, middle + half], 1).clamp(min=0), end), (1, 0))


def text_boxes(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """CTPN's boxes (P, 4), cut at the image (height, width, ...), and their scores (P, 1)."""
    shift, stretch = moves.permute(0, 2, 3, 1).reshape(-1, 2).split(1, 1)
    left, top, right, bottom = anchors.split(1, 1)
    height = torch.exp(stretch) * (bottom - top + 1)
    begin = shift * (bottom - top + 1) + (top + bottom) / 2 - height / 2
    end = info.flatten()[[1, 0, 1, 0]] - 1
    boxes = torch.minimum(torch.cat([left, begin, right, begin + height], 1), end).clamp(min=0)
    return boxes, scores[:, scores.shape[1] // 2 :].permute(0, 2, 3, 1).reshape(-1, 1)


def combine_regressions(x: Tensor, y: Tensor, within_x: Tensor, within_y: Tensor, *, whole: bool
                        ) -> tuple[Tensor, Tensor]:
    """Two coordinates from steps (1, 1, H, W) and places within these (1, K, H, W): within the step, or the `whole`."""
    found = []
    for step, within in ((x, within_x), (y, within_y)):
        numbers = torch.arange(within.shape[1], device=step.device).view(1, -1, 1, 1)
        place = torch.where((step == numbers) & (numbers > 0), within, 0).sum(1, keepdim=True)
        all_steps = (step + place - 1) / (within.shape[1] - 1)
        found.append(torch.where(all_steps < 0, -1, all_steps) if whole else place.clamp(0, 1))
    return found[0], found[1]


def netvlad(share: Tensor, feature: Tensor, centers: Tensor) -> Tensor:
    """For each cluster, the sum over all places of its share times (feature + center): (N, K, H, W), (N, D, H, W)."""
    share, feature = share.flatten(2), feature.flatten(2)
    return (share @ feature.transpose(1, 2) + share.sum(2, keepdim=True) * centers).flatten(1)


def as_sequence(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, 1, T) -> steps (T, N, C), and whether each goes on with the sequence (T, N)."""
    steps = x.reshape(*x.shape[:2], -1).permute(2, 0, 1)
    goes_on = torch.ones_like(steps[..., 0])
    goes_on[:1] = 0
    return steps, goes_on


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


def field_boxes(moves: Tensor, fields: list, stride: float, mean: list, std: list, limits: tuple) -> list:
    """Where boxes begin and how large they are, of columns, then of rows: moves (N, 4, H, W) of the fields of cells.

    fields: width and height, for each of the N in turn. limits: of moves, and of logarithms of sizes.
    """
    n, _, h, w = moves.shape
    moves = moves * moves.new_tensor(std).view(1, 4, 1, 1) + moves.new_tensor(mean).view(1, 4, 1, 1)
    field = moves.new_tensor(fields).repeat(n // len(fields), 1)
    found = []
    for axis, size in enumerate((w, h)):
        at = ((torch.arange(size, dtype=moves.dtype, device=moves.device) + 0.5) * stride).view(-1, *[1] * axis)
        extent = field[:, axis].view(n, 1, 1)
        sides = extent * torch.exp(moves[:, 2 + axis].clamp(limits[2], limits[3]))
        found.append((moves[:, axis].clamp(limits[0], limits[1]) * extent + at - sides / 2, sides))
    return found


def map_regions(x: Tensor, field: tuple, stride: float, mean: list, std: list, limits: tuple
                ) -> tuple[Tensor, Tensor, Tensor]:
    """MS-CNN's boxes of a map (N, K + 4, H, W): corners (N, P, 4), sizes (N, P, 2), scores (N, P)."""
    ends = [x.shape[3] * stride, x.shape[2] * stride]
    low, size = [], []
    for (begin, sides), end in zip(field_boxes(x[:, -4:], [field], stride, mean, std, limits), ends, strict=True):
        low.append(begin.clamp(min=0))
        size.append(torch.minimum(sides, end - low[-1]))
    corners = torch.stack([*low, low[0] + size[0], low[1] + size[1]], -1)
    score = x[:, 1:-4].amax(1) - x[:, 0]
    # Of equal scores the later one goes first.
    return corners.flatten(1, 2).flip(1), torch.stack(size, -1).flatten(1, 2).flip(1), score.flatten(1).flip(1)


def group_regions(probability: Tensor, moves: Tensor, fields: list, stride: float, mean: list, std: list, limits: tuple
                  ) -> tuple[Tensor, Tensor, Tensor]:
    """Cascade R-CNN's boxes of maps (N, K, H, W) and (N, 4, H, W), an image for each of the fields: as map_regions."""
    images, (h, w) = len(moves) // len(fields), moves.shape[2:]
    low, high = [], []
    for (begin, sides), end in zip(field_boxes(moves, fields, stride, mean, std, limits), (w, h), strict=True):
        low.append(begin.clamp(min=0))
        high.append((begin + sides - 1).clamp(max=end * stride))
    box = torch.stack([*low, *high], -1).reshape(images, -1, 4)
    return box, box[..., 2:] - box[..., :2] + 1, (1 - probability[:, 0]).reshape(images, -1)


def best_regions(maps: list, *, above: float, least: float, before: int, after: int, threshold: float, pixels: bool
                 ) -> tuple[Tensor, Tensor]:
    """The best boxes of each image: (R, 5, 1, 1), and with scores (R, 6, 1, 1).

    Scores are `above` or equal, sizes `least` or larger; of the best `before`, `after` are kept that do not overlap by
    more than `threshold`. Where nothing is found there is the region (0, 1, 1, 10, 10), with scores all 0.
    """
    corners, sizes, scores = (torch.cat(parts, 1) for parts in zip(*maps, strict=True))
    good = (scores >= above) & (sizes >= least).all(-1)
    rows = []
    for image in range(len(scores)):
        box, score = corners[image][good[image]], scores[image][good[image]]
        kept = best_boxes(box, score, before, threshold, after, pixels)
        number = torch.full_like(score[kept, None], image)
        rows.append(torch.cat([number, box[kept], score[kept, None]], 1))
    found = torch.cat(rows)
    if not len(found):
        return found.new_tensor([0, 1, 1, 10, 10]).view(1, 5, 1, 1), found.new_zeros(1, 6, 1, 1)
    return found[:, :5, None, None], found[:, :, None, None]


def class_detections(probability: Tensor, moves: Tensor, rois: Tensor, size: Tensor, *, by_class: bool, mean: list,
                     std: list, above: float, threshold: float, most: int) -> Tensor:
    """Faster R-CNN's detections (D + 1, 7, 1, 1) of one image: rows of image, x1, y1, x2, y2, label, score.

    Boxes of each class, cut at the image's size (height, width), are suppressed at `threshold`; `most` of all stay, 0
    for any number. The first row is 0 and then -1.
    """
    scores, flat = probability.flatten(1), rois.flatten(1)
    end = size.flatten()[:2].flip(0)
    move = moves.reshape(len(moves), -1, 4) * moves.new_tensor(std) + moves.new_tensor(mean)
    extent = (flat[:, 3:5] - flat[:, 1:3] + 1)[:, None]
    sides = extent * torch.exp(move[..., 2:])
    corner = move[..., :2] * extent + (0.5 * (flat[:, 3:5] + flat[:, 1:3]))[:, None] - (sides - 1) / 2
    box = torch.cat([corner.clamp(min=0), torch.minimum(corner + sides - 1, end)], -1)
    rows = [scores.new_tensor([[0, *[-1] * 6]])]
    for label in range(1, scores.shape[1]):
        good = scores[:, label] >= above
        one, score = box[good, label if by_class else 1], scores[good, label]
        kept = best_boxes(one, score, 0, threshold, 0)
        label_of = torch.full_like(score[kept, None], label)
        rows.append(torch.cat([torch.zeros_like(label_of), one[kept], label_of, score[kept, None]], 1))
    found = torch.cat(rows[1:])
    if most and len(found) > most:
        found = found[torch.sort(found[:, 6], descending=True, stable=True).indices[:most].sort().values]
    return torch.cat([rows[0], found])[:, :, None, None]


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


def cluster_detections(cover: Tensor, boxes: Tensor, *, grid: tuple, cell: tuple, covered: float, least: int,
                       eps: float, height: float) -> tuple[Tensor, ...]:
    """DetectNet's boxes of each class, (N, 50, 5): left, top, right, bottom and the logarithm of how many cells agree.

    Boxes (N, 4, h, w) of cells whose coverage (N, classes, h, w) is `covered` or more are grouped where they are close.
    """
    seen = cover[:, :, : grid[0], : grid[1]] >= covered
    h, w = seen.shape[2:]
    x = (torch.arange(w, dtype=torch.float64) * cell[1]).expand(h, w)
    y = (torch.arange(h, dtype=torch.float64) * cell[0])[:, None].expand(h, w)
    corners = boxes[:, :, :h, :w].double() + torch.stack([x, y, x, y]).to(boxes.device)
    tops = cover.new_zeros(cover.shape[1], len(cover), 50, 5)
    for image, mask in enumerate(seen):
        for label in range(len(mask)):
            corner = corners[image][:, mask[label]].t()
            if corner.any():
                rect = torch.cat([corner[:, :2], corner[:, 2:] - corner[:, :2]], 1).clamp(-1e9, 1e9).trunc()
                mean, count = group_rectangles(rect, least, eps)
                mean, count = mean[mean[:, 3] >= height], count[mean[:, 3] >= height]
                row = torch.cat([mean[:, :2], mean[:, :2] + mean[:, 2:], count.log()[:, None]], 1)[:50]
                tops[label, image, : len(row)] = row.half().to(tops.dtype)
    return tuple(tops)


def group_rectangles(rect: Tensor, least: int, eps: float) -> tuple[Tensor, Tensor]:
    """The means of groups of more than `least` rectangles (K, 4) that are close, and how many each has, as OpenCV."""
    if least <= 0:
        return rect, torch.ones_like(rect[:, 0])
    corner = torch.cat([rect[:, :2], rect[:, :2] + rect[:, 2:]], 1)
    reach = eps * torch.minimum(rect[:, None, 2:], rect[:, 2:]).sum(2) * 0.5
    joined = (corner[:, None] - corner).abs().amax(2) <= reach
    joined |= torch.eye(len(rect), dtype=torch.bool, device=rect.device)
    for _ in range(len(rect).bit_length()):  # each time through twice as many others
        joined = joined.float() @ joined.float() > 0
    first = joined.float().argmax(1) == torch.arange(len(rect), device=rect.device)
    members = joined[first].double()
    count = members.sum(1)
    mean = ((members @ rect).float() * (1 / count.float())[:, None]).round().double()
    mean, count = mean[count > least], count[count > least]
    margin = (mean[:, 2:] * eps).round()
    low, high = mean[:, :2] - margin, mean[:, :2] + mean[:, 2:] + margin
    inside = (mean[:, None, :2] >= low).all(2) & ((mean[:, :2] + mean[:, 2:])[:, None] <= high).all(2)
    inside &= (count > count.clamp(min=3)[:, None]) | (count < 3)[:, None]
    alone = ~inside.fill_diagonal_(False).any(1)
    return mean[alone], count[alone]


def peak_of_planes(maps: Tensor) -> Tensor:
    """x, y and value of each plane's largest value, if it is above 0: (N, C, H, W) -> (N, C, 1, 3)."""
    least = torch.finfo(torch.float32).tiny
    value, place = maps.flatten(2).max(2)
    place = torch.where(value > least, place, 0)
    width = maps.shape[3]
    return torch.stack([place % width, place // width, value.clamp(min=least)], 2)[:, :, None].to(maps.dtype)


def spread(x: Tensor, kernel: tuple, stride: tuple, size: tuple, divide: bool) -> Tensor:
    """Each value added to the whole of its window, or if `divide` its share: (N, C, h, w) -> (N, C, *size)."""
    windows = []
    for axis in range(2):
        cell = torch.arange(size[axis], device=x.device)[:, None]
        begin = torch.arange(x.shape[2 + axis], device=x.device) * stride[axis]
        windows.append(((cell >= begin) & (cell < begin + kernel[axis])).to(x.dtype))
    rows, columns = windows
    return rows @ (x / torch.outer(rows.sum(0), columns.sum(0)) if divide else x) @ columns.t()


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
    n, c, h, w = image.shape
    wide = F.pad(image, [1, 2, 1, 2]).flatten(2)
    places = [(torch.arange(size, dtype=flow.dtype, device=flow.device).view(shape) + flow[:, i]).clamp(-1, size)
              for i, size, shape in ((1, h, (-1, 1)), (0, w, (1, -1)))]
    (y, down), (x, across) = ((place.floor(), (place - place.floor())[:, None]) for place in places)
    total = image.new_zeros(())
    for i, by_row in ((1, 1 - down), (2, down)):
        for j, by_column in ((1, 1 - across), (2, across)):
            index = ((y.long() + i) * (w + 3) + x.long() + j).view(n, 1, -1).expand(-1, c, -1)
            total = total + by_column * by_row * wide.gather(2, index).view(image.shape)
    return total


def shift_channels(x: Tensor, values: list, scale: float = 1, scale_all: float = 1) -> Tensor:
    """scale_all * (scale * x + a value of each channel); the values begin anew if there are more channels."""
    return scale_all * (scale * x + x.new_tensor(values).repeat(x.shape[1] // len(values)).view(1, -1, 1, 1))


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


def distances(rows: Tensor, centres: Tensor, absolute: bool) -> Tensor:
    """Squared distances of rows (N, K) to others (M, K), or sums of absolute differences: (N, M)."""
    if absolute:
        return torch.cdist(rows, centres, p=1)
    return torch.cdist(rows, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
