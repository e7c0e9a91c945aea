"""The angular margin of SphereFace. Source: margin_inner_product_layer.cpp of wy1iu/sphereface@f20b130."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import JUDGES, Count, Layer, Shape, count, shape_text
from .registry import register

# MarginType: cos -> psi(cos), and the factors of the weight and of -x / |x| in its published derivative
Angle = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def _double(cos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    sign, square = cos.sign(), cos * cos
    return 2 * sign * square - 1, 4 * sign * cos, 2 * sign * square + 1


def _triple(cos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    side = (cos.abs() - 0.5).sign()
    step = cos.sign() * (1 + side) - 2
    return side * (4 * cos**3 - 3 * cos) + step, side * (12 * cos * cos - 3), 8 * side * cos**3 - step


def _quadruple(cos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    square = cos * cos
    side = cos.sign() * (2 * square - 1).sign()
    step = 2 * cos.sign() + side - 3
    return (side * (8 * square**2 - 8 * square + 1) + step, side * (32 * cos**3 - 16 * cos),
            side * (24 * square**2 - 8 * square - 1) - step)


ANGLES: dict[str, Angle] = {"DOUBLE": _double, "TRIPLE": _triple, "QUADRUPLE": _quadruple}


class _Margin(torch.autograd.Function):
    """As published, the derivative's direction is kept and its length made 1, and the weights' gradient does not know
    of the margin."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, label: Tensor, angle: Angle | None, ease: float) -> Tensor:
        plain = x @ weight.t()
        if angle is None:
            ctx.save_for_backward(x, weight)
            return plain
        length = x.square().sum(1).sqrt()
        cos = plain.gather(1, label.unsqueeze(1))[:, 0] / length
        value, to_weight, to_x = angle(cos)
        to_x = to_x / -length
        norm = (to_weight.square() + to_x.square()).sqrt()
        ctx.save_for_backward(x, weight, label, to_weight / norm, to_x / norm)
        ctx.ease = ease
        return (plain.scatter(1, label.unsqueeze(1), (length * value).unsqueeze(1)) + ease * plain) / (1 + ease)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *margin = ctx.saved_tensors
        dx = dy @ weight
        if margin:
            label, to_weight, to_x = margin
            own = dy.gather(1, label.unsqueeze(1))
            others = dy.scatter(1, label.unsqueeze(1), 0) @ weight
            turned = own * (to_weight.unsqueeze(1) * weight[label] + to_x.unsqueeze(1) * x)
            dx = (others + turned + ctx.ease * dx) / (1 + ctx.ease)
        return dx, dy.t() @ x, None, None, None


@register("MarginInnerProduct", form="")
class MarginInnerProduct(Layer):
    """|x| cos(m * angle) for the class of the label, |x| cos(angle) for the others: (N, ...) and labels (N) ->
    (N, num_output), and lambda (1).

    Of the label's class it gives (psi + lambda * cos) / (1 + lambda), where lambda falls with each forward from `base`:
    max(lambda_min, base * (1 + gamma * forwards)^-power). Each forward first divides every row of the stored weights by
    its length.
    """

    params: tuple[str, ...] = ("margin_inner_product_param",)
    bottoms = 2
    tops: Count = (1, 2)
    refuses = unforced = (1,)
    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get(self.params[0])
        if self.param.num_output < 1:
            raise self.spec.error("num_output must be given, and positive")
        self.lead = self.axis(self.param.axis, len(bottom[0]))
        self.inputs = count(bottom[0][self.lead:])
        self.forwards = self.param.iteration
        self.declare("weight", (self.param.num_output, self.inputs), self.param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        rows = bottom[0][: self.lead]
        if count(bottom[0][self.lead:]) != self.inputs or count(rows) != count(bottom[1]):
            raise self.spec.error(f"needs rows of {self.inputs} values and a label for each; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(*rows, self.param.num_output), (1,)][: self.top_count]

    def ease(self) -> float:
        """lambda of the next forward, which is counted."""
        self.forwards += 1
        base = 1 + self.param.gamma * self.forwards
        return max(self.param.lambda_min, self.param.base * (math.pow(base, -self.param.power) if base > 0 else 0.0))

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        ease = self.ease()
        with torch.no_grad():
            self.weight.mul_(1 / self.weight.square().sum(1, keepdim=True).sqrt())
        index = label.detach().flatten().long()
        self.check_classes(index, self.param.num_output)
        rows = x.reshape(len(index), self.inputs)
        y = _Margin.apply(rows, self.blobs()[0], index, ANGLES.get(self.param.type), ease)
        y = y.view(*x.shape[: self.lead], self.param.num_output)
        return y if self.top_count == 1 else (y, x.new_tensor([ease]))
