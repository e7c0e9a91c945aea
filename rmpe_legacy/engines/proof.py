"""Compares an engine with the network that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

from .base import Engine, Tensors

PIXELS = (-128.0, 127.0)  # range of picture-like inputs: pixels minus their mean


@dataclass(frozen=True)
class Proof:
    """The comparisons that an engine passed, by the kind of inputs."""

    engine: str
    verdicts: Mapping[str, Verdict]

    @property
    def worst(self) -> float:
        """The largest difference, relative to a blob's range."""
        return max(d.relative for verdict in self.verdicts.values() for d in verdict.differences)

    def __str__(self) -> str:
        return "\n".join(f"on {kind} inputs: {verdict.sentence}" for kind, verdict in self.verdicts.items())


class EngineRunner:
    """An engine as a side of ``verify``. every: give all blobs that it computes, not only those it was asked for."""

    def __init__(self, net: Net, engine: Engine, every: bool):
        self.net, self.engine, self.every = net, engine, every
        self.title = f"engine {engine.name}"

    def inputs(self) -> dict[str, Shape]:
        return dict(self.net.inputs)

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        with torch.no_grad():
            return _run(self.engine, _bound(self.net, inputs), self.every)


class CompiledRunner:
    """A ``CompiledNet`` as a side of ``verify``; it is not compared with its network before."""

    def __init__(self, net: Net, title: str, engine: str):
        self.net, self.compiled = net, net.compiled(engine, verify=False)
        self.title = f"{title} in {self.compiled.engine}"

    def inputs(self) -> dict[str, Shape]:
        return dict(self.net.inputs)

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        bound = _bound(self.net, inputs)
        self.compiled(bound)
        with torch.no_grad():
            return _run(self.compiled.prepared.engine, bound, every=True)


def in_engine(runner: Runner, engine: str) -> Runner:
    """Return a runner of a Caffe network that runs it in an engine. Raises RmpeError for other runners."""
    if not isinstance(runner, NetRunner):
        raise RmpeError(f"{runner.title}: engine {engine!r} runs Caffe networks, given as PROTOTXT,WEIGHTS; leave out "
                        "--engine")
    return CompiledRunner(runner.net, runner.title, engine)


def _bound(net: Net, inputs: Arrays) -> dict[str, Tensor]:
    return net.bind(None, {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})


def _run(engine: Engine, bound: Tensors, every: bool) -> RunResult:
    outputs = engine.run(bound)
    blobs = {**engine.blobs(bound), **outputs} if every else outputs
    return RunResult({name: value.cpu().numpy() for name, value in blobs.items()}, tuple(outputs))


def prove(net: Net, engine: Engine, shapes: Mapping[str, Shape]) -> Proof:
    """Run the network and the engine on random and on picture-like inputs, and compare every blob that both have.

    The second batch has one more image if the engine takes any batch.

    Raises:
        NetError: A blob differs by more than 1e-4 of its range and by more than rounding explains; names the first.
    """
    verdicts = {}
    with unchanged(net):
        for kind, values in proof_inputs(shapes, engine.any_batch):
            verdict = _compare(net, engine, values, engine.shows_blobs)
            if not verdict.same and not engine.shows_blobs:
                closer = _compare(net, engine, values, every=True)
                verdict = verdict if closer.same else closer
            if not verdict.same:
                raise NetError(f"{net.name or 'the network'}: engine {engine.name!r} is refused: on {kind} inputs it "
                               f"is {verdict.sentence}; use another engine, or 'exact'")
            verdicts[kind] = verdict
    return Proof(engine.name, verdicts)


def _compare(net: Net, engine: Engine, values: Arrays, every: bool) -> Verdict:
    return verify(NetRunner(net, "exact"), EngineRunner(net, engine, every), values)


def proof_inputs(shapes: Mapping[str, Shape], any_batch: bool) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield a description and the inputs of each comparison."""
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
