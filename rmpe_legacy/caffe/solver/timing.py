"""How long each layer takes, forward and backward: ``caffe time``. Source: tools/caffe.cpp:298-387 of RMPE@5188c23."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rmpe_legacy.caffe.net import Net, Step


@dataclass
class LayerTime:
    """The times of one layer in seconds, one entry per iteration."""

    name: str
    type: str
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """One run of one layer, for a trace: begin and duration in seconds since the first iteration began."""

    layer: str
    type: str
    direction: str  # "forward" or "backward"
    begin: float
    duration: float


@dataclass
class NetTimes:
    """The times of a network, in seconds."""

    layers: list[LayerTime]
    iterations: list[tuple[float, float]] = field(default_factory=list)  # forward and backward, each as a whole
    events: list[Event] = field(default_factory=list)


class Timer:
    """Runs a network layer by layer, so that each can be timed."""

    def __init__(self, net: Net, backward: bool):
        self.net, self.backward = net, backward
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))
        # the prototxt has no values for Input layers: zeros, as Caffe's memory holds then
        self.inputs = {name: torch.zeros(shape, device=self.device) for name, shape in net.inputs.items()}
        self.times = NetTimes([LayerTime(step.layer.spec.name, step.layer.spec.type) for step in net.steps])
        self.begin = 0.0

    def warm_up(self) -> float:
        """Run once without recording, so that memory is allocated; returns the loss."""
        return self._iterate(record=False)[1]

    def run(self, iterations: int) -> Iterator[float]:
        """Run a number of iterations; yields the seconds of each."""
        self.begin = time.perf_counter()
        for _ in range(iterations):
            yield self._iterate(record=True)[0]

    def _iterate(self, record: bool) -> tuple[float, float]:
        """The seconds that it took, and the loss."""
        self.net.zero_grad(set_to_none=True)
        start = time.perf_counter()
        with torch.set_grad_enabled(self.backward):
            turns = list(self._forward(record))
        forward = time.perf_counter() - start
        loss = self._loss(turns)
        start = time.perf_counter()
        if self.backward:
            self._backward(turns, record)
        backward = time.perf_counter() - start
        if record:
            self.times.iterations.append((forward, backward))
        return forward + backward, loss

    def _forward(self, record: bool) -> Iterator[tuple[list[Tensor], tuple[Tensor, ...]]]:
        """Each layer's bottoms, cut off from what made them, and its tops."""
        blobs: dict[str, Tensor] = {}
        for i, step in enumerate(self.net.steps):
            given = [blobs[name] for name in step.bottom]
            bottoms = [self._leaf(step, j, value) for j, value in enumerate(given)]
            if not step.bottom and all(top in self.inputs for top in step.top):
                tops: tuple[Tensor, ...] = tuple(self.inputs[top] for top in step.top)
                seconds, begin = 0.0, time.perf_counter()
            else:
                begin = time.perf_counter()
                result = self._timed(lambda step=step, bottoms=bottoms: step.layer(*bottoms))
                seconds = time.perf_counter() - begin
                tops = (result,) if isinstance(result, Tensor) else tuple(result)
            if record:
                self._add(i, "forward", begin, seconds)
            blobs |= dict(zip(step.top, tops, strict=True))
            yield bottoms, tops

    def _loss(self, turns: Sequence[tuple[list[Tensor], tuple[Tensor, ...]]]) -> float:
        tops = [pair for step, (_, tops) in zip(self.net.steps, turns, strict=True)
                for pair in zip(step.top, tops, strict=True)]
        return sum(self.net.loss_weights[name] * float(top.detach().sum()) for name, top in tops
                   if name in self.net.loss_weights)

    def _leaf(self, step: Step, index: int, value: Tensor) -> Tensor:
        """A bottom as a leaf whose gradient the layer's own backward ends in."""
        needs = self.backward and value.requires_grad and index not in step.cut and index not in step.layer.refuses
        return value.detach().requires_grad_(needs)

    def _backward(self, turns: list[tuple[list[Tensor], tuple[Tensor, ...]]], record: bool) -> None:
        """Takes the turns off the list, so that a layer's memory is free after its backward, as in a training."""
        diffs: dict[str, Tensor] = {}  # blob -> what its readers have sent so far
        for i in reversed(range(len(turns))):
            step, (bottoms, tops) = self.net.steps[i], turns.pop()
            given = [(top, diffs.pop(name, None), self.net.loss_weights.get(name)) for name, top in
                     zip(step.top, tops, strict=True) if top.requires_grad]
            roots = [(top, torch.full_like(top, weight) if diff is None and weight else diff)
                     for top, diff, weight in given if diff is not None or weight]
            begin = time.perf_counter()
            if roots:
                self._timed(lambda roots=roots: torch.autograd.backward(
                    [top for top, _ in roots], [diff for _, diff in roots]))
            if record:
                self._add(i, "backward", begin, time.perf_counter() - begin)
            for name, bottom in zip(step.bottom, bottoms, strict=True):
                if bottom.grad is not None:
                    diffs[name] = bottom.grad

    def _timed(self, call: Callable) -> object:
        result = call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return result

    def _add(self, index: int, direction: str, begin: float, seconds: float) -> None:
        layer = self.times.layers[index]
        getattr(layer, direction).append(seconds)
        self.times.events.append(Event(layer.name, layer.type, direction, begin - self.begin, seconds))


def chrome_trace(times: NetTimes) -> dict:
    """Return the events in the format of Chrome's tracing and Perfetto, with times in microseconds."""
    return {"displayTimeUnit": "ms", "traceEvents": [
        {"name": event.layer, "cat": event.direction, "ph": "X", "pid": 1, "tid": 1, "ts": event.begin * 1e6,
         "dur": event.duration * 1e6, "args": {"type": event.type}} for event in times.events]}
