"""What an engine is, and the table of engines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.registry import Registry

from .layer_times import LayerTimes

EXACT = "exact"  # the network as it is, layer by layer
AUTO = "auto"

Tensors = Mapping[str, Tensor]
NOTHING: Tensors = MappingProxyType({})


class Engine(Protocol):
    """Runs one network, for inputs of the sizes it was prepared for.

    Attributes:
        name: Its name in ENGINES.
        any_batch: Whether the inputs may have another batch size; the other axes are fixed.
        shows_blobs: Whether `blobs` computes exactly what `run` does.
    """

    name: str
    any_batch: bool
    shows_blobs: bool

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """Run the network without gradients: input -> Tensor, in the shapes that the engine was prepared for.

        Returns:
            The requested blobs in their order: blob -> Tensor, in the blobs' shapes.

        Raises:
            NetError: The engine cannot run these inputs.
        """

    def blobs(self, inputs: Tensors, shown: Collection[str] | None = None, given: Tensors = NOTHING
              ) -> dict[str, Tensor]:
        """Return blobs that the engine computes, in order of computation, to find the first that is wrong.

        Args:
            inputs: As for `run`.
            shown: Which blobs to return besides the requested ones; None for all.
            given: Blob -> Tensor, in the blob's shape: layers read these values instead of what the engine computes.
                The computed values are still returned.
        """

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        """Run the network a number of times and return the mean seconds per run of each layer.

        A layer that is computed as part of another one has no time of its own. Empty if the engine cannot tell.
        """


@dataclass(frozen=True)
class Job:
    """What an engine is prepared for.

    Attributes:
        net: A copy of the network's layers, with the shapes that the engine must accept.
        blobs: The blobs to return.
        without: Passes to leave out.
    """

    net: Net
    blobs: tuple[str, ...]
    without: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        return self.net.name or "the network"


ENGINES: Registry[str, Callable[[Job], Engine]] = Registry("engine")
