"""Python layers of networks from TensorFlow: borders, darknet's reorg, sums and products of unequal shapes. Sources:
python/{pad,yolov2,darknet,shape,eltwise}.py of foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.

None passes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .known_python import known_python, number, parameters
from .of_tensorflow import Broadcast
from .reorg import Reorg

MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}  # NumPy's name -> torch's


@known_python(("pad", "PadTensor"))
class PadTensor(Layer):
    """Adds a border to maps: (N, C, H, W) -> (N, C, H + pad_t + pad_b, W + pad_l + pad_r); pad_mode says what it holds,
    zeros, the nearest value or a mirror image."""

    params = ("python_param",)
    works_in_place = False
    exact = True

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.left, self.right, self.above, self.below = (int(number(self.spec, values, f"pad_{side}"))
                                                         for side in "lrtb")
        self.mode = MODES.get(values.get("pad_mode", ""), "")
        if min(self.margin) < 0 or not self.mode:
            raise self.spec.error(f"needs pads of 0 or more, and a pad_mode of {', '.join(MODES)}")

    @property
    def margin(self) -> tuple[int, int, int, int]:
        """The pads as F.pad takes them."""
        return self.left, self.right, self.above, self.below

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        n, c, h, w = bottom[0]
        if self.mode == "reflect" and (max(self.margin[:2]) >= w or max(self.margin[2:]) >= h):
            raise self.spec.error(f"cannot mirror more than its bottom of {shape_text(bottom[0])} has")
        return [(n, c, h + self.above + self.below, w + self.left + self.right)]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x.detach(), self.margin, self.mode)


@known_python(("yolov2", "darknet_reorg"))
class DarknetReorg(Reorg):
    """Reorg of stride 2: (N, C, H, W) -> (N, 4 * C, H / 2, W / 2)."""

    params = ("python_param",)
    exact = True

    def setup(self, *bottom: Shape) -> None:
        self.stride, self.backwards = 2, False


@known_python(("shape", "TensorShape"))
class TensorShape(Layer):
    """The sizes of its bottom, as many values as it has axes."""

    params = ("python_param",)
    works_in_place = False
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(len(bottom[0]),)]

    def forward(self, x: Tensor) -> Tensor:
        return x.new_tensor(x.shape)


@known_python(("eltwise", "Eltwise"))
class EltwiseOfUnequal(Broadcast):
    """Combines two blobs whose sizes, counted from the last axis, are equal or 1: operation 0 multiplies them, 1 adds
    them times coeff, 2 and 4 take the greater and the less, 3 divides."""

    params = ("python_param",)

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.operation = int(number(self.spec, values, "operation"))
        self.coeff = values.get("coeff", [1, 1]) if self.operation == 1 else []
        if self.operation not in range(5) or (self.operation == 1 and not _are_two_numbers(self.coeff)):
            raise self.spec.error("its param_str needs 'operation': 0 to 4, and of 1 'coeff': two numbers")

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.detach(), b.detach()
        if self.operation == 1:
            return self.coeff[0] * a + self.coeff[1] * b
        return {0: torch.mul, 2: torch.maximum, 3: torch.div, 4: torch.minimum}[self.operation](a, b)


def _are_two_numbers(coeff: object) -> bool:
    return isinstance(coeff, list) and len(coeff) == 2 and all(isinstance(value, int | float) for value in coeff)
