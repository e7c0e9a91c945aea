"""The Euclidean loss of Caffe's example of a Python layer. Source: examples/pycaffe/layers/pyloss.py of
BVLC/caffe@9b89154."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .known_python import known_python
from .loss import given


class PyLoss(Layer):
    """Base: two blobs of one shape -> (1,)."""

    params = ("python_param",)
    bottoms = 2
    tops = 1
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != bottom[1] or not count(bottom[0]):
            raise self.spec.error(f"needs bottoms of the same shape; they are {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        return [(1,)]


@known_python(("pyloss", "EuclideanLossLayer"))
class PyEuclideanLoss(PyLoss):
    """Half the sum of squared differences over the number of rows.

    As published, the gradient does not depend on the top's diff.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        difference = (a - b).detach()
        slope = difference / len(difference)
        return given((difference.square().sum() / len(a) / 2).view(1), lambda: (slope, -slope), a, b, weighted=False)
