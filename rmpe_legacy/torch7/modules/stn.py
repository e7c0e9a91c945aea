"""The spatial transformer of the published Torch7 network, and Get_Alpha, which inverts its theta.

Sources: AffineGridGeneratorBHWD.lua, AffineTransformMatrixGenerator.lua and generic/BilinearSamplerBHWD.c of
Fang-Haoshu/stnbhwd@6311ee4; Get_Alpha.lua of multi-human-pose@094e29b. Coordinates are (y, x), from -1 at the first
pixel's centre to 1 at the last one's; images are (N, H, W, C).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.errors import NetError

from .base import Fields, Module, torch7_class

MAX_CELLS = 1 << 20  # cells of a grid that the file does not contain; the published ones have 65,536


def base_grid(height: int, width: int) -> Tensor:
    """(y, x, 1) of each cell, (H, W, 3), as AffineGridGeneratorBHWD makes it: in double, then rounded."""
    y = [-1 + i / (height - 1) * 2 for i in range(height)]
    x = [-1 + i / (width - 1) * 2 for i in range(width)]
    grid = torch.ones(height, width, 3)
    grid[:, :, 0] = torch.tensor(y, dtype=torch.float64).view(-1, 1)
    grid[:, :, 1] = torch.tensor(x, dtype=torch.float64)
    return grid


@torch7_class("nn.AffineGridGeneratorBHWD")
class AffineGridGeneratorBHWD(Module):
    """theta (N, 2, 3), or (2, 3) for one image, -> grid (N, H, W, 2) or (H, W, 2) of (y, x).

    Row 1 of theta gives y, row 2 x; its columns stand for y, x and 1.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.height, self.width = fields.pair("height", "width", least=2)
        grid = fields.tensor("baseGrid")
        if grid is None:
            if self.height * self.width > MAX_CELLS:
                raise fields.error(f"a grid of {self.height} x {self.width} cells, which is not in the file")
            grid = base_grid(self.height, self.width)
        if grid.shape != (self.height, self.width, 3):
            raise fields.error(f"baseGrid is {list(grid.shape)}; expected {[self.height, self.width, 3]}")
        self.register_buffer("base_grid", grid)

    def forward(self, theta: Tensor) -> Tensor:
        shape = self.output_shape(tuple(theta.shape))
        return (self.base_grid.view(-1, 3) @ theta.transpose(-2, -1)).view(shape)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the grid for a theta of `shape`."""
        _check_theta(self, shape)
        return (*shape[:-2], self.height, self.width, 2)


def _check_theta(module: Module, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or shape[-2:] != (2, 3):
        raise NetError(f"{module.class_name}: theta must be (N, 2, 3) or (2, 3), not {list(shape)}")


@torch7_class("nn.BilinearSamplerBHWD")
class BilinearSamplerBHWD(Module):
    """{image (N, H, W, C), grid (N, h, w, 2)} -> (N, h, w, C), bilinear; taps outside the image count as 0.

    A single image or grid may lack the batch axis; if the image does, so does the output.
    """

    def forward(self, x: list[Tensor]) -> Tensor:
        image, grid = x
        single = image.dim() == 3
        image = image.unsqueeze(0) if single else image
        grid = grid.unsqueeze(0) if grid.dim() == 3 else grid
        self.output_shape(tuple(image.shape), tuple(grid.shape))
        y = _sample(image, grid)
        return y.squeeze(0) if single else y

    def output_shape(self, image: tuple[int, ...], grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the output shape for an image (N, H, W, C) and a grid (N, h, w, 2): (N, h, w, C).

        Raises:
            NetError: The shapes do not fit.
        """
        if len(image) != 4 or len(grid) != 4 or grid[3] != 2 or image[0] != grid[0]:
            raise NetError(f"{self.class_name}: image {list(image)} and grid {list(grid)} must be (N, H, W, C) and "
                           "(N, h, w, 2)")
        return (*grid[:3], image[3])


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    n, height, width, channels = image.shape
    row, column = (grid[..., 0] + 1) * (height - 1) / 2, (grid[..., 1] + 1) * (width - 1) / 2
    top, left = row.detach().floor(), column.detach().floor()
    below, right = (1 - (row - top)).unsqueeze(-1), (1 - (column - left)).unsqueeze(-1)  # weights of the upper left
    pixels = image.reshape(n * height * width, channels)
    first = (torch.arange(n, device=image.device) * (height * width)).view(-1, 1, 1)

    def tap(y: Tensor, x: Tensor) -> Tensor:
        inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
        at = torch.where(inside, first + y.nan_to_num().clamp(0, height - 1).long() * width
                         + x.nan_to_num().clamp(0, width - 1).long(), 0)
        return torch.where(inside.unsqueeze(-1), pixels[at], 0)

    return (right * below * tap(top, left) + (1 - right) * below * tap(top, left + 1)
            + right * (1 - below) * tap(top + 1, left) + (1 - right) * (1 - below) * tap(top + 1, left + 1))


