"""``Passes``: the layers' forward and Backward, one at a time, on the blobs that a script sees.

Source: Net::Init, ForwardFromTo, BackwardFromTo (net.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.fillers import fill
from rmpe_legacy.caffe.layers.gradient import overwrite, share
from rmpe_legacy.caffe.layers.python import Python
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step, run_step

from .blob import Blob


class Passes:
    """Runs the steps of a network, in any order.

    Args:
        net: The network.
        blobs: Its blobs by name.
        records: Whether each forward keeps what a backward needs; if False, a backward runs the layers again.
    """

    def __init__(self, net: Net, blobs: Mapping[str, Blob], records: bool):
        self._net, self._steps, self._blobs = net, net.steps, blobs
        self._needs = needs_backward(net)
        self._records = records and any(needed for needed, _ in self._needs)
        self._graphs: dict[int, tuple[list[Tensor], Sequence[Tensor]]] = {}  # step -> its bottoms and tops
        self._written: dict[str, Tensor] = {}  # blob -> what its last writer gave, with its graph
        for step in self._steps:
            if step.layer.spec.type == "DummyData":
                self._write_constants(step)

    def forward(self, i: int) -> list[tuple[float, Tensor]]:
        """Run one step into its blobs; returns its losses, scalars or tensors of values, with their weights.

        Raises:
            LayerError: The layer cannot compute it.
        """
        with torch.set_grad_enabled(self._records):
            return self._forward(i)

    def _forward(self, i: int) -> list[tuple[float, Tensor]]:
        step = self._steps[i]
        kind = step.layer.spec.type
        if kind == "Input":
            return []
        bottoms = [self._blobs[name].data_memory.read() for name in step.bottom]
        if self._records:
            bottoms = self._leaves(i, bottoms)
        tops = run_step(step, bottoms)
        if self._records:
            self._graphs[i] = (bottoms, tops)
            self._note_memory(step, tops)
        fixed = _constants(step) if kind == "DummyData" else ()
        for j, (name, top) in enumerate(zip(step.top, tops, strict=True)):
            if j in fixed:
                continue
            value = top.detach()
            if not step.layer.shares_data and _is_one_of(value, step, bottoms, j):
                value = value.clone()
            self._blobs[name].data_memory.write(value)
            for other in step.alters if name in step.bottom else ():
                memory = self._blobs[other].data_memory
                memory.write(value.view(memory.shape))
        weights = self._net.loss_weights
        return [(weights[name], top) for name, top in zip(step.top, tops, strict=True) if name in weights]

    def _leaves(self, i: int, bottoms: Sequence[Tensor]) -> list[Tensor]:
        """Bottoms as the beginning of a step's own graph."""
        _, needed = self._needs[i]
        return [bottom.detach().requires_grad_(need) for bottom, need in zip(bottoms, needed, strict=True)]

    def _note_memory(self, step: Step, tops: Sequence[Tensor]) -> None:
        """Tell layers whose Backward reads their top that another has worked on it in place."""
        for name, top in zip(step.top, tops, strict=True):
            source = name if name in step.bottom else step.bottom[0] if step.layer.shares_data else None
            before = self._written.get(source) if source is not None else None
            if before is not None:
                (overwrite if source == name else share)(before, top)
            self._written[name] = top

    def _write_constants(self, step: Step) -> None:
        """Fill the tops of a DummyData layer that have constant fillers: once, so that a script can set them."""
        for j in _constants(step):
            fill(self._blobs[step.top[j]].data_memory.read(), step.layer.fillers[j])

    def backward(self, i: int) -> None:
        """Run one step's Backward, if the network needs it: into its bottoms' and its parameters' diffs.

        Raises:
            LayerError: The layer has no gradient for a bottom that needs one.
        """
        is_needed, needed = self._needs[i]
        if not is_needed:
            return
        step, layer = self._steps[i], self._steps[i].layer
        if refused := [name for j, name in enumerate(step.bottom) if needed[j] and j in layer.refuses]:
            raise layer.spec.error(f"cannot compute a gradient for its bottom {refused[0]!r}; set propagate_down: "
                                   "false for it, or remove the parameters that learn below it")
        parameters = [p for declared in layer.declared if (p := getattr(layer, declared.name)).requires_grad]
        if not any(needed) and not parameters:
            return
        leaves, tops = self._graphs.get(i) or self._replay(i)
        outputs = [(top, self._blobs[name].diff_tensor()) for name, top in zip(step.top, tops, strict=True)
                   if top.requires_grad]
        wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need] + parameters
        gradients: list[Tensor | None] = [None] * len(wanted)
        if outputs:
            gradients = list(torch.autograd.grad([top for top, _ in outputs], wanted, [diff for _, diff in outputs],
                                                 retain_graph=True, allow_unused=True))
        for name in [name for name, need in zip(step.bottom, needed, strict=True) if need]:
            self._write_diff(name, gradients.pop(0), [diff for _, diff in outputs])
        if isinstance(layer, Python):  # it has written into the parameters' diffs itself
            return
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)

    def _write_diff(self, name: str, gradient: Tensor | None, seeds: Sequence[Tensor]) -> None:
        blob = self._blobs[name]
        if gradient is None:
            gradient = torch.zeros_like(blob.data_memory.read())
        elif any(_same_storage(gradient, seed) for seed in seeds):
            gradient = gradient.clone()
        blob.diff_memory.write(gradient)

    def _replay(self, i: int) -> tuple[list[Tensor], Sequence[Tensor]]:
        """The graph of a step whose forward kept none, from the blobs as they are now."""
        with torch.enable_grad():
            leaves = self._leaves(i, [self._as_read(i, name) for name in self._steps[i].bottom])
            return leaves, run_step(self._steps[i], leaves)

    def _as_read(self, i: int, name: str) -> Tensor:
        """A bottom as step i read it: what the blob holds, or, where a layer has worked on it in place since, what
        its last writer before gives again."""
        writers = [k for k, step in enumerate(self._steps) if name in step.top]
        before = [k for k in writers if k < i]
        source = self._steps[before[-1]] if before else None
        if source is None or before == writers or not source.bottom:
            return self._blobs[name].data_memory.read()
        with torch.no_grad():
            tops = run_step(source, [self._as_read(before[-1], bottom) for bottom in source.bottom])
        return tops[source.top.index(name)]


