"""Writes a network as a Python file, model.py, that is meant to be read and edited and needs only torch."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import LayerError, RmpeError
from rmpe_legacy.wording import utf8

from .emit import PYTHON, PythonContext
from .graph import Dims, Graph, Node, Value, make_graph
from .refusals import refuse_unsupported, with_advice

PYTHON_MARK = "# Written by rmpe convert; its weights are in "  # start of the first line; identifies the file
WIDTH = 110  # columns
MARGIN = 74  # column of the shapes, if the code leaves room
# Layer types after which a paragraph ends.
_JOINTS = frozenset({"Pooling", "Eltwise", "Concat", "SpatialTransformer", "Slice", "Deconvolution"})
_RESERVED = {"self", "torch", "nn", "F", "Tensor", "load"}
_BUILTINS = {"abs", "bool", "enumerate", "float", "int", "len", "list", "map", "max", "min", "range", "round", "slice",
             "sum", "super", "tuple", "zip"}  # those that emitters use


@dataclass(frozen=True)
class PythonModel:
    """The file's text, and the state dict that its ``load`` reads."""

    text: str
    state: dict[str, Tensor]
    graph: Graph


def to_python(net: Net, source: str, weights: str, until: Sequence[str] = (),
              dynamic: Collection[str] | None = None) -> PythonModel:
    """Write a network as a standalone PyTorch module.

    Args:
        net: A network in phase TEST.
        source: The names of the source files, for the file's header.
        weights: The name of the file beside it that holds the state dict, for the text.
        until: The blobs to compute (default: the network's outputs).
        dynamic: See ``to_onnx``.

    Raises:
        NetError: Layers have types without a Python emitter, or `until` names unknown blobs.
        LayerError: A layer uses a feature that its emitter does not support, or fits one size of an axis of `dynamic`.
    """
    graph = make_graph(net, until, dynamic=dynamic)
    refuse_unsupported(graph, PYTHON, "a PyTorch module")
    if graph.elsewhere is not None:
        _refuse_own_sizes(graph, graph.elsewhere)
    return _File(graph).write(source, weights)


def _refuse_own_sizes(graph: Graph, elsewhere: Graph) -> None:
    """Raise LayerError for the first layer that is not written in the same way for other sizes of the inputs."""
    file, other = _File(graph), _File(elsewhere)
    for node, twin in zip(graph.nodes, elsewhere.nodes, strict=True):
        line, its = file._line(node), other._line(twin)
        same = (line.value, line.modules) == (its.value, its.modules) and all(
            torch.equal(value, other.state[key]) for key, value in file.state.items())
        file.state, other.state = {}, {}
        if not same and node.layer is not None:
            raise graph.refuse_dynamic(node.layer, "what it computes depends on the sizes in the prototxt", "PyTorch")


@dataclass
class _Line:
    """One assignment in ``forward``, and the lines of ``__init__`` that it needs."""

    targets: list[str]
    value: str
    shapes: list[Dims]
    modules: list[str] = field(default_factory=list)
    ends_paragraph: bool = False


