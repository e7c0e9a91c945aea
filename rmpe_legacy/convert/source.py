"""What is to be converted: a network from whatever files hold one, or weights alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.layers.base import Shape
from rmpe_legacy.load import ParsedNet, parse_net
from rmpe_legacy.net import Net, Step, wire
from rmpe_legacy.proto.caffemodel import StoredBlob, TrainedLayer, read_weights
from rmpe_legacy.proto.message import Message
from rmpe_legacy.proto.text import read_text
from rmpe_legacy.torch7.reader import encoding_of
from rmpe_legacy.weights import NamedLayer, named_layers, read_state, read_trained, trained_layers

from .network_json import Setting, read_json_network
from .prune import up_to


@dataclass(frozen=True)
class Torch7Options:
    """How a .t7 file is to be taken; as the arguments of ``torch7_to_caffe``."""

    input_shape: tuple[int, ...] | None = None
    parallel: bool = True


@dataclass(frozen=True)
class Torch7Source:
    """A .t7 file, and what its inputs and outputs are called in the Caffe network made of it."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A network at hand: its description, its weights as the file has them, and what it came from."""

    title: str  # for reports: the files' names
    stem: str  # a name for what is made of it
    parsed: ParsedNet
    setting: Setting
    trained: list[TrainedLayer] | None  # as stored; None: there are none
    prototxt: Path | None  # where the network is a prototxt already
    torch7: Torch7Source | None = None
    until: tuple[str, ...] = ()

    @cached_property
    def net(self) -> Net:
        """The network built, with its weights."""
        return self.parsed.build(self.trained, keep_blobs=True)

    @property
    def message(self) -> Message:
        return self.parsed.message

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """What it is fed with: the tops of its input and data layers. Needs no weights."""
        return input_shapes(wire(self.parsed.specs))

    @cached_property
    def layers(self) -> list[NamedLayer]:
        """The layers with parameters."""
        return named_layers(self.net.steps)

    @cached_property
    def weights(self) -> list[TrainedLayer]:
        """A layer's blobs for each of `layers`: every bit as stored, where the file has them."""
        stored: dict[str, tuple[StoredBlob | None, ...]] = {}
        for layer in self.trained or ():
            stored.setdefault(layer.name, layer.blobs)
        out = []
        for made in trained_layers(self.net):
            theirs = [*stored.pop(made.name, ()), *[None] * len(made.blobs)]
            blobs = tuple(mine if blob is None else StoredBlob(mine.shape, blob.data)
                          for mine, blob in zip(made.blobs, theirs, strict=False))
            out.append(TrainedLayer(made.name, made.type, blobs))
        return out

    @cached_property
    def owned(self) -> list[TrainedLayer]:
        """The same with None for a blob that an earlier layer owns: every parameter once."""
        seen: set[int] = set()
        out = []
        for layer, params in zip(self.weights, self._parameters(), strict=True):
            blobs = tuple(None if id(p) in seen else blob for p, blob in zip(params, layer.blobs, strict=True))
            seen |= {id(p) for p in params}
            out.append(TrainedLayer(layer.name, layer.type, blobs))
        return out

    def _parameters(self):
        for step in self.net.steps:
            if step.layer.declared:
                yield [getattr(step.layer, declared.name) for declared in step.layer.declared]


def read_network(sources: Sequence[str | PathLike], setting: Setting, until: Sequence[str] = (),
                 torch7: Torch7Options | None = None, weights_needed: bool = True) -> Network:
    """The network of: a prototxt; a prototxt and a weights file; a converted .json or .safetensors; a .t7 file.

    until: keep only what these blobs depend on. RmpeError says what is wrong with the files, or, with
    `weights_needed`, that the network has parameters and no file gives them values.
    """
    network = _read([Path(source) for source in sources], setting, torch7 or Torch7Options())
    if weights_needed and network.trained is None:
        _refuse_without_weights(network)
    if not until:
        return network
    message = up_to(network.net, network.message, until)
    s = network.setting
    parsed = parse_net(message, s.phase, s.level, s.stages, s.de_transform, allow_python=s.allow_python)
    names = {spec.name for spec in parsed.specs}
    trained = None if network.trained is None else [layer for layer in network.trained if layer.name in names]
    return Network(network.title, network.stem, parsed, s, trained, None, network.torch7, tuple(until))


