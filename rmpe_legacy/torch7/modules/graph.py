"""nngraph: a module whose parts are connected as a graph. Source: gmodule.lua, nngraph@3ed3b9b."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rmpe_legacy.errors import NetError
from rmpe_legacy.torch7.objects import Table, Torch7Object

from .base import Fields, Module, Value, torch7_class

MAX_INPUTS = 1000  # of a node, and of the whole


@dataclass
class Node:
    """One step of a graph: computes one value from values of earlier nodes."""

    module: str | None = None  # its name in the state dict; None passes its input on
    sources: list[int] = field(default_factory=list)  # the nodes it reads, in the order of its arguments
    select: int | None = None  # which entry of a table it takes, from 0 on
    splits: int | None = None  # how many entries its output must have
    last: list[int] = field(default_factory=list)  # nodes that nothing reads any more after this one


@torch7_class("nn.gModule")
class GModule(Module):
    """An nngraph network: its nodes run in the order that was saved (`forwardnodes`).

    A node with one input receives it directly, with several as a list. Several inputs or outputs of the network are
    lists. In the state dict a module has the number of its node, from 0 on.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        sources = _nodes(fields)
        places = {id(source.get("data")): i for i, source in enumerate(sources)}
        self.nodes = [self._node(fields, source, i) for i, source in enumerate(sources)]
        for i, source in enumerate(sources):
            _connect(fields, self.nodes, places, i, source)
        self.in_node = _place(fields, places, "innode")
        self.out_node = _place(fields, places, "outnode")
        in_children, out_children = (_list(fields.get(name), "children") for name in ("innode", "outnode"))
        self.input_count = fields.integer("nInputs", len(in_children) or 1)
        self.bare_output = len(out_children) == 1
        if self.input_count > MAX_INPUTS:
            raise fields.error(f"nInputs is {self.input_count}; up to {MAX_INPUTS} are read")
        _check_order(fields, self.nodes, self.in_node)
        self._free()

    def _node(self, fields: Fields, source: Torch7Object, i: int) -> Node:
        data: Any = source.get("data")
        node = Node()
        if data.get("selectindex") is not None:
            node.select = Fields(_as_object(data, source), fields.builder, fields.depth).integer("selectindex") - 1
        elif data.get("module") is not None:
            node.module = str(i)
            self.add_module(node.module, fields.child(data.get("module")))
        if data.get("nSplitOutputs") is not None:
            node.splits = Fields(_as_object(data, source), fields.builder, fields.depth).integer("nSplitOutputs")
        return node

    def _free(self) -> None:
        """Free each value after its last reader."""
        readers = {source: i for i, node in enumerate(self.nodes) for source in node.sources}
        for source, i in readers.items():
            self.nodes[i].last.append(source)

    @property
    def output_count(self) -> int:
        """The number of outputs."""
        return 1 if self.bare_output else len(self.nodes[self.out_node].sources)

    def forward(self, x: Value) -> Value:
        return self.evaluate(x, lambda name, value: self._modules[name](value))

    def evaluate(self, x: Any, apply: Callable[[str, Any], Any]) -> Any:
        """Run the graph on values of any kind: `apply` computes a module's output by its name."""
        inputs = x if self.input_count > 1 else [x]
        if not isinstance(inputs, (list, tuple)) or len(inputs) != self.input_count:
            raise NetError(f"nn.gModule: takes a list of {self.input_count} inputs")
        values: dict[int, Any] = {}
        for i, node in enumerate(self.nodes):
            given = list(inputs) if i == self.in_node else [values[source] for source in node.sources]
            if i == self.out_node:
                return given[0] if self.bare_output else given
            values[i] = _run(node, given, apply)
            for source in node.last:
                values.pop(source, None)
        raise NetError("nn.gModule: its out-node is not among its nodes")


def _run(node: Node, given: list, apply: Callable[[str, Any], Any]) -> Any:
    """Compute a node's value from its inputs."""
    if node.select is not None:
        if not isinstance(given[0], list | tuple) or node.select >= len(given[0]):
            raise NetError(f"nn.gModule: a node selects entry {node.select + 1} of a value that is not a table, or is "
                           "too short")
        return given[0][node.select]
    value = given[0] if len(given) == 1 else given
    value = value if node.module is None else apply(node.module, value)
    if node.splits is not None and (not isinstance(value, list | tuple) or node.splits != len(value)):
        raise NetError(f"nn.gModule: a node splits into {node.splits} a value that is not a table of that length")
    return value


def _nodes(fields: Fields) -> list[Torch7Object]:
    """Return the nodes in the order in which they run."""
    table = fields.get("forwardnodes")
    nodes = table.seq() if isinstance(table, Table) else []
    if not nodes:
        raise fields.error("forwardnodes is missing: the order of its nodes is not known")
    for node in nodes:
        if not (isinstance(node, Torch7Object) and isinstance(node.get("data"), Table)):
            raise fields.error("forwardnodes holds something other than nodes")
    return nodes


def _connect(fields: Fields, nodes: list[Node], places: dict[int, int], i: int, source: Torch7Object) -> None:
    """Add node i to the sources of each of its children, at the child's index for it.

    Forward and backward nodes are two objects that share their `data`, which identifies a node.
    """
    data: Any = source.get("data")
    for child in _list(source, "children"):
        child_data: Any = child.get("data") if isinstance(child, Torch7Object) else None
        if id(child_data) not in places or not isinstance(child_data.get("mapindex"), Table):
            raise fields.error(f"node {i + 1} has a child that is not in the graph")
        at = child_data.get("mapindex").get(data)
        sources = nodes[places[id(child_data)]].sources
        if not (isinstance(at, float) and 1 <= at <= min(len(places), MAX_INPUTS) and at == int(at)):
            raise fields.error(f"a child of node {i + 1} does not say which of its inputs that is")
        sources += [-1] * (int(at) - len(sources))
        if sources[int(at) - 1] != -1:
            raise fields.error(f"input {int(at)} of a child of node {i + 1} has two sources")
        sources[int(at) - 1] = i


def _check_order(fields: Fields, nodes: list[Node], in_node: int) -> None:
    for i, node in enumerate(nodes):
        if (i != in_node and not node.sources) or any(not 0 <= source < i for source in node.sources):
            raise fields.error(f"node {i + 1} lacks an input, or has one that is computed later")
        if node.select is not None and len(node.sources) != 1:
            raise fields.error(f"node {i + 1} selects from {len(node.sources)} inputs; it must have 1")


def _place(fields: Fields, places: dict[int, int], name: str) -> int:
    node = fields.get(name)
    place = places.get(id(node.get("data"))) if isinstance(node, Torch7Object) else None
    if place is None:
        raise fields.error(f"{name} is missing, or not among its nodes")
    return place


def _list(source: object, name: str) -> list:
    table = source.get(name) if isinstance(source, (Torch7Object, Table)) else None
    return table.seq() if isinstance(table, Table) else []


def _as_object(data: Table, source: Torch7Object) -> Torch7Object:
    """The table of a node with a class and a place, for its errors."""
    return Torch7Object(source.class_name, source.version, data, source.offset)


@torch7_class("nngraph.JustElement")
class JustElement(Module):
    """The one entry of a table."""

    def forward(self, x: list) -> Value:
        return x[0]


@torch7_class("nngraph.JustTable")
class JustTable(Module):
    """A table of one entry."""

    def forward(self, x: Value) -> list:
        return [x]
