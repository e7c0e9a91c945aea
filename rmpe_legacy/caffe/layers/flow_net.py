"""Optical flow: matching costs, warping, resizing, and LiteFlowNet's regularisation.

Sources: {correlation,flow_warp,resample,downsample,channel_norm,mean}_layer.{cpp,cu} of lmb-freiburg/flownet2@b92e198;
warp_layer.cu of NVlabs/PWC-Net@07df6eb; {grid,warp,negsquare,expmax}_layer.{cpp,cu} of twhui/LiteFlowNet@e7d6c43;
flow_transformer_layer.cu of bryanyzhu/Hidden-Two-Stream@f7f684a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .gradient import severed
from .registry import Choice, chooses, register


@register("Correlation", form="")
class Correlation(Layer):
    """How alike windows of two maps are, at every displacement up to max_displacement in steps of stride_2: two maps
    (N, C, H, W) -> (N, D * D, H', W'), D = 2 * (max_displacement / stride_2) + 1.

    The mean of the products over a window of kernel_size and all channels; windows begin every stride_1 pixels of the
    zero-padded maps. Displacements go row by row. do_abs has no effect in the published code either.
    """

    params = ("correlation_param",)
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("correlation_param")
        if not (param.has("kernel_size") and param.has("max_displacement")):
            raise self.spec.error("needs kernel_size and max_displacement")
        if not param.kernel_size % 2 or not param.stride_1 or not param.stride_2:
            raise self.spec.error("needs an odd kernel_size, and strides above 0")
        if param.correlation_type == "SUBTRACT":
            raise self.spec.error("correlation_type SUBTRACT of the fork's layer is not supported")
        self.reach = param.max_displacement
        farthest = self.reach // param.stride_2 * param.stride_2
        self.moves = range(-farthest, farthest + 1, param.stride_2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0] != bottom[1]:
            raise self.spec.error("needs two maps (N, C, H, W) of the same shape; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        param = self.spec.get("correlation_param")
        border = 2 * (self.reach + param.kernel_size // 2)
        sizes = [-(-(size + 2 * param.pad - border) // param.stride_1) for size in bottom[0][2:]]
        if min(sizes) < 1:
            raise self.spec.error(f"its window and max_displacement do not fit on bottoms of {shape_text(bottom[0])}")
        self.check_padded(bottom[0], [size + 2 * param.pad for size in bottom[0][2:]])
        return [(bottom[0][0], len(self.moves) ** 2, *sizes)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        param, reach = self.spec.get("correlation_param"), self.reach
        a, b = (F.pad(x, [param.pad] * 4) for x in (a, b))
        h, w = (size - 2 * reach for size in a.shape[2:])
        fixed = a[:, :, reach : reach + h, reach : reach + w]
        costs = [(fixed * b[:, :, reach + y : reach + y + h, reach + x : reach + x + w]).sum(1)
                 for y in self.moves for x in self.moves]
        return F.avg_pool2d(torch.stack(costs, 1), param.kernel_size, param.stride_1) / a.shape[1]


@register("Correlation1D", form="")
class Correlation1D(Correlation):
    """How alike windows of two maps are, at displacements within a row: (N, C, H, W) twice -> (N, D, H', W').

    As Correlation, but only columns are padded. single_direction 1 takes only displacements of 0 or more, D =
    max_displacement / stride_2 + 1; as published, -1 takes as many, but those below 0, of which the farthest is one
    step more than max_displacement.
    """

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get("correlation_param")
        if param.single_direction not in (-1, 0, 1):
            raise self.spec.error(f"its single_direction must be -1, 0 or 1, not {param.single_direction}")
        step, last = param.stride_2, self.reach // param.stride_2 * param.stride_2
        first, last = {-1: (-last - step, -step), 0: (-last, last), 1: (0, last)}[param.single_direction]
        self.moves = range(first, last + 1, step)
        self.beyond = max(0, -first - self.reach)  # columns that it reads before the padded row
        if self.beyond > param.pad:
            raise self.spec.error("as published, its displacements reach before the padded row; give it a pad of "
                                  f"{self.beyond} or more")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0] != bottom[1]:
            raise self.spec.error("needs two maps (N, C, H, W) of the same shape; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        param, (n, _, h, w) = self.spec.get("correlation_param"), bottom[0]
        border = param.kernel_size // 2 * 2
        sizes = [-(-size // param.stride_1) for size in (h - border, w + 2 * (param.pad - self.reach) - border)]
        if min(sizes) < 1:
            raise self.spec.error(f"its window and max_displacement do not fit on bottoms of {shape_text(bottom[0])}")
        self.check_padded(bottom[0], [w + 2 * param.pad + self.beyond])
        return [(n, len(self.moves), *sizes)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        param, reach = self.spec.get("correlation_param"), self.reach
        width = a.shape[3] + 2 * (param.pad - reach)
        fixed = F.pad(a, [param.pad, param.pad])[..., reach : reach + width]
        moved = F.pad(b, [param.pad + self.beyond, param.pad])
        start = reach + self.beyond
        costs = [(fixed * moved[..., start + x : start + x + width]).sum(1) for x in self.moves]
        return F.avg_pool2d(torch.stack(costs, 1), param.kernel_size, param.stride_1) / a.shape[1]


class _Warping(Layer):
    """An image (N, C, H, W) read where a flow (N, 2, H, W), columns first, points to -> (N, C, H, W)."""

    bottoms = 2
    works_in_place = False
    is_discontinuous = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        image, flow = bottom
        if len(image) != 4 or flow != (image[0], 2, *image[2:]):
            raise self.spec.error("needs an image (N, C, H, W) and a flow (N, 2, H, W); its bottoms are "
                                  f"{shape_text(image)} and {shape_text(flow)}")
        return [image]

    @staticmethod
    def places(flow: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns (N, H, W) that the flow points to."""
        h, w = flow.shape[2:]
        rows, columns = (torch.arange(n, dtype=flow.dtype, device=flow.device) for n in (h, w))
        return rows.view(-1, 1) + flow[:, 1], columns + flow[:, 0]

    @staticmethod
    def at(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Pixels (N, C, H, W) at whole rows and columns (N, H, W)."""
        n, c, _, w = image.shape
        index = (row * w + column).view(n, 1, -1).expand(-1, c, -1)
        return image.reshape(n, c, -1).gather(2, index).view(image.shape)

    def between(self, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The pixels at rows and columns inside the image, interpolated; beyond the last pixel, that pixel."""
        low = [place.detach().floor() for place in (row, column)]
        (y, x), (down, across) = ([v.long() for v in low],
                                  ((p - v).unsqueeze(1) for p, v in zip((row, column), low, strict=True)))
        y2, x2 = (y + 1).clamp(max=image.shape[2] - 1), (x + 1).clamp(max=image.shape[3] - 1)
        return ((1 - across) * (1 - down) * self.at(image, y, x) + across * (1 - down) * self.at(image, y, x2)
                + (1 - across) * down * self.at(image, y2, x) + across * down * self.at(image, y2, x2))


@register("FlowWarp", form="")
class FlowWarp(_Warping):
    """Interpolates between pixels; less than a pixel beyond the last row or column it reads that, and further outside
    it gives 0, or nan with fill_value: NOT_A_NUMBER."""

    params = ("flow_warp_param",)

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        row, column = self.places(flow)
        inside = (row >= 0) & (column >= 0) & (row < image.shape[2]) & (column < image.shape[3])
        read = self.between(image, torch.where(inside, row, 0), torch.where(inside, column, 0))
        zero = self.spec.get("flow_warp_param").fill_value == "ZERO"
        return torch.where(inside.unsqueeze(1), read, 0.0 if zero else float("nan"))


@register("Warp", form="")
class Warp(_Warping):
    """PWC-Net's: interpolates between pixels, and gives 0 beyond the first and last of them.

    The gradient of a place that is exactly a pixel's is the mean of the differences to its neighbours, 0 for one that
    is not there.
    """

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        row, column = (place.detach() for place in self.places(flow))
        inside = (row >= 0) & (column >= 0) & (row <= image.shape[2] - 1) & (column <= image.shape[3] - 1)
        row, column = torch.where(inside, row, 0), torch.where(inside, column, 0)
        value = torch.where(inside.unsqueeze(1), self.between(image, row, column), 0)
        if not flow.requires_grad:
            return value
        moved = flow - flow.detach()  # 0; it carries the gradient
        for axis, place in ((3, column), (2, row)):
            slope = torch.where(inside.unsqueeze(1), self._slope(image.detach(), row, column, axis, place), 0)
            value = value + slope * moved[:, 3 - axis].unsqueeze(1)
        return value

    def _slope(self, image: Tensor, row: Tensor, column: Tensor, axis: int, place: Tensor) -> Tensor:
        """The change of the values per pixel along an axis."""
        steps = F.pad(image.diff(dim=axis), [1, 1] if axis == 3 else [0, 0, 1, 1])
        before, after = steps.narrow(axis, 0, image.shape[axis]), steps.narrow(axis, 1, image.shape[axis])
        whole = (place == place.floor()).unsqueeze(1)
        mean = self.between((before + after) / 2, row, column)
        low = place.floor()
        along = self.between(after, row, low) if axis == 3 else self.between(after, low, column)
        return torch.where(whole, mean, along)


@register("FlowTransformer", form="")
class FlowTransformer(_Warping):
    """Interpolates between pixels; what lies outside the image counts as 0.

    As published, the image gets no gradient. This is the GPU code's arithmetic; its gradient adds the channels without
    atomic operations, so that a GPU may lose some of them: here none is lost.
    """

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        image = image.detach()
        row, column = self.places(flow)
        y, x = (place.detach().floor() for place in (row, column))
        down, across = (row - y).unsqueeze(1), (column - x).unsqueeze(1)
        value = torch.zeros_like(image)
        for step_y, step_x in ((0, 0), (1, 0), (0, 1), (1, 1)):
            share = (down if step_y else 1 - down) * (across if step_x else 1 - across)
            value = value + share * self._pixels(image, y + step_y, x + step_x)
        return value

    def _pixels(self, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The pixels at whole rows and columns, 0 outside the image."""
        h, w = image.shape[2:]
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        place = (torch.where(inside, p, 0).long() for p in (row, column))
        return torch.where(inside.unsqueeze(1), self.at(image, *place), 0)


@register("Warp", form="liteflownet")
class LiteFlowNetWarp(Layer):
    """An image (N, C, H, W) read at coordinates (N, 2, H, W), columns first -> (N, C, H, W). Interpolates between
    pixels; those beyond the image are 0."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        image, places = bottom
        if len(image) != 4 or places != (image[0], 2, *image[2:]):
            raise self.spec.error("needs an image (N, C, H, W) and coordinates (N, 2, H, W); its bottoms are "
                                  f"{shape_text(image)} and {shape_text(places)}")
        return [image]

    def forward(self, image: Tensor, places: Tensor) -> Tensor:
        n, c, h, w = image.shape
        column, row = (places[:, i].clamp(-1, size) for i, size in enumerate((w, h)))
        (x, y), (across, down) = zip(*((low, (place - low).unsqueeze(1)) for place in (column, row)
                                       for low in (place.detach().floor(),)), strict=True)
        flat = F.pad(image, [1, 2, 1, 2]).reshape(n, c, -1)
        corner = ((y.nan_to_num() + 1) * (w + 3) + x.nan_to_num() + 1).long().view(n, 1, -1).expand(-1, c, -1)

        def at(step: int) -> Tensor:
            return flat.gather(2, corner + step).view(n, c, h, w)

        return ((1 - across) * (1 - down) * at(0) + (1 - across) * down * at(w + 3)
                + across * (1 - down) * at(1) + across * down * at(w + 4))


@chooses("Warp")
def _choose(spec: LayerSpec) -> Choice:
    """Both have the same bottoms and no fields."""
    return Choice("", ("liteflownet",), "its second bottom is read as a flow (PWC-Net); in dialect 'liteflownet' it "
                                        "holds coordinates", "liteflownet")


@register("Grid", form="")
class Grid(Layer):
    """The column and the row of each place: a bottom (N, C, H, W) -> (N, 2, H, W)."""

    refuses = unforced = (0,)
    works_in_place = False
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        return [(n, 2, h, w)]

    def forward(self, like: Tensor) -> Tensor:
        n, _, h, w = self.nchw(tuple(like.shape))
        rows, columns = torch.meshgrid(*(torch.arange(size, dtype=like.dtype, device=like.device) for size in (h, w)),
                                       indexing="ij")
        return torch.stack([columns, rows]).expand(n, -1, -1, -1).contiguous()


@register("NegSquare", form="")
class NegSquare(Layer):
    """-(x ^ 2). As published, its Backward multiplies a diff that nothing has written: the gradient is 0."""

    works_in_place = False
    exact = True

    def forward(self, x: Tensor) -> Tensor:
        return severed(-(x.detach() ** 2), x)


@register("ExpMax", form="")
class ExpMax(Layer):
    """base ^ (shift + scale * x), base -1 standing for e, where the largest value of all channels has been subtracted
    from x: as published, only in the first image. That value counts as a constant in the gradient."""

    params = ("expmax_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("expmax_param")
        if param.base != -1 and not 0 < param.base < math.inf:
            raise self.spec.error("needs a base above 0, or -1 for e")
        base = np.float32(param.base)
        log_base = np.float32(1) if param.base == -1 else np.log(base)
        self.inner = float(log_base * np.float32(param.scale))
        shift = np.float32(param.shift)
        self.outer = 1.0 if shift == 0 else float(np.exp(shift) if param.base == -1 else base**shift)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        largest = torch.cat([x[:1].detach().amax(1, keepdim=True), x.new_zeros(x.shape[0] - 1, 1, *x.shape[2:])])
        y = ((x - largest) * self.inner).exp()
        return y if self.outer == 1 else y * self.outer


class _Resized(Layer):
    """Base of layers that resize (N, C, H, W) to the size of a second bottom, or of the prototxt. Without gradient."""

    bottoms = (1, 2)
    refuses = (0, 1)
    unforced = (0, 1)
    works_in_place = False

    def size(self) -> tuple[int, int]:
        """Height and width of the prototxt."""
        raise NotImplementedError

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 for shape in bottom):
            raise self.spec.error(f"takes bottoms (N, C, H, W), not {' and '.join(map(shape_text, bottom))}")
        size = tuple(bottom[1][2:]) if len(bottom) == 2 else self.size()
        if min(size) < 1:
            raise self.spec.error("needs a height and a width above 0, or a second bottom of that size")
        self.out = size
        return [(*bottom[0][:2], *size)]


@register("Resample", form="")
class Resample(_Resized):
    """NEAREST, LINEAR or CUBIC interpolation. Where it shrinks, filters are widened unless antialias is false.

    As published, columns begin at half the vertical factor and rows at half the horizontal one. Differs: where the
    factors differ, NEAREST reads the last pixel where the published code reads outside the map.
    """

    params = ("resample_param",)

    def setup(self, *bottom: Shape) -> None:
        if self.spec.get("resample_param").type == "AREA":
            raise self.spec.error("takes type NEAREST, LINEAR or CUBIC")

    def size(self) -> tuple[int, int]:
        param = self.spec.get("resample_param")
        return param.height, param.width

    def forward(self, x: Tensor, *like: Tensor) -> Tensor:
        x = x.detach()
        rows, columns = self.sides(x.shape[2:], x)
        return x[:, :, rows][:, :, :, columns] if rows.dim() == 1 else rows @ x @ columns.t()

    def sides(self, sizes: Sequence[int], like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """For planes of these sizes, the rows and columns that are read, (out,) each, or the share of each row and
        column in each value, (out, size)."""
        like = torch.empty(()) if like is None else like
        factors = [like.new_tensor(size) / out for size, out in zip(sizes, self.out, strict=True)]
        sides = [(sizes[i], self.out[i], factors[i], factors[1 - i]) for i in (0, 1)]
        if self.spec.get("resample_param").type == "NEAREST":
            rows, columns = (self._begin(*side)[1].long().clamp(0, side[0] - 1) for side in sides)
        else:
            rows, columns = (self._weights(*side, shrinks=bool(max(factors) > 1)) for side in sides)
        return rows, columns

    @staticmethod
    def _begin(size: int, out: int, factor: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Where each value is read, and the pixel next to it."""
        place = torch.arange(out, dtype=factor.dtype, device=factor.device) * factor + other / 2 - 0.5
        return place, torch.where(place < 0, (place - 0.5).ceil(), (place + 0.5).floor())

    def _weights(self, size: int, out: int, factor: Tensor, other: Tensor, shrinks: bool) -> Tensor:
        """(out, size): the share of each pixel in each value."""
        param = self.spec.get("resample_param")
        cubic = param.type == "CUBIC"
        narrow = 1 / factor if shrinks and param.antialias else torch.ones_like(factor)
        reach = 2 if factor < 1 else ((4 if cubic else 2) / narrow).ceil()
        place, near = self._begin(size, out, factor, other)
        pixel = torch.arange(size, dtype=factor.dtype, device=factor.device)
        d = (narrow * (place.unsqueeze(1) - pixel)).abs()
        if cubic:
            weight = torch.where(d <= 1, d * d * (1.5 * d - 2.5) + 1, d * (d * (-0.5 * d + 2.5) - 4) + 2)
            weight = torch.where(d < 2, weight, 0)
        else:
            weight = (1 - d).clamp(min=0)
        weight = torch.where((pixel - near.unsqueeze(1)).abs() <= reach, weight, 0)
        total = weight.sum(1, keepdim=True)
        return torch.where(total == 0, 0, weight / total)


@register("Downsample", form="")
class Downsample(_Resized):
    """Means of the pixels around, weighted by nearness; corners stay corners. A pixel that is nan is left out, and
    where such pixels have more than half the weight of the others the result is nan."""

    params = ("downsample_param",)

    def size(self) -> tuple[int, int]:
        param = self.spec.get("downsample_param")
        return param.top_height, param.top_width

    def forward(self, x: Tensor, *like: Tensor) -> Tensor:
        x = x.detach()
        sides = self.sides(x.shape[2:], x)
        if sides is None:
            return x.clone()
        rows, columns = sides
        missing = x.isnan()
        value, weight, lost = (rows @ v @ columns.t() for v in (
            torch.where(missing, 0, x), (~missing).to(x), missing.to(x)))
        return torch.where(lost / weight > 0.5, float("nan"), value / weight)

    def sides(self, sizes: Sequence[int], like: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """The share of each row and column in each value, (out, size); None if the top has the bottom's size."""
        like = torch.empty(()) if like is None else like
        if tuple(sizes) == self.out:
            return None
        return self._weights(like, sizes[0], self.out[0]), self._weights(like, sizes[1], self.out[1])

    @staticmethod
    def _weights(x: Tensor, size: int, out: int) -> Tensor:
        """(out, size)."""
        scale = x.new_tensor(size - 1) / (out - 1)
        place = torch.arange(out, dtype=x.dtype, device=x.device) / (out - 1) * (size - 1)
        pixel = torch.arange(size, dtype=x.dtype, device=x.device)
        weight = (1 - (pixel - place.unsqueeze(1)).abs() / scale).clamp(min=0)
        return torch.where((pixel - (place + 0.5).floor().unsqueeze(1)).abs() <= scale.ceil(), weight, 0)


@register("ChannelNorm", form="")
class ChannelNorm(Layer):
    """The length of the vector of channels: (N, C, H, W) -> (N, 1, H, W)."""

    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        return [(n, 1, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        x = x.view(n, c, h, w)
        norm = (x.detach() ** 2).sum(1, keepdim=True).sqrt()
        if not x.requires_grad:
            return norm
        # the published Backward: x / (norm + 1e-9)
        return norm + ((x - x.detach()) * (x.detach() / (norm + 1e-9))).sum(1, keepdim=True)


@register("Mean", form="")
class Mean(Layer):
    """Adds or subtracts a value for each channel: output_scale * (input_scale * x + mean_scale * value)."""

    params = ("mean_param",)
    bottoms = tops = (1, None)
    equal_counts = True
    refuses = (0,)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("mean_param")
        if param.has("file"):
            raise self.spec.error("its mean file is not supported; give the values of the mean")
        values = list(param.value)
        if not values or any(len(shape) != 4 or shape[1] % len(values) for shape in bottom):
            raise self.spec.error(f"needs bottoms (N, C, H, W) whose channels are a multiple of its {len(values)} "
                                  "values")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return bottom

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        param = self.spec.get("mean_param")
        sign = -1 if param.operation == "SUBTRACT" else 1
        tops = []
        for x in bottoms:
            mean = x.new_tensor(list(param.value)).repeat(x.shape[1] // len(param.value)).view(1, -1, 1, 1)
            tops.append(param.output_scale * (param.input_scale * x.detach() + param.mean_scale * (sign * mean)))
        return tuple(tops)
