"""The processes of one run, as torchrun starts them: each processes a share of the images, the first one writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from rmpe_legacy.errors import RmpeError

T = TypeVar("T")
TIMEOUT = timedelta(days=7)  # shares may differ by hours; a process that dies is still noticed at once


@dataclass(frozen=True)
class World:
    """The number of processes, and which one this is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine; selects the GPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every size-th item, so that shares are similar however the images are ordered."""
        return items[self.rank :: self.size]

    def wait(self) -> None:
        """Wait until all processes are here. Raises RmpeError if one of them has stopped."""
        if self.size == 1:
            return
        import torch.distributed as dist

        try:
            dist.barrier()
        except RuntimeError:
            raise RmpeError("another process of this run has stopped; its own message says why") from None


@contextmanager
def join_world() -> Iterator[World]:
    """Connect the processes that torchrun started, through gloo; a world of one without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
