"""The network that exporters write: in SSA form, without Split layers, with a symbolic batch where possible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rmpe_legacy.caffe.layers.base import Layer, Shape
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.caffe.step import Step, reshape_step
from rmpe_legacy.caffe.wiring import wire_quietly
from rmpe_legacy.errors import LayerError, NetError, RmpeError
from rmpe_legacy.wording import utf8

from .dynamic import Sizes, at_other_sizes, axes_text, before, dims_of

# A str depends on the batch: "N", or "3N" for three times the batch; on a number of rows: "R"; or with dynamic sizes on
# the height and width of the inputs: "H", "W", or any name.
Dim = int | str
Dims = tuple[Dim, ...]
BATCH = "N"
FEW = 2  # images that show what a conversion does with a batch of any size
ROWS = "R"  # a number of rows that the values decide, such as of regions


@dataclass(frozen=True)
class Value:
    """One version of a blob (SSA). The final version keeps the blob's own name."""

    blob: str
    name: str  # unique in the graph, not empty, and valid UTF-8
    shape: Dims


@dataclass(frozen=True)
class Node:
    """One layer; or (layer=None) an alias updated because an in-place layer wrote to memory it shares."""

    layer: Layer | None
    bottom: tuple[Value, ...]
    top: tuple[Value, ...]


@dataclass(frozen=True)
class Graph:
    """The values and nodes to write, in order of execution."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    is_dynamic: bool  # the batch can have any size
    why_fixed: str  # if it cannot: an error sentence of the layer that prevents it
    final: dict[str, Value]  # blob -> its final version, even if no output needs it
    own: Mapping[str, int]  # symbol -> its size in the prototxt
    dynamic: tuple[str, ...] | None = None  # the axes of inputs that the user wants to have any size; None: any batch
    compared_at: tuple[Mapping[str, Shape], ...] = ()  # shapes of the inputs to compare at, besides the prototxt's
    elsewhere: Graph | None = None  # if `dynamic`: the same graph with layers set up for other sizes

    def refuse_dynamic(self, layer: Layer, reason: str, target: str = "ONNX") -> LayerError:
        """Return the error for a layer that can be written for one size of the inputs only."""
        return layer.spec.error(
            f"cannot be converted to {target} with a dynamic {axes_text(self.dynamic or ())}: {reason}. Leave out "
            f"--dynamic, or convert the layers before it, with --until {before(layer)}")

    def notes(self) -> tuple[str, ...]:
        """Return a sentence about each layer whose state is lost from one run of the file to the next, or whose values
        are random."""
        random = "drops values at random, others in each run, as the prototxt wants it"
        layers = [node.layer for node in self.nodes if node.layer is not None]
        return tuple(str(layer.spec.error(layer.lost if layer.keeps_state else random)) for layer in layers
                     if layer.keeps_state or layer.drops_at_random)

    def few_images(self, net: Net) -> dict[str, Shape]:
        """Return the inputs' shapes with a batch of FEW in place of a larger one, if the batch can have any size; empty
        also where the network's layers, as they are set up, do not take that."""
        if not self.is_dynamic or self.dynamic is not None or self.own.get(BATCH, 0) <= FEW:
            return {}
        shapes = {value.blob: tuple(FEW if dim == BATCH else self.at_own_sizes((dim,))[0] for dim in value.shape)
                  for value in self.inputs}
        try:
            _reshape(net.steps, shapes)
        except RmpeError:
            return {}
        finally:
            _reshape(net.steps)
        return shapes

    def at_own_sizes(self, shape: Dims) -> tuple[int, ...]:
        """Return a shape with the prototxt's sizes in place of the symbols, none of which depends on values."""
        return tuple(dim if isinstance(dim, int) else self.own[dim] for dim in shape)


def make_graph(net: Net, until: Sequence[str] = (), fixed: str = "", dynamic: Collection[str] | None = None) -> Graph:
    """Build the graph of a network in phase TEST.

    Args:
        net: The network.
        until: The blobs to compute (default: the network's outputs).
        fixed: A reason to fix the batch at the prototxt's size; "" makes it symbolic if possible.
        dynamic: Which of "batch", "height" and "width" of the inputs are symbolic, and no others. None: the batch, if
            possible.

    Raises:
        NetError: The network has no outputs, a blob of `until` is unknown, or it fits one size of a `dynamic` axis.
        LayerError: A layer is in phase TRAIN, or fits one size of a `dynamic` axis.
    """
    if training := next((s.layer for s in net.steps if s.layer.spec.phase != "TEST"), None):
        raise training.spec.error("is in phase TRAIN; only a network for TEST can be converted to run elsewhere")
    outputs = tuple(dict.fromkeys(until)) or net.outputs
    if not outputs:
        raise NetError(f"{net.name or 'the network'}: has no outputs, since a layer reads every blob; name the "
                       "blobs to convert with --until BLOB")
    known = {top for step in net.steps for top in step.top if not step.layer.spec.is_inserted}
    if unknown := [blob for blob in outputs if blob not in known]:
        raise NetError(f"no blob {', '.join(map(repr, unknown))}; `rmpe show` lists them under top")
    _reshape(net.steps)
    steps, longer = _with_more_rows(net.steps)
    if dynamic is not None:
        return _dynamic_graph(net.name, at_other_sizes(_before(steps, outputs), dynamic), outputs)
    more, why_fixed = (steps, fixed) if fixed else _with_another_batch(steps)
    batch = _batch(steps) or 0
    shapes = [dims | rows for dims, rows in zip(_dims(steps, more), _rows(steps, longer), strict=True)]
    own = {dim: int(dim.removesuffix(BATCH) or 1) * batch for dims in shapes for shape in dims.values() for dim in shape
           if isinstance(dim, str) and not dim.endswith(ROWS)}
    graph = _Builder(net.name, steps, shapes).build(outputs)
    return replace(graph, is_dynamic=steps is not more, why_fixed=why_fixed, own=own)


