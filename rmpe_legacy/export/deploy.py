"""Prepares a network to run outside Caffe: data layers become inputs, and inputs get the requested shapes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.caffe.layers.base import JUDGES, Shape, shape_text
from rmpe_legacy.caffe.layers.base_data import BlobLayer
from rmpe_legacy.caffe.layers.fed import FedLayer
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.errors import NetError, RmpeError


@dataclass(frozen=True)
class InputShape:
    """A requested shape for the input `name`, or for the only input if `name` is None.

    sizes: All axes, or all but the batch, which is then unchanged.
    """

    sizes: Shape
    name: str | None = None

    def __str__(self) -> str:
        return ("" if self.name is None else f"{self.name}=") + ",".join(map(str, self.sizes))


def with_inputs(net: Message, specs: Sequence[LayerSpec], asked: Sequence[InputShape], replace_data: bool,
                where: str) -> tuple[Message, list[str]]:
    """Give a network inputs of the requested shapes.

    Args:
        net: An upgraded NetParameter.
        specs: Its layers of one phase; types may be unknown.
        asked: The requested shapes.
        replace_data: Turn every data layer into inputs, and DummyData where nothing else gives any; otherwise only
            those whose tops are named in `asked`.
        where: The network's path, for errors.

    Returns:
        The changed NetParameter, and one sentence for each data layer that was replaced.

    Raises:
        NetError: A request does not match the network.
    """
    sources = {top: spec for spec in specs if not spec.bottom for top in spec.top}
    wanted = _by_name(asked, sources, where)
    notes: list[str] = []
    changed: dict[int, list[Message]] = {}  # layer -> its replacement
    has_data = any(spec.type == "Input" or _is_data(spec) for spec in sources.values())
    for spec in dict.fromkeys(sources.values()):
        is_named = bool(wanted.keys() & set(spec.top))
        if spec.type == "Input":
            if is_named:
                changed[id(spec.message)] = [_input(spec, spec.top, [
                    _complete(wanted[top], shape, spec) if top in wanted else shape
                    for top, shape in zip(spec.top, _shapes(spec), strict=True)])]
        elif is_named or (replace_data and (_is_data(spec) or (spec.type == "DummyData" and not has_data))):
            shapes = _data_shapes(spec, wanted)
            changed[id(spec.message)] = [_input(spec, (top,), [shape]) for top, shape in shapes.items()]
            notes.append(f"{spec.name} ({spec.type}) became " + " and ".join(
                f"the input {top} ({shape_text(shape)})" for top, shape in shapes.items()))
    if not changed:
        return net, notes
    here = {id(spec.message) for spec in specs} if notes else {id(layer) for layer in net.layer}
    return net.replace(layer=[new for layer in net.layer if id(layer) in here
                              for new in changed.get(id(layer), [layer])]), notes


def without_files(net: Message) -> tuple[Message, list[str]]:
    """Let no DetectionOutput write files of what it finds, which a network does in Caffe alone.

    Args:
        net: An upgraded NetParameter.

    Returns:
        The changed NetParameter, and one sentence for each layer that was changed.
    """
    layers, notes = [], []
    for layer in net.layer:
        param = layer.fields.get("detection_output_param")
        if layer.type == "DetectionOutput" and param is not None and param.fields.get("save_output_param") is not None:
            layer = layer.replace(detection_output_param=param.replace(save_output_param=None))
            notes.append(f"{layer.name} (DetectionOutput) writes no files of detections: its save_output_param is left "
                         "out")
        layers.append(layer)
    return (net.replace(layer=layers), notes) if notes else (net, notes)


def outputs_to_run(steps: Sequence[Step]) -> tuple[tuple[str, ...], list[str]]:
    """Find the outputs of a network without its layers that compare with labels, such as losses and accuracies, and
    those that write files.

    Returns:
        The blobs where the rest ends, and one sentence for each layer left out; both empty without such layers.
    """
    left_out = [step for step in steps if step.layer.not_exportable == JUDGES or (
        not step.layer.spec.top and step.layer.spec.type != "Silence")]
    if not left_out:
        return (), []
    kept = [step for step in steps if step not in left_out and not step.layer.spec.is_inserted]
    read = {_source(bottom, steps) for step in kept for bottom in step.bottom if bottom not in step.top}
    ends = [top for step in kept if step.bottom for top in step.top if top not in read]
    ends = ends or [_source(blob, steps) for step in left_out for blob in step.bottom[:1]]
    return tuple(dict.fromkeys(ends)), [
        f"{step.layer.spec.name} ({step.layer.spec.type}) is left out: it {step.layer.not_exportable}"
        for step in left_out]


def _source(blob: str, steps: Sequence[Step]) -> str:
    """Return the prototxt's blob that a Split's top copies."""
    copies = {top: step.bottom[0] for step in steps if step.layer.spec.is_inserted for top in step.top}
    while blob in copies:
        blob = copies[blob]
    return blob


def _by_name(asked: Sequence[InputShape], sources: Mapping[str, LayerSpec], where: str) -> dict[str, InputShape]:
    wanted: dict[str, InputShape] = {}
    for request in asked:
        names = [request.name] if request.name is not None else list(sources)
        if len(names) != 1:
            raise NetError(f"{where}: --input-shape {request}: the network has {len(names)} inputs; name one of them "
                           f"({_listed(names)}): --input-shape NAME={request}")
        name = names[0]
        if name not in sources:
            raise NetError(f"{where}: --input-shape {request}: no input is called {name!r}; the inputs are "
                           f"{_listed(sources)}")
        if name in wanted:
            raise NetError(f"{where}: --input-shape gives two shapes for {name!r}; give one")
        wanted[name] = request
    return wanted


def _is_data(spec: LayerSpec) -> bool:
    """Whether a layer reads data that a deployed network gets as input. DummyData does not: it makes constants."""
    if spec.type == "DummyData" or registry.unsupported(spec) is not None:
        return False
    return isinstance(registry.create(spec), BlobLayer | FedLayer)


def _shapes(spec: LayerSpec) -> list[Shape]:
    """Return the shapes of the tops of a layer without bottoms."""
    layer = registry.create(spec)
    layer.setup()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shapes = [tuple(shape) for shape in layer.reshape()]
    if isinstance(layer, BlobLayer) and layer.guesses:
        raise spec.error("its shape is not known")
    for warning in said:
        warnings.warn(warning.message, stacklevel=2)
    return shapes


def _data_shapes(spec: LayerSpec, wanted: Mapping[str, InputShape]) -> dict[str, Shape]:
    """Return the shape of each top of a data layer: as requested, else the layer's own, else one value per image."""
    try:
        own = dict(zip(spec.top, _shapes(spec), strict=False))
    except RmpeError:
        if not wanted.keys() & set(spec.top):
            raise NetError(f"{spec.where}: {spec.name} ({spec.type}): neither its source nor the prototxt gives the "
                           f"shape of its tops; add --input-shape {spec.top[0]}=CHANNELS,HEIGHT,WIDTH") from None
        own = {}
    shapes = {top: _complete(wanted[top], own.get(top), spec) for top in spec.top if top in wanted}
    batch = next(iter(shapes.values()), (1,))[0]
    return {top: shapes.get(top) or own.get(top) or (batch,) for top in spec.top}


def _complete(asked: InputShape, own: Shape | None, spec: LayerSpec) -> Shape:
    """Return a requested shape with its batch: the layer's own, or 1, if the request has none."""
    sizes = asked.sizes
    if own:
        if len(sizes) == len(own):
            return sizes
        if len(sizes) == len(own) - 1:
            return (own[0], *sizes)
        raise spec.error(f"--input-shape {asked}: its input has {len(own)} axes ({shape_text(own)}); give as many "
                         "sizes, or leave out the batch")
    return sizes if len(sizes) >= 4 else (1, *sizes)


def _input(spec: LayerSpec, tops: Sequence[str], shapes: Sequence[Shape]) -> Message:
    """Return an Input layer with these tops that replaces a layer."""
    schema = load_schema(spec.dialect)
    param = Message(schema["InputParameter"], {
        "shape": [Message(schema["BlobShape"], {"dim": list(shape)}) for shape in shapes]})
    name = spec.name if spec.type == "Input" else tops[0]
    return Message(schema["LayerParameter"], {"name": name, "type": "Input", "top": list(tops), "input_param": param},
                   spec.message.origin, spec.message.position)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
