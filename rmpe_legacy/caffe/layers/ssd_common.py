"""Helpers of SSD's detection layers: they read bottoms, size files and options. Not a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError, RmpeError
from rmpe_legacy.ops.boxes import Resize
from rmpe_legacy.reading import read_bytes

from .base import Layer, Shape, count, shape_text


class MissingFileError(LayerError):
    """A file cannot be read that a layer needs when it runs, not when it is loaded."""


def missing_file(spec: LayerSpec, reason: str) -> MissingFileError:
    """Return a MissingFileError like ``spec.error``."""
    error = MissingFileError(str(spec.error(reason)))
    error.spec, error.reason = spec, reason
    return error


def check_predictions(layer: Layer, bottom: tuple[Shape, ...], places: int, classes: int, values: int = 4) -> int:
    """Return the number of priors P in the third bottom.

    Args:
        layer: The layer, for errors.
        bottom: Shapes (N, P * places * values), (N, P * classes), (1, 2, P * 4).
        places: Boxes predicted per prior.
        classes: Confidences predicted per prior.
        values: Numbers that make a predicted place.

    Raises:
        LayerError: The predictions are for another number of priors.
    """
    loc, conf, prior = map(layer.nchw, bottom[:3])
    if loc[0] != conf[0]:
        raise layer.spec.error(f"its location predictions are for {loc[0]} images, but its confidences for {conf[0]}")
    # Differs: the published code reads on where axes follow the channels, or where the priors end in half a box.
    if prior[0] < 1 or prior[1] != 2 or prior[2] % 4 or prior[3] != 1 or loc[2:] != (1, 1) or conf[2:] != (1, 1):
        raise layer.spec.error("needs bottoms (N, predictions), (N, confidences) and (1, 2, priors * 4), not "
                               + ", ".join(map(shape_text, bottom[:3])))
    priors = prior[2] // 4
    for what, has, each in (("location", loc[1], places * values), ("confidence", conf[1], classes)):
        if has != priors * each:
            hint = "; for TextBoxes, choose dialect 'textboxes-v1' (--dialect)" if has == 2 * priors * each else ""
            raise layer.spec.error(f"{priors} priors need {priors * each} {what} predictions, {each} each; its bottom "
                                   f"has {has}{hint}")
    return priors


def split_priors(layer: Layer, prior: Tensor, priors: int, code: str) -> Tensor:
    """Return the third bottom as (2, P, 4): boxes, variances. Raises LayerError if `code` needs sizes and one is 0."""
    values = prior.detach()[0].reshape(2, priors, 4)
    if code != "CORNER":
        box = values[0].cpu().numpy()  # in NumPy, because starting torch's threads takes longer than the work
        fine = box[:, 2:] > box[:, :2]
        if not fine.all():
            bad = int(fine.all(1).argmin())
            raise layer.spec.error(f"code_type {code} needs priors with a width and a height; prior {bad} is "
                                   f"{[round(v, 6) for v in box[bad].tolist()]}")
    return values


def signed(value: int) -> int:
    """Return an unsigned field as the int that Caffe stores it in: 4294967295 is -1."""
    return value - (1 << 32) if value >= 1 << 31 else value


def read_sizes(spec: LayerSpec, path: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Read a name_size_file with lines of `name height width`: the names, and the (height, width) of each image in
    pixels.

    Raises:
        LayerError: The file cannot be read, or a line has another form.
    """
    try:
        words = read_bytes(path).decode("utf-8", "surrogateescape").split()
    except RmpeError as error:
        raise missing_file(spec, f"cannot read name_size_file {error}") from None
    try:
        sizes = [(int(h), int(w)) for h, w in zip(words[1::3], words[2::3], strict=True)]
    except ValueError:
        raise spec.error(f"name_size_file {path} must contain `name height width` for each image") from None
    return words[::3][: len(sizes)], sizes


def check_first_stage(layer: Layer, priors: int, loc: Shape, first: Sequence[Shape]) -> None:
    """Check the shapes of RefineDet's first stage: two confidences, and four moves, of each image's priors.

    Raises:
        LayerError: A blob has another number of values, or of images than `loc`.
    """
    for each, shape in zip((2, 4), first, strict=False):
        if not shape or shape[0] != loc[0] or count(shape[1:]) != priors * each:
            raise layer.spec.error(f"{priors} priors need {priors * each} values of the first stage for each image; "
                                   f"its bottom is {shape_text(shape)}")


def resize_of(layer: Layer, param: Message) -> Resize | None:
    """Return the ssd branch's resize_param, which says how images were resized to the input; None if it is not set.

    Raises:
        LayerError: It lacks a height or a width.
    """
    if layer.spec.dialect != "ssd" or not param.has("resize_param"):
        return None
    resize = param.resize_param
    if not (resize.height > 0 and resize.width > 0):
        raise layer.spec.error("resize_param needs a height and a width")
    return Resize(resize.resize_mode, resize.height, resize.width, resize.height_scale, resize.width_scale)


def sizes_for(sizes: list[tuple[int, int]], index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the heights and widths, each (K,), of the images that `index` (K) points to."""
    table = torch.tensor(sizes, dtype=torch.float32).view(-1, 2)[index]
    return table[:, 0], table[:, 1]
