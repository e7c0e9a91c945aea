"""The Python layers of face networks that learn from triplets.

Sources: tripletloss/{norm2layer,tripletselectlayer,tripletlosslayer,datalayer}.py of luhaofang/tripletloss@3d89e97,
which abby621/tripletloss, abby621/tc_tripletloss and essishen93/Triplet-Loss repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, rows, shape_text
from .fed import COLORS, FedLayer
from .known_python import known_python, number, parameters
from .loss import given


@known_python(("norm2layer", "Norm2Layer"))
class PyRowNorm(Layer):
    """Each row divided by its length; rows of zeros stay: (N, C) -> (N, C). As published, it passes no gradient on."""

    params = ("python_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 2 or count(bottom[0][2:]) != 1:
            raise self.spec.error(f"normalises rows (N, C); its bottom is {shape_text(bottom[0])}")
        return [bottom[0][:2]]

    def forward(self, x: Tensor) -> Tensor:
        x = rows(x.detach())
        length = x.square().sum(1, keepdim=True).sqrt()
        return x / torch.where(length == 0, 1, length)


@known_python(("tripletselectlayer", "TripletSelectLayer"))
class PyTripletSelect(Layer):
    """Anchors, positives and negatives from a batch of all three: (3 N, C), and perhaps labels -> three (N, C).

    Published modules of this name differ in what they pair, and the prototxt does not say which is meant: it has
    shapes, and refuses to run.
    """

    params = ("python_param",)
    bottoms = (1, 2)
    tops = 3
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 2:
            raise self.spec.error(f"takes rows (N, C); its first bottom is {shape_text(bottom[0])}")
        return [(max(1, bottom[0][0] // 3), bottom[0][1])] * 3

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        raise self.spec.error("published modules of its name pair positives and negatives in different ways, so it is "
                              "not computed here; run your own with allow_python=True (--allow-python)")


@known_python(("tripletlosslayer", "TripletLayer"))
class PyTripletLoss(Layer):
    """Half the mean of max(0, margin + |a - p|^2 - |a - n|^2): anchors, positives and negatives (N, C) -> (1,).

    As published, the gradient leaves out the margin between p and n, and does not depend on the top's diff.
    The margin is 1 unless param_str has it, as in abby621/tripletloss.
    """

    params = ("python_param",)
    bottoms = 3
    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        self.margin = number(self.spec, parameters(self.spec), "margin", 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(set(bottom)) != 1 or len(bottom[0]) != 2:
            raise self.spec.error("needs three bottoms (N, C) of the same shape; they are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(1,)]

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near, far = ((anchor - other).detach() for other in (positive, negative))
        each = self.margin + near.square().sum(1) - far.square().sum(1)
        near, far = (torch.where((each > 0).view(-1, 1), d, 0) / len(d) for d in (near, far))
        return given((each.clamp(min=0).sum() / (2 * len(each))).view(1), lambda: (near - far, -near, far),
                     anchor, positive, negative, weighted=False)


@known_python(("datalayer", "DataLayer"))
class PyTripletData(FedLayer):
    """Images (30, 3, 224, 224) and labels (30,), fed; how many is a setting outside the prototxt."""

    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(30, COLORS, 224, 224), (30,)][: self.top_count]
