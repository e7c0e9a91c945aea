"""A network as boxes and arrows: one box for a layer and all that works in place on what it gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rmpe_legacy.errors import NetError
from rmpe_legacy.wording import shorten

from ..layers.base import Shape, shape_text
from ..net import Step
from ..proto.message import Message
from ..spec import LayerSpec

MAX_BOXES = 3000  # of one drawing; more take minutes to lay out and nobody can read them
_MAX_TEXT = 46  # characters of a line in a box
_REPEATED_DEFAULTS = {"stride": 1, "pad": 0, "dilation": 1}  # of fields whose default caffe.proto only says in words


@dataclass(frozen=True)
class LayerText:
    """A box's text about one layer."""

    name: str
    type: str
    parameters: str  # as the prototxt gives them: "num_output 64, kernel_size 7, stride 1"
    in_short: str  # without defaults, which say nothing: "num_output 64, kernel_size 7"
    phase: str = ""  # "TRAIN" or "TEST" where the prototxt limits the layer to one of them


@dataclass(eq=False)
class Box:
    """A layer, the layers that work in place on its top, and the shapes of the tops."""

    layers: list[LayerText]
    tops: list[tuple[str, Shape]]
    group: str = ""  # the block that it belongs to, "" for none

    @property
    def name(self) -> str:
        return self.layers[0].name


@dataclass(eq=False)
class NetworkGraph:
    """What is drawn. Boxes are numbered; an edge always leads to a higher number."""

    title: str
    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int, str]] = field(default_factory=list)  # from, to, the blob's name
    shared: list[tuple[int, int, str]] = field(default_factory=list)  # first owner, further layer, parameter's name


def network_graph(title: str, steps: Sequence[Step]) -> NetworkGraph:
    """Return the graph of a wired network (``ParsedNet.wire()``).

    Raises:
        NetError: It has more than MAX_BOXES boxes.
    """
    graph = NetworkGraph(title)
    made_by: dict[str, int] = {}  # blob -> the box that gave it last
    owners: dict[str, int] = {}  # name of a shared parameter -> the box of its first layer
    original = _without_splits(steps)
    for step, bottoms, tops in original:
        spec = step.layer.spec
        text = LayerText(spec.name, spec.type, _parameters(spec), _parameters(spec, False), _only_phase(spec))
        in_place = len(bottoms) == 1 and bottoms == tops and bottoms[0] in made_by
        if in_place:
            index = made_by[bottoms[0]]
            graph.boxes[index].layers.append(text)
        else:
            index = len(graph.boxes)
            graph.boxes.append(Box([text], list(zip(tops, step.top_shapes, strict=True))))
            graph.edges += [(made_by[bottom], index, bottom) for bottom in dict.fromkeys(bottoms) if bottom in made_by]
            made_by |= dict.fromkeys(tops, index)
        for param in spec.params:
            if param.name and owners.setdefault(param.name, index) != index:
                graph.shared.append((owners[param.name], index, param.name))
        if len(graph.boxes) > MAX_BOXES:
            raise NetError(f"{title}: has more than {MAX_BOXES} layers to draw; draw a part of it with --until")
    _group(graph.boxes)
    return graph


def _without_splits(steps: Sequence[Step]) -> Iterator[tuple[Step, tuple[str, ...], tuple[str, ...]]]:
    """The file's own layers, with the blobs that the file names: inserted Splits and their copies are undone."""
    source: dict[str, str] = {}
    for step in steps:
        if step.layer.spec.is_inserted:
            source |= dict.fromkeys(step.top, source.get(step.bottom[0], step.bottom[0]))
        else:
            yield step, tuple(source.get(blob, blob) for blob in step.bottom), step.top


def _parameters(spec: LayerSpec, defaults: bool = True) -> str:
    """The plain values of the layer's own parameter message that the file gives, with or without defaults."""
    texts = []
    for name, value in spec.message.fields.items():
        if name.endswith("_param") and isinstance(value, Message):
            texts += [f"{key} {_value(item)}" for key, item in value.fields.items()
                      if _value(item) and (defaults or not _is_default(value, key, item))]
    return shorten(", ".join(texts), 3 * _MAX_TEXT)


def _is_default(message: Message, key: str, value: object) -> bool:
    """Whether a value says nothing; a word always says something, such as pool MAX."""
    if isinstance(value, str):
        return False
    if key in _REPEATED_DEFAULTS and isinstance(value, list):
        return all(item == _REPEATED_DEFAULTS[key] for item in value)
    return message.descriptor is not None and value == message.descriptor.fields[key].absent


def _value(value: object) -> str:
    """A number, a word, or a short list of them; "" for messages."""
    if isinstance(value, list):
        parts = [_value(item) for item in value[:4]]
        return "x".join(parts) + ("..." if len(value) > 4 else "") if all(parts) else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, int | str) else ""


def _only_phase(spec: LayerSpec) -> str:
    phases = {rule.phase for rule in spec.message.include if rule.has("phase")}
    return phases.pop() if len(phases) == 1 else ""


def _group(boxes: Sequence[Box]) -> None:
    """Blocks by name: what comes before the last _, / or . of a name, where at least two boxes have it in common."""
    counts = Counter(_prefix(box.name) for box in boxes)
    for box in boxes:
        name = box.name  # the sum that ends a residual block bears the block's name
        while name and counts[name] < 2:
            name = _prefix(name)
        box.group = name


def _prefix(name: str) -> str:
    cut = max(name.rfind(mark) for mark in "_/.")
    return name[:cut] if cut > 0 else ""


def box_lines(box: Box) -> list[str]:
    """Return the text of a box, line by line: name and type, parameters, in-place layers, shapes."""
    first, *further = box.layers
    lines = [shorten(first.name, _MAX_TEXT), shorten(first.type + _phase(first), _MAX_TEXT)]
    if first.in_short:
        lines.append(shorten(first.in_short, _MAX_TEXT))
    if further:
        lines.append(shorten("+ " + ", ".join(layer.type + _phase(layer) for layer in further), _MAX_TEXT))
    return lines + [shorten(shape_text(shape), _MAX_TEXT) for _, shape in box.tops[:4]]


def box_title(box: Box) -> str:
    """Return everything that is known about a box, for a tooltip."""
    lines = [f"{layer.name} ({layer.type}{_phase(layer)}){': ' if layer.parameters else ''}{layer.parameters}"
             for layer in box.layers]
    return "\n".join(lines + [f"{name}: {shape_text(shape)}" for name, shape in box.tops])


def _phase(layer: LayerText) -> str:
    return f", {layer.phase} only" if layer.phase else ""
