"""The same values in another shape. Sources: reshape_layer.cpp of RMPE@5188c23, gidariss/caffe_LocNet@0083b42,
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36 and intel/caffe@44d5363 (pixelshuffler)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import MAX_AXES, Layer, Shape, count, shape_text
from .registry import Choice, chooses, register
from .tiling import tiled


@register("Reshape")
class Reshape(Layer):
    """Reinterprets the values in another shape: dim 0 copies the bottom's size, -1 is inferred from the rest."""

    params = ("reshape_param",)
    exact = True
    works_in_place = False
    shares_data = shares_diff = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("reshape_param")
        shape, dims = bottom[0], list(param.shape.dim)
        if len(dims) > MAX_AXES:
            raise self.spec.error(f"its shape has {len(dims)} axes; a blob has up to {MAX_AXES}")
        start = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        if not 0 <= start <= end <= len(shape):
            raise self.spec.error(f"axis {param.axis} and num_axes {param.num_axes} are outside a bottom with "
                                  f"{len(shape)} axes")
        if dims.count(-1) > 1 or any(d < -1 for d in dims):
            raise self.spec.error(f"shape {dims} may contain -1 once, and no other negative number")
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(shape):
                    raise self.spec.error(f"dim {i} of its shape is 0, but the bottom has no axis {start + i} to copy")
                dims[i] = shape[start + i]
        rest = count(shape[:start]) * count(tuple(d for d in dims if d != -1)) * count(shape[end:])
        if -1 in dims and rest and count(shape) % rest == 0:
            dims[dims.index(-1)] = count(shape) // rest
        top = (*shape[:start], *dims, *shape[end:])
        if -1 in dims or count(top) != count(shape):
            raise self.spec.error(f"a bottom of {shape_text(shape)} cannot be reshaped to {shape_text(top)}")
        self.shape = top
        return [top]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


@register("Reshape", form="in-place")
class ReshapeInPlace(Reshape):
    """The same, which may also work in place: older forks lack Caffe's check, and it does no harm."""

    works_in_place = True


@register("Reshape", form="pixelshuffler")
class PixelShuffle(Layer):
    """With pixelshuffler r above 1, moves channels into blocks of pixels, and reads no other field:
    (N, C, H, W) -> (N, C / r^2, H * r, W * r); channel (c * r + i) * r + j goes to the place (i, j) of c's blocks."""

    params = ("reshape_param",)
    exact = True
    works_in_place = False
    caffe_source = "reshape_layer.cpp"

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return Reshape if spec.get("reshape_param").pixelshuffler == 1 else cls

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.side = r = self.spec.get("reshape_param").pixelshuffler
        if len(bottom[0]) != 4 or r < 1 or bottom[0][1] % r**2:
            raise self.spec.error(f"pixelshuffler {r} needs a bottom (N, C, H, W) whose C is a multiple of its square, "
                                  f"not {shape_text(bottom[0])}")
        n, c, h, w = bottom[0]
        return [(n, c // r**2, h * r, w * r)]

    def forward(self, x: Tensor) -> Tensor:
        return tiled(x, self.side)


@chooses("Reshape")
def _choose(spec: LayerSpec) -> Choice:
    """Only synopsys and intel have pixelshuffler; only a layer that works in place needs the form that allows it."""
    if "pixelshuffler" in spec.get("reshape_param").fields:
        return Choice("pixelshuffler")
    return Choice("in-place") if set(spec.bottom) & set(spec.top) else Choice("", ("in-place", "pixelshuffler"))
