"""Images and boxes from an LMDB or a LevelDB.

Sources: annotated_data_layer.cpp of RMPE@5188c23 and of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.boxes import Boxes
from rmpe_legacy.caffe.data.data_transformer import Image
from rmpe_legacy.caffe.data.datum import AnnotatedDatum, parse_annotated
from rmpe_legacy.caffe.data.sampler import check_sampler, sample_boxes
from rmpe_legacy.errors import RmpeError

from .base import Shape
from .data import StoreLayer
from .registry import register

ROW = 8  # item, group's label, instance, xmin, ymin, xmax, ymax, difficult


@register("AnnotatedData", dialects=("rmpe", "ssd"))
class AnnotatedData(StoreLayer):
    """The next images of a database, (batch, C, H, W), and their boxes, (1, 1, N, 8).

    A row is item, group's label, instance, xmin, ymin, xmax, ymax, difficult; if there are no boxes, one row of -1.
    From a database without annotation types: the labels, (batch, 1, 1, 1).
    """

    params = ("data_param", "annotated_data_param", "transform_param")
    _typed: bool | None = None

    def check(self) -> None:
        super().check()
        self.samplers = self.spec.get("annotated_data_param").batch_sampler
        with self.named():
            for batch_sampler in self.samplers:
                check_sampler(batch_sampler.sampler)
        param = self.spec.get("transform_param")
        self._one_size = not (self.spec.dialect == "ssd" and param.has("resize_param")
                              and param.resize_param.resize_mode == "FIT_SMALL_SIZE")
        if not self._one_size and self.batch_size != 1:
            raise self.spec.error("resize_mode FIT_SMALL_SIZE gives images of many sizes; set batch_size to 1")

    @property
    def is_random(self) -> bool:
        return super().is_random or bool(self.samplers)

    def first(self) -> AnnotatedDatum:
        """Return the first record of the next batch."""
        return parse_annotated(*self.cursor.peek())

    def first_shape(self) -> tuple[int, int, int]:
        return self.transformer.shape_of(self.transformer.image(self.first().datum))

    @property
    def typed(self) -> bool:
        """Whether labels are boxes: true if weiliu89's anno_type is set, or the first record has a type."""
        if self._typed is None:
            own = self.spec.dialect == "ssd" and self.spec.get("annotated_data_param").has("anno_type")
            self._typed = own or self.first().type is not None
        return self._typed

    def shapes(self) -> list[Shape]:
        data, _ = super().shapes()
        if not self.source_exists():
            return [data, (1, 1, 1, ROW)]
        label = (1, 1, max(len(self.first().boxes), 1), ROW) if self.typed else (self.batch_size, 1, 1, 1)
        return [data, label]

    def batch(self) -> Sequence[np.ndarray]:
        blobs: list[np.ndarray] = []  # one, once the first image tells its size
        rows: list[np.ndarray] = []
        labels = np.zeros((self.batch_size, 1, 1, 1), np.float32)
        with_boxes = self.top_count > 1 and self.typed

        def use(i: int, value: memoryview, where: str) -> None:
            original = parse_annotated(value, where)
            record = self._sampled(original)
            image = self.transformer.image(record.datum)
            if not blobs:
                blobs.append(self.new_blobs(self._shape(original, record, image))[0])
            self._check_size(image, blobs[0])
            cut = self.transformer.apply(image, blobs[0][i])
            if with_boxes:
                if record.type is None:
                    raise RmpeError(f"{record.datum.where}: the record has no type of annotation, others have")
                rows.append(_rows(i, self.transformer.boxes_in(record.boxes, cut, record.datum)))
            elif self.top_count > 1:
                if not record.datum.has_label:
                    raise RmpeError(f"{record.datum.where}: the record has no label")
                labels[i] = record.datum.label

        self.each_record(self.take, use)
        if with_boxes:
            found = np.concatenate(rows)
            labels = found[None, None] if len(found) else np.full((1, 1, 1, ROW), -1, np.float32)
        return [*blobs, labels][: self.top_count]

    def _sampled(self, record: AnnotatedDatum) -> AnnotatedDatum:
        """Return the record, distorted, expanded, and cropped to a box of one of the samplers."""
        param = self.transformer.param
        if self.spec.dialect == "ssd":
            if param.has("distort_param"):
                record = self.transformer.distort(record)
            if param.has("expand_param"):
                record = self.transformer.expand(record)
        if self.samplers:
            random = self.transformer.draws.thread
            found = sample_boxes(self.samplers, record.boxes, random)
            if found:
                record = self.transformer.crop(record, found[random.below(len(found))])
        return record

    def _shape(self, original: AnnotatedDatum, record: AnnotatedDatum, image: Image) -> tuple[int, int, int]:
        """Return (C, H, W) of a batch: that of its first record as stored."""
        if record is not original and self._one_size:
            image = self.transformer.image(original.datum)
        return self.transformer.shape_of(image)

    def _check_size(self, image: Image, blob: np.ndarray) -> None:
        if self.spec.dialect == "ssd" and (shape := self.transformer.shape_of(image)) != blob.shape[1:]:
            raise RmpeError(f"an image has shape {shape}, but the batch has {blob.shape[1:]}; set resize_param or "
                            "crop_size so that all images of a batch have the same size")


def _rows(item: int, boxes: Boxes) -> np.ndarray:
    """Return the label rows of one image, (N, 8) float32."""
    rows = np.empty((len(boxes), ROW), np.float32)
    rows[:, 0], rows[:, 1], rows[:, 2] = item, boxes.label, boxes.instance
    rows[:, 3:7], rows[:, 7] = boxes.xyxy, boxes.difficult
    return rows
