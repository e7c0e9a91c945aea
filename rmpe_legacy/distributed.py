"""The processes of one run, as torchrun starts them. torch is imported only when there is more than one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rmpe_legacy.errors import RmpeError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # shares may differ by hours; a process that dies is noticed at once all the same
PEER_STOPPED = "another process of this run has stopped; its own message says why"


@dataclass(frozen=True)
class World:
    """The number of processes, and which one this is.

    Methods that wait for other processes raise RmpeError if one of them has stopped.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: which of its GPUs is ours

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the device that this process uses for a requested one: with "cuda", a GPU of its own."""
        if name != "cuda" or self.size == 1:
            return name
        import torch

        return f"cuda:{self.local_rank % max(1, torch.cuda.device_count())}"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every size-th item, so that the shares resemble each other however the items are ordered."""
        return items[self.rank :: self.size]

    def wait(self) -> None:
        """Return once every process has called this."""
        if self.size > 1:
            import torch.distributed as dist

            with _peers():
                dist.barrier()

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by their mean over all processes: the sum times 1 / size.

        Args:
            tensors: Of any shape; the same shapes and order in every process.

        Raises:
            RmpeError: A process has stopped.
        """
        if self.size == 1 or not tensors:
            return
        import torch.distributed as dist

        with _exchanged(tensors) as flat:
            dist.all_reduce(flat)
            flat.mul_(1 / self.size)

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by those of the first process.

        Args:
            tensors: Of any shape; the same shapes and order in every process.

        Raises:
            RmpeError: A process has stopped.
        """
        if self.size == 1 or not tensors:
            return
        import torch.distributed as dist

        with _exchanged(tensors) as flat:
            dist.broadcast(flat, 0)

    def largest(self, value: int) -> int:
        """Return the largest of the values that the processes pass. Raises RmpeError if a process has stopped."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        shared = torch.tensor(value)
        with _peers():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def gather(self, item: Any) -> list[Any]:
        """Return the items that all processes pass, by rank, in each process. Raises RmpeError if a process has
        stopped.
        """
        if self.size == 1:
            return [item]
        import torch.distributed as dist

        items: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(items, item)
        return items


@contextmanager
def _exchanged(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the tensors as one vector, for a single message, and copy what it has become back into them."""
    import torch

    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _peers():
        yield flat
    begin = 0
    for tensor in tensors:
        tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
        begin += tensor.numel()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise RmpeError(PEER_STOPPED) from None


@contextmanager
def _last_words() -> Iterator[None]:
    """Let a process say why it ends: torchrun sends SIGTERM to all others as soon as it sees that one has died.

    Only the first SIGTERM raises, so that a second one does not interrupt the writing that the first one started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler
        return

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise RmpeError(PEER_STOPPED)

    after = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except RmpeError:
        after = signal.SIG_IGN  # what ended the run is about to be said
        raise
    finally:
        signal.signal(signal.SIGTERM, after)


@contextmanager
def join_world() -> Iterator[World]:
    """Yield the World of the processes that torchrun started, connected by gloo; without torchrun, a world of one.

    Ends gloo's threads on exit: a thread that frees a tensor while the interpreter exits aborts the process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    # torch.distributed.nn comes before there is a group: functions in it keep the one they find, and its threads.
    import torch.distributed as dist
    import torch.distributed.nn  # noqa: F401

    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        with _last_words():
            yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
