"""Batches of arrays set by the caller. Source: memory_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.data_transformer import DataTransformer, Draws
from rmpe_legacy.caffe.data.datum import Datum

from .base import Shape, shape_text
from .base_data import BlobLayer, seed_from_torch
from .registry import register


@register("MemoryData")
class MemoryData(BlobLayer):
    """Cycles through the data set last, in batches (batch, channels, height, width) and (batch, 1, 1, 1).

    ``layer.reset(data, labels)`` sets arrays as they are; ``layer.add(images, labels)`` transforms images first.
    """

    params = ("memory_data_param", "transform_param")
    tops = 2

    def setup(self) -> None:
        super().setup()
        param = self.spec.get("memory_data_param")
        self.batch_size = param.batch_size
        self.item: Shape = (param.channels, param.height, param.width)
        if 0 in (self.batch_size, *self.item):
            raise self.spec.error("needs batch_size, channels, height and width, all above 0")
        with self.named():
            self.transformer = DataTransformer(self.spec.get("transform_param"), self.spec.phase)
        self.seed(seed_from_torch() if self.transformer.is_random else 0)
        self._given: tuple[np.ndarray, np.ndarray] | None = None  # images and labels
        self._at, self._unused = 0, False

    def seed(self, seed: int) -> None:
        """Restart the random numbers, as after ``caffe.set_random_seed(seed)`` and building this layer first."""
        main = CaffeRandom(seed)
        transform = CaffeRandom(main.raw() if self.transformer.draws_crops else seed)
        self.transformer.draws = Draws(transform, main, LibraryRandom())

    def reshape(self) -> Sequence[Shape]:
        return [(self.batch_size, *self.item), (self.batch_size,)]

    def reset(self, data: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> None:
        """Set the data, (n, C, H, W), and n labels, without transforming them. float32 arrays on the CPU are not
        copied.

        Raises:
            LayerError: The data has another shape.
        """
        data, labels = (np.require(array.detach().cpu() if isinstance(array, Tensor) else array,
                                   np.float32, ["C", "W"]) for array in (data, labels))
        if data.ndim != 4 or data.shape[1:] != self.item:
            raise self.spec.error(f"is given data of {shape_text(data.shape)}; n x {shape_text(self.item)} is expected")
        self._take(data, labels.reshape(-1))
        self._unused = False

    def add(self, images: Sequence[np.ndarray | Datum], labels: Sequence[float]) -> None:
        """Set images for the DataTransformer. Raises LayerError if images added earlier have not been used up.

        Args:
            images: uint8 arrays (H, W[, C]) in BGR order, or records.
            labels: One label per image.
        """
        self._check_used("add images")
        blob = np.empty((len(images), *self.item), np.float32)
        with self.named():
            for image, out in zip(images, blob, strict=True):
                decoded = self.transformer.image(image) if isinstance(image, Datum) else np.asarray(image)
                if isinstance(decoded, np.ndarray) and decoded.dtype != np.uint8:
                    raise self.spec.error(f"is given an image of {decoded.dtype}; uint8 is expected")
                self.transformer.apply(decoded, out)
        self._take(blob, np.asarray(labels, np.float32).reshape(-1))
        self._unused = True

    def set_batch_size(self, batch_size: int) -> None:
        """Change the batch size. Raises LayerError if images added earlier have not been used up."""
        self._check_used("change the batch size")
        if batch_size < 1:
            raise self.spec.error(f"cannot have a batch size of {batch_size}")
        self.batch_size = batch_size
        self._given = None

    def _check_used(self, verb: str) -> None:
        if self._unused:
            raise self.spec.error(f"cannot {verb} until the images added last are used up; run the network first")

    def _take(self, data: np.ndarray, labels: np.ndarray) -> None:
        if len(data) != len(labels):
            raise self.spec.error(f"is given {len(data)} images but {len(labels)} labels; give one label per image")
        if not len(data) or len(data) % self.batch_size:
            raise self.spec.error(f"is given {len(data)} images; a multiple of its batch_size {self.batch_size} is "
                                  "expected")
        self._given, self._at = (data, labels), 0

    def batch(self) -> Sequence[np.ndarray]:
        if self._given is None:
            raise self.spec.error("has no data yet; give it some: layer.reset(data, labels) or layer.add(images, "
                                  "labels), or give its tops instead")
        data, labels = self._given
        rows = slice(self._at, self._at + self.batch_size)
        self._at = rows.stop % len(data)
        if self._at == 0:
            self._unused = False
        return data[rows], labels[rows].reshape(-1, 1, 1, 1)