def _refuse_without_weights(network: Network) -> None:
    bare = [step.layer.spec.name for step in wire(network.parsed.specs) if step.layer.declared]
    if bare:
        raise NetError(f"{network.title}: has parameters ({', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''}), "
                       "and no weights are given; give the caffemodel too")


def _read(sources: Sequence[Path], setting: Setting, torch7: Torch7Options) -> Network:
    first, title = sources[0], " and ".join(source.name for source in sources)
    if len(sources) > 2:
        raise RmpeError(f"{len(sources)} sources are given; a prototxt and a weights file are the most")
    if len(sources) == 1 and is_torch7(first):
        return _from_torch7(first, torch7)
    if len(sources) == 1 and is_converted(first):
        parsed, weights, setting = read_json_network(first, setting.allow_python)
        trained = None if weights is None else read_trained(weights, parsed.specs)
        return Network(title, first.stem, parsed, setting, trained, None)
    parsed = parse_net(read_text(first, "NetParameter", setting.dialect), setting.phase, setting.level, setting.stages,
                       setting.de_transform, allow_python=setting.allow_python)
    trained = None if len(sources) == 1 else read_trained(sources[1], parsed.specs)
    stem = sources[-1].name.removesuffix(".h5").removesuffix(sources[-1].suffix)
    return Network(title, stem, parsed, setting, trained, first)


def _from_torch7(path: Path, options: Torch7Options) -> Network:
    from rmpe_legacy.torch7.to_caffe import torch7_to_caffe

    made = torch7_to_caffe(path, options.input_shape, parallel=options.parallel)
    source = Torch7Source(path, tuple(made.inputs), tuple(made.outputs))
    return Network(path.name, path.stem, parse_net(made.net), Setting(), made.layers, None, source)


def input_shapes(steps: Sequence[Step]) -> dict[str, Shape]:
    """What a network is fed with: the tops of its input and data layers."""
    return {top: shape for step in steps if not step.bottom and step.layer.spec.type != "Parameter"
            for top, shape in zip(step.top, step.top_shapes, strict=True)}


def is_torch7(path: Path) -> bool:
    """Whether a file is one of Torch7's."""
    try:
        with open(path, "rb") as file:
            return path.suffix == ".t7" or encoding_of(file.read(4096)) is not None
    except OSError:
        return False  # whoever reads it says why


def is_converted(path: Path) -> bool:
    """Whether this is what ``rmpe convert`` writes as .safetensors and .json: a network."""
    return path.suffix == ".json" or (path.suffix == ".safetensors" and path.with_suffix(".json").exists())


def is_weights(path: Path) -> bool:
    """Whether a file holds weights without a network."""
    if is_torch7(path) or is_converted(path):
        return False
    try:
        with open(path, "rb") as file:
            return b"\0" in file.read(4096)
    except OSError:
        return False  # whoever reads it says why


def read_weights_alone(path: str | PathLike) -> list[TrainedLayer]:
    """The layers of a weights file without its network: a caffemodel, an HDF5 file, or a safetensors of ours."""
    state = read_state(path)
    if state is None:
        return read_weights(path)
    if state.layers is None:
        raise NetError(f"{path}: does not say which tensor is which of Caffe's blobs; give the prototxt too")
    return [TrainedLayer(layer.name, layer.type, tuple(map(state.blob, layer.keys))) for layer in state.layers]


def left_out(network: Network) -> list[str]:
    """What of the weights file is in no layer of the network: a sentence each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(network.net.left_out.weights)
