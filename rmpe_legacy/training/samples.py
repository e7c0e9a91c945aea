"""From an image and a person in it to what a pose network trains on: a crop, its heat maps, and the centred ones.

Source: generateSampleBox, train/src/util/pose.lua:57-149 of multi-human-pose@094e29b, for ``published`` "torch7".
"demo" is the same with the crop, resize and read-out of demo.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmpe_legacy.caffe.data.image import pose_input
from rmpe_legacy.errors import InputError, RmpeError
from rmpe_legacy.pose.crop import can_crop, crop_box, scale_torch7

from .boxes import BoxSampler, SampledBox
from .people import Person, joint_set
from .targets import heatmaps, inside

FLIP = 0.5  # how often an image is mirrored (pose.lua:132)
COLOR = (0.6, 1.4)  # the range of each channel's factor (pose.lua:139-141)
LEAST_CROP = 5  # px: the published program widens a narrower crop to the right and below (img.lua:190-191)
TRIES = 20  # boxes drawn for a person before it counts as one that cannot be cropped
PUBLISHED = ("torch7", "demo")


@dataclass(frozen=True)
class SampleFormat:
    """What a network takes, and how its samples are made.

    Attributes:
        crop: Side of the square crop, in pixels.
        maps: Side of its heatmaps, in cells.
        centered: Side of the parallel SPPE's heatmaps, in cells; None without a parallel SPPE.
        published: Whose crop and targets to use, one of PUBLISHED.
        augment: Mirror and recolour, as in training; the published program does neither in validation.
    """

    crop: int
    maps: int
    centered: int | None = None
    published: str = "torch7"
    augment: bool = True

    def __post_init__(self):
        if self.published not in PUBLISHED:
            raise RmpeError(f"published {self.published!r} is not one of {', '.join(map(repr, PUBLISHED))}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample; all arrays are float32."""

    data: np.ndarray  # (3, crop, crop) RGB from 0 to 1
    label: np.ndarray  # (J, maps, maps)
    label_center: np.ndarray | None  # (J, centered, centered): where the STN should put the joints


def make_sample(rng: np.random.Generator, image: np.ndarray, person: Person, sampler: BoxSampler,
                form: SampleFormat) -> Sample:
    """Make a sample of a person in an image (H, W, 3), float RGB from 0 to 1.

    Differs: if a box contains no pixel of the image, where the published program stops, another box is drawn.

    Raises:
        InputError: TRIES boxes in a row contain no pixel, which means that the annotation is wrong.
    """
    box, pixels = _croppable(rng, image, person, sampler, form)
    crop = crop_box(image, pixels, form.published)
    if form.published == "torch7":
        data = np.ascontiguousarray(scale_torch7(crop, form.crop, form.crop).transpose(2, 0, 1), np.float32)
    else:
        data = pose_input(crop, form.crop, form.crop)
    label = heatmaps(person.joints_xy, _shown(person, box.crop, form), pixels, form.maps, form.published)
    center = None
    if form.centered is not None:
        center = heatmaps(person.joints_xy, _shown(person, box.centered_within, form), whole(box.centered),
                          form.centered, form.published)
    return augmented(rng, Sample(data, label, center)) if form.augment else Sample(data, label, center)


def _shown(person: Person, box_xyxy: np.ndarray, form: SampleFormat) -> np.ndarray:
    return inside(person.joints_xy + (form.published == "torch7"), box_xyxy)  # pixels count from 1 in Lua


def _croppable(rng: np.random.Generator, image: np.ndarray, person: Person, sampler: BoxSampler,
               form: SampleFormat) -> tuple[SampledBox, np.ndarray]:
    """A box of the sampler's that holds pixels of the image, and what is cut out: (4,) int64."""
    wh = image.shape[1], image.shape[0]
    for _ in range(TRIES):
        box = sampler.sample(rng, person, wh)
        pixels = whole(box.crop)
        if form.published == "torch7":
            pixels[2:] = np.maximum(pixels[2:], pixels[:2] + LEAST_CROP)
        if can_crop(pixels[None], wh, form.published)[0] and (pixels[2:] > pixels[:2]).all():
            return box, pixels
    raise InputError(f"{person.image}: the box {person.box_xyxy.tolist()} of a person contains no pixel of the image, "
                     f"which is {wh[0]}x{wh[1]}; correct the annotation")


def whole(box_xyxy: np.ndarray) -> np.ndarray:
    """Convert a box to whole pixels, truncated towards zero from float32 like Lua's Tensor:int(): (4,) -> (4,) int64.
    """
    return box_xyxy.astype(np.float32).astype(np.int64)


def augmented(rng: np.random.Generator, sample: Sample) -> Sample:
    """Mirror half of the samples, and multiply each colour channel by a random factor (pose.lua:130-142)."""
    data, label, center = sample.data, sample.label, sample.label_center
    if rng.random() < FLIP:
        order = list(joint_set(len(label)).mirrored)
        data, label = data[..., ::-1], label[order, :, ::-1]
        center = None if center is None else center[order, :, ::-1]
    factors = np.array([rng.uniform(*COLOR) for _ in range(3)], np.float32)
    data = np.clip(data * factors[:, None, None], 0, 1)
    return Sample(data, np.ascontiguousarray(label), None if center is None else np.ascontiguousarray(center))
