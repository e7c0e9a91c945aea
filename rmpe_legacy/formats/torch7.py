"""Torch7 files, .t7: converted to a Caffe network to be read, and run by their own modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.load import parse_net
from rmpe_legacy.errors import NetError, RmpeError
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
    if named := [shape for shape in options.input_shapes if shape.name is not None]:
        raise RmpeError(f"{path}: --input-shape {named[0]}: the input of a .t7 file has no name; give C,H,W alone")
    if len(options.input_shapes) > 1:
        raise RmpeError(f"{path}: --input-shape is given {len(options.input_shapes)} times; a .t7 takes one, C,H,W")
    shape = options.input_shapes[0].sizes if options.input_shapes else None
    caffe = torch7_to_caffe(path, shape, parallel=options.parallel, key=options.key)
    source = Torch7Source(path, tuple(caffe.inputs), tuple(caffe.outputs), options.key)
    return Network(path.name, path.stem, parse_net(caffe.net), Setting(), caffe.layers, None, source)


class Torch7Runner:
    """Runs a .t7 file with the modules of ``load_torch7``; outputs are named as in the Caffe network made from it."""

    def __init__(self, source: Torch7Source, title: str, shapes: Mapping[str, Shape]):
        from rmpe_legacy.torch7.load import load_torch7

        self.title, self.source, self.shapes = title, source, dict(shapes)
        self.model = load_torch7(source.path, evaluate=True, key=source.key)

    def inputs(self) -> dict[str, Shape]:
        return self.shapes

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        names = self.source.inputs
        if missing := [name for name in names if name not in inputs]:
            raise NetError(f"{self.title}: its input is called {', '.join(missing)}, the other side's inputs are "
                           f"{', '.join(inputs)}")
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
