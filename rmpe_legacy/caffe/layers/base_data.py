"""Base classes of the layers that produce data. Source: base_data_layer.cpp of RMPE@5188c23.

A data layer has no bottoms. Each forward takes the next batch, unless its tops are passed to the network by name
(``net(data=..., label=...)``). Caffe always prefetches in a thread; here a layer does so if `read_ahead` is set. The
order of records and random numbers is the same either way.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.data.caffe_random import UINT32, CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.data_transformer import DataTransformer, Draws
from rmpe_legacy.errors import LayerError, RmpeError
from rmpe_legacy.wording import call_of_net

from .base import Count, Layer, Shape
from .fed import ASSUMED, COLORS, first_of, must_be_fed
from .read_ahead import Position, Prefetcher

log = logging.getLogger(__name__)


def seed_from_torch() -> int:
    """Return a seed for Caffe's random numbers, so that torch.manual_seed makes data layers reproducible too.

    Directly after ``torch.manual_seed(n)`` it is n: the first random data layer built then draws the same numbers as
    in Caffe after ``caffe.set_random_seed(n)``. Later layers take their seeds from torch's generator.
    """
    first = torch.initial_seed()
    fresh = torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(first).get_state())
    drawn = int(torch.randint(UINT32, ()))  # always drawn, so that the generator is no longer fresh
    return first % UINT32 if fresh else drawn


class BlobLayer(Layer):
    """A layer whose tops come from NumPy arrays; they get the network's dtype and device.

    Attributes:
        read_ahead: Number of batches a thread prepares in advance; 0 for none. Set it before the first forward.
        skip_bad_records: Skip a record or image that cannot be read, with a warning, instead of raising.
    """

    bottoms = 0
    not_exportable = "produces its values itself, from files or fillers"
    read_ahead = 0
    skip_bad_records = False
    rank, processes = 0, 1  # which share of the records this layer reads
    _ahead: Prefetcher | None = None

    def setup(self) -> None:
        self.register_buffer("place", torch.empty(0), persistent=False)  # .to() and .double() move it

    def forward(self) -> tuple[Tensor, ...]:
        if reason := must_be_fed(self.spec):
            raise self.spec.error(reason)
        with self.named():
            return tuple(torch.from_numpy(blob).to(self.place) for blob in self._next_batch())

    def _next_batch(self) -> Sequence[np.ndarray]:
        if not self.read_ahead:
            return self.batch()
        if self._ahead is None:
            self._ahead = Prefetcher(self, self.read_ahead)
        try:
            return self._ahead.take()
        except BaseException:
            self._ahead = None  # its thread has ended
            raise

    def batch(self) -> Sequence[np.ndarray]:
        """Return the next batch: one float32 array per top, in the top's shape."""
        raise NotImplementedError

    # --- where it is in its source ----------------------------------------------------------------------------

    def position(self) -> Position:
        """Return where the next batch begins, including the random state, for `seek`, as JSON-compatible values."""
        return self.read_position() if self._ahead is None else self._ahead.position

    def seek(self, position: Position) -> None:
        """Continue at a `position` of a layer with the same parameters.

        Raises:
            RmpeError: The argument is not such a position, or the source has changed.
        """
        self.end_prefetch()
        with self.named():
            try:
                self.read_from(position)
            except (KeyError, TypeError, ValueError, IndexError):
                raise RmpeError("is given a position that belongs to another layer, or is damaged") from None

    def read_position(self) -> Position:
        """Return the position after the last batch made, which may be ahead of the last one used."""
        return {}

    def read_from(self, position: Position) -> None:
        """Continue at a position: the next batch begins there."""

    def pause(self) -> None:
        """End the thread that reads ahead; the next forward starts it again, with the same batches."""
        if self._ahead is not None:
            self.seek(self._ahead.position)

    def end_prefetch(self) -> None:
        """End the thread that reads ahead, and forget what it has read."""
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def shard(self, rank: int, processes: int) -> None:
        """Read only every `processes`-th record, starting with record `rank` (from 0), from the beginning."""
        self.rank, self.processes = rank, processes

    def __getstate__(self) -> dict[str, Any]:
        self.pause()  # threads cannot be copied
        return self.__dict__.copy()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Convert RmpeErrors inside the context to LayerErrors that name this layer."""
        try:
            yield
        except LayerError:
            raise
        except RmpeError as error:
            raise self.spec.error(str(error)) from None


class SourceLayer(BlobLayer):
    """A layer that reads images and transforms them: one top of images and, optionally, one of labels."""

    tops: Count = (1, 2)
    unread: tuple[str, ...] = ()  # fields of its own message that Caffe parses but never reads
    reader_draws = False  # True: Caffe's reader thread draws a seed before the layer does

    def setup(self) -> None:
        super().setup()
        with self.named():
            self.transformer = DataTransformer(self.spec.get("transform_param"), self.spec.phase)
        self.check()
        if not self.batch_size and self.source_exists():
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
        """Whether the batches depend on random numbers."""
        return self.transformer.is_random

    # --- random numbers --------------------------------------------------------------------------------------

    def seed(self, seed: int) -> None:
        """Start over, with the random numbers of a network built after ``caffe.set_random_seed(seed)``.

        Exact for the first layer of a network that draws random numbers: in Caffe, all layers share one stream.
        """
        self.end_prefetch()
        self._seed = seed
        main = CaffeRandom(seed)
        if self.reader_draws:
            main.raw()
        own_stream = self.transformer.draws_crops
        if own_stream:
            main.raw()  # drawn before the layer's own set-up, and again after it
        self.rewind(main)
        transform = CaffeRandom(main.raw() if own_stream else seed)
        self.transformer.draws = Draws(transform, CaffeRandom(main.raw()), LibraryRandom())
        if self.rank:  # the same order of records in all processes, other crops and mirrors in each
            own = CaffeRandom(seed + self.rank)
            self.transformer.draws = Draws(CaffeRandom(own.raw()), CaffeRandom(own.raw()), LibraryRandom(1 + self.rank))

    def rewind(self, main: CaffeRandom) -> None:
        """Go back to the first record; draw from `main` what Caffe's set-up of the layer draws."""

    def shard(self, rank: int, processes: int) -> None:
        super().shard(rank, processes)
        self.seed(self._seed)

    def read_position(self) -> Position:
        return {"draws": self.transformer.draws.state(), **self.place_in_source()}

    def read_from(self, position: Position) -> None:
        self.go_to(position)
        self.transformer.draws.restore(position["draws"])

    def place_in_source(self) -> dict[str, Any]:
        """The layer's own part of its position."""
        return {}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Continue at a position that `place_in_source` returned."""

    # --- records ---------------------------------------------------------------------------------------------

    def each_record(self, take: Callable[[], tuple[Any, str]], use: Callable[[int, Any, str], None]) -> None:
        """Call `use(i, record, where)` for each i of a batch with the next record that can be used.

        take: gives the next record and its name. RmpeError of the first that cannot be used; with skip_bad_records,
        only if none of the source can.
        """
        for i in range(self.batch_size):
            skipped: set[str] = set()
            while True:
                record, where = take()
                try:
                    use(i, record, where)
                    break
                except RmpeError as error:
                    if not self.skip_bad_records or where in skipped:
                        raise
                    skipped.add(where)
                    log.warning("Skipping a record: %s", error)

    # --- shapes ----------------------------------------------------------------------------------------------

    def reshape(self) -> Sequence[Shape]:
        with self.named():
            return self.shapes()[: self.top_count]

    def shapes(self) -> list[Shape]:
        """Return the tops' shapes: from the first record, or from the prototxt if the source does not exist."""
        self.assumes = not self.source_exists()
        found = self.assumed_shape() if self.assumes else self.first_shape()
        batch = self.batch_or_one()
        return [(batch, *found), (batch,)]

    def batch_or_one(self) -> int:
        """Return the batch size; if neither it nor the source is given, 1, with a warning."""
        if not self.batch_size:
            self.warn(f"{self.missing()}, and its batch_size is not given; a batch of 1 is assumed")
        return max(1, self.batch_size)

    def first_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of the next batch."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """The file or folder named in the prototxt."""
        raise NotImplementedError

    def source_exists(self) -> bool:
        return os.path.exists(self.source)

    def assumed_shape(self, height: int = 0, width: int = 0, channels: int = 0) -> tuple[int, int, int]:
        """Return (C, H, W) if the source does not exist: from crop, resize or the given size.

        The number of channels defaults to that of a colour image, its height and width to ASSUMED, with a warning.
        Differs: Caffe builds no network whose source is missing.
        """
        param = self.transformer.param
        if self.spec.dialect != "bvlc" and param.has("resize_param") and not (
                self.spec.dialect == "ssd" and param.resize_param.resize_mode == "FIT_SMALL_SIZE"):
            height, width = param.resize_param.height or height, param.resize_param.width or width
        crop_h, crop_w = self.transformer.crop_size
        height = crop_h or first_of(param, "crop_height") or height
        width = crop_w or first_of(param, "crop_width") or width
        if not channels:
            means = len(param.mean_value)
            channels = 1 if param.force_gray else means if means > 1 and not param.force_color else COLORS
        if not height or not width:
            height, width = height or ASSUMED, width or ASSUMED
            self.guesses = True
            self.warn(f"{self.missing()}, and nothing else determines the size of its images; {channels} x {height} x "
                      f"{width} is assumed; create it, or set crop_size in transform_param")
        return channels, height, width

    def missing(self) -> str:
        return f"its source {self.source!r} does not exist" if self.source else "it has no source"

    def forward(self) -> tuple[Tensor, ...]:
        if not self.source_exists():
            raise self.spec.error(f"{self.missing()}; create it, or give its tops instead: "
                                  f"{call_of_net(self.spec.top)}")
        if not self.batch_size:  # the source was not there when the network was loaded
            raise self.spec.error("needs a batch_size above 0")
        return super().forward()

    def new_blobs(self, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return uninitialised images (batch, C, H, W) and zero labels (batch,), both float32."""
        return np.empty((self.batch_size, *shape), np.float32), np.zeros(self.batch_size, np.float32)

    def _warn_of_ignored(self) -> None:
        """Warn of fields in the prototxt that Caffe parses but never reads."""
        param, own = self.spec.get("transform_param"), self.spec.get(self.params[0])
        for name in self.unread:
            if own.has(name):
                where = "; set it in transform_param" if name in param.descriptor.fields else ""
                self.warn(f"{self.params[0]}.{name} has no effect in Caffe, nor here{where}")
        if self.spec.dialect == "bvlc":
            return
        for name, usual in (("resize_param", 1), ("noise_param", 0)):
            if param.has(name) and getattr(param, name).has("prob") and getattr(param, name).prob != usual:
                self.warn(f"{name}.prob has no effect in Caffe, which always applies it, nor here")

    def warn(self, sentence: str) -> None:
        warnings.warn(str(self.spec.error(sentence)), stacklevel=2)
