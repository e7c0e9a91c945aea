"""How long a network takes in an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from rmpe_legacy.caffe.net import Net

from .layer_times import LayerTimes, wait_for

MAX_PROFILED = 100  # runs over which the times of layers are averaged; profilers record every node of each


class EngineTimer:
    """Times the forward pass of a network in an engine, on the input sizes of the prototxt.

    Attributes:
        engine: The engine's name; for "auto", that of the chosen engine.
        proof: Its comparison with the network.
        seconds: One entry per iteration.
    """

    def __init__(self, net: Net, engine: str):
        compiled = net.compiled(engine)
        self.engine, self.proof = compiled.engine, compiled.proof
        self.seconds: list[float] = []
        self._engine = compiled.prepared.engine
        self._inputs = net.bind(None, {name: torch.zeros(shape) for name, shape in net.inputs.items()})

    def run(self, iterations: int) -> Iterator[float]:
        """Run a number of iterations, after one that is not recorded; yields the seconds of each."""
        self._seconds()
        for _ in range(iterations):
            self.seconds.append(self._seconds())
            yield self.seconds[-1]

    def layers(self, iterations: int) -> LayerTimes:
        """Run the network again and return the mean seconds per run of each layer; empty if the engine cannot tell."""
        with torch.no_grad():
            return self._engine.layer_times(self._inputs, min(iterations, MAX_PROFILED))

    def _seconds(self) -> float:
        begin = time.perf_counter()
        outputs = self._engine.run(self._inputs)
        wait_for(outputs.values())
        return time.perf_counter() - begin
