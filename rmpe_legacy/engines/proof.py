"""Compares an engine with the network that it was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import SEED, Verdict, random_input, verify
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.formats.base import Arrays, NetRunner, Runner, RunResult

from .base import EXACT, Engine, Tensors

PIXELS = (-128.0, 127.0)  # range of picture-like inputs: pixels minus their mean


@dataclass(frozen=True)
class Proof:
    """The comparisons that an engine passed, by kind of input."""

    engine: str
    verdicts: Mapping[str, Verdict]

    @property
    def worst(self) -> float:
        """The largest difference, relative to a blob's range."""
        return max(d.relative for verdict in self.verdicts.values() for d in verdict.differences)

    def __str__(self) -> str:
        return "\n".join(f"on {kind} inputs: {verdict.sentence}" for kind, verdict in self.verdicts.items())


class EngineRunner:
    """An engine as one side of ``verify``. shown: the blobs to return besides its outputs; None for all that it
    computes.
    """

    def __init__(self, net: Net, engine: Engine, shown: Collection[str] | None):
        self.net, self.engine, self.shown = net, engine, shown
        self.title = f"engine {engine.name}"

    def inputs(self) -> dict[str, Shape]:
        return dict(self.net.inputs)

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        bound = _bound(self.net, inputs)
        with torch.no_grad():
            outputs = self.engine.run(bound)
            blobs = {} if self.shown is not None and not self.shown else self.engine.blobs(bound, self.shown)
        return _result({**blobs, **outputs}, outputs)

    def run_from(self, inputs: Arrays, wanted: Collection[str], given: Arrays) -> RunResult:
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
        with torch.no_grad():
            blobs = self.engine.blobs(_bound(self.net, inputs), self.shown, tensors)
        return _result(blobs, [name for name in blobs if name in self.net.outputs])


def _result(blobs: Tensors, outputs: Collection[str]) -> RunResult:
    return RunResult({name: value.cpu().numpy() for name, value in blobs.items()}, tuple(outputs))


def in_engine(runner: Runner, engine: str) -> Runner:
    """Return a runner that runs a Caffe network in an engine.

    Raises:
        RmpeError: The runner is not one of a Caffe network, or there is no such engine.
    """
    if not isinstance(runner, NetRunner):
        raise RmpeError(f"{runner.title}: engine {engine!r} runs Caffe networks, given as PROTOTXT,WEIGHTS; leave out "
                        "--engine")
    if engine == EXACT:
        return runner
    return _Unproven(runner, engine)


class _Unproven(EngineRunner):
    """A network in an engine that was not compared with it, prepared when the sizes of its inputs are known."""

    def __init__(self, runner: NetRunner, engine: str):
        self.net, self.shown = runner.net, None
        self.compiled = runner.net.compiled(engine, verify=False)
        self.title = f"{runner.title} in {self.compiled.engine}"

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        self.compiled(_bound(self.net, inputs))
        self.engine = self.compiled.prepared.engine
        return super().run(inputs, wanted)


def _bound(net: Net, inputs: Arrays) -> dict[str, Tensor]:
    return net.bind(None, {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})


def prove(net: Net, engine: Engine, shapes: Mapping[str, Shape]) -> Proof:
    """Run the network and the engine on random and on photograph-like inputs, and compare the blobs of both.

    The second batch has one more image if the engine accepts any batch size.

    Raises:
        NetError: A blob differs by more than 1e-4 of its range and by more than rounding explains; names the first.
    """
    verdicts = {}
    with unchanged(net):
        for kind, values in proof_inputs(shapes, engine.any_batch):
            verdict = _compare(net, engine, values)
            if not verdict.same:
                raise NetError(f"{net.name or 'the network'}: engine {engine.name!r} is rejected: on {kind} inputs it "
                               f"is {verdict.sentence}; use another engine, or 'exact'")
            verdicts[kind] = verdict
    return Proof(engine.name, verdicts)


def _compare(net: Net, engine: Engine, values: Arrays) -> Verdict:
    """Compare all blobs if the engine shows them. Else compare its outputs, and look closer if they differ.

    Behind a layer that picks rows by comparing values, the outputs say little: then the blobs at such layers are
    compared too, as the engine computes them from the network's. The same goes for other layers that turn a small
    difference into a large one.
    """
    exact = NetRunner(net, "exact")
    if engine.shows_blobs:
        return verify(exact, EngineRunner(net, engine, None), values)
    verdict = verify(exact, EngineRunner(net, engine, ()), values)
    for shown in dict.fromkeys((exact.turning, exact.turning | exact.steep)):
        if not verdict.same and shown:
            verdict = verify(exact, EngineRunner(net, engine, shown), values)
    if not verdict.same or verdict.overflows:  # then the outputs alone say nothing
        every = verify(exact, EngineRunner(net, engine, None), values)
        return verdict if every.same and not verdict.overflows else every
    return verdict


def proof_inputs(shapes: Mapping[str, Shape], any_batch: bool) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield a description and the inputs of each comparison: input -> float32 array in the shape of `shapes`."""
    random = np.random.default_rng(SEED)
    yield "random", {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    more = int(any_batch)
    yield "picture-like", {name: random_input(random, (shape[0] + more, *shape[1:]) if shape else shape, PIXELS)
                           for name, shape in shapes.items()}


@contextmanager
def unchanged(net: Net) -> Iterator[None]:
    """Undo what runs of the network leave behind: blobs, and the statistics that some layers collect."""
    kept = [(value, value.detach().clone()) for step in net.steps for declared in step.layer.declared
            if not declared.learns for value in [getattr(step.layer, declared.name)]]
    try:
        yield
    finally:
        for value, before in kept:
            value.data.copy_(before)
        net.remember({}, [])
