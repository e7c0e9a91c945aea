"""The ``torch`` engine's form of a network: calls in order of execution, on values in SSA form."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.step import NOT_RESHAPED, Step, run_step
from rmpe_legacy.export.graph import Graph, Node, Value

if TYPE_CHECKING:
    from typing_extensions import Self

# Types whose layers compute the same whatever the memory format is, and whose tops have that of their bottoms.
ANY_FORMAT = frozenset({"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log", "Threshold",
                        "Dropout", "Clip", "Swish", "BatchNorm", "Concat", "Slice", "Split", "Eltwise",
                        "Pooling"})


class Kernel(nn.Module):
    """Computes one call: a subclass's forward takes the call's bottoms and returns its top."""

    fresh = True  # the top is new memory, which a later call may overwrite
    chooses_rows = False  # as of a layer

    def fused(self, **changes: Any) -> Self:
        """Return a copy with other attributes, such as relu=True."""
        made = copy.copy(self)
        made._parameters, made._modules = dict(self._parameters), dict(self._modules)
        for name, value in changes.items():
            setattr(made, name, value)
        return made


class LayerCall(Kernel):
    """Runs a layer of the network, reshaping it for its bottoms first."""

    fresh = False  # it may be a view, or the bottom itself

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer
        self.step = Step(layer, layer.spec.bottom, layer.spec.top, bottom_shapes=NOT_RESHAPED)
        self.any_format = layer.spec.type in ANY_FORMAT
        self.chooses_rows = layer.chooses_rows

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        if not self.any_format:
            bottoms = tuple(bottom.contiguous() for bottom in bottoms)
        return run_step(self.step, bottoms)


class Reshaped(Kernel):
    """Gives a value the shape of another blob, with which it shares memory in Caffe."""

    fresh = False

    def __init__(self, shape: Sequence[int | str]):
        super().__init__()
        self.shape = [dim if isinstance(dim, int) else -1 for dim in shape]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


@dataclass(frozen=True)
class Call:
    """One kernel with the values it reads and makes.

    Attributes:
        name: The layer whose tops it makes.
        overwrites: The bottoms whose memory it reuses; their values are lost.
    """

    name: str
    kernel: Kernel
    bottom: tuple[Value, ...]
    top: tuple[Value, ...]
    overwrites: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The calls of a network.

    Attributes:
        blobs: Blob -> its final value, which need not exist in the plan.
        whole: Computes the outputs as all calls together do, but faster; None if only the calls do.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    blobs: Mapping[str, Value]
    whole: Kernel | None = None

    def with_calls(self, calls: Iterable[Call]) -> Plan:
        return replace(self, calls=tuple(calls))

    def readers(self) -> Counter[Value]:
        """Return how often each value is read; being an output counts as well."""
        return Counter(value for call in self.calls for value in call.bottom) + Counter(self.outputs)

    def makers(self) -> dict[Value, int]:
        """Return the index of the call that makes each value."""
        return {value: i for i, call in enumerate(self.calls) for value in call.top}


Pass = Callable[[Plan], Plan]


def make_plan(graph: Graph) -> Plan:
    """Return a graph's plan, in which each layer computes its own tops."""
    return Plan(graph.inputs, graph.outputs, tuple(map(_call, graph.nodes)), graph.final)


def _call(node: Node) -> Call:
    if node.layer is None:
        return Call(node.top[0].name, Reshaped(node.top[0].shape), node.bottom, node.top)
    return Call(node.layer.spec.name, LayerCall(node.layer), node.bottom, node.top)


def split(plan: Plan, at: int) -> tuple[Plan, Plan]:
    """Return the calls before one of them, and the rest.

    The first part's outputs are what the rest reads of it. The rest's inputs are the plan's, and then these.
    """
    before, rest = plan.calls[:at], plan.calls[at:]
    made = {value for call in before for value in call.top}
    read = dict.fromkeys([*(value for call in rest for value in call.bottom), *plan.outputs])
    passed = tuple(value for value in read if value in made)
    return (replace(plan, outputs=passed, calls=before, whole=None),
            replace(plan, inputs=(*plan.inputs, *passed), calls=rest, whole=None))


class Program(nn.Module):
    """Runs a plan: tensors in the order of its inputs -> tensors in the order of its outputs.

    A value is released after its last reader. Values are numbered once, because hashing them is most of the time that
    Python spends on a small network.
    """

    def __init__(self, plan: Plan):
        super().__init__()
        self.plan = plan
        self.kernels = nn.ModuleList(call.kernel for call in plan.calls)
        made = (value for call in plan.calls for value in (*call.bottom, *call.top))
        place = {value: i for i, value in enumerate(dict.fromkeys((*plan.inputs, *made)))}
        last = {value: i for i, call in enumerate(plan.calls) for value in (*call.bottom, *call.top)}
        self._turns = [
            (call.kernel, [place[value] for value in call.bottom], [place[value] for value in call.top],
             [place[value] for value in dict.fromkeys((*call.bottom, *call.top))
              if last[value] == i and value not in plan.outputs])
            for i, call in enumerate(plan.calls)]
        self._outputs = [place[value] for value in plan.outputs]
        self._unset: list[Tensor | None] = [None] * (len(place) - len(plan.inputs))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: list[Any] = [*inputs, *self._unset]
        for kernel, bottom, top, done in self._turns:
            made = kernel(*[values[i] for i in bottom])
            if isinstance(made, torch.Tensor):
                values[top[0]] = made
            else:
                for i, value in zip(top, made, strict=True):
                    values[i] = value
            for i in done:
                values[i] = None
        return tuple([values[i].contiguous() for i in self._outputs])

    def blobs(self, inputs: Sequence[Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the plan and return every blob whose final value is computed, in the order of computation.

        Args:
            inputs: One tensor per input of the plan, in its order and shapes.
            given: Blob -> Tensor, in the blob's shape: calls read these values instead of the computed ones.
        """
        values: dict[Value, Tensor] = dict(zip(self.plan.inputs, inputs, strict=True))
        made = dict(values)
        for call in self.plan.calls:
            values |= {value: values[value].clone() for value in call.overwrites}
            found: Any = call.kernel(*(values[value] for value in call.bottom))
            tops = (found,) if isinstance(found, torch.Tensor) else found
            for value, top in zip(call.top, tops, strict=True):
                made[value] = values[value] = top
                if value.blob in given and self.plan.blobs.get(value.blob) == value:
                    values[value] = given[value.blob].to(values[value], copy=True)
        return {value.blob: tensor.contiguous() for value, tensor in made.items()
                if self.plan.blobs.get(value.blob) == value}

