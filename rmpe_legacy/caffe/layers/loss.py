"""Losses: scores and labels -> a scalar.

Sources: {loss,softmax_loss,euclidean_loss,hinge_loss,infogain_loss,contrastive_loss,multinomial_logistic_loss,
sigmoid_cross_entropy_loss}_layer.cpp of RMPE@5188c23, weiliu89/caffe@4817bf8 and BVLC/caffe@9b89154.
Every gradient is that of the published Backward, times the top's diff, which holds the loss_weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.caffemodel import blob_from_proto
from rmpe_legacy.caffe.proto.dialects import BASES
from rmpe_legacy.caffe.proto.message import Source
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.ops.losses import FLT_MIN, sigmoid_loss_terms
from rmpe_legacy.reading import read_bytes

from .base import JUDGES, Count, Layer, Shape, count, rows, shape_text
from .neuron import sigmoid
from .registry import Choice, chooses, register

LOG_THRESHOLD = 1e-20  # kLOG_THRESHOLD of loss_layer.hpp


class Loss(Layer):
    """Base of losses: the top is a scalar, and the second bottom, the labels, gets no gradient."""

    bottoms: Count = 2
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False
    refuses: tuple[int, ...] = (1,)
    unforced: tuple[int, ...] = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not all(bottom[:2]) or bottom[0][0] != bottom[1][0]:
            raise self.spec.error("its bottoms must have the same first axis; they are "
                                  + " and ".join(map(shape_text, bottom[:2])))
        return [()]

    def label_per_row(self, label: Shape) -> None:
        """Raise LayerError unless there is one label per row: (N), or (N, 1, 1, 1)."""
        if self.nchw(label)[1:] != (1, 1, 1):
            raise self.spec.error(f"needs one label per row; its labels are {shape_text(label)}")

    def label_per_place(self, bottom: Shape, label: Shape, axis: int) -> None:
        """Raise LayerError unless there is one label per score vector along an axis."""
        places = count(bottom) // bottom[axis] if bottom[axis] else 0
        if places != count(label):
            raise self.spec.error(f"needs {places} labels, one for each position on axis {axis} of a bottom of "
                                  f"{shape_text(bottom)}; they are {shape_text(label)}")

    def index(self, label: Tensor, classes: int, ignored: Tensor | None = None) -> Tensor:
        """Return labels as int64 classes, 0 where ignored.

        Differs: a label outside the classes raises; the published code reads outside its blobs.
        """
        index = label.to(torch.int64)
        if ignored is not None:
            index = index.masked_fill(ignored, 0)
        self.check_classes(index, classes)
        return index


def in_turn(terms: Tensor) -> Tensor:
    """Sum values of any shape one after the other, in the blob's precision, as the published loops do."""
    if terms.device.type != "cpu" or terms.dtype not in (torch.float32, torch.float64) or not terms.numel():
        return terms.sum()
    return torch.from_numpy(np.add.accumulate(terms.detach().reshape(-1).numpy())[-1:]).squeeze(0)


