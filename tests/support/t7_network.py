"""Torch7 objects for a network that is only described: structure from a golden's `graph`, random weights.

For the full-size network, of which there is no file. Parameters lie in one storage and their gradients in a second,
as getParameters() leaves them.
"""

import math
from typing import Any

import numpy as np
from t7_writer import module, table, tensor

from rmpe_legacy.torch7.modules.stn import base_grid
from rmpe_legacy.torch7.objects import Storage, Tensor, Torch7Object

LEARNT = ("weight", "bias")


class Network:
    """Builds the objects; `parameters` says how many values were learnt."""

    def __init__(self, graph: dict, seed: int = 1701):
        self.random = np.random.default_rng(seed)
        _mark_transposes(graph, True)
        self.parameters = sum(math.prod(size) for size in _learnt(graph))
        self.storages = [Storage("torch.CudaStorage", np.zeros(self.parameters, np.float32)) for _ in range(2)]
        self.used = 0
        self.root = self.build(graph)

    def build(self, node: dict) -> Torch7Object:
        """The object of one module."""
        fields = {name[1:]: value for name, value in node.items()
                  if name.startswith(".") and not isinstance(value, list)}
        fields |= {"train": False} if "train" in fields else {}
        for name in LEARNT:
            if f".{name}" in node:
                fields |= self.learnt(name, node)
        if ".running_mean" in node:
            size = node[".running_mean"]
            fields["running_mean"] = tensor(self.random.normal(0, 0.1, size).astype("f4"), "torch.CudaTensor")
            fields["running_var"] = tensor(self.random.uniform(0.5, 1.5, size).astype("f4"), "torch.CudaTensor")
        fields |= self.unnamed(node)
        if "nodes" in node:
            return self.graph(node, fields)
        out = module(node["class"], **fields)
        if "modules" in node:
            out.fields[b"modules"] = table(*(self.build(part) for part in node["modules"]))
        return out

    def learnt(self, name: str, node: dict) -> dict[str, Tensor]:
        size = node[f".{name}"]
        count = math.prod(size)
        if "BatchNormalization" in node["class"]:
            values = self.random.uniform(0.5, 1.5, count) if name == "weight" else self.random.normal(0, 0.1, count)
        elif node["class"] == "nn.Linear":  # theta near the identity
            values = self.random.normal(0, 1e-3, count) if name == "weight" else np.array([1, 0.1, 0, -0.1, 1, 0.05])
        else:
            values = self.random.normal(0, 1 / math.sqrt(math.prod(size[1:]) or 1), count)
        self.storages[0].data[self.used : self.used + count] = values
        strides = tuple(math.prod(size[i + 1 :]) for i in range(len(size)))
        views = [Tensor("torch.CudaTensor", tuple(size), strides, self.used, storage) for storage in self.storages]
        self.used += count
        return {name: views[0], f"grad{name.capitalize()}": views[1]}

    def unnamed(self, node: dict) -> dict[str, Any]:
        """Fields that the description leaves out: those that are tables or tensors."""
        if node["class"] == "nn.View":
            return {"size": Storage("torch.LongStorage", np.array(node[".size"], "i8"))}
        if node["class"] == "nn.AffineGridGeneratorBHWD":
            return {"baseGrid": tensor(base_grid(node[".height"], node[".width"]).numpy(), "torch.CudaTensor")}
        if node["class"] == "nn.Transpose":  # before a sampler to channels last, behind it back
            pairs = ((2, 3), (3, 4)) if node["before"] else ((3, 4), (2, 3))
            return {"permutations": table(*(table(*pair) for pair in pairs))}
        return {}

    def graph(self, node: dict, fields: dict[str, Any]) -> Torch7Object:
        """A gModule: nodes, and for each the place that its sources have among its inputs."""
        places = [table(mapindex=table()) for _ in node["nodes"]]
        objects = [module("nngraph.Node", data=data, children=table(), id=float(n["id"]))
                   for n, data in zip(node["nodes"], places, strict=True)]
        for described, data, own in zip(node["nodes"], places, objects, strict=True):
            for name in ("selectindex", "nSplitOutputs"):
                if name in described:
                    data[name] = float(described[name])
            if "module" in described:
                data["module"] = self.build(described["module"])
            for number, source in enumerate(described["inputs"], 1):
                data["mapindex"][float(number)] = places[source - 1]
                data["mapindex"][places[source - 1]] = float(number)
                children = objects[source - 1].get("children")
                children[float(len(children) + 1)] = own
        ends = {name: module("nngraph.Node", data=places[node[name] - 1], children=table(*(
            objects[i - 1] for i in node["nodes"][node[name] - 1]["inputs"]))) for name in ("innode", "outnode")}
        modules = [data["module"] for data in places if "module" in data]
        return module("nn.gModule", *modules, forwardnodes=table(*objects), nInputs=1.0, **ends, **fields)


def _mark_transposes(node: dict, before: bool) -> None:
    """Say of each Transpose whether its sampler comes later; within a graph the nodes stand in order."""
    for part in _parts(node):
        if part["class"] == "nn.Transpose":
            part["before"] = before
        _mark_transposes(part, before)
        if part["class"] == "nn.BilinearSamplerBHWD":
            before = False


def _parts(node: dict) -> list[dict]:
    return [*node.get("modules", []), *(n["module"] for n in node.get("nodes", []) if "module" in n)]


def _learnt(node: dict) -> list[list[int]]:
    sizes = [node[f".{name}"] for name in LEARNT if f".{name}" in node]
    for part in _parts(node):
        sizes += _learnt(part)
    return sizes
