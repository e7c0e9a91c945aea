"""``export_program``: a network as a program of torch.export, whose inputs can have any batch, height and width."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from inspect import Parameter, Signature
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import Shape, shapes_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError
from rmpe_legacy.export.dynamic import AXES, axes_text
from rmpe_legacy.export.python_source import PythonModel, class_name, identifier, to_python
from rmpe_legacy.formats.base import Arrays, NetRunner, RunResult
from rmpe_legacy.reading import first_line

from .verify import random_input, verify


def export_program(net: Net, dynamic: Collection[str] = ("batch",)) -> torch.export.ExportedProgram:
    """Export a network with torch.export, for torch.compile, AOTInductor, ExecuTorch or torch.onnx.

    The program is called with the blobs' names, and returns blob -> tensor: ``program.module()(data=images)``.
    Characters that Python does not allow in an argument's name are replaced by "_". The program is made from the
    operators of model.py, and compared with the network for two further sizes of its inputs.

    Args:
        net: A network in phase TEST, with float32 parameters on the CPU.
        dynamic: Which of "batch", "height" and "width" of the inputs can have any size.

    Raises:
        NetError: torch cannot export the network, or the program computes something else.
        LayerError: A layer requires a fixed size of an axis in `dynamic`, or has no counterpart in PyTorch.
    """
    model = to_python(net, net.name or "a network", "net.pt", (), dynamic)
    graph = model.graph
    outputs = [value.blob for value in graph.outputs]
    arguments = {value.blob: identifier(value.blob) for value in graph.inputs}
    if len({"self", *arguments.values()}) <= len(arguments):
        raise NetError(f"{net.name or 'the network'}: its inputs {', '.join(map(repr, arguments))} have no names of "
                       "their own in Python; rename them")
    module = _by_name(_module(model), list(arguments.values()), outputs).eval()
    random = np.random.default_rng(0)
    example = {name: torch.from_numpy(random_input(random, graph.compared_at[-1][blob]))
               for blob, name in arguments.items()}
    sizes = {arguments[value.blob]: {AXES[axis]: torch.export.Dim.DYNAMIC for axis in graph.dynamic or ()
                          if _is_symbol(value.shape, AXES[axis])} for value in graph.inputs}
    try:
        program = torch.export.export(module, (), example, dynamic_shapes=sizes, strict=False,
                                      prefer_deferred_runtime_asserts_over_guards=True)
    except Exception as error:  # torch raises many kinds, without a common base class
        raise NetError(f"{net.name or 'the network'}: torch.export cannot export it with a dynamic "
                       f"{axes_text(graph.dynamic or ())}: {first_line(error)}. Leave out an axis, or "
                       "load a part that `rmpe convert --until` wrote") from error
    _check(net, _ProgramRunner(program, arguments, outputs), graph.compared_at)
    return program


def _is_symbol(shape: tuple[int | str, ...], axis: int) -> bool:
    return len(shape) > axis and isinstance(shape[axis], str)


def _module(model: PythonModel) -> nn.Module:
    """Run the text of a model.py, which ``to_python`` wrote, and return its module with the weights."""
    module = ModuleType("rmpe_legacy_exported_model")
    module.__file__ = "model.py"
    exec(compile(model.text, "model.py", "exec"), vars(module))
    net: nn.Module = vars(module)[class_name(model.graph.name)]()
    net.load_state_dict(model.state)
    return net.requires_grad_(False)


def _by_name(net: nn.Module, arguments: Sequence[str], outputs: Sequence[str]) -> nn.Module:
    """Return a module that takes the inputs by name and returns a dict; torch.export reads names off the signature."""

    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, **blobs: Tensor) -> dict[str, Tensor]:
            found = self.net(*(blobs[name] for name in arguments))
            return dict(zip(outputs, (found,) if isinstance(found, Tensor) else found, strict=True))

    names = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *arguments)]
    vars(ByName)["forward"].__signature__ = Signature(names)
    return ByName()


class _ProgramRunner:
    """Runs the program; gives its outputs."""

    title = "the exported program"

    def __init__(self, program: torch.export.ExportedProgram, arguments: Mapping[str, str], outputs: Sequence[str]):
        self.module, self.arguments, self.outputs = program.module(), arguments, tuple(outputs)

    def inputs(self) -> None:
        return None

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        with torch.no_grad():
            found = self.module(**{self.arguments[blob]: torch.from_numpy(np.array(value))
                                   for blob, value in inputs.items()})
        return RunResult({name: value.numpy() for name, value in found.items()}, self.outputs)


def _check(net: Net, runner: _ProgramRunner, sizes: Sequence[Mapping[str, Shape]]) -> None:
    for shapes in sizes:
        verdict = verify(NetRunner(net, net.name or "the network"), runner, None, shapes=shapes)
        if not verdict.same:
            raise NetError(f"{net.name or 'the network'}: the exported program is rejected; with "
                           f"{shapes_text(shapes)}, {verdict.sentence}")
