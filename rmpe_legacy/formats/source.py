"""What is to be converted: a network from whatever files hold one, or weights alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.load import ParsedNet, net_state, parse_net, read_message
from rmpe_legacy.caffe.net import Net, Step
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.caffe.spec import layer_specs
from rmpe_legacy.caffe.unknown import list_findings
from rmpe_legacy.caffe.weights import NamedLayer, named_layers, read_state, read_trained, trained_layers
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.deploy import InputShape, outputs_to_run, with_inputs
from rmpe_legacy.export.prune import up_to
from rmpe_legacy.torch7.reader import encoding_of
from rmpe_legacy.wording import shorten_list

from .network_json import Setting, read_json_network


@dataclass(frozen=True)
class SourceOptions:
    """How source files are read, beyond the `Setting` that a network keeps."""

    until: tuple[str, ...] = ()  # convert what these blobs need, and nothing else
    input_shapes: tuple[InputShape, ...] = ()
    lenient: bool = False  # leave out what is not known, not trained or not convertible, and say so
    parallel: bool = True  # of a .t7: keep the outputs of the parallel SPPE
    key: str | None = None  # of a .t7 that holds a table: the entry with the network


@dataclass(frozen=True)
class Torch7Source:
    """A .t7 file, and what its inputs and outputs are called in the Caffe network made of it."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    key: str | None = None


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
    notes: tuple[str, ...] = ()  # what was left out or changed on the way; a sentence each

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
        return input_shapes(self.parsed.wire())

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


def read_network(sources: Sequence[str | PathLike], setting: Setting, options: SourceOptions | None = None,
                 weights_needed: bool = True, to_run: str = "") -> Network:
    """The network of: a prototxt; a prototxt and a weights file; a converted .json or .safetensors; a .t7 file.

    to_run: the format, if the network is to run outside Caffe; its data layers then become inputs, and layers that
    compare with labels are left out (with `lenient`) or refused. RmpeError says what is wrong with the files, or, with
    `weights_needed`, which parameters no file gives a value.
    """
    options = options or SourceOptions()
    network = _read([Path(source) for source in sources], setting, options, bool(to_run))
    ends = options.until
    notes: list[str] = []
    if to_run and not ends:
        ends, notes = outputs_to_run(network.parsed.wire(), network.title, to_run, options.lenient)
    if weights_needed and network.trained is None:
        _refuse_without_weights(network)
    if ends:
        network = _up_to(network, ends)
    return replace(network, notes=(*network.notes, *notes))


def _up_to(network: Network, ends: Sequence[str]) -> Network:
    s = network.setting
    parsed = parse_net(up_to(network.parsed.wire(), network.message, ends), s.phase, s.level, s.stages, s.de_transform,
                       allow_python=s.allow_python)
    names = {spec.name for spec in parsed.specs}
    trained = None if network.trained is None else [layer for layer in network.trained if layer.name in names]
    return replace(network, parsed=parsed, trained=trained, prototxt=None, until=tuple(ends))


def _refuse_without_weights(network: Network) -> None:
    if bare := [step.layer.spec.name for step in network.parsed.wire() if step.layer.declared]:
        raise NetError(f"{network.title}: has parameters ({shorten_list(bare)}), and no weights are given; give the "
                       "caffemodel too")


def _read(sources: Sequence[Path], setting: Setting, options: SourceOptions, to_run: bool) -> Network:
    first, title = sources[0], " and ".join(source.name for source in sources)
    if len(sources) > 2:
        raise RmpeError(f"{len(sources)} sources are given; a prototxt and a weights file are the most")
    if len(sources) == 1 and is_torch7(first):
        _refuse_setting(first, setting, "a .t7 file")
        return _from_torch7(first, options)
    if not options.parallel or options.key is not None:
        raise RmpeError(f"{first}: is not a .t7 file; --drop-parallel and --key are for those")
    if len(sources) == 1 and is_converted(first):
        _refuse_setting(first, setting, "a network that rmpe convert wrote")
        parsed, weights, setting = read_json_network(first, setting.allow_python)
        parsed, notes = _with_inputs(parsed.message, setting, options, to_run, title)
        trained = None if weights is None else read_trained(weights, parsed.specs)
        return Network(title, first.stem, parsed, setting, trained, None, notes=notes)
    reading = read_message(first, setting.phase, setting.level, setting.stages, setting.dialect, not options.lenient)
    message, setting = reading.message, replace(setting, dialect=reading.dialect)
    parsed, notes = _with_inputs(message, setting, options, to_run, title)
    trained = None if len(sources) == 1 else read_trained(sources[1], parsed.specs)
    stem = sources[-1].name.removesuffix(".h5").removesuffix(sources[-1].suffix)
    return Network(title, stem, parsed, setting, trained, None if parsed.message is not message and notes else first,
                   notes=(*reading.notes, *notes))


def _refuse_setting(path: Path, setting: Setting, what: str) -> None:
    """RmpeError for options that would have no effect."""
    if replace(setting, allow_python=False) != Setting():
        raise RmpeError(f"{path}: is {what}; --phase, --level, --stage, --dialect and --de-transform have no effect on "
                        "it, so leave them out")


def _with_inputs(message: Message, setting: Setting, options: SourceOptions, to_run: bool,
                 title: str) -> tuple[ParsedNet, tuple[str, ...]]:
    """Parse a network, after its inputs have been given the shapes asked for."""
    net = upgrade_net(message)
    state = net_state(net, setting.phase, setting.level, setting.stages)
    specs = layer_specs(net, state, de_transform=setting.de_transform, allow_python=setting.allow_python)
    net, notes = with_inputs(net, specs, options.input_shapes, to_run or bool(options.until), title)
    parsed = parse_net(net, setting.phase, setting.level, setting.stages, setting.de_transform, not options.lenient,
                       setting.allow_python, options.until)
    if parsed.findings:
        notes.append(list_findings(title, "left out", parsed.findings))
    return parsed, tuple(notes)


def _from_torch7(path: Path, options: SourceOptions) -> Network:
    from rmpe_legacy.torch7.to_caffe import torch7_to_caffe

    if named := [shape for shape in options.input_shapes if shape.name is not None]:
        raise RmpeError(f"{path}: --input-shape {named[0]}: a .t7 file does not name its input; give C,H,W alone")
    if len(options.input_shapes) > 1:
        raise RmpeError(f"{path}: --input-shape is given {len(options.input_shapes)} times; a .t7 takes one, C,H,W")
    shape = options.input_shapes[0].sizes if options.input_shapes else None
    made = torch7_to_caffe(path, shape, parallel=options.parallel, key=options.key)
    source = Torch7Source(path, tuple(made.inputs), tuple(made.outputs), options.key)
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


def untrained(network: Network) -> list[str]:
    """The layers whose parameters no file gives a value: they would be what their fillers make them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller says it
        return network.net.left_out.untrained


def untrained_text(where: str, layers: Sequence[str]) -> str:
    """The error for weights that leave some layers without a value."""
    return (f"{where}: no weights for {shorten_list(layers)}, whose parameters would be random; give the weights of "
            "this network, or accept that with --lenient")


def unused_weights(network: Network) -> list[str]:
    """Messages about weights that match no layer of the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return network.net.left_out.weights
