"""A thread that makes a data layer's batches before they are asked for, as Caffe's BasePrefetchingDataLayer does."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Batch = Sequence[np.ndarray]
Position = Mapping[str, Any]  # what json can write


class Source(Protocol):
    """The part of a layer that the thread uses."""

    def batch(self) -> Batch: ...

    def read_position(self) -> Position: ...


@dataclass(frozen=True)
class _Made:
    """A batch and the position behind it; or the exception that making it raised."""

    batch: Batch
    position: Position
    error: BaseException | None = None


class _Queue:
    """Up to `size` batches between the thread and the layer."""

    def __init__(self, size: int):
        self._size, self._made, self._stopped = size, deque[_Made](), False
        self._changed = threading.Condition()

    def put(self, made: _Made) -> bool:
        """Add a batch; False if the thread must stop."""
        with self._changed:
            self._made.append(made)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or len(self._made) < self._size)
            return not self._stopped and made.error is None

    def get(self) -> _Made:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._made))
            made = self._made.popleft()
            self._changed.notify_all()
            return made

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Prefetcher:
    """Batches of one layer in the order in which the layer makes them, up to `size` ahead.

    position: the layer's position behind the last batch taken, however far ahead the thread is.
    """

    def __init__(self, source: Source, size: int):
        self.position = source.read_position()
        self._queue = _Queue(size)
        self._thread = threading.Thread(
            target=_produce, args=(weakref.ref(source), self._queue), name="prefetch", daemon=True)
        weakref.finalize(source, _stop, self._queue, self._thread)  # also when the interpreter ends
        self._thread.start()

    def take(self) -> Batch:
        """The next batch. Raises what the layer raised in making it; the thread has ended then."""
        made = self._queue.get()
        if made.error is not None:
            self._thread.join()
            raise made.error
        self.position = made.position
        return made.batch

    def stop(self) -> None:
        """End the thread. The layer's own position is ahead of `position` then."""
        _stop(self._queue, self._thread)


def _produce(source: weakref.ref[Any], queue: _Queue) -> None:
    """The thread: it holds the layer only while it makes a batch, so that a network that nobody uses can go."""
    more = True
    while more:
        layer = source()
        if layer is None:
            return
        try:
            made = _Made(layer.batch(), layer.read_position())
        except BaseException as error:  # it is raised where the batch is taken
            made = _Made((), {}, error)
        del layer
        more = queue.put(made)


def _stop(queue: _Queue, thread: threading.Thread) -> None:
    queue.stop()
    if thread is not threading.current_thread():  # which may hold the last reference to its layer
        thread.join()