class _Given(torch.autograd.Function):
    """A loss with its gradients for a top diff of 1."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Callable[[], Sequence[Tensor | None]], weighted: bool,
                *bottoms: Tensor) -> Tensor:
        ctx.gradients, ctx.weighted = gradients, weighted
        return loss

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight = dy if ctx.weighted else 1
        return None, None, None, *(None if g is None else g * weight for g in ctx.gradients())


def given(loss: Tensor, gradients: Callable[[], Sequence[Tensor | None]], *bottoms: Tensor,
          weighted: bool = True) -> Tensor:
    """Return the loss, a single value, with given gradients.

    Args:
        loss: The loss.
        gradients: Called in Backward; returns one gradient per bottom, for a top diff of 1. It must not hold bottoms
            that require a gradient, only values computed from them.
        bottoms: The layer's bottoms.
        weighted: Whether the top's diff counts. False: gradients are as for a diff of 1, as some layers publish it.
    """
    return _Given.apply(loss, gradients, weighted, *bottoms)


class LabelledLoss(Loss):
    """A loss over labelled positions; loss_param can ignore some of them."""

    params: tuple[str, ...] = ("loss_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("loss_param")
        self.ignore_label = param.ignore_label if param.has("ignore_label") else None
        self.normalization = self.normalization_of(param)
        if self.normalization not in ("FULL", "VALID", "BATCH_SIZE", "NONE"):
            raise self.spec.error(f"normalization {self.normalization} is for SmoothL1LossOHEM; choose another here")

    def normalization_of(self, param) -> str:
        if not param.has("normalization") and param.has("normalize"):
            return "VALID" if param.normalize else "BATCH_SIZE"
        return param.normalization

    def ignored(self, label: Tensor) -> Tensor | None:
        """Return which labels to ignore; None if all count."""
        return None if self.ignore_label is None else label.to(torch.int64) == self.ignore_label

    def normalizer(self, outer: int, inner: int, ignored: Tensor | None) -> Tensor | float:
        """Return the divisor of the loss: at least 1."""
        if self.normalization == "VALID" and ignored is not None:
            return (~ignored).sum().clamp(min=1)
        return max(1.0, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer, "NONE": 1}
                   [self.normalization])


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(LabelledLoss):
    """-log softmax(x) at the label, summed over all positions and divided as `normalization` says.

    softmax_param.axis is the class axis. In the loss, but not in its gradient, probabilities below FLT_MIN count as
    FLT_MIN. A second top holds the probabilities; as for any layer with several tops, loss_weight is then given for
    each. Some forks have a third, the loss of each place in the labels' shape (softmax_loss_layer.hpp:64 of
    daijifeng001/caffe-rfcn@543f8f6 and of zhaoweicai/cascade-rcnn@5569ed6).
    """

    params = ("softmax_param", "loss_param")
    caffe_source = "softmax_loss_layer.cpp"

    @property
    def top_count(self) -> int:
        return max(1, len(self.spec.top))

    def check_arity(self) -> None:
        self.tops = (1, 2 if self.spec.message.descriptor.schema.name in BASES else 3)
        super().check_arity()
        if len(self.spec.top) > 1 and len(self.spec.message.loss_weight) != len(self.spec.top):
            raise self.spec.error(f"has {len(self.spec.top)} tops; give loss_weight for each, 0 for all but the first")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        self.label_per_place(bottom[0], bottom[1], self.along)
        super().reshape(*bottom)
        return [(), bottom[0], bottom[1]][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        labels_shape = label.shape
        outer, inner = count(x.shape[: self.along]), count(x.shape[self.along + 1 :])
        label = label.reshape(outer, 1, inner)
        ignored = self.ignored(label)
        index = self.index(label, x.shape[self.along], ignored)
        prob = x.detach().reshape(outer, x.shape[self.along], inner).softmax(1)
        loss = -prob.gather(1, index).clamp(min=FLT_MIN).log()
        each = loss if ignored is None else loss.masked_fill(ignored, 0)
        normalizer = self.normalizer(outer, inner, ignored)
        shape = x.shape

        def gradients() -> tuple[Tensor, None]:
            diff = prob.scatter_add(1, index, prob.new_full((), -1).expand(index.shape))
            if ignored is not None:
                diff = diff.masked_fill(ignored, 0)
            return (diff / normalizer).view(shape), None

        loss = given(in_turn(each) / normalizer, gradients, x, label)
        return loss if self.top_count == 1 else (loss, prob.view(shape), each.view(labels_shape))[: self.top_count]


@register("InfogainLoss")
class InfogainLoss(LabelledLoss):
    """-sum over classes of H[label, class] * log(probability), where H comes from `source` or the third bottom.

    Dialects rmpe and ssd take probabilities and divide by the number of rows. Dialect bvlc takes scores, computes
    their softmax along infogain_loss_param.axis, and follows loss_param; an optional second top holds the
    probabilities (give loss_weight twice then).
    """

    params = ("infogain_loss_param", "loss_param")
    bottoms = (2, 3)
    refuses = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        self.softmax = self.spec.dialect == "bvlc"
        if self.softmax:
            super().setup(*bottom)
            if self.spec.get("loss_param").has("normalize"):
                raise self.spec.error("loss_param.normalize is not supported here; give normalization")
            if len(self.spec.top) == 2 and not self.spec.loss_weight:
                raise self.spec.error("has two tops; give loss_weight for each; the second may be 0")
        if len(bottom) < 3:
            self.stored_shape, values = self._read()
            self.register_buffer("stored", values, persistent=False)

    def check_arity(self) -> None:
        if self.spec.dialect == "bvlc":
            self.tops = (1, 2)
        super().check_arity()

    @property
    def top_count(self) -> int:
        return max(1, len(self.spec.top))

    def _read(self) -> tuple[Shape, Tensor]:
        """Read the matrix from `source`, a BlobProto (.binaryproto)."""
        param = self.spec.get("infogain_loss_param")
        if not param.has("source"):
            raise self.spec.error("needs its matrix: give infogain_loss_param.source, or a third bottom")
        try:
            data = read_bytes(param.source)
        except RmpeError as error:
            raise self.spec.error(str(error)) from None
        try:
            message = decode(data, load_schema(self.spec.dialect)["BlobProto"], Source(param.source))
            blob = blob_from_proto(message)
        except RmpeError as error:
            raise self.spec.error(f"{param.source}: {error}") from None
        return blob.shape, torch.tensor(blob.data, dtype=torch.get_default_dtype())

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        matrix = bottom[2] if len(bottom) == 3 else self.stored_shape
        if self.softmax:
            self.along = self.axis(self.spec.get("infogain_loss_param").axis, len(bottom[0]))
            self.label_per_place(bottom[0], bottom[1], self.along)
            self.classes = bottom[0][self.along]
            fits = count(matrix) == self.classes**2
        else:
            self.label_per_row(bottom[1])
            self.along, self.classes = 1, count(bottom[0][1:])
            fits = self.nchw(matrix) == (1, 1, self.classes, self.classes)
        if not fits:
            raise self.spec.error(f"needs a matrix of 1 x 1 x {self.classes} x {self.classes}, not "
                                  f"{shape_text(matrix)}")
        return [(), bottom[0]][: self.top_count]

    def forward(self, x: Tensor, label: Tensor, matrix: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        h = (self.stored.to(x.dtype) if matrix is None else matrix.detach()).reshape(self.classes, self.classes)
        others = (label,) if matrix is None else (label, matrix)
        if not self.softmax:
            return self._of_probabilities(x, label, h, others)
        outer, inner = count(x.shape[: self.along]), count(x.shape[self.along + 1 :])
        ignored = self.ignored(label.reshape(outer, 1, inner))
        index = self.index(label.reshape(outer, 1, inner), self.classes, ignored)
        gain = h[index.squeeze(1)].movedim(-1, 1)  # (outer, classes, inner): H's row for each label
        prob = x.detach().reshape(outer, x.shape[self.along], inner).softmax(1)
        terms = gain * prob.clamp(min=LOG_THRESHOLD).log()
        diff = prob * gain.sum(1, keepdim=True) - gain
        if ignored is not None:
            terms, diff = terms.masked_fill(ignored, 0), diff.masked_fill(ignored, 0)
        normalizer = self.normalizer(outer, inner, ignored)
        shape, nones = x.shape, (None,) * len(others)
        loss = in_turn(-terms.transpose(1, 2)) / normalizer  # in the published order: class by class at each position
        loss = given(loss, lambda: ((diff / normalizer).view(shape), *nones), x, *others)
        return loss if self.top_count == 1 else (loss, prob.view(shape))

    def _of_probabilities(self, x: Tensor, label: Tensor, h: Tensor, others: Sequence[Tensor]) -> Tensor:
        gain = h[self.index(label.flatten(), self.classes)]
        prob = rows(x.detach()).clamp(min=LOG_THRESHOLD)
        loss = in_turn(-gain * prob.log()) / len(x)
        shape, nones = x.shape, (None,) * len(others)
        return given(loss, lambda: ((-gain / prob / shape[0]).view(shape), *nones), x, *others)


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Loss):
    """The mean over rows of -log of the label's probability; probabilities below 1e-20 count as 1e-20."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.label_per_row(bottom[1])
        self.nchw(bottom[0])
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scores = rows(x.detach())
        index = self.index(label.reshape(-1, 1), scores.shape[1])
        prob = scores.gather(1, index).clamp(min=LOG_THRESHOLD)
        shape = x.shape

        def gradients() -> tuple[Tensor, None]:
            return torch.zeros_like(scores).scatter_(1, index, -1 / max(shape[0], 1) / prob).view(shape), None

        return given(in_turn(-prob.log()) / len(x), gradients, x, label)


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """Half the mean over rows of the bottoms' squared distance. Both bottoms can get a gradient."""

    refuses = unforced = ()

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        if count(bottom[0][1:]) != count(bottom[1][1:]):
            raise self.spec.error("its bottoms must have the same number of values per row, but are "
                                  + " and ".join(map(shape_text, bottom)))
        self.nchw(bottom[0]), self.nchw(bottom[1])
        return top

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        apart = a.detach() - b.detach().reshape(a.shape)
        shapes, n = (a.shape, b.shape), len(a)

        def gradients() -> tuple[Tensor, Tensor]:
            return (apart / n).view(shapes[0]), (-apart / n).view(shapes[1])

        return given((apart * apart).sum() / n / 2, gradients, a, b)


