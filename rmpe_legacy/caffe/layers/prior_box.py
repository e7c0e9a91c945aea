"""SSD's default boxes.

Sources: prior_box_layer.cpp of RMPE@5188c23 and of the ssd branch; `denser_prior_boxes`: that of
MhLiao/TextBoxes_plusplus@39d4898; `fixed_size` and `density`: that of zihaozhang9/FaceBoxes@b895ea7; `use_default`:
that of 03100076/BDIG@66afadc; `PriorBox=sstd`: that of BestSonny/SSTD@174d452; `PriorBox=denser`: that of
MhLiao/TextBoxes@fd4d7a9.
"""

from __future__ import annotations

import math
from bisect import bisect, insort
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec

from .base import MAX_COUNT, Count, Layer, Shape, shape_text
from .registry import Choice, chooses, register

OF_FRAMEWORKS = ("tf", "keras", "yx_order", "box_width", "box_height")  # fields of PriorBox=synopsys alone


@register("PriorBox", dialects=("rmpe", "ssd"))
class PriorBox(Layer):
    """One set of boxes per cell of a feature map: (N, C, H, W) and the image (N, ., IH, IW) -> (1, 2, H * W * P * 4).

    The first channel holds corners in units of the image, the second the variance of each coordinate. Per cell:
    the square of min_size, that of sqrt(min_size * max_size), then min_size in each aspect ratio. With
    denser_prior_boxes (TextBoxes++) each is followed by its like at the cell's lower edge. With use_default: false
    (BDIG) there are the aspect ratios alone.

    Further bottoms are accepted and ignored, as published: its arity check does not have the name Caffe calls.
    """

    params = ("prior_box_param",)
    bottoms: Count = (1, None)
    works_in_place = False

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        param = spec.get("prior_box_param")
        return DensePriorBox if "fixed_size" in param.descriptor.fields and param.fixed_size else cls

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("prior_box_param")
        self.read_sizes(param)
        self.variance = list(param.variance) or [0.1]
        if len(self.variance) not in (1, 4) or min(self.variance) <= 0:
            raise self.spec.error(f"variance must be given once or four times, and be positive, not {self.variance}")
        self.clip = param.clip
        self.denser = "denser_prior_boxes" in param.descriptor.fields and param.denser_prior_boxes
        self.image = self._pair("img_size", "img_h", "img_w")
        self.step = self._pair("step", "step_h", "step_w")
        if self.image is None and len(bottom) < 2:
            raise self.spec.error("needs two bottoms, the feature map and the image")
        self._made: tuple[tuple, Tensor] | None = None  # the last boxes, with the sizes they are for

    @property
    def is_ssd(self) -> bool:
        """Whether sizes and centres are computed as in the ssd branch."""
        return self.spec.dialect == "ssd"

    def read_sizes(self, param: Message) -> None:
        """Read the sizes of the boxes of a cell. Raises LayerError."""
        self.min_sizes = self._sizes("min_size")
        self.max_sizes = self._sizes("max_size")
        if not self.min_sizes:
            raise self.spec.error("needs a min_size")
        if not all(size > 0 for size in self.min_sizes):
            raise self.spec.error("min_size must be positive")
        if self.max_sizes and len(self.max_sizes) != len(self.min_sizes):
            raise self.spec.error(f"has {len(self.min_sizes)} min_size and {len(self.max_sizes)} max_size; give one "
                                  "max_size per min_size, or none")
        if not all(high > low for low, high in zip(self.min_sizes, self.max_sizes, strict=False)):
            raise self.spec.error("max_size must be greater than min_size")
        if self.is_ssd and math.inf in (*self.min_sizes, *self.max_sizes):  # that branch truncates them to integers
            raise self.spec.error("min_size and max_size must be finite")
        self.aspect_ratios = _aspect_ratios(param.aspect_ratio, param.flip)
        self.has_squares = not ("use_default" in param.descriptor.fields and not param.use_default)
        if not self.has_squares:
            self.aspect_ratios = self.aspect_ratios[1:]
            if self.max_sizes or not self.aspect_ratios or any(abs(ratio - 1) < 1e-6 for ratio in param.aspect_ratio):
                raise self.spec.error("use_default: false takes aspect ratios other than 1, and no max_size: with "
                                      "others the published layer miscounts")

    def _sizes(self, name: str) -> list[float]:
        """Return min_size or max_size: one value in the RMPE fork, any number in the ssd branch."""
        param = self.spec.get("prior_box_param")
        if self.is_ssd:
            return list(getattr(param, name))
        return [getattr(param, name)] if param.has(name) else []

    def _pair(self, name: str, h: str, w: str) -> tuple[float, float] | None:
        """Return (h, w) from one field, or from its _h and _w; None if the file or the dialect has neither."""
        if not self.is_ssd:
            return None
        param = self.spec.get("prior_box_param")
        apart = param.has(h) or param.has(w)
        if apart and param.has(name):
            raise self.spec.error(f"give {name}, or {h} and {w}; not both")
        if not apart and not param.has(name):
            return None
        pair = (getattr(param, h), getattr(param, w)) if apart else (getattr(param, name),) * 2
        if min(pair) <= 0:
            raise self.spec.error(f"{f'{h} and {w}' if apart else name} must be larger than 0")
        return pair

    @property
    def per_cell(self) -> int:
        """Number of boxes per cell."""
        return (len(self.aspect_ratios) * len(self.min_sizes) + len(self.max_sizes)) * (2 if self.denser else 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.grid = self.nchw(bottom[0])[2:]
        self.pixels = self.image or self.nchw(bottom[1])[2:]
        values = self.grid[0] * self.grid[1] * self.per_cell * 4
        if values == 0:
            raise self.spec.error(f"its first bottom, {shape_text(bottom[0])}, has no cells")
        return [(1, 2, values)]

    def forward(self, features: Tensor, *rest: Tensor) -> Tensor:
        key = (self.grid, self.pixels, features.dtype, features.device)
        if self._made is None or self._made[0] != key:
            self._made = key, self._make(features)
        return self._made[1]

    def _make(self, features: Tensor) -> Tensor:
        """Compute boxes and variances. As published, sizes are float32 and corners are computed in double."""
        corners = torch.cat(self._corners(), -1).flatten().to(features.dtype)
        # A ratio whose inverse lands within 1e-6 of 1 counts as a box, and is then skipped: the tail stays 0.
        rest = self.grid[0] * self.grid[1] * self.per_cell * 4 - len(corners)
        corners = torch.cat([corners, corners.new_zeros(rest)])
        if self.clip:
            corners = corners.clamp(0, 1)
        variance = torch.tensor(self.variance, dtype=torch.float32).to(features.dtype).repeat(
            len(corners) // len(self.variance))
        return torch.stack([corners, variance]).unsqueeze(0).to(features.device)

    def _corners(self) -> tuple[Tensor, ...]:
        """Return the low and the high corner of each cell's boxes, x and y last, in the order of the top."""
        rows, columns = self._centres()
        centres = torch.stack([torch.stack(torch.meshgrid(line, columns, indexing="ij"), -1).flip(-1)
                               for line in (rows, *self._lower_edges())], 2)  # (H, W, 1 or 2, 2): x, y
        half = self.box_sizes().double().unsqueeze(1) / 2
        pixels = torch.tensor(self.pixels[::-1], dtype=torch.float64)
        return tuple((centres.double().unsqueeze(2) + side) / pixels for side in (-half, half))

    def _step(self, axis: int) -> Any:
        """Return how far cells lie apart, in pixels, float32."""
        return torch.tensor(float(self.pixels[axis])) / self.grid[axis] if self.step is None else self.step[axis]

    def _lower_edges(self) -> list[Tensor]:
        """Return where the denser boxes of each row have their centres, if there are any."""
        rows = torch.arange(self.grid[0]).double() + 1
        return [(rows * self._step(0)).float()] if self.denser else []

    def _centres(self) -> list[Tensor]:
        """Return the centres of rows and of columns, in pixels, float32."""
        centres = []
        for axis in range(2):
            cells = torch.arange(self.grid[axis])
            step = self._step(axis)
            if self.is_ssd:  # the offset is a float there, so the product is one too
                offset = self.spec.get("prior_box_param").offset
                centres.append((cells.float() + offset) * step)
            else:
                centres.append(((cells.double() + 0.5) * step).float())
        return centres

    def box_sizes(self) -> Tensor:
        """Return each box's (width, height) in a cell, (P, 2) float32. The ssd branch truncates sizes to integers."""
        ratios = torch.tensor(self.aspect_ratios)
        roots = _root(ratios[(ratios.double() - 1).abs() >= 1e-6])
        boxes = []
        for i, given in enumerate(self.min_sizes):
            low = torch.tensor(float(int(given)) if self.is_ssd else given)
            if self.has_squares:
                boxes.append(low.expand(1, 2))
            if self.max_sizes:
                boxes.append(self._between(low, self.max_sizes[i]).expand(1, 2))
            boxes.append(torch.stack([low * roots, low / roots], -1))
        return torch.cat(boxes)

    def _between(self, low: Tensor, high: float) -> Tensor:
        """Return sqrt(low * high): of floats in the RMPE fork; of integers, in double, in the ssd branch."""
        if self.is_ssd:
            return _root(low.double() * int(high))
        return _root(low * high)


class DensePriorBox(PriorBox):
    """FaceBoxes' boxes: density x density squares of each fixed_size, evenly over the square of that size around the
    cell's centre, then the same of each aspect ratio; or of fixed_ratio alone. Cut at the image's edges.

    As published, half a size and the distance between boxes are rounded down to whole pixels.
    """

    def read_sizes(self, param: Message) -> None:
        self.fixed_sizes, self.densities = list(param.fixed_size), [int(density) for density in param.density]
        if param.min_size or param.max_size:
            raise self.spec.error("has min_size or max_size together with fixed_size, which the published layer "
                                  "miscounts; use two layers and a Concat")
        if param.fixed_ratio and (param.aspect_ratio or len(param.fixed_ratio) > 1):
            raise self.spec.error("takes either one fixed_ratio or aspect_ratio: with more, the published layer writes "
                                  "outside its memory")
        if len(self.densities) != len(self.fixed_sizes) or min(self.fixed_sizes) <= 0 or min(self.densities) < 1 or (
                not max(self.fixed_sizes) <= MAX_COUNT):
            raise self.spec.error(f"needs a fixed_size above 0 and up to {MAX_COUNT}, and for each a density of 1 or "
                                  "more")
        self.aspect_ratios = list(param.fixed_ratio) or _aspect_ratios(param.aspect_ratio, param.flip)
        self.has_squares = not param.fixed_ratio

    @property
    def per_cell(self) -> int:
        return len(self.aspect_ratios) * sum(density**2 for density in self.densities)

    def _corners(self) -> tuple[Tensor, ...]:
        rows, columns = self._centres()
        boxes = [self._of_size(*both, rows, columns) for both in zip(self.fixed_sizes, self.densities, strict=True)]
        low, high = (torch.cat(part, 2) for part in zip(*boxes, strict=True))
        return low.clamp(min=0), high.clamp(max=1)

    def _of_size(self, size: float, density: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
        """Return the low and the high corners (H, W, P, 2) of one size's boxes."""
        shift, pixels = int(size / density), torch.tensor(self.pixels[::-1], dtype=torch.float64)
        moves = shift / 2 + torch.arange(density, dtype=torch.float64) * shift
        down, across = (((at - int(size) // 2).double().unsqueeze(1) + moves).float() for at in (rows, columns))
        grid = (len(rows), len(columns), density, density)
        centre = torch.stack([across[None, :, None].expand(grid), down[:, None, :, None].expand(grid)], -1)
        centre = centre.reshape(*grid[:2], 1, density**2, 2).double()
        ratios = torch.tensor(self.aspect_ratios)
        if self.has_squares:
            ratios = ratios[(ratios.double() - 1).abs() >= 1e-6]
        roots, exact = _root(ratios), torch.tensor(size)
        sides = torch.stack([exact * roots, exact / roots], -1)
        if self.has_squares:
            sides = torch.cat([torch.full((1, 2), float(int(size))), sides])
        half = sides.double().view(-1, 1, 2) / 2
        return tuple(((centre + side) / pixels).flatten(2, 3) for side in (-half, half))


@register("PriorBox", form="sstd")
class SstdPriorBox(PriorBox):
    """SSTD's boxes, for lines of text: in an aspect ratio a box is min_size high and that many times as wide; with flip
    there follow those that are min_size wide and that many times as high, of each ratio once more. min_size is not
    rounded."""

    caffe_source = "prior_box_layer.cpp"

    def read_sizes(self, param: Message) -> None:
        super().read_sizes(param)
        self.aspect_ratios = _aspect_ratios(param.aspect_ratio, False)[1:]
        self.flip = param.flip

    @property
    def per_cell(self) -> int:
        return (1 + len(self.aspect_ratios) * (1 + self.flip)) * len(self.min_sizes) + len(self.max_sizes)

    def box_sizes(self) -> Tensor:
        boxes = []
        for i, size in enumerate(map(torch.tensor, self.min_sizes)):
            wide = torch.stack([size * torch.tensor(self.aspect_ratios), size.expand(len(self.aspect_ratios))], -1)
            squares = [size, *([_root(size * int(self.max_sizes[i]))] if self.max_sizes else [])]
            boxes += [*(square.expand(1, 2) for square in squares), wide, *([wide.flip(1)] if self.flip else [])]
        return torch.cat(boxes)


@register("PriorBox", form="denser")
class DenserPriorBox(PriorBox):
    """TextBoxes' boxes, always as with denser_prior_boxes."""

    caffe_source = "prior_box_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.denser = True


def _root(x: Tensor) -> Tensor:
    """Return the correctly rounded float32 square root; torch's own is sometimes off by one unit."""
    return x.double().sqrt().float()


def _aspect_ratios(given: Sequence[float], flip: bool) -> list[float]:
    """Return 1, then each new ratio followed by its inverse; inverses are added even if they are there already."""
    ratios, in_order = [1.0], [1.0]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for value in np.array(given, np.float32):
            at = bisect(in_order, value)
            if any(abs(value - np.float32(other)) < 1e-6 for other in in_order[max(at - 1, 0) : at + 1]):
                continue
            for ratio in (value, np.float32(1 / np.float64(value)))[: 1 + flip]:
                ratios.append(float(ratio))
                if ratio == ratio:  # nan cannot be ordered, and equals nothing
                    insort(in_order, float(ratio))
    return ratios


@chooses("PriorBox")
def _choose(spec: LayerSpec) -> Choice:
    """Boxes of other frameworks are synopsys's. Else it is the bases' form, which SSTD's own files and TextBoxes' never
    mean; but a file that does not set clip means something else in each of the dialects that have the type."""
    param, others = spec.get("prior_box_param"), ("synopsys", "sstd", "denser")
    if any(name in param.fields for name in OF_FRAMEWORKS):
        return Choice("synopsys")
    if param.has("clip"):
        return Choice("", others)
    return Choice("", others, "it does not set clip, which is true in dialect 'rmpe' and false in 'ssd' and its "
                              "forks; write clip, or name the dialect")
