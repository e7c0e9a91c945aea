"""Shared by all formats: the network in memory, what runs a network, and the description of a format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from rmpe_legacy.caffe.layers.base import Layer, Shape, shape_text
from rmpe_legacy.caffe.load import ParsedNet
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.caffe.weights import NamedLayer, named_layers, trained_layers
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.deploy import InputShape
from rmpe_legacy.wording import shorten_list

if TYPE_CHECKING:
    from .torch7 import Torch7Source

Arrays = Mapping[str, np.ndarray]
Hook = Callable[[Any, Any, Any], Any]  # see torch.nn.Module.register_forward_hook
FAR_FROM_1 = 1e6  # see ScalingRunner


# --- a network in memory -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """The arguments of ``load_net`` that a network is loaded with, besides its files."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()
    dialect: str = "auto"
    de_transform: str | None = None
    allow_python: bool | None = False  # None: neither import a module nor refuse one, as for ``parse_net``


@dataclass(frozen=True)
class SourceOptions:
    """How source files are read; unlike a `Setting`, not stored with the network."""

    until: tuple[str, ...] = ()  # convert only the layers these blobs depend on
    input_shapes: tuple[InputShape, ...] = ()
    lenient: bool = False  # leave out what is unknown or cannot be converted, accept missing weights, and report it
    parallel: bool = True  # .t7: keep the outputs of the parallel SPPE
    key: str | None = None  # .t7 that contains a table: the entry with the network
    dynamic: tuple[str, ...] | None = None  # ONNX: the inputs' axes that can have any size; None: the batch, if it can


@dataclass(frozen=True, eq=False)
class Network:
    """A network read from files: its layers, its weights as stored, and where it comes from."""

    title: str  # the file names, for reports
    stem: str  # base name for files made from it
    parsed: ParsedNet
    setting: Setting
    trained: list[TrainedLayer] | None  # as stored; None: no weights
    prototxt: Path | None  # the source, if it is a prototxt and was not changed
    torch7: Torch7Source | None = None
    until: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what was left out or changed, one sentence each
    dynamic: tuple[str, ...] | None = None  # see SourceOptions

    @cached_property
    def net(self) -> Net:
        """The network, built with its weights."""
        return self.parsed.build(self.trained, keep_blobs=True)

    @property
    def message(self) -> Message:
        return self.parsed.message

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of its inputs: the tops of input and data layers. Needs no weights."""
        return input_shapes(self.parsed.wire())

    @cached_property
    def layers(self) -> list[NamedLayer]:
        """The layers that have parameters."""
        return named_layers(self.net.steps)

    @cached_property
    def weights(self) -> list[TrainedLayer]:
        """The blobs of each of `layers`: bit for bit as stored, if the file has them."""
        stored: dict[str, tuple[StoredBlob | None, ...]] = {}
        for layer in self.trained or ():
            stored.setdefault(layer.name, layer.blobs)
        out = []
        for built in trained_layers(self.net):
            theirs = [*stored.pop(built.name, ()), *[None] * len(built.blobs)]
            blobs = tuple(ours if ours is None or blob is None else StoredBlob(ours.shape, blob.data)
                          for ours, blob in zip(built.blobs, theirs, strict=False))
            out.append(TrainedLayer(built.name, built.type, blobs))
        return out

    @cached_property
    def owned(self) -> list[TrainedLayer]:
        """Like `weights`, but None for a blob that an earlier layer owns, so that every parameter occurs once."""
        seen: set[int] = set()
        out = []
        for layer, params in zip(self.weights, self._parameters(), strict=True):
            blobs = tuple(None if id(p) in seen else blob for p, blob in zip(params, layer.blobs, strict=True))
            seen |= {id(p) for p in params}
            out.append(TrainedLayer(layer.name, layer.type, blobs))
        return out

    def _parameters(self) -> Iterator[list[nn.Parameter]]:
        for step in self.net.steps:
            if step.layer.declared:
                yield [getattr(step.layer, declared.name) for declared in step.layer.declared]


def input_shapes(steps: Sequence[Step]) -> dict[str, Shape]:
    """Return the shapes of a network's inputs: the tops of its input and data layers."""
    return {top: shape for step in steps if not step.bottom and not step.layer.is_constant
            for top, shape in zip(step.top, step.top_shapes, strict=True)}


def refuse_setting(path: Path, setting: Setting, what: str) -> None:
    """Raise RmpeError for options that have no effect on a file of this format."""
    if replace(setting, allow_python=False) != Setting():
        raise RmpeError(f"{path}: is {what}; --phase, --level, --stage, --dialect and --de-transform have no effect on "
                        "it, so leave them out")


