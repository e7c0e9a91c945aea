"""Online hard example mining: the two losses that also give a loss per region, and the layer that chooses by it.

Sources: {smooth_L1_loss_ohem,softmax_loss_ohem,box_annotator_ohem}_layer.{cpp,cu} of Microsoft/caffe@ed05614 and
makefile/frcnn@8d9b9eb, and smooth_L1_loss_layer.{cpp,cu} of daijifeng001/caffe-rfcn@543f8f6; they exist for the GPU
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import JUDGES, Layer, Shape, count, shape_text
from .gradient import severed
from .loss import Loss, given
from .registry import register


def normalization_of(layer: Layer) -> str:
    """What loss_param says the loss is divided by."""
    param = layer.spec.get("loss_param")
    if not param.has("normalization") and param.has("normalize"):
        return "VALID" if param.normalize else "BATCH_SIZE"
    return param.normalization


@register("SmoothL1LossOHEM", form="")
class SmoothL1LossOHEM(Layer):
    """Sum of f(weight * (a - b)) divided by what `normalization` says, f square below 1 and linear beyond:
    (N, C, H, W), its like and perhaps weights -> a scalar, and as a second top the sum of each place, (N, 1, H, W).

    The loss_weight is 0 unless given, and sigma has no effect, as published.
    """

    params = ("loss_param",)
    bottoms = (2, 3)
    tops = (1, 2)
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        if any(self.nchw(shape) != (n, c, h, w) for shape in bottom):
            raise self.spec.error("needs bottoms of the same size; they are " + ", ".join(map(shape_text, bottom)))
        return [(), (n, 1, h, w)][: self.top_count]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        a, b, *weights = (bottom.detach().reshape(self.nchw(tuple(bottom.shape))) for bottom in bottoms)
        d = a - b
        if weights:
            d = weights[0] * d
        value = torch.where(d.abs() < 1, 0.5 * d * d, d.abs() - 0.5)
        places = len(a) * count(a.shape[2:])
        mode = normalization_of(self)
        normalizer = max(1.0, {"FULL": places, "VALID": places, "BATCH_SIZE": len(a), "NONE": 1,
                               "PRE_FIXED": self.spec.get("loss_param").pre_fixed_normalizer
                               if mode == "PRE_FIXED" else 1}[mode])
        slope = torch.where(d.abs() < 1, d, d.sign()) / normalizer
        shapes = [bottom.shape for bottom in bottoms]
        rest = [None] * len(weights)
        loss = given(value.sum() / normalizer, lambda: (slope.view(shapes[0]), -slope.view(shapes[1]), *rest), *bottoms)
        return (loss, value.sum(1, keepdim=True))[: self.top_count]


@register("SmoothL1Loss", form="rfcn")
class RfcnSmoothL1Loss(SmoothL1LossOHEM):
    """The same, as a form of SmoothL1Loss; as there, Backward omits the weight."""


@register("SoftmaxWithLossOHEM", form="")
class SoftmaxWithLossOHEM(Loss):
    """SoftmaxWithLoss with further tops: the probabilities, and the loss of each place in the labels' shape."""

    params = ("loss_param", "softmax_param")
    tops = (1, 3)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("loss_param")
        self.ignore_label = param.ignore_label if param.has("ignore_label") else None
        self.mode = normalization_of(self)
        if self.mode == "PRE_FIXED":
            raise self.spec.error("normalization PRE_FIXED is for SmoothL1LossOHEM; choose another here")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        self.label_per_place(bottom[0], bottom[1], self.along)
        return [(), bottom[0], bottom[1]][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        outer, inner = count(x.shape[: self.along]), count(x.shape[self.along + 1 :])
        flat = label.detach().reshape(outer, 1, inner)
        ignored = torch.zeros_like(flat, dtype=torch.bool)
        if self.ignore_label is not None:
            ignored = flat.long() == self.ignore_label
        index = self.index(flat, x.shape[self.along], ignored)
        prob = x.detach().reshape(outer, x.shape[self.along], inner).softmax(1)
        loss = (-prob.gather(1, index).clamp(min=FLT_MIN).log()).masked_fill(ignored, 0)
        valid = int((~ignored).sum()) if self.ignore_label is not None else outer * inner
        normalizer = max(1, {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}[self.mode])
        shape = x.shape

        def gradients() -> tuple[Tensor, None]:
            diff = prob.scatter_add(1, index, prob.new_full((), -1).expand(index.shape)).masked_fill(ignored, 0)
            return (diff / normalizer).view(shape), None

        tops = (given(loss.sum() / normalizer, gradients, x, label), prob.view(shape), loss.view(label.shape))
        return tops[: self.top_count]


@register("BoxAnnotatorOHEM", form="")
class BoxAnnotatorOHEM(Layer):
    """Keeps the roi_per_img regions of the largest loss in each image: regions (N, 5, H, W), losses and labels
    (N, 1, H, W), box weights (N, K, H, W) -> labels, ignore_label where not kept, and weights, 0 where not kept.

    Of equal losses the first is taken. Differs: the published sort leaves their order open.
    """

    params = ("box_annotator_ohem_param",)
    bottoms, tops = 4, 2
    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("box_annotator_ohem_param")
        self.keep, self.ignore_label = param.roi_per_img, param.ignore_label
        if self.keep < 1:
            raise self.spec.error("needs roi_per_img, above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        sizes = [self.nchw(shape) for shape in bottom[1:]]
        if c != 5 or any((size[0], *size[2:]) != (n, h, w) for size in sizes) or sizes[0][1] * sizes[1][1] != 1:
            raise self.spec.error("needs regions (N, 5), a loss and a label for each, and box weights; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(n, 1, h, w), (n, sizes[2][1], h, w)]

    def forward(self, rois: Tensor, loss: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        n, _, h, w = self.nchw(tuple(rois.shape))
        image = rois.detach().reshape(n, 5, h * w)[:, 0].reshape(-1)
        order = loss.detach().flatten().argsort(descending=True, stable=True)
        kept = torch.zeros(n * h * w, dtype=torch.bool, device=rois.device)
        for number in image.unique():
            kept[order[image[order] == number][: self.keep]] = True
        kept = kept.view(n, 1, h, w)
        labels = label.detach().reshape(n, 1, h, w).masked_fill(~kept, self.ignore_label)
        weights = weight.detach().reshape(n, -1, h, w).masked_fill(~kept, 0)
        return severed(labels, rois, loss, label, weight), severed(weights, rois, loss, label, weight)
