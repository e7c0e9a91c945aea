"""What the layers that read pictures from a store have in common.

Such a layer has no bottoms. Its tops may be given by name instead (``net(data=..., label=...)``); then it reads
nothing. Otherwise each forward takes the next batch, for as long as the network lives.
Source: base_data_layer.cpp of RMPE@5188c23. Caffe reads ahead in a thread; the order of what it reads and draws is
the same here, without one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.data.caffe_random import UINT32, CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.data_transformer import DataTransformer, Draws
from rmpe_legacy.errors import LayerError, RmpeError

from .base import Layer, Shape
from .fed import must_be_fed

COLORS = 3  # channels that a picture has if nothing says otherwise


def seed_from_torch() -> int:
    """A seed for Caffe's random numbers, so that torch.manual_seed makes data layers reproducible too.

    Right after ``torch.manual_seed(n)`` it is n: the first random data layer that is built then draws what it draws
    in Caffe after ``caffe.set_random_seed(n)``. Later ones take their seed from torch's generator.
    """
    first = torch.initial_seed()
    fresh = torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(first).get_state())
    drawn = int(torch.randint(UINT32, ()))  # drawn in any case, so that the generator is fresh no more
    return first % UINT32 if fresh else drawn


class BlobLayer(Layer):
    """A layer that makes its tops from numpy arrays; they follow the network's dtype and device."""

    bottoms = 0
    not_exportable = "makes its values itself, from files or fillers"

    def setup(self) -> None:
        self.register_buffer("place", torch.empty(0), persistent=False)  # .to() and .double() move it

    def forward(self) -> tuple[Tensor, ...]:
        if reason := must_be_fed(self.spec):
            raise self.spec.error(reason)
        with self.named():
            return tuple(torch.from_numpy(blob).to(self.place) for blob in self.batch())

    def batch(self) -> Sequence[np.ndarray]:
        """The next batch: an array for each top."""
        raise NotImplementedError

    @contextmanager
    def named(self) -> Iterator[None]:
        """What goes wrong inside carries the layer's name."""
        try:
            yield
        except LayerError:
            raise
        except RmpeError as error:
            raise self.spec.error(str(error)) from None


class SourceLayer(BlobLayer):
    """A layer that reads pictures and transforms them: a blob of pictures, and one of labels if it has two tops."""

    tops = (1, 2)
    unread: tuple[str, ...] = ()  # its fields that no published code reads
    reader_draws = False  # Caffe reads its store in a thread of its own, which takes a seed first

    def setup(self) -> None:
        super().setup()
        with self.named():
            self.transformer = DataTransformer(self.spec.get("transform_param"), self.spec.phase)
        self.check()
        if not self.batch_size:
            raise self.spec.error("needs a batch_size above 0")
        self._warn_of_ignored()
        self.seed(seed_from_torch() if self.is_random else 0)

    def check(self) -> None:
        """Check the layer's own parameters."""

    @property
    def batch_size(self) -> int:
        raise NotImplementedError

    @property
    def is_random(self) -> bool:
        """Whether two runs may differ."""
        return self.transformer.is_random

    # --- random numbers --------------------------------------------------------------------------------------

    def seed(self, seed: int) -> None:
        """Begin again, as a network does that Caffe builds after ``caffe.set_random_seed(seed)``.

        Exact for the network's first layer that draws: in Caffe all draw from one stream.
        """
        main = CaffeRandom(seed)
        if self.reader_draws:
            main.raw()
        own_stream = self.transformer.draws_crops
        if own_stream:
            main.raw()  # taken before the layer's own set-up, and again after it
        self.rewind(main)
        transform = CaffeRandom(main.raw() if own_stream else seed)
        self.transformer.draws = Draws(transform, CaffeRandom(main.raw()), LibraryRandom())

    def rewind(self, main: CaffeRandom) -> None:
        """Go back to the first record, and take from `main` what the layer's set-up takes in Caffe."""

    # --- shapes ----------------------------------------------------------------------------------------------

    def reshape(self) -> Sequence[Shape]:
        with self.named():
            return self.shapes()[: self.top_count]

    def shapes(self) -> list[Shape]:
        """The tops' shapes: from the first record, or, where the source is not there, as the prototxt tells them."""
        found = self.first_shape() if self.source_exists() else self.assumed_shape()
        return [(self.batch_size, *found), (self.batch_size,)]

    def first_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the next batch."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """The file or folder that the prototxt names."""
        raise NotImplementedError

    def source_exists(self) -> bool:
        return os.path.exists(self.source)

    def assumed_shape(self, height: int = 0, width: int = 0, channels: int = 0) -> tuple[int, int, int]:
        """(C, H, W) without a picture at hand: what crop, resize or the given size leave no doubt of.

        Channels, if nothing tells them, are those of a coloured picture.
        """
        param = self.transformer.param
        if self.spec.dialect != "bvlc" and param.has("resize_param") and not (
                self.spec.dialect == "ssd" and param.resize_param.resize_mode == "FIT_SMALL_SIZE"):
            height, width = param.resize_param.height or height, param.resize_param.width or width
        crop_h, crop_w = self.transformer.crop_size
        height, width = crop_h or height, crop_w or width
        if not height or not width:
            raise self.spec.error(f"{self.missing()}, and nothing else tells the size of its pictures; make it, or set "
                                  "crop_size in transform_param")
        if not channels:
            means = len(param.mean_value)
            channels = 1 if param.force_gray else means if means > 1 and not param.force_color else COLORS
        return channels, height, width

    def missing(self) -> str:
        return f"its source {self.source!r} is not there" if self.source else "it names no source"

    def forward(self) -> tuple[Tensor, ...]:
        if not self.source_exists():
            tops = ", ".join(f"{top}=..." for top in self.spec.top)
            raise self.spec.error(f"{self.missing()}; make it, or give its tops instead: net({tops})")
        return super().forward()

    def new_blobs(self, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(pictures, labels) of a batch, to be filled."""
        return np.empty((self.batch_size, *shape), np.float32), np.zeros(self.batch_size, np.float32)

    def _warn_of_ignored(self) -> None:
        """Name the fields that the published code parses and never reads, where a file sets them."""
        param, own = self.spec.get("transform_param"), self.spec.get(self.params[0])
        for name in self.unread:
            if own.has(name):
                where = "; set it in transform_param" if name in param.descriptor.fields else ""
                self.warn(f"{self.params[0]}.{name} has no effect in Caffe, nor has it here{where}")
        if self.spec.dialect == "bvlc":
            return
        for name, usual in (("resize_param", 1), ("noise_param", 0)):
            if getattr(param, name).has("prob") and getattr(param, name).prob != usual:
                self.warn(f"{name}.prob has no effect in Caffe, which always applies it; nor has it here")

    def warn(self, sentence: str) -> None:
        warnings.warn(str(self.spec.error(sentence)), stacklevel=2)
