"""The engines that need nothing but torch: our own passes, and torch.compile."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.graph import Graph, make_graph
from rmpe_legacy.reading import first_line

from .base import ENGINES, EXACT, NOTHING, Engine, Job, Tensors
from .layer_times import LayerTimes, module_times
from .passes import PLAN_PASSES, optimize
from .plan import Program, split

_ANY = 1 << 30
_LEFT_TO_INDUCTOR = frozenset(PLAN_PASSES) - {"kernels", "nearest"}


class ExactEngine:
    """The network itself, as the reference for the other engines."""

    name = EXACT
    any_batch = shows_blobs = True

    def __init__(self, job: Job):
        self.net, self.wanted = job.net, job.blobs
        self.net.keep_blobs = not set(self.wanted) <= set(self.net.outputs)

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        with torch.no_grad():
            outputs = self.net(inputs)
        return {name: outputs[name] if name in outputs else self.net.blobs[name] for name in self.wanted}

    def blobs(self, inputs: Tensors, shown: Collection[str] | None = None, given: Tensors = NOTHING
              ) -> dict[str, Tensor]:
        """Return only the outputs, in their blobs' shapes: the other engines are compared with this one."""
        return self.run(inputs)

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        layers = [(step.layer.spec.name, step.layer) for step in self.net.steps if not step.layer.spec.is_inserted]
        return module_times(layers, lambda: self.run(inputs), iterations)


class TorchEngine:
    """The network after the passes of ``passes``."""

    name = "torch"

    def __init__(self, graph: Graph, without: frozenset[str]):
        self.program = Program(optimize(graph, without))
        self.inputs = [value.blob for value in graph.inputs]
        self.outputs = [value.blob for value in graph.outputs]
        self.any_batch = graph.is_dynamic
        self.whole = self.program.plan.whole
        self.shows_blobs = self.whole is None

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        if self.whole is None:
            return self._run_program(inputs)
        # A Module's __call__ and no_grad would take as long as the network.
        return dict(zip(self.outputs, self.whole.forward(*map(inputs.__getitem__, self.inputs)), strict=True))

    def _run_program(self, inputs: Tensors) -> dict[str, Tensor]:
        with torch.no_grad():
            tops = self.program(*[inputs[name] for name in self.inputs])
        return dict(zip(self.outputs, tops, strict=True))

    def blobs(self, inputs: Tensors, shown: Collection[str] | None = None, given: Tensors = NOTHING
              ) -> dict[str, Tensor]:
        found = self.program.blobs([inputs[name] for name in self.inputs], given)
        return {blob: value for blob, value in found.items() if shown is None or blob in {*shown, *self.outputs}}

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        kernels = [(call.name, call.kernel) for call in self.program.plan.calls]
        return module_times(kernels, lambda: self._run_program(inputs), iterations)


class InductorEngine(TorchEngine):
    """The network after the first passes, compiled by torch.compile with the weights as constants.

    Only the calls before the first one that selects rows, such as DetectionOutput, are compiled: the number of rows
    differs from image to image.
    """

    name = "inductor"

    def __init__(self, graph: Graph, without: frozenset[str]):
        super().__init__(graph, without | _LEFT_TO_INDUCTOR)
        self.shows_blobs = False
        self.any_batch = False  # every size is compiled
        self.title = graph.name or "the network"
        plan = self.program.plan
        choosing = (i for i, call in enumerate(plan.calls) if call.kernel.chooses_rows)
        before, rest = split(plan, next(choosing, len(plan.calls)))
        self.before = Program(before)
        self.compiled = torch.compile(self.before, dynamic=False, fullgraph=True, options={"freezing": True})
        self.rest = Program(rest)
        self.is_compiled = False

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        try:
            with torch.no_grad():
                values = [inputs[name] for name in self.inputs]
                made = self.compiled(*values) if self.is_compiled else self._compile(values)
                return dict(zip(self.outputs, self.rest(*values, *made), strict=True))
        except RmpeError:
            raise
        except Exception as error:  # torch.compile lets through what the compilers behind it raise
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise NetError(f"{self.title}: engine 'inductor' cannot compile it: {first_line(error)}") from error

    def _compile(self, values: list[Tensor]) -> tuple[Tensor, ...]:
        """The first run. Before it, layers compute what they keep for one input size: PriorBox's boxes, which come out
        wrong where torch 2.13 compiles them."""
        self.before(*values)
        with _compiling():
            made = self.compiled(*values)
        self.is_compiled = True
        return made

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        """Return nothing: torch.compile makes kernels that belong to no single layer."""
        return {}


@contextmanager
def _compiling() -> Iterator[None]:
    """Let torch.compile compile any number of networks in a process, and keep its warnings off standard error.

    It counts them as one function that is compiled anew, which it refuses after 8 times. And what it keeps on disk, it
    takes again on a processor, or with an ATEN_CPU_CAPABILITY, of another instruction set: torch 2.13 then computes
    nonsense or aborts.
    """
    from torch._dynamo import config  # takes a second to import
    from torch.compiler import config as compiler_config

    log = logging.getLogger("torch._dynamo")
    level, tag = log.level, compiler_config.cache_key_tag
    log.setLevel(logging.ERROR)
    compiler_config.cache_key_tag = f"{tag} {_instruction_sets()}"
    try:
        with config.patch(recompile_limit=_ANY, accumulated_recompile_limit=_ANY):
            yield
    finally:
        log.setLevel(level)
        compiler_config.cache_key_tag = tag


def _instruction_sets() -> str:
    """Return which instruction sets torch and oneDNN use."""
    return f"{torch.backends.cpu.get_cpu_capability()} {os.environ.get('ONEDNN_MAX_CPU_ISA', '')}"


@ENGINES.register("torch")
def make_torch(job: Job) -> Engine:
    return TorchEngine(make_graph(job.net, job.blobs), job.without)


@ENGINES.register("inductor")
def make_inductor(job: Job) -> Engine:
    return InductorEngine(make_graph(job.net, job.blobs), job.without)


@ENGINES.register(EXACT)
def make_exact(job: Job) -> Engine:
    return ExactEngine(job)
