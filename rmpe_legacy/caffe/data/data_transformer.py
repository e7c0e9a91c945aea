"""Caffe's DataTransformer, from image to blob: mean, scale, crop, mirror, resize, noise, and the same for boxes.

Sources: data_transformer.cpp of RMPE@5188c23, of weiliu89/caffe@4817bf8 and of BVLC/caffe@9b89154, which differ in
the order of resizing and boxes, the image that the mean must fit, and the effect of mirroring on the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rmpe_legacy.caffe.proto.caffemodel import blob_from_proto
from rmpe_legacy.caffe.proto.message import Message, Source
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import read_bytes

from .boxes import UNIT, Boxes, clip, emitted, project
from .caffe_random import CaffeRandom, LibraryRandom
from .caffe_resize import boxes_after, extrapolate, resize, size_after
from .datum import AnnotatedDatum, Datum, reencoded
from .noise import add_noise, distort
from .opencv_image import channels_of, check_opencv, decode_image

F = np.float32
Image = np.ndarray | Datum  # decoded, (H, W[, C]) uint8; or a record with raw values


@dataclass
class Draws:
    """The three random streams of a data layer's thread."""

    transform: CaffeRandom  # mirror and crop: DataTransformer::Rand
    thread: CaffeRandom  # everything else: Caffe::rng_stream() of the thread
    library: LibraryRandom  # the C library's rand(), which is never seeded

    def state(self) -> dict[str, Any]:
        """The positions of the streams, for `restore`, as JSON-compatible values."""
        return {"transform": self.transform.state(), "thread": self.thread.state(), "library": self.library.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`.

        Raises:
            KeyError, TypeError, ValueError: The argument is not such a state.
        """
        self.transform.restore(state["transform"])
        self.thread.restore(state["thread"])
        self.library.restore(state["library"])


@dataclass(frozen=True)
class Cut:
    """The geometry of a transformed image, which its boxes have to follow."""

    crop: np.ndarray  # (4,) normalised
    mirrored: bool


class DataTransformer:
    """One layer's TransformationParameter, in one phase."""

    def __init__(self, param: Message, phase: str, draws: Draws | None = None):
        """param: a TransformationParameter. Raises RmpeError for parameters that exclude each other."""
        self.param, self.phase = param, phase
        self.draws: Any = draws  # Draws, where something is drawn
        self.dialect = param.descriptor.schema.dialect
        if param.has("mean_file") and param.mean_value:
            raise RmpeError("transform_param has a mean_file and a mean_value; keep one")
        if param.force_color and param.force_gray:
            raise RmpeError("transform_param has force_color and force_gray; keep one")
        if self.dialect == "ssd" and param.has("resize_param") and not (
                param.resize_param.height and param.resize_param.width):
            raise RmpeError("resize_param needs a height and a width")
        if self.dialect == "ssd" and param.has("expand_param") and param.expand_param.max_expand_ratio <= 1:
            raise RmpeError("expand_param needs a max_expand_ratio above 1")
        self._mean: np.ndarray | None = None

    # --- parameters ------------------------------------------------------------------------------------------

    @property
    def crop_size(self) -> tuple[int, int]:
        """The (height, width) of the crop; zeros if there is none."""
        param = self.param
        if param.crop_size:
            return param.crop_size, param.crop_size
        return (0, 0) if self.dialect == "bvlc" else (param.crop_h, param.crop_w)

    @property
    def draws_crops(self) -> bool:
        """Whether Caffe gives this transformer its own stream, which consumes a seed (InitRand)."""
        return self.param.mirror or (self.phase == "TRAIN" and self.param.crop_size > 0)

    @property
    def is_random(self) -> bool:
        """Whether the same image can give different blobs."""
        param = self.param
        if self.draws_crops or (self.phase == "TRAIN" and all(self.crop_size)):
            return True
        if self.dialect == "bvlc":
            return False
        more = self.dialect == "ssd" and (param.has("distort_param") or param.has("expand_param"))
        chooses = param.has("resize_param") and len(param.resize_param.interp_mode) > 1
        return more or chooses or param.noise_param.saltpepper

    @property
    def mean(self) -> np.ndarray:
        """The mean_file's image, (C, H, W) float32; read on first use."""
        if self._mean is None:
            self._mean = read_mean(self.param.mean_file)
        return self._mean

    # --- one image -----------------------------------------------------------------------------------------

    def image(self, datum: Datum) -> Image:
        """Return the record's image, decoded if necessary."""
        if not datum.encoded:
            return datum
        mode = "color" if self.param.force_color else "gray" if self.param.force_gray else "native"
        return decode_image(datum.data, mode, datum.where)

    def shape_of(self, image: Image) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of an image's blob: InferBlobShape.

        Raises:
            RmpeError: The image is smaller than the crop.
        """
        if isinstance(image, Datum):
            channels, height, width = image.values().shape  # checks the record's claimed shape
        else:
            channels, (height, width) = channels_of(image), image.shape[:2]
        if self.dialect != "bvlc" and self.param.has("resize_param"):
            height, width = size_after(self.param.resize_param, height, width)
        crop_h, crop_w = self.crop_size
        if height < crop_h or width < crop_w:
            raise RmpeError(f"an image of {width} x {height} (width x height) is smaller than the crop of "
                            f"{crop_w} x {crop_h}")
        return channels, crop_h or height, crop_w or width

    def apply(self, image: Image, blob: np.ndarray) -> Cut:
        """Write one image into its blob (C, H, W), float32."""
        if isinstance(image, Datum):
            return self._raw(image, blob)
        return check_opencv(self._decoded, image, blob)

    def _raw(self, datum: Datum, blob: np.ndarray) -> Cut:
        """Write a raw record. resize_param, crop_h and crop_w have no effect on it."""
        values, size = datum.values(), self.param.crop_size
        _, height, width = values.shape
        mirrored = self._mirrored()
        h, w = self._offset(height, width, size, size) if size else (0, 0)
        if blob.shape != (len(values), size or height, size or width):
            raise RmpeError(f"{datum.where}: a raw image of {_size(values.shape)} does not fit the batch's "
                            f"{_size(blob.shape)}; resize_param, crop_h and crop_w act on encoded images only, and all "
                            "images of a batch must have the same size")
        inside = np.s_[:, h : h + blob.shape[1], w : w + blob.shape[2]]
        mean = None
        if self.param.has("mean_file"):
            mean = self._fitting_mean(values.shape, datum.where)[inside]
        self._write(values[inside], mean, mirrored, blob)
        ends = np.array([w, h, w + blob.shape[2], h + blob.shape[1]], F)
        return Cut(ends / np.array([width, height] * 2, F), mirrored)

    def _decoded(self, image: np.ndarray, blob: np.ndarray) -> Cut:
        """Write a decoded image: resize, noise, crop, then the values."""
        channels, (old_h, old_w) = channels_of(image), image.shape[:2]
        if channels != blob.shape[0]:
            raise RmpeError(f"an image of {channels} channels in a batch of {blob.shape[0]}; force_color: true or "
                            "force_gray: true makes them agree")
        mirrored = self._mirrored()
        crop = UNIT
        if self.dialect != "bvlc":
            if self.param.has("resize_param"):
                image = resize(image, self.param.resize_param, self.draws.thread)
                if self.dialect == "rmpe":
                    crop = boxes_after(self.param.resize_param, UNIT, old_h, old_w)
            if self.param.has("noise_param"):
                image = add_noise(image, self.param.noise_param, self.draws.thread)
        height, width = image.shape[:2]
        crop_h, crop_w = self.crop_size
        h = w = 0
        if crop_h and crop_w:
            h, w = self._offset(height, width, crop_h, crop_w)
        if self.dialect == "ssd":
            ends = np.array([w, h, w + blob.shape[2], h + blob.shape[1]], F)
            crop = np.divide(ends, np.array([width, height] * 2, F))
        mean = self._mean_beside((old_h, old_w), image.shape, (h, w), mirrored, blob)
        rows = image[h : h + crop_h, w : w + crop_w] if crop_h and crop_w else image
        self._write(_values(rows, blob.shape, self.dialect), mean, mirrored, blob)
        return Cut(crop, mirrored)

    def _mirrored(self) -> bool:
        return self.param.mirror and self.draws.transform.below(2) == 1

    def _offset(self, height: int, width: int, crop_h: int, crop_w: int) -> tuple[int, int]:
        """Return (row, column) where the crop starts: random in TRAIN, centred in TEST.

        Differs: in TRAIN with crop_h and crop_w only, Caffe aborts because it has no random stream; here the crop is
        random.
        """
        if height < crop_h or width < crop_w:
            raise RmpeError(f"an image of {width} x {height} (width x height) is smaller than the crop of "
                            f"{crop_w} x {crop_h}")
        if self.phase == "TRAIN":
            return (self.draws.transform.below(height - crop_h + 1), self.draws.transform.below(width - crop_w + 1))
        return (height - crop_h) // 2, (width - crop_w) // 2

    # --- mean and scale --------------------------------------------------------------------------------------

    def _fitting_mean(self, shape: tuple[int, ...], where: str) -> np.ndarray:
        if self.mean.shape != tuple(shape):
            raise RmpeError(f"{where}: an image of {_size(shape)}, the mean_file {self.param.mean_file!r} has "
                            f"{_size(self.mean.shape)}; they must agree")
        return self.mean

    def _mean_beside(self, old: tuple[int, int], new: tuple[int, ...], offset: tuple[int, int], mirrored: bool,
                     blob: np.ndarray) -> np.ndarray | None:
        """Return the mean for each of the blob's values, mirrored like the image; None without a mean_file.

        BVLC crops it with the image. The others require a mean of the blob's size and do not mirror it. Differs: if the
        resized image is larger than the mean, they read beyond it; here the part of the mean under the crop is used.
        """
        if not self.param.has("mean_file"):
            return None
        if self.dialect == "bvlc":
            h, w = offset
            whole = self._fitting_mean((blob.shape[0], *new[:2]), "image")
            return whole[:, h : h + blob.shape[1], w : w + blob.shape[2]]
        if self.dialect == "rmpe":
            self._fitting_mean((blob.shape[0], *old), "before its resize")
        mean = self._fitting_mean(blob.shape if all(self.crop_size) else (blob.shape[0], *new[:2]), "after resize and "
                                  "crop")[:, : blob.shape[1], : blob.shape[2]]
        return mean[..., ::-1] if mirrored else mean

    def _write(self, values: np.ndarray, mean: np.ndarray | None, mirrored: bool, blob: np.ndarray) -> None:
        """(values - mean) * scale, in single precision; values (C, H, W)."""
        out = blob[..., ::-1] if mirrored else blob
        with np.errstate(all="ignore"):  # a database may contain infinities
            if mean is not None:
                np.subtract(values, mean, out=out)
            elif self.param.mean_value:
                np.subtract(values, self._mean_values(len(values)), out=out)
            else:
                np.copyto(out, values)
            if self.param.scale != 1:
                np.multiply(blob, F(self.param.scale), out=blob)

    def _mean_values(self, channels: int) -> np.ndarray:
        means = self.param.mean_value
        if len(means) not in (1, channels):
            raise RmpeError(f"mean_value is given {len(means)} times for {channels} channels; give it once, or per "
                            "channel")
        return np.asarray(means, F).reshape(-1, 1, 1)

    # --- boxes -----------------------------------------------------------------------------------------------

    def boxes_in(self, boxes: Boxes, cut: Cut, datum: Datum) -> Boxes:
        """Return a record's boxes relative to its blob; boxes outside are dropped."""
        return self._follow(boxes, cut, datum, resized=self.dialect == "ssd" and self.param.has("resize_param"))

    def _follow(self, boxes: Boxes, cut: Cut, datum: Datum, resized: bool) -> Boxes:
        size = datum.height, datum.width
        seen = boxes
        if resized:
            if min(size) <= 0:
                raise RmpeError(f"{datum.where}: the record does not state its image's size, which is needed to apply "
                                "resize_param to its boxes; write the store again")
            if len(boxes):
                seen = replace(boxes, xyxy=boxes_after(self.param.resize_param, boxes.xyxy, *size))
        if self.param.has("emit_constraint"):
            seen = seen.where(emitted(seen, cut.crop, self.param.emit_constraint))
        seen = project(seen, cut.crop)
        xyxy = seen.xyxy
        if cut.mirrored:
            xyxy = np.stack([F(1) - xyxy[:, 2], xyxy[:, 1], F(1) - xyxy[:, 0], xyxy[:, 3]], axis=1)
        if resized:
            xyxy = extrapolate(self.param.resize_param, xyxy, cut.crop, *size)
        return seen.moved(xyxy)

    # --- records to records ----------------------------------------------------------------------------------

    def crop(self, record: AnnotatedDatum, box: np.ndarray) -> AnnotatedDatum:
        """Crop a record to a box (4,). An encoded image is encoded again, as JPEG."""
        box = clip(box)
        datum = record.datum
        image = self.image(datum)
        if isinstance(image, Datum):
            values = image.values()
            rows, columns = _span(box, *values.shape[1:])
            part = np.ascontiguousarray(values[:, rows, columns])
            cropped = replace(datum, data=part.tobytes(), height=part.shape[1], width=part.shape[2], has_label=True)
        else:
            rows, columns = _span(box, *image.shape[:2])
            cropped = _jpeg(datum, image[rows, columns])
        boxes = self._follow(record.boxes, Cut(box, False), datum, resized=False)
        return AnnotatedDatum(cropped, boxes, record.type or "BBOX")

    def distort(self, record: AnnotatedDatum) -> AnnotatedDatum:
        """Distort a record's colours (distort_param) and encode it again."""
        if not record.datum.encoded:
            return record  # Caffe logs "Only support encoded datum now" and goes on
        image = self.image(record.datum)
        changed = check_opencv(distort, image, self.param.distort_param, self.draws.thread, self.draws.library)
        return replace(record, datum=_jpeg(record.datum, changed))

    def expand(self, record: AnnotatedDatum) -> AnnotatedDatum:
        """Place the record on a larger canvas (expand_param), with a given probability."""
        param, random = self.param.expand_param, self.draws.thread
        if random.uniform(0, 1) > param.prob or abs(param.max_expand_ratio - 1) < 1e-2:
            return record
        ratio = random.uniform(1, param.max_expand_ratio)
        datum, image = record.datum, self.image(record.datum)
        old_h, old_w = (datum.height, datum.width) if isinstance(image, Datum) else image.shape[:2]
        height, width = int(F(old_h) * ratio), int(F(old_w) * ratio)
        h, w = (int(random.uniform(0, height - old_h)), int(random.uniform(0, width - old_w)))
        ends = np.array([-w, -h, width - w, height - h], F)
        boxes = self._follow(record.boxes, Cut(ends / np.array([old_w, old_h] * 2, F), False), datum, resized=False)
        if isinstance(image, Datum):
            values = image.values()
            canvas = np.full((len(values), height, width), ord(" "), np.uint8)  # as Caffe fills its string
            canvas[:, h : h + old_h, w : w + old_w] = values
            larger = replace(datum, data=canvas.tobytes(), height=height, width=width, has_label=True)
        else:
            larger = _jpeg(datum, self._surrounded(image, (h, height - old_h - h, w, width - old_w - w)))
        return AnnotatedDatum(larger, boxes, record.type or "BBOX")

    def _surrounded(self, image: np.ndarray, margins: tuple[int, int, int, int]) -> np.ndarray:
        """Pad an image with the mean; margins top, bottom, left, right."""
        channels = channels_of(image)
        fill = self._mean_values(channels).ravel() if self.param.mean_value else np.zeros(1, F)
        fill = np.broadcast_to(np.clip(np.rint(fill), 0, 255), channels).tolist()
        larger = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=fill)
        if self.param.has("mean_file"):
            mean = self._fitting_mean((channels, *larger.shape[:2]), "expanded").transpose(1, 2, 0)
            larger = mean.astype(np.int64).astype(np.uint8).reshape(larger.shape)
            larger[margins[0] :, margins[2] :][: image.shape[0], : image.shape[1]] = image
        return larger


def read_mean(path: str | Path) -> np.ndarray:
    """Read the mean image of a .binaryproto, (C, H, W) float32.

    Raises:
        FileError: The file cannot be read, or does not hold a mean image.
    """
    blob = decode(memoryview(read_bytes(path)), load_schema()["BlobProto"], Source(str(path)))
    try:
        stored = blob_from_proto(blob)
    except FileError as error:
        raise FileError(f"{path}: a blob's {error}; the file is damaged") from None
    shape = stored.shape[1:] if len(stored.shape) == 4 and stored.shape[0] == 1 else stored.shape
    if len(shape) != 3:
        raise FileError(f"{path}: a blob of {_size(stored.shape)}; a mean image is 1 x C x H x W")
    return np.asarray(stored.data, F).reshape(shape)


def _values(image: np.ndarray, shape: tuple[int, int, int], dialect: str) -> np.ndarray:
    """Return the part of an image that a blob (C, H, W) uses: the top left if it is larger (only BVLC refuses that).

    Like Caffe, reads consecutive bytes, which for the float image of convert_to_lab are those of its first quarter.
    """
    channels, height, width = shape
    row = np.ascontiguousarray(image).reshape(len(image), -1).view(np.uint8)
    exact = image.shape[:2] == (height, width)
    if len(row) < height or row.shape[1] < width * channels or (dialect == "bvlc" and not exact):
        raise RmpeError(f"an image of {image.shape[1]} x {image.shape[0]} (width x height) in a batch of {width} x "
                        f"{height}; all images of a batch must have the same size: set crop_size"
                        + ("" if dialect == "bvlc" else " or resize_param"))
    return row[:height, : width * channels].reshape(height, width, channels).transpose(2, 0, 1)


def _span(box: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a normalised box (4,)."""
    xmin, ymin, xmax, ymax = box * np.array([width, height] * 2, F)
    rows, columns = (slice(int(low), int(low) + int(high - low)) for low, high in ((ymin, ymax), (xmin, xmax)))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise RmpeError(f"a sampled box of less than a pixel in an image of {width} x {height}; make the sampler's "
                        "min_scale larger")
    return rows, columns


def _jpeg(datum: Datum, image: np.ndarray) -> Datum:
    _, data = cv2.imencode(".jpg", image)
    return reencoded(datum, data.tobytes(), image.shape)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