class _File:
    """The file under construction; the Writer that emitters use."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.parts: set[str] = set()
        self.state: dict[str, Tensor] = {}
        self.owners: dict[tuple, str] = {}  # a parameter that layers share -> its first name
        self.roots: list[Tensor] = []  # keeps the keys of `owners` from being given to other tensors
        made = {*graph.inputs, *(value for node in graph.nodes for value in node.top)}
        self.finished = {blob for blob, value in graph.final.items() if value in made}
        self.attributes = _Names(dir(nn.Module()))
        self.variables = _Names([*_RESERVED, *_BUILTINS, *part_names()])
        self.modules: list[str] = []  # those of the current line

    # --- what the emitters call -----------------------------------------------------------------------------

    def use(self, part: str) -> str:
        self.parts.add(part)
        return part

    def module(self, layer: Layer, constructor: str, state: dict[str, Tensor]) -> str:
        name = self.attributes.of(layer.spec.name, unique=layer)
        self.modules.append(f"self.{name} = {constructor}")
        for key, value in state.items():
            self.roots.append(_root(value))
            owner = self.owners.setdefault((id(self.roots[-1]), value.shape), f"{name}.{key}")
            if owner != f"{name}.{key}":
                self.modules.append(f"self.{name}.{key} = self.{owner}")
            self.state[f"{name}.{key}"] = value.detach()
        return f"self.{name}"

    def buffer(self, layer: Layer, values: Tensor) -> str:
        name = self.attributes.of(layer.spec.name, unique=layer)
        shape = ", ".join(map(str, values.shape))
        dtype = "" if values.dtype == torch.float32 else f", dtype={values.dtype}"
        self.modules.append(f'self.register_buffer("{name}", torch.zeros({shape or "()"}{dtype}))')
        self.state[name] = values.detach()
        return f"self.{name}"

    # --- the text ---------------------------------------------------------------------------------------------

    def write(self, source: str, weights: str) -> PythonModel:
        title = class_name(self.graph.name)
        arguments = [self._variable(value) for value in self.graph.inputs]
        lines = _joined([self._line(node) for node in self.graph.nodes])
        outputs = [self._variable(value) for value in self.graph.outputs]
        result = "Tensor" if len(outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(outputs))}]"
        text = "\n".join([
            f"{PYTHON_MARK}{weights!a}.",
            self._header(title, source, weights, arguments, outputs), "",
            "import torch", *(["import torch.nn.functional as F"] if self._uses("F.", lines) else []),
            "from torch import Tensor, nn", "", "",
            f"class {title}(nn.Module):", f'    """{self._signature()}"""', "",
            "    def __init__(self):", "        super().__init__()", *_init(lines), "",
            f"    def forward(self, {', '.join(f'{name}: Tensor' for name in arguments)}) -> {result}:",
            *_forward(lines), _return(outputs),
            "", "", *self._blob_names(), _load(title), *self._helpers(), ""])
        try:
            ast.parse(text)
        except SyntaxError as error:  # our bug, found before the user finds it
            raise AssertionError(f"wrote Python that does not parse: line {error.lineno}: {error.text}") from None
        return PythonModel(text, {key: value.clone() for key, value in self.state.items()}, self.graph)

    def _variable(self, value: Value) -> str:
        """Return a value's variable: the blob's name, or its own if the blob's final version is not computed."""
        return self.variables.of(self._blob_key(value))

    def _blob_key(self, value: Value) -> str:
        return value.blob if value.blob in self.finished else value.name

    def _line(self, node: Node) -> _Line:
        bottom = tuple(self._variable(value) for value in node.bottom)
        targets = [self._variable(value) for value in node.top]
        shapes = [value.shape for value in node.top]
        if node.layer is None:
            return _Line(targets, f"{bottom[0]}.reshape({targets[0]}.shape)", shapes)
        self.modules = []
        try:
            value = PYTHON[node.layer.written_as](PythonContext(
                node.layer, bottom, tuple(v.shape for v in node.bottom), tuple(shapes), self))
        except LayerError as error:
            raise with_advice(self.graph, node.layer, error) from None
        return _Line(targets, value, shapes, self.modules, node.layer.spec.type in _JOINTS)

    def _uses(self, word: str, lines: Iterable[_Line]) -> bool:
        return any(word in line.value for line in lines) or any(word in source_of(part) for part in self._needed())

    def _header(self, title: str, source: str, weights: str, arguments: list[str], outputs: list[str]) -> str:
        call = f"{', '.join(outputs)} = net({', '.join(arguments)})"
        batch = "" if self.graph.is_dynamic or not self.graph.inputs or not self.graph.inputs[0].shape else \
            f"\n\nThe batch has the size of the prototxt, {self.graph.inputs[0].shape[0]}."
        return (f'"""{title}, written out from {_in_docstring(source)}.\n\n    net = load()\n'
                f"    {_wrapped(call, 4)}\n\nLayers and blobs have the prototxt's names. The weights are in "
                f'{_in_docstring(weights)}, beside this file.{batch}\n"""')

    def _signature(self) -> str:
        def named(values: Sequence[Value]) -> str:
            return ", ".join(f"{_in_docstring(value.blob)} ({_sizes(value.shape)})" for value in values)

        return _wrapped(f"{named(self.graph.inputs)} -> {named(self.graph.outputs)}.", 4)

    def _blob_names(self) -> list[str]:
        """Return the table of blobs whose variables have other names; empty if there are none."""
        named = {value.blob: self._variable(value) for value in self.graph.final.values()
                 if self._blob_key(value) in self.variables.known}
        lines = [f"    {variable!a}: {blob!a}," for blob, variable in named.items()
                 if variable != blob]
        return ["# Caffe's names of the blobs that forward's variables could not be called.", "BLOBS = {", *lines, "}",
                "", ""] if lines else []

    def _needed(self) -> list[str]:
        """Return the used parts and those they call, in the order of parts/."""
        wanted = set(self.parts)
        while more := {name for part in wanted for name in called_by(part)} - wanted:
            wanted |= more
        return [name for name in part_names() if name in wanted]

    def _helpers(self) -> list[str]:
        return [line for part in self._needed() for line in ("", "", source_of(part))]


