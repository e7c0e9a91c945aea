"""How long each layer takes, forward and backward: ``caffe time``. Source: tools/caffe.cpp:298-387 of RMPE@5188c23."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step

Result = TypeVar("Result")


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


@dataclass
class Turn:
    """What a layer's backward needs of its forward, without the blobs themselves."""

    diffs: dict[int, Tensor]  # bottom's index -> its gradient, after the backward
    roots: list[tuple[str, GradientEdge, Tensor | None]] = field(default_factory=list)  # a top, and a loss's gradient
    loss: float = 0.0


class _Cut(torch.autograd.Function):
    """Ends a layer's backward at its bottom. A leaf would do so too, but it keeps the bottom's memory."""

    @staticmethod
    def forward(ctx, value: Tensor, anchor: Tensor, index: int, diffs: dict[int, Tensor]) -> Tensor:
        ctx.index, ctx.diffs = index, diffs
        return value.detach()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[None, None, None, None]:
        ctx.diffs[ctx.index] = grads[0]
        return None, None, None, None


class Timer:
    """Runs a network layer by layer, so that each can be timed."""

    def __init__(self, net: Net, backward: bool):
        self.net, self.backward = net, backward
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))
        # the prototxt has no values for Input layers: zeros, as Caffe's memory holds then
        self.inputs = {name: torch.zeros(shape, device=self.device) for name, shape in net.inputs.items()}
        self.times = NetTimes([LayerTime(step.layer.spec.name, step.layer.spec.type) for step in net.steps])
        self.anchor = torch.zeros((), requires_grad=True)  # makes autograd record a cut
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
        loss = sum(turn.loss for turn in turns)
        start = time.perf_counter()
        if self.backward:
            self._backward(turns, record)
        backward = time.perf_counter() - start
        if record:
            self.times.iterations.append((forward, backward))
        return forward + backward, loss

    def _forward(self, record: bool) -> Iterator[Turn]:
        """Free each blob after its last reader, as the network itself does: fresh memory costs time."""
        blobs: dict[str, Tensor] = {}
        for i, step in enumerate(self.net.steps):
            diffs: dict[int, Tensor] = {}
            bottoms = [self._cut(step, j, blobs[name], diffs) for j, name in enumerate(step.bottom)]
            if not step.bottom and all(top in self.inputs for top in step.top):
                tops: tuple[Tensor, ...] = tuple(self.inputs[top] for top in step.top)
                seconds, begin = 0.0, time.perf_counter()
            else:
                begin = time.perf_counter()
                result: Any = self._timed(step.layer, *bottoms)
                seconds = time.perf_counter() - begin
                tops = (result,) if isinstance(result, Tensor) else tuple(result)
                del result
            if record:
                self._add(i, "forward", begin, seconds)
            yield self._turn(step, tops, diffs)
            blobs |= dict(zip(step.top, tops, strict=True))
            for name in step.free:
                del blobs[name]
            del bottoms, tops

    def _turn(self, step: Step, tops: Sequence[Tensor], diffs: dict[int, Tensor]) -> Turn:
        turn = Turn(diffs)
        for name, top in zip(step.top, tops, strict=True):
            weight = self.net.loss_weights.get(name)
            if weight is not None:
                turn.loss += weight * float(top.detach().sum())
            if top.requires_grad:
                turn.roots.append((name, get_gradient_edge(top), torch.full_like(top, weight) if weight else None))
        return turn

    def _cut(self, step: Step, index: int, value: Tensor, diffs: dict[int, Tensor]) -> Tensor:
        """A bottom where the layer's own backward ends; its gradient goes into diffs."""
        if self.backward and value.requires_grad and index not in step.cut and index not in step.layer.refuses:
            return _Cut.apply(value.detach(), self.anchor, index, diffs)
        return value.detach()

    def _backward(self, turns: list[Turn], record: bool) -> None:
        """Takes the turns off the list, so that a layer's memory is free after its backward, as in a training."""
        diffs: dict[str, Tensor] = {}  # blob -> the gradient from its reader
        for i in reversed(range(len(turns))):
            step, turn = self.net.steps[i], turns.pop()
            given = [(edge, diffs.pop(name, seed)) for name, edge, seed in turn.roots]
            roots = [edge for edge, diff in given if diff is not None]
            grads = [diff for _, diff in given if diff is not None]
            turn.roots.clear()
            del given
            begin = time.perf_counter()
            if roots:
                self._timed(torch.autograd.backward, roots, grads)
            if record:
                self._add(i, "backward", begin, time.perf_counter() - begin)
            diffs |= {step.bottom[j]: diff for j, diff in turn.diffs.items()}
            del roots, grads, turn

    def _timed(self, call: Callable[..., Result], *arguments: Any) -> Result:
        result = call(*arguments)
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