def untrained(network: Network) -> list[str]:
    """Return the layers for which no file has weights; their fillers would initialise them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reported by the caller
        return network.net.left_out.untrained


def untrained_text(where: str, layers: Sequence[str]) -> str:
    """Format the error for weights that do not cover some layers."""
    return (f"{where}: no weights for {shorten_list(layers)}, whose parameters would be random; give the weights of "
            "this network, or accept that with --lenient")


def unused_weights(network: Network) -> list[str]:
    """Messages about weights that match no layer of the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return network.net.left_out.weights


# --- running a network -------------------------------------------------------------------------------------------


@dataclass
class RunResult:
    """The blobs of one run of a network."""

    blobs: Mapping[str, np.ndarray]  # in the order of computation
    outputs: tuple[str, ...]
    makers: dict[str, str] = field(default_factory=dict)  # blob -> the layers that compute it, as text
    saturating: frozenset[str] = frozenset()  # blobs in 0 to 1, where saturated values hide large differences
    detections: frozenset[str] = frozenset()  # blobs whose rows may come in any order if their scores are equal
    # The bottoms and tops of layers that pick rows by comparing values, where a last bit can change the rows.
    turning: frozenset[str] = frozenset()
    # Those of other layers that turn a small difference into a large one: layers that compare values or round, and
    # Softmax and Sigmoid, which turn a difference into a factor.
    steep: frozenset[str] = frozenset()
    made_from: Mapping[str, Sequence[str]] = field(default_factory=dict)  # blob -> what the layers that compute it read
    random: frozenset[str] = frozenset()  # blobs in which values are set to 0 at random
    coarse: frozenset[str] = frozenset()  # saturating blobs whose values near 0 are multiples of 2^-24


class Runner(Protocol):
    """One of two networks to compare: knows its inputs and can be run."""

    title: str

    def inputs(self) -> dict[str, Shape] | None:
        """Return input -> shape; None if the format does not say."""

    def run(self, inputs: Arrays, wanted: Mapping[str, Shape] | None) -> RunResult:
        """Run the network. wanted: the other network's blobs and their shapes, if they are known already."""


@runtime_checkable
class ExactRunner(Runner, Protocol):
    """A runner that can also compute in double precision."""

    def exact(self, inputs: Arrays, given: Arrays, see: Callable[[str, np.ndarray], None]) -> None:
        """Run the network in double precision, where layers read the blobs of `given` as they are; call
        see(blob, value) with what it makes of each, as soon as that is known, so that they need not be in memory
        together."""


@runtime_checkable
class PiecewiseRunner(Runner, Protocol):
    """A runner that can also compute each layer from given blobs."""

    def run_from(self, inputs: Arrays, wanted: Mapping[str, Shape], given: Arrays) -> RunResult:
        """Run the network with the values of `given` wherever a layer reads one of these blobs.

        The result holds what the network itself makes of them.
        """


@runtime_checkable
class ScalingRunner(Runner, Protocol):
    """A runner that can keep a network from overflowing."""

    def run_scaled(self, inputs: Arrays, at: Collection[str]) -> tuple[RunResult, dict[str, np.ndarray]]:
        """Run the network, but divide blobs of `at` by their range, if it is far from 1, before other layers read them.

        Returns:
            What the layers compute, and the divided blobs: name -> float32 array in the blob's shape.
        """


@runtime_checkable
class SampleRunner(Runner, Protocol):
    """A runner that knows sensible values for inputs whose numbers have a meaning."""

    def typical(self, name: str, rng: np.random.Generator) -> np.ndarray | None:
        """Return values for an input, float32 in its shape; None if any values will do."""


