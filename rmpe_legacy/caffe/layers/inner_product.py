"""A fully connected layer. Sources: inner_product_layer.cpp of RMPE@5188c23; `normalize`: the same of
happynear/caffe-windows@967eedf; weights that are a bottom: the same of opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, shape_text
from .registry import Choice, chooses, register


@register("InnerProduct")
class InnerProduct(Layer):
    """Multiplies by a matrix; the axes from `axis` on count as one vector: (..., K) -> (..., num_output)."""

    params: tuple[str, ...] = ("inner_product_param",)
    works_in_place = False

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        param = spec.get("inner_product_param")
        return NormalizedInnerProduct if "normalize" in param.descriptor.fields and param.normalize else cls

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("inner_product_param")
        self.num_output, self.transpose = param.num_output, param.transpose
        if self.num_output < 1:
            raise self.spec.error("num_output must be given, and positive")
        self.lead = self.axis(param.axis, len(bottom[0]))
        self.inputs = count(bottom[0][self.lead :])
        shape = (self.num_output, self.inputs)
        self.declare("weight", shape[::-1] if self.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.declare("bias", (self.num_output,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][self.lead :]) != self.inputs or len(bottom[0]) < self.lead:
            raise self.spec.error(f"was set up for {self.inputs} values from axis {self.lead} on; its bottom is "
                                  f"{shape_text(bottom[0])}; this network takes no other input size")
        return [(*bottom[0][: self.lead], self.num_output)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        if x.dim() != self.lead + 1:
            x = x.reshape(*x.shape[: self.lead], self.inputs)
        return F.linear(x, weight.t() if self.transpose else weight, *bias)


class NormalizedInnerProduct(InnerProduct):
    """The same, but each forward first divides every row of the weights by its length: w / sqrt(sum of w^2 + 1e-6).

    As published, this changes the stored weights, the gradient does not know of it, and with `transpose` the memory is
    still read as num_output rows.
    """

    def blobs(self) -> list[Tensor]:
        """Return the parameters, the weights normalised."""
        with torch.no_grad():
            rows = self.weight.view(self.num_output, self.inputs)
            rows.mul_(1 / (rows.square().sum(1, keepdim=True) + 1e-6).sqrt())
        return super().blobs()


@register("InnerProduct", form="training-toolbox")
class InnerProductOfBottoms(Layer):
    """Multiplies by its second bottom: (..., K) and (N, ...), which holds N x K values -> (..., N).

    Differs: with a bias, the published code reads a parameter that it does not have; here that is an error.
    """

    params = ("inner_product_param",)
    bottoms = 2
    works_in_place = False

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return cls if len(spec.bottom) > 1 else InnerProduct.for_spec(spec)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("inner_product_param")
        if param.bias_term:
            raise self.spec.error("cannot add a bias to a product of bottoms; set bias_term: false")
        self.transpose = param.transpose
        self.lead = self.axis(param.axis, len(bottom[0]))
        self.inputs = count(bottom[0][self.lead :])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < self.lead or count(bottom[0][self.lead :]) != self.inputs:
            raise self.spec.error(f"was set up for {self.inputs} values from axis {self.lead} on; its bottom is "
                                  f"{shape_text(bottom[0])}; this network takes no other input size")
        if not bottom[1] or count(bottom[1]) != bottom[1][0] * self.inputs:
            raise self.spec.error(f"needs weights (N, ...) with {self.inputs} values for each of N outputs; its second "
                                  f"bottom is {shape_text(bottom[1])}")
        return [(*bottom[0][: self.lead], bottom[1][0])]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        x = x.reshape(*x.shape[: self.lead], self.inputs)
        outputs = len(weight)
        matrix = weight.reshape(self.inputs, outputs).t() if self.transpose else weight.reshape(outputs, self.inputs)
        return F.linear(x, matrix)


@chooses("InnerProduct")
def _choose(spec: LayerSpec) -> Choice:
    """Weights as a bottom are training_toolbox_caffe's."""
    return Choice("training-toolbox") if len(spec.bottom) > 1 else Choice("", ("training-toolbox",))
