"""Small networks for tests of layers: inputs, and what stands between them and the output."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net

Shape = tuple[int, ...]


def layer(type: str, bottom: str = "x", top: str = "y", rest: str = "", name: str = "layer") -> str:
    """One layer of a prototxt; bottom and top: names with blanks between them."""
    wiring = "".join(f'bottom: "{b}" ' for b in bottom.split()) + "".join(f'top: "{t}" ' for t in top.split())
    return f'layer {{ name: "{name}" type: "{type}" {wiring}{rest} }}\n'


def net_of(layers: str, inputs: Mapping[str, Shape] | Shape, **options) -> Net:
    """A network with these inputs, each of which takes a gradient where the layer lets it."""
    inputs = {"x": inputs} if isinstance(inputs, tuple) else inputs
    text = "force_backward: true\n" + "".join(
        layer("Input", "", name, f"input_param {{ shape {{ {' '.join(f'dim: {d}' for d in shape)} }} }}", name)
        for name, shape in inputs.items()) + layers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(text)
        return load_net(path, **{"dialect": "rmpe"} | options)


def normal(*shape: int, seed: int = 1701, **options) -> torch.Tensor:
    """Normally distributed numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)
