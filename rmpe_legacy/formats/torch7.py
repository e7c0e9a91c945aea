"""Torch7 files, .t7: converted to a Caffe network to be read, and run by their own modules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.load import parse_net
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.deploy import InputShape
from rmpe_legacy.torch7.reader import encoding_of

from .base import Arrays, Format, Network, RunResult, Setting, SourceOptions, refuse_setting


@dataclass(frozen=True)
class Torch7Source:
    """A .t7 file, and the names of its inputs and outputs in the Caffe network converted from it."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    key: str | None = None


def is_torch7(path: Path) -> bool:
    """Return whether a file is a Torch7 file, by its suffix or its content."""
    try:
        with open(path, "rb") as file:
            return path.suffix == ".t7" or encoding_of(file.read(4096)) is not None
    except OSError:
        return False  # reported when the file is read


def read_torch7_network(sources: Sequence[Path], setting: Setting, options: SourceOptions, to_run: bool) -> Network:
    """Convert the network of a .t7 file to Caffe."""
    from rmpe_legacy.torch7.to_caffe import torch7_to_caffe

    path = sources[0]
    refuse_setting(path, setting, "a .t7 file")
    batch, shape = _input_shapes(path, options.input_shapes)
    caffe = torch7_to_caffe(path, shape, batch, parallel=options.parallel, key=options.key)
    named = [asked.name for asked in options.input_shapes if asked.name is not None]
    if named and sorted(named) != sorted(caffe.inputs):
        raise RmpeError(f"{path}: --input-shape names {', '.join(map(repr, named))}, but the inputs become "
                        f"{', '.join(map(repr, caffe.inputs))}; name each of them once, or give C,H,W alone")
    source = Torch7Source(path, tuple(caffe.inputs), tuple(caffe.outputs), options.key)
    return Network(path.name, path.stem, parse_net(caffe.net), Setting(), caffe.layers, None, source)


def _input_shapes(path: Path, asked: Sequence[InputShape]) -> tuple[int, Shape | list[Shape] | None]:
    """Return the batch, and C,H,W for all inputs, for each input in the order of their names, or None for their own."""
    if len(asked) > 1 and any(each.name is None for each in asked):
        raise RmpeError(f"{path}: --input-shape is given {len(asked)} times; give C,H,W once for all inputs, or name "
                        "each one: data1=C,H,W")
    ordered = sorted(asked, key=lambda each: (len(each.name or ""), each.name or ""))  # data2 before data10
    batches = {each.sizes[0] for each in ordered if len(each.sizes) == 4} or {1}
    if len(batches) > 1:
        raise RmpeError(f"{path}: --input-shape gives {len(batches)} batch sizes; give one")
    shapes = [each.sizes[1:] if len(each.sizes) == 4 else each.sizes for each in ordered]
    return batches.pop(), None if not shapes else shapes[0] if len(shapes) == 1 else shapes


class Torch7Runner:
    """Runs a .t7 file with the modules of ``load_torch7``; outputs are named as in the Caffe network made from it."""

    def __init__(self, source: Torch7Source, title: str, shapes: Mapping[str, Shape]):
        from rmpe_legacy.torch7.load import load_torch7

        self.title, self.source, self.shapes = title, source, dict(shapes)
        self.model = load_torch7(source.path, evaluate=True, key=source.key)

    def inputs(self) -> dict[str, Shape]:
        return self.shapes

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        names = self.source.inputs
        if missing := [name for name in names if name not in inputs]:
            raise NetError(f"{self.title}: its input is called {', '.join(missing)}, but the other network's inputs "
                           f"are {', '.join(inputs)}")
        values = [torch.from_numpy(np.array(inputs[name])) for name in names]
        with torch.no_grad():
            outputs = _flat(self.model(values[0] if len(values) == 1 else values))
        blobs = {name: value.numpy() for name, value in zip(self.source.outputs, outputs, strict=False)}
        return RunResult({**{name: np.asarray(inputs[name]) for name in names}, **blobs}, tuple(blobs))


def _flat(value: Tensor | list) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for item in value for tensor in _flat(item)]


def _run(path: Path, title: str, setting: Setting, options: SourceOptions) -> Torch7Runner:
    network = read_torch7_network([path], setting, options, False)
    assert network.torch7 is not None
    return Torch7Runner(network.torch7, title, network.shapes)


TORCH7 = Format("a Torch7 file", (".t7",), is_torch7, read_torch7_network, _run)