def _before(steps: Sequence[Step], outputs: Sequence[str]) -> list[Step]:
    """Return the steps that `outputs` depend on: only these need to fit other sizes."""
    wanted, kept = set(outputs), []
    for step in reversed(steps):
        if wanted & {*step.top, *step.alters}:
            kept.append(step)
            wanted |= set(step.bottom)
    return kept[::-1]


def _dynamic_graph(name: str, sizes: Sizes, outputs: Sequence[str]) -> Graph:
    shapes, symbols = dims_of(sizes)
    graph, elsewhere = (
        replace(_Builder(name, steps, shapes).build(outputs), is_dynamic="batch" in sizes.axes, dynamic=sizes.axes,
                own={symbol: column[i] for symbol, column in symbols.items()})
        for i, steps in ((0, sizes.steps), (-1, sizes.elsewhere[-1])))
    return replace(graph, compared_at=sizes.inputs(), elsewhere=elsewhere)


def _with_more_rows(steps: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """Return the steps with one row, and with two, in each top whose number of rows depends on values.

    Raises LayerError if a layer takes a fixed number of them.
    """
    if not any(step.layer.chooses_rows for step in steps):
        return steps, steps
    # Anew for one row too: a forward leaves the number that it found.
    one, two = (wire_quietly([replace(step.layer.spec, assumed_rows=rows) for step in steps]) for rows in (1, 2))
    for own, step, other in zip(steps, one, two, strict=True):
        if [d.shape for d in step.layer.declared] != [d.shape for d in other.layer.declared]:
            raise own.layer.spec.error("cannot be converted: its parameters fit only one number of rows")
        if not all(_symbol(x, y, 1, ROWS) for p, q in zip(step.top_shapes, other.top_shapes, strict=True)
                   for x, y in zip(p, q, strict=True)):
            raise own.layer.spec.error("cannot be converted: its top does not grow with the number of rows")
    return [replace(own, top_shapes=step.top_shapes) for own, step in zip(steps, one, strict=True)], two


def _with_another_batch(steps: Sequence[Step]) -> tuple[Sequence[Step], str]:
    """Return the network's steps with one more image in the batch; or the steps unchanged, and why."""
    first = _batch(steps)
    if first is None:
        return steps, "the network has no input with a batch"
    specs = [_larger(step, first) if step.layer.spec.type == "Input" else replace(step.layer.spec, assumed_rows=1)
             for step in steps]
    try:
        more = wire_quietly(specs)
    except RmpeError as error:
        return steps, str(error)
    for a, b in zip(steps, more, strict=True):
        if [d.shape for d in a.layer.declared] != [d.shape for d in b.layer.declared]:
            reason = a.layer.spec.error("its parameters fit only one batch size")
            return steps, str(reason)
        if not all(_symbol(x, y, first) for p, q in zip(a.top_shapes, b.top_shapes, strict=True)
                   for x, y in zip(p, q, strict=True)):
            return steps, str(a.layer.spec.error("its top does not grow with the batch"))
    return more, ""


def _reshape(steps: Sequence[Step], inputs: Mapping[str, Shape] | None = None) -> None:
    """Reshape the layers for inputs of these shapes, or of the prototxt's; the last forward may have had others."""
    shapes: dict[str, Shape] = {}
    for step in steps:
        bottom = tuple(shapes[name] for name in step.bottom)
        if step.bottom and step.bottom_shapes != bottom:
            reshape_step(step, bottom)
        shapes |= zip(step.top, step.top_shapes, strict=True)
        if not step.bottom:
            shapes |= inputs or {}


def _batch(steps: Sequence[Step]) -> int | None:
    """Return the prototxt's batch size, the first axis of the first input; None without an input."""
    shapes = (shape for step in steps if step.layer.spec.type == "Input" for shape in step.top_shapes)
    return next((shape[0] for shape in shapes if shape), None)


def _larger(step: Step, batch: int) -> LayerSpec:
    """Return an Input layer's spec with one more image in each shape whose first axis is `batch`."""
    spec = step.layer.spec
    param = spec.get("input_param")
    shapes = [shape.replace(dim=[batch + 1, *shape.dim[1:]]) if list(shape.dim[:1]) == [batch] else shape
              for shape in param.shape]
    return replace(spec, message=spec.message.replace(input_param=param.replace(shape=shapes)))


def _symbol(size: int, larger: int, batch: int, symbol: str = BATCH) -> Dim:
    """Return a size, or its symbol if it grew to `larger` in proportion to the batch; "" if it did otherwise."""
    if size == larger:
        return size
    times = larger - size
    return "" if times * batch != size else symbol if times == 1 else f"{times}{symbol}"


class _Builder:
    """Makes the graph of steps; shapes: of each step's tops."""

    def __init__(self, name: str, steps: Sequence[Step], shapes: Sequence[Mapping[str, Dims]]):
        self.name = name
        self.steps = [step for step in steps if not step.layer.spec.is_inserted]
        self.top_shapes = [dims for step, dims in zip(steps, shapes, strict=True) if not step.layer.spec.is_inserted]
        self.source: dict[str, str] = {}  # top of a Split -> the blob it copies
        for step in steps:
            if step.layer.spec.is_inserted:
                self.source |= dict.fromkeys(step.top, self.source.get(step.bottom[0], step.bottom[0]))
        self.writers = _writers(self.steps)
        self.names: set[str] = set()
        self.now: dict[str, Value] = {}  # blob -> its current version
        self.shapes: dict[str, Dims] = {}  # blob -> its current shape, which Reshape may change in place

    def build(self, outputs: Sequence[str]) -> Graph:
        nodes, inputs = [], []
        for i, step in enumerate(self.steps):
            bottom = tuple(self.now[self.source.get(b, b)] for b in step.bottom)
            self.shapes |= self.top_shapes[i]
            if step.layer.spec.type == "Input":
                inputs += [self._value(blob, blob) for blob in step.top]
                continue
            top = tuple(self._write(blob, i) for blob in step.top)
            nodes.append(Node(step.layer, bottom, top))
            nodes += [Node(None, (top[0],), (self._write(blob, i),))
                      for blob in step.alters if blob in self.now and blob not in self.source]
        ends = tuple(self.now[blob] for blob in outputs)
        nodes = _needed(nodes, ends)
        read = {value for node in nodes for value in node.bottom} | set(ends)
        return Graph(self.name, tuple(v for v in inputs if v in read), ends, tuple(nodes), False, "",
                     dict(self.now), {})

    def _write(self, blob: str, step: int) -> Value:
        """Create a new version of a blob. The final one has the blob's name; others name the next writer.

        An input keeps its name; a value that overwrites it is named after its writer.
        """
        later = [i for i in self.writers[blob] if i > step]
        if later:
            return self._value(blob, f"{blob}.before_{self.steps[later[0]].layer.spec.name}")
        is_input = self.steps[self.writers[blob][0]].layer.spec.type == "Input"
        return self._value(blob, f"{blob}.after_{self.steps[step].layer.spec.name}" if is_input else blob)

    def _value(self, blob: str, base: str) -> Value:
        base = utf8(base) or "unnamed"
        name, n = base, 2
        while name in self.names or (name != blob and name in self.writers):
            name, n = f"{base}_{n}", n + 1
        self.names.add(name)
        self.now[blob] = Value(blob, name, self.shapes[blob])
        return self.now[blob]


def _dims(steps: Sequence[Step], more: Sequence[Step]) -> list[dict[str, Dims]]:
    """Return the shapes of each step's tops with the batch as a symbol."""
    first = _batch(steps) or 0
    return [{blob: tuple(_symbol(a, b, first) for a, b in zip(p, q, strict=True))
             for blob, p, q in zip(step.top, step.top_shapes, other.top_shapes, strict=True)}
            for step, other in zip(steps, more, strict=True)]


def _rows(steps: Sequence[Step], longer: Sequence[Step]) -> list[dict[str, Dims]]:
    """Return of each step the tops' shapes whose number of rows depends on values, with that number as a symbol."""
    return [{blob: tuple(_symbol(a, b, 1, ROWS) for a, b in zip(p, q, strict=True))
             for blob, p, q in zip(step.top, step.top_shapes, other.top_shapes, strict=True) if p != q}
            for step, other in zip(steps, longer, strict=True)]


def _writers(steps: Sequence[Step]) -> dict[str, list[int]]:
    """Return blob -> the steps that write it, including in-place writes to memory it shares."""
    writers: dict[str, list[int]] = {}
    for i, step in enumerate(steps):
        for blob in (*step.top, *step.alters):
            writers.setdefault(blob, []).append(i)
    return writers


def _needed(nodes: Sequence[Node], ends: Sequence[Value]) -> list[Node]:
    """Return the nodes that `ends` depend on."""
    wanted, kept = set(ends), []
    for node in reversed(nodes):
        if wanted & set(node.top):
            kept.append(node)
            wanted |= set(node.bottom)
    return kept[::-1]
