"""The maximum mean discrepancy of two domains. Source: mmd_layer.{cpp,cu} of thuml/transfer-caffe@712d8ff."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .loss import given
from .registry import register


@register("MMDLoss", form="")
class MMDLoss(Layer):
    """How far the distributions of two sets of rows are apart, estimated from random pairs: (N, ...) and (M, ...) -> a
    scalar, the sum over max(N, M) quadruples of rows.

    kernel_num Gaussian kernels, each kernel_mul times as narrow as the one before; with fix_gamma, as wide as the
    first forward's rows say. As published, Backward draws other quadruples, and its gradient is that of the mean, not
    of the sum.

    Differs: random numbers come from NumPy's generator.
    """

    params = ("mmd_param",)
    bottoms = 2
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("mmd_param")
        self.gamma: float | None = None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        source, target = bottom
        if not source or not target or count(source[1:]) != count(target[1:]):
            raise self.spec.error(f"needs two blobs with the same number of values per row; its bottoms are "
                                  f"{shape_text(source)} and {shape_text(target)}")
        return [()]

    def _drawn(self, source: int, target: int) -> list[np.ndarray]:
        """Pairs of two different rows of each domain: s1, s2, t1, t2."""
        rows = []
        for number in (source, target):
            first, second = np.random.randint(number, size=(2, max(source, target)))
            rows += [first, np.where(first == second, (second + 1) % number, second)]
        return rows

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        a, b = source.detach().flatten(1), target.detach().flatten(1)
        every = torch.cat([a, b])
        distance = (every.unsqueeze(1) - every).square().sum(-1)
        if self.gamma is None or not self.param.fix_gamma:
            self.gamma = float((len(every) ** 2 - len(every)) / distance.sum())
        first = self.gamma / self.param.kernel_mul ** (self.param.kernel_num // 2)
        widths = [first * self.param.kernel_mul**i for i in range(self.param.kernel_num)]

        def alike(x: Tensor, y: Tensor) -> Tensor:
            apart = (x - y).square().sum(-1)
            return sum((torch.exp(-width * apart) for width in widths), torch.zeros(()).to(x)).sum()

        def between(a: Tensor, b: Tensor) -> Tensor:
            s1, s2, t1, t2 = self._drawn(len(a), len(b))
            return alike(a[s1], a[s2]) + alike(b[t1], b[t2]) - alike(a[s1], b[t2]) - alike(a[s2], b[t1])

        def gradients() -> tuple[Tensor, Tensor]:
            if min(len(a), len(b)) <= 1:
                return torch.zeros_like(a).view(shapes[0]), torch.zeros_like(b).view(shapes[1])
            with torch.enable_grad():
                copies = a.clone().requires_grad_(), b.clone().requires_grad_()
                found = torch.autograd.grad(between(*copies) / max(len(a), len(b)), copies)
            return found[0].view(shapes[0]), found[1].view(shapes[1])

        shapes = source.shape, target.shape
        return given(between(a, b), gradients, source, target)
