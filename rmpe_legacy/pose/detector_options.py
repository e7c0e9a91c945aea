"""What a user says about a detector: which class is person, and how images become its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any

import numpy as np

from rmpe_legacy.caffe.inputs import ImageOptions
from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.errors import FileError, InputError, NetError
from rmpe_legacy.wording import shorten_list

PERSON = "person"
VOC, COCO = "15 in PASCAL VOC's order", "1 in COCO's order"
COMMON = {20: VOC, 80: COCO, 90: COCO}  # by the number of classes besides the background


@dataclass(frozen=True)
class DetectorOptions:
    """Which class of a detector is person, and how images become its input. None keeps what the detector's kind uses.

    Args:
        person_class: The label of person in the network's output, where the background is 0.
        label_map: A LabelMap prototxt that names the classes, instead of ``person_class``.
        mean: Subtracted from the image: one number, or one per channel in ``channel_order``.
        raw_scale: The value of white before the mean is subtracted: 1 or 255.
        scale: The factor applied after the mean is subtracted.
        channel_order: "RGB" or "BGR".
        size: Height and width that replace those of the prototxt; for Faster R-CNN and R-FCN, the length of the
            shorter side and the maximum length of the longer side, in pixels.
    """

    person_class: int | None = None
    label_map: str | PathLike | None = None
    mean: tuple[float, ...] | None = None
    raw_scale: float | None = None
    scale: float | None = None
    channel_order: str | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.person_class is not None and self.label_map is not None:
            raise InputError("give the class of person by its number (--person-class) or by a label map "
                             "(--label-map), not both")
        if self.mean is not None and (len(self.mean) not in (1, 3) or not np.isfinite(self.mean).all()):
            mean = ",".join(map(str, self.mean))
            raise InputError(f"detector mean {mean}: give one finite number, or one per channel")
        for name in ("raw_scale", "scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise InputError(f"detector {name.replace('_', ' ')} {value:g} is not above 0")
        if self.channel_order not in (None, "RGB", "BGR"):
            raise InputError(f"detector channel order {self.channel_order!r} is not RGB or BGR")
        if self.size is not None and not 0 < min(self.size) <= max(self.size) <= 1 << 14:
            raise InputError(f"detector size {self.size}: give two numbers from 1 to {1 << 14}")

    def applied_to(self, usual: ImageOptions) -> ImageOptions:
        """Return a detector kind's usual image options, overridden by those that are set here."""
        names = {field.name for field in fields(ImageOptions)}
        return replace(usual, **{name: value for name, value in self.given().items() if name in names})

    def given(self) -> dict[str, Any]:
        """The options that are set (not None), by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def person_label(labels: Sequence[int], options: DetectorOptions, name: str) -> int:
    """Return the label of person among a detector's labels.

    Args:
        labels: The labels that the detector can output, without the background.
        options: The user's options.
        name: The detector's name, for error messages.

    Raises:
        NetError: There are several classes and no option says which is person, or the given one is not among them.
        FileError: The label map cannot be read, or does not name exactly one class "person".
    """
    if options.label_map is not None:
        label = _label_in(options.label_map)
        if label not in labels:
            raise NetError(f"{options.label_map}: person has the label {label}, but the detector {name} has the labels "
                           f"{labels[0]} to {labels[-1]}; give the label map that it was trained with")
        return label
    if options.person_class is not None:
        if options.person_class not in labels:
            own = f"classes are {labels[0]} to {labels[-1]}" if len(labels) > 1 else f"only class is {labels[0]}"
            raise NetError(f"the detector {name} has no class {options.person_class}; its {own}: give another "
                           "--person-class")
        return options.person_class
    if len(labels) == 1:
        return labels[0]
    hint = COMMON.get(len(labels), "as its label map numbers them")
    raise NetError(f"the detector {name} has {len(labels)} classes besides the background, and nothing in it tells "
                   f"which one is person; give --person-class N ({hint}), or --label-map FILE")


def _label_in(path: str | PathLike) -> int:
    """The label of the class that a label map calls "person", as name or display_name."""
    items = read_text(path, "LabelMap").item
    names = [item.display_name or item.name for item in items]
    found = {item.label for item in items if PERSON in (item.name.lower(), item.display_name.lower())}
    if len(found) != 1:
        what = "names several classes 'person'" if found else "names no class 'person'"
        among = f"among {shorten_list(names)}" if names else "and no other class"
        raise FileError(f"{path}: {what}, {among}; give the class's number: --person-class N")
    return found.pop()