@runtime_checkable
class TypicalRunner(PiecewiseRunner, Protocol):
    """A runner that knows sensible values for blobs too, where layers read numbers with a meaning."""

    picked: Collection[str]  # the tops of layers that pick rows by comparing values

    def typical_blobs(self, at: Collection[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return values for blobs of `at` that layers read which pick rows by comparing, such as scores and boxes."""


class NetRunner:
    """Runs a ``Net``, each time from its initial state; gives every blob."""

    def __init__(self, net: Net, title: str):
        self.net, self.title = net, title

    def inputs(self) -> dict[str, Shape]:
        return input_shapes(self.net.steps)

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        every = wanted is None or not set(wanted) <= {*self.net.outputs, *inputs}
        kept, self.net.keep_blobs = self.net.keep_blobs, every
        for step in self.net.steps:
            if step.layer.keeps_state:
                step.layer.reset()
        try:
            with torch.no_grad():
                self.net({name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})
        finally:
            self.net.keep_blobs = kept
        values = self.net.blobs
        steps = [step for step in self.net.steps if not step.layer.spec.is_inserted]
        makers: dict[str, list[str]] = {}
        made_from: dict[str, list[str]] = {}
        for step in steps:
            for top in step.top:
                makers.setdefault(top, []).append(f"{step.layer.spec.name} ({step.layer.spec.type})")
                made_from.setdefault(top, []).extend(self._source.get(blob, blob) for blob in step.bottom)
        last = {top: step.layer for step in steps for top in step.top}
        blobs = {name: values[name].detach().cpu().numpy() for name in makers if every or name in self.net.outputs}
        return RunResult(blobs, self.net.outputs, {name: ", ".join(layers) for name, layers in makers.items()},
                         frozenset(name for name, layer in last.items() if layer.range01),
                         frozenset(name for name, layer in last.items() if layer.spec.type == "DetectionOutput"),
                         self.turning, self.steep, made_from,
                         frozenset(top for step in steps if step.layer.drops_at_random for top in step.top),
                         frozenset(name for name, layer in last.items() if layer.range01 and layer.is_coarse))

    @cached_property
    def turning(self) -> frozenset[str]:
        """See ``RunResult``."""
        return self._around(lambda layer: layer.chooses_rows)

    @cached_property
    def steep(self) -> frozenset[str]:
        """See ``RunResult``."""
        return self._around(lambda layer: layer.is_discontinuous or layer.range01)

    @cached_property
    def picked(self) -> frozenset[str]:
        """See ``TypicalRunner``."""
        return frozenset(top for step in self.net.steps if step.layer.chooses_rows for top in step.top)

    def _around(self, chosen: Callable[[Layer], bool]) -> frozenset[str]:
        """Return the bottoms and tops of some layers."""
        return frozenset(self._source.get(name, name) for step in self.net.steps
                         if chosen(step.layer) and not step.layer.spec.is_inserted
                         for name in (*step.bottom, *step.top))

    def run_scaled(self, inputs: Arrays, at: Collection[str]) -> tuple[RunResult, dict[str, np.ndarray]]:
        made: dict[str, np.ndarray] = {}
        scaled: dict[str, np.ndarray] = {}

        def scale(names: Sequence[str], _layer: Any, _bottoms: Any, tops: Any) -> Any:
            new = [tops] if isinstance(tops, torch.Tensor) else list(tops)
            for i, name in enumerate(names):
                size = float(new[i].abs().max()) if name in at and new[i].numel() else 0.0
                if 0 < size < np.inf and not 1 / FAR_FROM_1 < size < FAR_FROM_1:
                    made[name] = new[i].detach().cpu().numpy().copy()
                    new[i] = new[i] / size
                    scaled[name] = new[i].detach().cpu().numpy().copy()
            return new[0] if isinstance(tops, torch.Tensor) else tuple(new)

        last = self._last
        ran = self._run_hooked(inputs, None, [
            (step, partial(scale, [top if last[top] is step else "" for top in step.top]))
            for step in self.net.steps if not step.layer.spec.is_inserted])
        return replace(ran, blobs={**ran.blobs, **made}), scaled

    def exact(self, inputs: Arrays, given: Arrays, see: Callable[[str, np.ndarray], None]) -> None:
        shapes: dict[str, Shape] = {}
        last = {blob: step for step in self.net.steps for blob in (*step.top, *step.alters)}

        def show(step: Step, _layer: Any, _bottoms: Any, tops: Any) -> None:
            values = dict(zip(step.top, [tops] if isinstance(tops, torch.Tensor) else tops, strict=True))
            shapes.update((name, tuple(value.shape)) for name, value in values.items())
            values |= {name: values[step.top[0]].reshape(shapes[name]) for name in step.alters if name in shapes}
            for name, value in values.items():
                if last[name] is step:  # before what is given takes its place
                    see(name, value.detach().cpu().numpy())

        try:
            self.net.double()
            self._run_hooked(inputs, (), [
                *((step, partial(show, step)) for step in self.net.steps if not step.layer.spec.is_inserted),
                *self._replacing(given)])
        finally:
            self.net.float()

    def run_from(self, inputs: Arrays, wanted: Collection[str], given: Arrays) -> RunResult:
        made: dict[str, np.ndarray] = {}
        ran = self._run_hooked(inputs, None, self._replacing(given, made))
        return replace(ran, blobs={**ran.blobs, **made})

    def _replacing(self, given: Arrays, made: dict[str, np.ndarray] | None = None) -> list[tuple[Step, Hook]]:
        """Return hooks that replace blobs, once they are final, for the layers that read them.

        made: Receives what was replaced.
        """

        def put(step: Step, _layer: Any, _bottoms: Any, tops: Any) -> Any:
            several = not isinstance(tops, torch.Tensor)
            new = dict(zip(step.top, tops if several else [tops], strict=True))
            for name in new.keys() & given.keys():
                if last[name] is not step:
                    continue
                if made is not None:
                    made[name] = new[name].detach().cpu().numpy()
                new[name] = torch.from_numpy(np.array(given[name])).to(new[name])
            return tuple(new.values()) if several else new[step.top[0]]

        last = self._last
        return [(step, partial(put, step)) for step in self.net.steps if not given.keys().isdisjoint(step.top)]

    def _run_hooked(self, inputs: Arrays, wanted: Collection[str] | None, hooks: Iterable[tuple[Step, Hook]]
                    ) -> RunResult:
        handles = [step.layer.register_forward_hook(hook) for step, hook in hooks]
        try:
            return self.run(inputs, wanted)
        finally:
            for handle in handles:
                handle.remove()

    @cached_property
    def _last(self) -> dict[str, Step]:
        """Blob -> the last step that writes it."""
        return {top: step for step in self.net.steps for top in step.top}

    @cached_property
    def _source(self) -> dict[str, str]:
        """A Split's top -> the prototxt's blob that it copies."""
        source: dict[str, str] = {}
        for step in self.net.steps:
            if step.layer.spec.is_inserted:
                source |= dict.fromkeys(step.top, source.get(step.bottom[0], step.bottom[0]))
        return source

    def typical_blobs(self, at: Collection[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
        last = self._last
        values: dict[str, np.ndarray] = {}
        for step in self.net.steps:
            for i, blob in enumerate(step.bottom if step.layer.chooses_rows else ()):
                value = step.layer.typical(i, step.bottom_shapes, rng)
                name = self._source.get(blob, blob)
                while name not in at and last[name].layer.shares_data:  # up to a blob with the same values
                    name = self._source.get(last[name].bottom[0], last[name].bottom[0])
                if value is not None and name in at:
                    shape = last[name].top_shapes[last[name].top.index(name)]
                    values[name] = value.reshape(shape).astype(np.float32)
        return values

    def typical(self, name: str, rng: np.random.Generator) -> np.ndarray | None:
        for step in self.net.steps:
            for i, blob in enumerate(step.bottom):
                if self._source.get(blob, blob) == name:
                    value = step.layer.typical(i, step.bottom_shapes, rng)
                    if value is not None:
                        return value.astype(np.float32)
        return None


def check_shapes(runner: Runner, inputs: Arrays) -> None:
    """Raise NetError unless the given inputs have the names and numbers of axes that a runner needs."""
    shapes = runner.inputs()
    if shapes is None:
        return
    if missing := [name for name in shapes if name not in inputs]:
        raise NetError(f"{runner.title}: its input {', '.join(map(repr, missing))} is not given; the inputs given are "
                       f"{', '.join(map(repr, inputs)) or 'none'}")
    for name, shape in shapes.items():
        if shape and inputs[name].ndim != len(shape):
            raise NetError(f"{runner.title}: its input {name!r} is {shape_text(shape)}, but the one given is "
                           f"{shape_text(inputs[name].shape)}")


# --- formats -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A network that is ready to be written; everything that can fail because of the network has been done."""

    write: Callable[[list[Path]], None]  # writes the files at these paths
    notes: tuple[str, ...] = ()  # for the user
    compared_at: tuple[Mapping[str, Shape], ...] = ()  # shapes of the inputs to compare at, besides the prototxt's
    few_images: Mapping[str, Shape] = field(default_factory=dict)  # shapes of random inputs in place of the prototxt's


@dataclass(frozen=True)
class Format:
    """A file format: what its suffix means, and functions for what it supports.

    Attributes:
        what: Description for messages.
        suffixes: Of the files written, the destination's first. A format that cannot be written has one suffix.
        sniff: Return whether an existing file is of this format.
        read: Read a whole network; the last argument is whether it is to run outside Caffe, so that data layers become
            inputs.
        run: Open a file as a Runner.
        prepare: Make a Writer for a network and its destination files.
        write_weights: Write weights without a network.
        marks: For destination files, where to find the mark by which an earlier conversion is recognised:
            file -> (text file, mark).
        runtime: Name of the runtime, if a converted network runs outside Caffe.
    """

    what: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path], bool] | None = None
    read: Callable[[Sequence[Path], Setting, SourceOptions, bool], Network] | None = None
    run: Callable[[Path, str, Setting, SourceOptions], Runner] | None = None
    prepare: Callable[[Network, Sequence[Path]], Writer] | None = None
    write_weights: Callable[[Path, list[TrainedLayer]], None] | None = None
    marks: Callable[[Sequence[Path]], Mapping[Path, tuple[Path, str]]] | None = None
    runtime: str = ""


def has_suffix(suffix: str) -> Callable[[Path], bool]:
    """Make a `Format.sniff` that decides by the suffix."""
    return lambda path: path.suffix == suffix
