"""Layers of capsules that have shapes, and refuse to run: see `uncomputed`. Sources: cap_layer.cpp and
{capsule,capsule_conv,capsule_deconv}_{transform,routing}_layer.cpp of chenzhenhua986/CAFFE-CapsNet@cb0e272."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.proto.message import Message

from .base import MAX_COUNT, Shape, count
from .registry import register
from .uncomputed import Uncomputed


class _OfCapsules(Uncomputed):
    """Base: parameters are read from the layer's own message, and are above 0."""

    bottoms = tops = 1

    @property
    def param(self) -> Message:
        """The layer's own message."""
        return self.spec.get(self.params[0])

    def check(self, *names: str) -> None:
        """Raise LayerError unless these fields are above 0, and no blob gets too large."""
        if any(not 0 < getattr(self.param, name) <= MAX_COUNT for name in names):
            raise self.spec.error(f"needs {', '.join(names)}, each above 0")

    def size_of(self, field: str) -> tuple[int, int]:
        """The two dims of a capsule's shape."""
        dims = [int(dim) for dim in getattr(self.param, field).dim]
        if len(dims) < 2 or min(dims) < 1:
            raise self.spec.error(f"needs two dims above 0 in {field}")
        return dims[0], dims[1]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.param.output_capsule_num, self.param.output_capsule_dim)]


@register("Cap", form="")
class Cap(_OfCapsules):
    """Capsules (N, ...) of input_capsule_dim values -> (N, output_capsule_num, output_capsule_dim), by routing."""

    params = ("cap_param",)

    def setup(self, *bottom: Shape) -> None:
        self.check("input_capsule_dim", "output_capsule_num", "output_capsule_dim")
        param = self.param
        made, given = param.output_capsule_num * param.output_capsule_dim, param.input_capsule_dim
        self.declare("weight", (count(bottom[0][1:]) // given, given, made), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (made,), param.bias_filler)


@register("CapsuleTransform", form="")
class CapsuleTransform(_OfCapsules):
    """Capsules (N, ...) of input_capsule_dim values -> what each votes for: (N, capsules, output_capsule_num *
    output_capsule_dim)."""

    params = ("capsule_transform_param",)

    def setup(self, *bottom: Shape) -> None:
        self.check("input_capsule_dim", "output_capsule_num", "output_capsule_dim")
        param = self.param
        self.votes = param.output_capsule_num * param.output_capsule_dim
        self.given = count(bottom[0][1:]) // param.input_capsule_dim
        self.declare("weight", (self.given, param.input_capsule_dim, self.votes), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (self.given * self.votes,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.given, self.votes)]


@register("CapsuleRouting", form="")
class CapsuleRouting(_OfCapsules):
    """Votes -> the mean of those for each capsule, by weights: (N, output_capsule_num, output_capsule_dim)."""

    params = ("capsule_routing_param",)

    def setup(self, *bottom: Shape) -> None:
        self.check("input_capsule_num", "output_capsule_num", "output_capsule_dim")
        param = self.param
        self.declare("weight", (param.output_capsule_num, param.input_capsule_num), param.weight_filler)


class _OfMaps(_OfCapsules):
    """Base: capsules at the places of a map of input_h x input_w, and windows of kh x kw."""

    grows = False  # True: the windows are of the top

    def setup(self, *bottom: Shape) -> None:
        self.check("stride", "kh", "kw", "input_capsule_num", "output_capsule_num", "input_h", "input_w")
        param = self.param
        sizes = ((param.input_h, param.kh), (param.input_w, param.kw))
        self.h, self.w = ((n - 1) * param.stride + k if self.grows else (n - k) // param.stride + 1 for n, k in sizes)
        if min(self.h, self.w) < 1:
            raise self.spec.error(f"its windows do not fit on maps of {param.input_h} x {param.input_w}")
        self.declare_weights()

    def declare_weights(self) -> None:
        """Declare the layer's parameters."""
        raise NotImplementedError


class _VotesOfMaps(_OfMaps):
    """Base: declares the matrices of votes."""

    def declare_votes(self, matrices: int, biases: int) -> None:
        """Declare as many matrices, and biases."""
        param = self.param
        (first, given), (same, self.made) = self.size_of("input_capsule_shape"), self.size_of("output_capsule_shape")
        if first != same:
            raise self.spec.error(f"needs capsules of as many rows; they have {first} and {same}")
        self.values = same * self.made
        self.declare("weight", (matrices, given, self.made), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (biases * self.values,), param.bias_filler)


@register("CapsuleConvTransform", form="")
class CapsuleConvTransform(_VotesOfMaps):
    """Capsules -> votes of the windows of each place: (N, places, kh * kw * input_capsule_num, output_capsule_num *
    values)."""

    params = ("capsule_conv_transform_param",)

    def declare_weights(self) -> None:
        param = self.param
        self.window = param.kh * param.kw * param.input_capsule_num
        self.declare_votes(self.window * param.output_capsule_num,
                           param.output_capsule_num * self.h * self.w * self.window)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.h * self.w, self.window, self.param.output_capsule_num * self.values)]


@register("CapsuleDeconvTransform", form="")
class CapsuleDeconvTransform(_VotesOfMaps):
    """Capsules -> those of a larger map: (N, output_capsule_num, places, values)."""

    params = ("capsule_deconv_transform_param",)
    grows = True

    def declare_weights(self) -> None:
        param = self.param
        self.declare_votes(param.kh * param.kw * param.output_capsule_num, param.output_capsule_num * self.h * self.w)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.param.output_capsule_num, self.h * self.w, self.values)]


@register("CapsuleConvRouting", form="")
class CapsuleConvRouting(_OfMaps):
    """Votes of windows -> capsules (N, output_capsule_num * places, values), by weights."""

    params = ("capsule_conv_routing_param",)

    def declare_weights(self) -> None:
        param, (rows, columns) = self.param, self.size_of("output_capsule_shape")
        self.values = rows * columns
        self.declare("weight", (self.h * self.w * param.output_capsule_num, param.kh * param.kw
                                * param.input_capsule_num), param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.param.output_capsule_num * self.h * self.w, self.values)]


@register("CapsuleDeconvRouting", form="")
class CapsuleDeconvRouting(_OfMaps):
    """Capsules -> those of a larger map, by weights: (N, output_capsule_num, places, values)."""

    params = ("capsule_deconv_routing_param",)
    grows = True

    def declare_weights(self) -> None:
        param, (rows, columns) = self.param, self.size_of("input_capsule_shape")
        self.values = rows * columns
        self.declare("weight", (param.input_capsule_num, param.output_capsule_num * param.kh * param.kw),
                     param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], self.param.output_capsule_num, self.h * self.w, self.values)]