def needs_backward(net: Net) -> list[tuple[bool, list[bool]]]:
    """Return, for each step, whether it runs in a backward, and which of its bottoms receive a diff.

    Source: Net::Init (net.cpp:98-263) of RMPE@5188c23.
    """
    learned: set[str] = set()
    layers, bottoms = [], []
    for step in net.steps:
        spec, layer = step.layer.spec, step.layer
        asked = spec.propagate_down or [name in learned for name in step.bottom]
        needed = any(name in learned for name in step.bottom) or any(map(layer.learns, range(len(layer.declared))))
        if needed:
            learned |= set(step.top)
        layers.append(needed)
        bottoms.append(list(asked))
    under_loss: set[str] = set()
    skipped: set[str] = set()
    for i, step in reversed(list(enumerate(net.steps))):
        contributes = any(top in under_loss or top in net.loss_weights for top in step.top)
        if not contributes or all(top in skipped for top in step.top):
            layers[i] = False
        if not layers[i]:
            bottoms[i] = [False] * len(step.bottom)
        under_loss |= set(step.bottom) if contributes else set()
        skipped |= {name for name, needed in zip(step.bottom, bottoms[i], strict=True) if not needed}
    if net.force_backward:
        layers = [True] * len(layers)
        bottoms = [[needed or j not in step.layer.unforced for j, needed in enumerate(wanted)]
                   for step, wanted in zip(net.steps, bottoms, strict=True)]
    return list(zip(layers, bottoms, strict=True))


def _constants(step: Step) -> tuple[int, ...]:
    """The tops of a DummyData layer that have constant fillers."""
    return tuple(j for j, filler in enumerate(step.layer.fillers) if filler.type == "constant")


def _is_one_of(value: Tensor, step: Step, bottoms: Sequence[Tensor], top: int) -> bool:
    """Whether a top lies in the memory of a bottom other than the one that it replaces."""
    return any(_same_storage(value, bottom) for j, bottom in enumerate(bottoms) if step.bottom[j] != step.top[top])


def _same_storage(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