class _Names:
    """Maps Caffe's names to unique Python names."""

    def __init__(self, taken: Iterable[str]):
        self.taken = set(taken)
        self.known: dict[object, str] = {}

    def of(self, name: str, unique: object = None) -> str:
        """Return the Python name of a blob; or of a layer, with `unique`, because two layers can have one name."""
        key = name if unique is None else id(unique)
        if key not in self.known:
            self.known[key] = self._free(identifier(name))
            self.taken.add(self.known[key])
        return self.known[key]

    def _free(self, base: str) -> str:
        fresh, n = base, 2
        while fresh in self.taken:
            fresh, n = f"{base}_{n}", n + 1
        return fresh


def identifier(name: str) -> str:
    """Return a Caffe name as a Python identifier: conv4-2 is conv4_2, 1x1 is _1x1, __init__ is _init__;
    "unnamed" if it has no ASCII letter or digit.

    A name with two leading underscores would be mangled inside a class, or be a special method.
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = re.sub(r"^__+", "_", plain) if plain.strip("_") else "unnamed"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    return f"{plain}_" if keyword.iskeyword(plain) else plain


def _in_docstring(text: str) -> str:
    """Escape text for a docstring: it stays on one line and cannot end the string."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in utf8(text).replace("\\", "\\\\"))
    return shown.replace('"', '\\"')


def class_name(name: str) -> str:
    """Return a class name for a network; "Network" if it has no name."""
    plain = identifier(name).strip("_") if name else ""
    plain = plain[0].upper() + plain[1:] if plain[:1].isalpha() else f"Network{plain}"
    return f"{plain}_" if plain in part_names() or plain in ("Tensor", "F", "True", "False", "None", "BLOBS") else plain


def _joined(lines: list[_Line]) -> list[_Line]:
    """Merge each in-place layer into the line before, if the result fits on a line."""
    out: list[_Line] = []
    for line in lines:
        last = out[-1] if out else None
        value = _nested(last, line) if last and len(line.targets) == 1 and line.targets == last.targets else None
        if last is None or value is None:
            out.append(line)
        else:
            out[-1] = _Line(line.targets, value, line.shapes, last.modules + line.modules,
                            last.ends_paragraph or line.ends_paragraph)
    return out


def _nested(inner: _Line, outer: _Line) -> str | None:
    """Inline `inner` into `outer`; None if the result would be hard to read."""
    name = re.escape(inner.targets[0])
    is_call = isinstance(ast.parse(inner.value, mode="eval").body, ast.Call)
    is_argument = re.match(rf"[\w.]+\({name}[,)]", outer.value)
    value, n = re.subn(rf"(?<![\w.]){name}(?!\w)", lambda _: inner.value, outer.value)
    fits = len(value) + len(inner.targets[0]) + 11 <= WIDTH
    return value if n == 1 and (is_call or is_argument) and fits else None