@register("HingeLoss")
class HingeLoss(Loss):
    """max(0, 1 + x), with -x at the label: the mean over rows of the sum (L1) or the sum of squares (L2)."""

    params = ("hinge_loss_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.nchw(bottom[0])
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scores = rows(x.detach())
        index = self.index(label.flatten()[: len(x)].unsqueeze(1), scores.shape[1])
        sign = torch.ones_like(scores).scatter_(1, index, -1)
        margin = (1 + sign * scores).clamp(min=0)
        squared = self.spec.get("hinge_loss_param").norm == "L2"
        shape = x.shape

        def gradients() -> tuple[Tensor, None]:
            slope = 2 * margin if squared else margin.sign()
            return (sign * slope / shape[0]).view(shape), None

        return given((margin * margin if squared else margin).sum() / len(x), gradients, x, label)


@register("HingeLoss", form="margin")
class HingeLossOfMargin(Loss):
    """max(0, margin - label * x) of a row's label, 1 or -1: the mean over rows of the sum (L1) or of the squares (L2),
    whose gradient, as published, is twice L1's.

    Source: hinge_loss_layer.cpp of RojunLin/R-3CNN@bc13b36.
    """

    params = ("hinge_loss_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.nchw(bottom[0])
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        param, scores = self.spec.get("hinge_loss_param"), rows(x.detach())
        sign = label.detach().flatten()[: len(x)].unsqueeze(1).to(scores)
        over = (param.margin - sign * scores).clamp(min=0)
        squared = param.norm == "L2"
        slope = (-sign * over.sign() * ((2 if squared else 1) / len(x))).view(x.shape)
        return given((over * over if squared else over).sum() / len(x), lambda: (slope, None), x, label)


@chooses("HingeLoss")
def _choose_hinge_loss(spec: LayerSpec) -> Choice:
    """A margin is R-3CNN's, whose labels are signs."""
    return Choice("margin") if spec.get("hinge_loss_param").has("margin") else Choice("", ("margin",))


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """Half the mean over pairs of d^2 if similar, else max(margin - d, 0)^2: (N, C), (N, C), (N) -> a scalar.

    With legacy_version, dissimilar pairs count max(margin - d^2, 0). Otherwise their gradient divides by d + 1e-4.
    """

    params = ("contrastive_loss_param",)
    bottoms = 3
    refuses = ()
    unforced = (2,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        a, b, similar = map(self.nchw, bottom)
        if a[1:] != b[1:] or a[2:] != (1, 1) or similar[1:] != (1, 1, 1) or similar[0] < a[0]:
            raise self.spec.error("needs bottoms (N, C), (N, C) and (N); they are "
                                  + ", ".join(map(shape_text, bottom)))
        return top

    def alike(self, *labels: Tensor) -> Tensor:
        """Return which pairs are similar, (N, 1), from the labels cut to integers, (N, 1) each."""
        return labels[0] != 0

    def forward(self, a: Tensor, b: Tensor, *labels: Tensor) -> Tensor:
        param = self.spec.get("contrastive_loss_param")
        pairs = len(a)
        apart = rows(a.detach() - b.detach().reshape(a.shape))
        square = (apart * apart).sum(1, keepdim=True)
        alike = self.alike(*(label.detach().reshape(-1, 1)[:pairs].to(torch.int64) for label in labels))
        if param.legacy_version:
            room = param.margin - square
            other, slope = room.clamp(min=0), -torch.ones_like(room)
        else:
            distance = square.sqrt()
            room = param.margin - distance
            other, slope = room.clamp(min=0) ** 2, -room / (distance + 1e-4)
        shapes = (a.shape, b.shape)

        def gradients() -> tuple[Tensor | None, ...]:
            diff = torch.where(alike, 1, torch.where(room > 0, slope, 0)) * apart / pairs
            return diff.view(shapes[0]), -diff.view(shapes[1]), *[None] * len(labels)

        return given(in_turn(torch.where(alike, square, other)) / pairs / 2, gradients, a, b, *labels)


@register("ContrastiveLoss", form="happynear")
class ContrastiveLossOfTwoLabels(ContrastiveLoss):
    """The same of pairs that are similar if their labels are equal: (N, C), (N, C), (N), (N) -> a scalar.

    Source: contrastive_loss_layer.cpp of happynear/caffe-windows@967eedf. Differs: a last bottom of fewer than N labels
    is refused; the fork does not check it, and reads on behind its end.
    """

    bottoms = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom[:3])
        if count(bottom[3]) < bottom[0][0]:
            raise self.spec.error(f"needs a label for each of the {bottom[0][0]} rows in its last bottom; it is "
                                  + shape_text(bottom[3]))
        return top

    def alike(self, *labels: Tensor) -> Tensor:
        return labels[0] == labels[1]


@chooses("ContrastiveLoss")
def _choose(spec: LayerSpec) -> Choice:
    """A label for each row of a pair is happynear's; else one bottom says which pairs are similar."""
    return Choice("happynear") if len(spec.bottom) == 4 else Choice("")


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LabelledLoss):
    """-sum of t * log(p) + (1 - t) * log(1 - p), p = sigmoid(x), over all values.

    Dialect rmpe divides by the number of rows and ignores loss_param; ssd and bvlc follow it, with BATCH_SIZE as the
    default.
    """

    def setup(self, *bottom: Shape) -> None:
        if self.spec.dialect != "rmpe":
            super().setup(*bottom)

    def normalization_of(self, param) -> str:
        return super().normalization_of(param) if param.has("normalization") or param.has("normalize") else "BATCH_SIZE"

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        if count(bottom[0]) != count(bottom[1]):
            raise self.spec.error("its bottoms must have the same number of values, but are "
                                  + " and ".join(map(shape_text, bottom)))
        if self.spec.dialect == "rmpe":
            self.nchw(bottom[0])
        return top

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        score, target = x.detach(), target.detach().reshape(x.shape)
        loss = sigmoid_loss_terms(score, target)
        diff = sigmoid(score, self.spec.dialect) - target
        normalizer: Tensor | float = len(x)
        if self.spec.dialect != "rmpe":
            ignored = self.ignored(target)
            if ignored is not None:
                loss, diff = loss.masked_fill(ignored, 0), diff.masked_fill(ignored, 0)
            normalizer = self.normalizer(len(x), count(x.shape[1:]), ignored)
        return given(in_turn(loss) / normalizer, lambda: (diff / normalizer, None), x, target)
