"""What the layers that read a blob tell of its shape, for data layers whose source is missing or is not read here.

`sample_by_use` looks at them before the network is built. Where a layer then refuses a blob of assumed shape,
`other_shapes` lists what would suit it, and `OTHER_SIZES` what size the images may have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count
from .fed import ASSUMED, COLORS, channels_beside

# The sizes (h, w) of images that published networks take most often, beside 256 x 256. 480 x 854 is DAVIS's; patches of
# 64 x 64 come in batches that are too large for Caffe's blobs at any other size.
OTHER_SIZES = ((224, 224), (227, 227), (299, 299), (320, 320), (384, 384), (448, 448), (473, 473), (640, 1056),
               (480, 854), (64, 64))
ROWS = (5, 4, 3)  # values of a region with its image, of a box, of an image's size
_OF_IMAGES = {"Convolution", "DataAugmentation", "Deconvolution", "LRN", "Local", "Pooling", "Resample"}
_OF_CLASSES = {"Accuracy", "HingeLoss", "MultinomialLogisticLoss", "SoftmaxWithLoss"}
_OF_VALUES = {"EuclideanLoss", "MultiLabelLoss", "MultiLabelSoftmaxWithLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss"}
_RECURRENT = {"LSTM", "RNN"}
_OF_SAME_SHAPE = {"BatchNorm", "Bias", "Dropout", "ELU", "Eltwise", "LRN", "PReLU", "Power", "ReLU", "Scale", "Sigmoid",
                  "Split", "TanH"}


def sample_by_use(top: str, specs: Sequence[LayerSpec]) -> Shape | None:
    """Return the shape of one sample of a top of which only the use is known; None if the use does not tell.

    It is an image; a class; as many values as the layer has with which a loss compares it, or a map as large as that
    layer's; or, cut by a Slice, as many values as the parts have; one value, of one stream, if a recurrent layer reads
    it as words or as marks of where sequences go on; or one value, if Concat joins it with others. Differs: Caffe
    builds no network whose source is missing.
    """
    copies = _copies({top}, specs)
    users = {spec.type: copies & {*spec.bottom[1:]} for spec in specs if copies & {*spec.bottom}}
    users.pop("Split", None)
    if _OF_IMAGES & {*users} or _becomes_image(copies, specs) or _is_part_of_image(copies, specs):
        return _channels_by_sum(copies, specs), ASSUMED, ASSUMED
    if not users or any(users.get(name) for name in _OF_CLASSES):
        return ()
    if "Slice" in users:
        return _sample_of_parts(next(spec for spec in specs if spec.type == "Slice" and copies & {*spec.bottom}), specs)
    if any(users.get(name) for name in _RECURRENT) or ("Embed" in users and _is_of_sequence(copies, specs)):
        return (1,)
    if "Concat" in users and all(spec.get("concat_param").axis for spec in specs
                                 if spec.type == "Concat" and copies & {*spec.bottom}):
        return (1,)
    if not any(users.get(name) for name in _OF_VALUES):
        return None
    loss = next(spec for spec in specs if spec.type in _OF_VALUES and copies & {*spec.bottom[1:]})
    values = channels_beside(top, specs)
    return _map_of(loss.bottom[0], specs) or ((values,) if values else None)


def _is_of_sequence(words: set[str], specs: Sequence[LayerSpec]) -> bool:
    """Whether a recurrent layer reads what an Embed makes of these words, perhaps joined with others or dropped out."""
    read = _copies({spec.top[0] for spec in specs if spec.type == "Embed" and words & {*spec.bottom}}, specs)
    for spec in specs:
        if spec.type in ("Concat", "Dropout") and read & {*spec.bottom}:
            read = _copies(read | {*spec.top}, specs)
    return any(spec.type in _RECURRENT and read & {*spec.bottom[:1]} for spec in specs)


def _sample_of_parts(cut: LayerSpec, specs: Sequence[LayerSpec]) -> Shape | None:
    """The values that a Slice of rows cuts in parts: up to its last point, and those of the last part by its use."""
    param = cut.get("slice_param")
    axis = param.slice_dim if param.has("slice_dim") else param.axis
    points = list(param.slice_point)
    if not points or axis not in (1, -1) or len(points) != len(cut.top) - 1 or points != sorted({*points} - {0}):
        return None
    others = [spec for spec in specs if spec is not cut]  # or a circle would have no end
    last = sample_by_use(cut.top[-1], others) if any(cut.top[-1] in spec.bottom for spec in others) else None
    if last is not None and len(last) < 2:
        return (points[-1] + (last[0] if last else 1),)
    widths = {b - a for a, b in zip([0, *points], points, strict=False)}
    return (points[-1] + widths.pop(),) if len(widths) == 1 else None


def _copies(tops: set[str], specs: Sequence[LayerSpec]) -> set[str]:
    """Blobs, and the copies that a Split makes of them."""
    return tops | {copy for spec in specs if spec.type == "Split" and tops & {*spec.bottom} for copy in spec.top}


def _becomes_image(copies: set[str], specs: Sequence[LayerSpec]) -> bool:
    """Whether a blob is read as an image after layers that change its values one by one."""
    changed = set(copies)
    for spec in specs:
        if len(spec.bottom) == 1 and spec.bottom[0] in changed:
            if spec.type in ("Eltwise", "Power", "Split"):
                changed.update(spec.top)
            elif spec.type in _OF_IMAGES:
                return True
    return False


def _is_part_of_image(copies: set[str], specs: Sequence[LayerSpec]) -> bool:
    """Whether a blob's channels are joined with others' to what is then read as an image."""
    joined = _copies({spec.top[0] for spec in specs if spec.type == "Concat" and copies & {*spec.bottom}
                      and spec.get("concat_param").axis in (1, -3)}, specs)
    return any(joined & {*spec.bottom[:1]} for spec in specs if spec.type in _OF_IMAGES)


def _channels_by_sum(image: set[str], specs: Sequence[LayerSpec]) -> int:
    """Channels of an image: those of a convolution that is added to it, if there is one."""
    makers = {top: spec for spec in reversed(specs) for top in spec.top}
    for spec in specs:
        if spec.type == "Eltwise" and image & {*spec.bottom}:
            for blob in spec.bottom:
                maker = makers.get(blob)
                if maker is not None and maker.type == "Convolution":
                    return maker.get("convolution_param").num_output
    return COLORS


def _map_of(blob: str, specs: Sequence[LayerSpec]) -> Shape | None:
    """The shape of one sample of a blob that convolutions, poolings and layers which keep the shape compute from an
    image of ASSUMED pixels; None if it is no such map."""
    makers = {top: spec for spec in reversed(specs) for top in spec.top if spec.bottom}
    steps: list[LayerSpec] = []
    seen: set[str] = set()
    while blob in makers and blob not in seen:
        seen.add(blob)
        spec = makers[blob]
        if spec.type in ("Convolution", "Deconvolution", "Pooling"):
            steps.append(spec)
        elif spec.type not in _OF_SAME_SHAPE:
            return None
        blob = next((name for name in spec.bottom if name in makers and makers[name].type != "Split"), spec.bottom[0])
    filters = [spec.get("convolution_param").num_output for spec in steps if spec.type != "Pooling"]
    size = ASSUMED
    for spec in reversed(steps):
        size = _size_after(spec, size)
        if size < 1:
            return None
    return (filters[0], size, size) if filters else None


def _size_after(spec: LayerSpec, size: int) -> int:
    """The side of what a square convolution, deconvolution or pooling makes of a square map; 0 if it is not square."""
    name = "pooling_param" if spec.type == "Pooling" else "convolution_param"
    param = spec.get(name)

    def number(field: str, default: int) -> int:
        value = getattr(param, field) if param.has(field) else default
        return value[0] if isinstance(value, list) else value

    kernel, stride, pad = number("kernel_size", 0), number("stride", 1), number("pad", 0)
    if not kernel or not stride:
        return 0
    if spec.type == "Pooling":
        return -(-(size + 2 * pad - kernel) // stride) + 1
    reach = (number("dilation", 1) if "dilation" in param.descriptor.fields else 1) * (kernel - 1) + 1
    if spec.type == "Deconvolution":
        return stride * (size - 1) + reach - 2 * pad
    return (size + 2 * pad - reach) // stride + 1


def other_shapes(spec: LayerSpec, bottoms: Sequence[Shape], index: int) -> Iterator[Shape]:
    """Yield the shapes that a layer may want of the bottom `index`, the likeliest first.

    Args:
        spec: The layer.
        bottoms: The shapes of its bottoms, of which it does not take that one.
        index: Which one.
    """
    own = bottoms[index]
    n = own[0] if own else 1
    for other in (shape for i, shape in enumerate(bottoms) if i != index and shape):
        yield other  # compared value by value
        yield other[:1]  # a class of each row
        yield (other[0], 1, *other[2:])  # a class at each place
        yield (other[0], count(other[1:]))
        yield other[:2]  # of each step and stream
    if spec.type == "Slice":
        param = spec.get("slice_param")
        points = list(param.slice_point)
        parts = {b - a for a, b in zip([0, *points], points, strict=False)} or {1}
        values = points[-1] + max(parts) if points else len(spec.top)
        yield (n, values)
        yield (n, values, *own[2:]) if len(own) > 2 else (n, values, 1, 1)
    if spec.type == "Reshape":
        dims = [size for size in spec.get("reshape_param").shape.dim if size > 0]
        yield from ((n, math.prod(dims)), (*dims,), (n, *dims))
    if spec.type == "Convolution" and len(own) == 4:
        yield (n, spec.get("convolution_param").group, *own[2:])
    yield from ((n,), (n, 1), (n, 1, 1, 1), *((n, width) for width in ROWS))