def _init(lines: Sequence[_Line]) -> list[str]:
    out: list[str] = []
    for paragraph in _paragraphs(lines):
        made = [_wrapped(f"        {module}", 12) for line in paragraph for module in line.modules]
        out += (["", *made] if made and out else made)
    return out


def _forward(lines: Sequence[_Line]) -> list[str]:
    out: list[str] = []
    for paragraph in _paragraphs(lines):
        out += [""] if out else []
        for line in paragraph:
            code = f"        {', '.join(line.targets)} = {line.value}"
            if len(code) > WIDTH and len(line.targets) > 1:  # a line can only be broken inside brackets
                is_tuple = isinstance(ast.parse(line.value, mode="eval").body, ast.Tuple)
                code = f"        ({', '.join(line.targets)}) = {f'({line.value})' if is_tuple else line.value}"
            code = _wrapped(code, 12)
            last = code.rpartition("\n")[2]
            shapes = ", ".join(map(_sizes, line.shapes))
            gap = " " * max(2, MARGIN - len(last))
            fits = len(last) + len(gap) + len(shapes) + 2 <= WIDTH
            out.append(f"{code}{gap}# {shapes}" if fits else code)
    return out


def _return(outputs: Sequence[str]) -> str:
    plain = f"        return {', '.join(outputs)}"
    return plain if len(plain) <= WIDTH else _wrapped(f"        return ({', '.join(outputs)})", 12)


def _paragraphs(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Group lines into paragraphs; a paragraph of one line joins the one before."""
    out: list[list[_Line]] = [[]]
    for line in lines:
        out[-1].append(line)
        if line.ends_paragraph:
            out.append([])
    merged: list[list[_Line]] = []
    for paragraph in filter(None, out):
        if merged and len(paragraph) == 1:
            merged[-1] += paragraph
        else:
            merged.append(paragraph)
    return merged


def _wrapped(text: str, indent: int) -> str:
    """Break text after commas to fit the width."""
    lines, rest = [], text
    while len(rest) > WIDTH and (at := rest.rfind(", ", indent, WIDTH)) > 0:
        lines.append(rest[: at + 1])
        rest = " " * indent + rest[at + 2 :]
    return "\n".join([*lines, rest])


def _sizes(shape: Dims) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _load(title: str) -> str:
    return (f'def load(path: str = __file__.removesuffix(".py") + ".pt") -> {title}:\n'
            f'    """The network with its weights, ready to run."""\n'
            f"    net = {title}()\n"
            f"    net.load_state_dict(torch.load(path, weights_only=True))\n"
            f"    return net.eval()")


def _root(value: Tensor) -> Tensor:
    return value if value._base is None else value._base


# --- parts/ ---------------------------------------------------------------------------------------------------


@cache
def _parts() -> dict[str, tuple[str, frozenset[str]]]:
    """Return each class and function in parts/: its source, and the others that it uses."""
    nodes: dict[str, tuple[str, ast.AST]] = {}
    for file in sorted(files(__package__).joinpath("parts").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            text = file.read_text("utf-8")
            nodes |= {node.name: (ast.get_source_segment(text, node) or "", node) for node in ast.parse(text).body
                      if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return {name: (source, frozenset(_globals_of(node) & nodes.keys())) for name, (source, node) in nodes.items()}


def _globals_of(node: ast.AST) -> set[str]:
    """Return the names that a class or function reads and never sets, not even as an argument."""
    inside = list(ast.walk(node))
    names = [n for n in inside if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {n.arg for n in inside if isinstance(n, ast.arg)}
    return {n.id for n in names} - own


def part_names() -> list[str]:
    """Return the names in parts/, file by file."""
    return list(_parts())


def source_of(part: str) -> str:
    return _parts()[part][0]


def called_by(part: str) -> frozenset[str]:
    return _parts()[part][1]


def write_state(path: str, state: dict[str, Tensor]) -> None:
    """Write the state dict that a model.py loads, with its tensors' shapes and dtypes.

    Raises:
        RmpeError: The file cannot be written.
    """
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch raises it if a file cannot be written
        raise RmpeError(f"{path}: cannot be written: {str(error).partition(chr(10))[0]}") from None
