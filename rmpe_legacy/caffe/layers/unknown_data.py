"""Data layers of which nothing is known but that they make the network's data: the caller passes it."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape
from .by_use import sample_by_use
from .fed import FedLayer
from .known_python import number, parameters


class UnknownData(FedLayer):
    """A layer without bottoms that is not supported, with strict=False.

    The shapes of its tops are what the layers that read them need, else an image and numbers.
    """

    guesses = True
    batch = 1
    samples: Sequence[Shape | None] = ()  # of each top, by its use

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.samples = [sample_by_use(top, specs) for top in self.spec.top]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(self.batch, *(sample or ())) for sample in self.samples]


class FedPython(UnknownData):
    """A Python layer without bottoms whose module is not imported: it makes data, so the caller passes its tops."""

    params = ("python_param",)

    def setup(self, *bottom: Shape) -> None:
        self.batch = max(1, int(number(self.spec, parameters(self.spec), "batch_size", 1)))
