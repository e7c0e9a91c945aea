"""Modules with weights."""

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


class DenseBlock(nn.Module):
    """Convolutions of 3 x 3, each after normalisation, ReLU and if `narrow` a convolution of 1 x 1, that each add
    `grown` maps to the others: (N, C, H, W) -> (N, C + count * grown, H, W)."""

    def __init__(self, channels: int, count: int, grown: int, narrow: bool):
        super().__init__()
        self.steps = nn.ModuleList()
        for first in range(channels, channels + count * grown, grown):
            parts, inside = [], first
            if narrow:
                parts, inside = self.convolution(first, 4 * grown, 1), 4 * grown
            self.steps.append(nn.Sequential(*parts, *self.convolution(inside, grown, 3)))

    @staticmethod
    def convolution(channels: int, outputs: int, kernel: int) -> list:
        return [nn.BatchNorm2d(channels), nn.ReLU(),
                nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False)]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = torch.cat([x, step(x)], 1)
        return x


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
        place = places(scores)
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


def crf_labels(scores: Tensor, image: Tensor, near: list, alike: list, near_weight: float, alike_weight: float
               ) -> Tensor:
    """The likeliest class of each pixel after 10 steps of mean field inference: scores (N, C, H, W) and images
    (N, 3, H, W) of blue, green and red, cut to bytes -> (N, 1, H, W)."""
    place, labels = places(scores), []
    spatial = Lattice(place / place.new_tensor(near))
    for unary, colors in zip(scores.flatten(2), (image.long() & 255).to(scores).flatten(2).flip(1), strict=True):
        bilateral = Lattice(torch.cat([place, colors.t()], 1) / place.new_tensor(alike))
        share = unary.softmax(0)
        for _ in range(10):
            message = near_weight * spatial.filter(share) + alike_weight * bilateral.filter(share)
            share = (unary + message).softmax(0)
        labels.append(share.argmax(0))
    return torch.stack(labels).to(scores).view(len(scores), 1, *scores.shape[2:])


def places(x: Tensor) -> Tensor:
    """Column and row of each pixel of maps (N, C, H, W): (H * W, 2)."""
    rows, columns = torch.meshgrid(*map(torch.arange, x.shape[2:]), indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], 1).to(x)


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


class WordSum(nn.Module):
    """Weighted sums along axis 1: (N, inputs, size) -> (N, outputs, size)."""

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs, size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x if self.bias is None else self.weight @ x + self.bias


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


class Averaged(Interpolated):
    """Weighted means of planes without the values that are nan; nan where these weigh more than half of the others."""

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


class ReNetLSTM(nn.Module):
    """LSTMs that run forth and back along the rows or columns of patches: (N, C, H, W) -> (N, 2 D, h, w)."""

    def __init__(self, channels: int, outputs: int, patch: tuple, along_rows: bool = True, peephole: bool = True):
        super().__init__()
        self.patch, self.along_rows = patch, along_rows
        cells = channels * patch[0] * patch[1]
        self.forth, self.back = (PatchLSTM(cells, outputs, peephole) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        (n, c, h, w), (ph, pw) = x.shape, self.patch
        steps = x.reshape(n, c, h // ph, ph, w // pw, pw).permute(*(4, 0, 2) if self.along_rows else (2, 0, 4), 1, 3, 5)
        steps = steps.flatten(3)  # steps, samples, lines, cells
        top = torch.cat([self.forth(steps), self.back(steps.flip(0)).flip(0)], 3)
        return top.permute(1, 3, 2, 0) if self.along_rows else top.permute(1, 3, 0, 2)


class PatchLSTM(nn.Module):
    """An LSTM along the first axis: (T, ..., cells) -> (T, ..., D). Its gates are input, cell, output and forget; with
    a peephole, the cell adds to all but its own."""

    def __init__(self, cells: int, outputs: int, peephole: bool):
        super().__init__()
        self.given = nn.Linear(cells, 4 * outputs)
        self.hidden = nn.Linear(outputs, 4 * outputs, bias=False)
        self.seen = nn.ModuleList(nn.Linear(outputs, outputs, bias=False) for _ in range(3 * peephole))

    def forward(self, x: Tensor) -> Tensor:
        given, states = self.given(x), []
        hidden = cell = x.new_zeros(*x.shape[1:-1], self.hidden.in_features)
        for at_step in given:
            i, g, o, f = (at_step + self.hidden(hidden)).chunk(4, -1)
            if self.seen:
                i, f = i + self.seen[0](cell), f + self.seen[2](cell)
            cell = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(f) * cell
            if self.seen:
                o = o + self.seen[1](cell)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            states.append(hidden)
        return torch.stack(states)


class ConvLSTM(nn.Module):
    """x (T, N, C, H, W), cont (T, N), 0 where a sequence begins [, static (1, N, S, H, W)] -> (T, N, D, H, W).

    The cell adds to its gates by the weights `seen`. The initial state is 0; if `exposed`, states (1, N, D, H, W) are
    further arguments and results.
    """

    def __init__(self, of_input: nn.Module, of_hidden: nn.Module, static: nn.Module | None = None,
                 seen: tuple | None = None, exposed: bool = False):
        super().__init__()
        self.of_input, self.of_hidden, self.of_static, self.exposed = of_input, of_hidden, static, exposed
        self.seen = None if seen is None else nn.Parameter(torch.zeros(seen))

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = self.of_input(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.of_static is not None:
            given = given + self.of_static(rest[0][0])
        h, c = (s[0] for s in rest[-2:]) if self.exposed else (x.new_zeros(1, given.shape[2] // 4, *x.shape[3:]),) * 2
        hidden = []
        for x_t, cont_t in zip(given, cont[..., None, None, None], strict=True):
            gates = list((self.of_hidden((h * cont_t).expand(len(x_t), -1, -1, -1)) + x_t).chunk(4, 1))
            if self.seen is not None:
                gates[:3] = [gate + c * weight for gate, weight in zip(gates, self.seen, strict=False)]
            i, f, o, g = gates
            c = cont_t * torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            hidden.append(h)
        return (torch.stack(hidden), h[None], c[None]) if self.exposed else torch.stack(hidden)


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
