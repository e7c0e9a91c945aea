"""How long a network takes in an engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rmpe_legacy.caffe.net import Net

from .torch_engines import TorchEngine


class EngineTimer:
    """Times the forward pass of a network in an engine, on the input sizes of the prototxt.

    Attributes:
        engine: The engine's name; for "auto", of the one that was chosen.
        proof: Its comparison with the network.
        seconds: An entry per iteration.
        calls: The same for each call of the engine "torch", under the name of the layer; empty for other engines,
            which cannot be timed inside.
    """

    def __init__(self, net: Net, engine: str):
        compiled = net.compiled(engine)
        self.engine, self.proof = compiled.engine, compiled.proof
        self.seconds: list[float] = []
        self.calls: list[tuple[str, list[float]]] = []
        self._engine = compiled.prepared.engine
        self._inputs = net.bind(None, {name: torch.zeros(shape) for name, shape in net.inputs.items()})
        if type(self._engine) is TorchEngine:
            self._watch(self._engine)

    def run(self, iterations: int) -> Iterator[float]:
        """Run so many iterations, after one that is not recorded; yields each one's seconds."""
        self._seconds()
        for _, seconds in self.calls:
            seconds.clear()
        for _ in range(iterations):
            self.seconds.append(self._seconds())
            yield self.seconds[-1]

    def _seconds(self) -> float:
        begin = time.perf_counter()
        with torch.no_grad():
            outputs = self._engine.run(self._inputs)
        _wait(outputs.values())
        return time.perf_counter() - begin

    def _watch(self, engine: TorchEngine) -> None:
        for call in engine.program.plan.calls:
            spent: list[float] = []
            begun: list[float] = []
            self.calls.append((call.name, spent))
            call.kernel.register_forward_pre_hook(lambda *_, begun=begun: begun.append(time.perf_counter()))
            call.kernel.register_forward_hook(lambda kernel, bottoms, top, spent=spent, begun=begun: _end(
                top, spent, begun))


def _end(top: Tensor | tuple[Tensor, ...], spent: list[float], begun: list[float]) -> None:
    _wait((top,) if isinstance(top, Tensor) else top)
    spent.append(time.perf_counter() - begun.pop())


def _wait(values: Iterable[Tensor]) -> None:
    """Wait for a GPU to finish."""
    if any(value.is_cuda for value in values):
        torch.cuda.synchronize()