@torch7_class("nn.Get_Alpha")
class GetAlpha(Module):
    """theta (N, 2, 3) or (2, 3) -> its inverse, always (N, 2, 3): [A^-1 | -A^-1 t] for [A | t].

    A singular A is an error, as in Torch7. In a compiled or exported network, where values cannot be checked, it
    gives infinities, and the inverse is computed element by element, which other formats can express.
    """

    def forward(self, theta: Tensor) -> Tensor:
        theta = theta.view(self.output_shape(tuple(theta.shape)))
        return _inverse(theta) if torch.compiler.is_compiling() else _Inverse.apply(theta)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the output shape for a theta of `shape`."""
        _check_theta(self, shape)
        return (shape[0] if len(shape) == 3 else 1, 2, 3)


def _inverse(theta: Tensor) -> Tensor:
    a, b, t, d, e, u = theta.flatten(-2).unbind(-1)
    det = a * e - b * d
    yy, yx, xy, xx = e / det, -b / det, -d / det, a / det
    return torch.stack([yy, yx, -(yy * t + yx * u), xy, xx, -(xy * t + xx * u)], -1).view(-1, 2, 3)


class _Inverse(torch.autograd.Function):
    """The inverse of affine maps, with the authors' handwritten gradient (Get_Alpha.lua:33-66)."""

    @staticmethod
    def forward(ctx, theta: Tensor) -> Tensor:
        inverse, singular = torch.linalg.inv_ex(theta[..., :2])
        if singular.any():
            raise NetError("nn.Get_Alpha: theta cannot be inverted: its 2x2 part is singular")
        alpha = torch.cat([inverse, inverse @ -theta[..., 2:]], -1)
        ctx.save_for_backward(theta, alpha)
        return alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        theta, alpha = ctx.saved_tensors
        shift_grad = -(alpha[..., :2].transpose(-2, -1) @ grad[..., 2:])
        inverse_grad = grad[..., :2] - grad[..., 2:] @ theta[..., 2:].transpose(-2, -1)
        jacobian = _inverse_jacobian(theta[..., :2].flatten(-2))
        matrix_grad = jacobian.transpose(-2, -1) @ inverse_grad.reshape(-1, 4, 1)
        return torch.cat([matrix_grad.view(-1, 2, 2), shift_grad], -1)


def _inverse_jacobian(matrix: Tensor) -> Tensor:
    """d(inverse) / d(matrix) of 2x2 matrices given as (N, 4), row by row: (N, 4, 4)."""
    a, b, c, d = matrix.unbind(-1)
    rows = [-d * d, c * d, b * d, -b * c,
            d * b, -a * d, -b * b, a * b,
            d * c, -c * c, -a * d, a * c,
            -b * c, a * c, a * b, -a * a]
    return torch.stack(rows, -1).view(-1, 4, 4) / ((a * d - b * c) ** 2).view(-1, 1, 1)


@torch7_class("nn.AffineTransformMatrixGenerator")
class AffineTransformMatrixGenerator(Module):
    """Parameters (N, p) -> theta (N, 2, 3): all six, or an angle, a scale and a shift, as far as it uses them."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.rotation, self.scale, self.translation = (
            fields.flag(f"use{name}") for name in ("Rotation", "Scale", "Translation"))

    def forward(self, x: Tensor) -> Tensor:
        single = x.dim() == 1
        x = x.unsqueeze(0) if single else x
        count = self.rotation + self.scale + 2 * self.translation or 6
        if x.dim() != 2 or x.shape[1] != count:
            raise NetError(f"{self.class_name}: takes (N, {count}) parameters, not {list(x.shape)}")
        theta = self._theta(x) if count < 6 else x.view(-1, 2, 3)
        return theta.squeeze(0) if single else theta

    def _theta(self, x: Tensor) -> Tensor:
        parameters = list(x.unbind(1))
        one, zero = torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0])
        values = [one, zero, zero, one]
        if self.rotation:
            angle = parameters.pop(0)
            values = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()]
        if self.scale:
            factor = parameters.pop(0)
            values = [value * factor for value in values]
        matrix = torch.stack(values, -1).view(-1, 2, 2)
        shift = torch.stack(parameters, -1) if self.translation else torch.zeros_like(matrix[:, 0])
        return torch.cat([matrix, matrix @ shift.unsqueeze(-1)], -1)
