"""Recognises which published network a module tree is: the hourglass alone, or with STN, SDTN and parallel SPPE.

Source: model.lua, hg.lua and spatial_transformer_with_theta.lua of multi-human-pose@094e29b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .objects import Table, Torch7Object

SAMPLER, ALPHA, UPSAMPLING = "nn.BilinearSamplerBHWD", "nn.Get_Alpha", "nn.SpatialUpSamplingNearest"
GRAPH = "nn.gModule"
MAX_DEPTH = 100


@dataclass(frozen=True)
class Part:
    """The properties of a module that determine its kind."""

    class_name: str
    parts: tuple[Part, ...] = ()
    outputs: int = 1
    holds: frozenset[str] = frozenset()  # those of SAMPLER, ALPHA and UPSAMPLING that it contains

    @classmethod
    def of(cls, class_name: str, parts: list[Part], outputs: int = 1) -> Part:
        holds = frozenset({class_name} & {SAMPLER, ALPHA, UPSAMPLING}).union(*(part.holds for part in parts))
        return cls(class_name, tuple(parts), outputs, holds)


def part_of_object(source: Any, known: dict[int, Part] | None = None, depth: int = 0) -> Part:
    """Make a Part from an object in the file."""
    known = {} if known is None else known
    if not isinstance(source, Torch7Object) or depth > MAX_DEPTH:
        return Part("")
    if id(source) not in known:
        modules, out = source.get("modules"), source.get("outnode")
        children = out.get("children") if isinstance(out, Torch7Object) else None
        known[id(source)] = Part(source.class_name)  # for a module that contains itself
        parts = [part_of_object(m, known, depth + 1) for m in modules.seq()] if isinstance(modules, Table) else []
        outputs = len(children.seq()) if isinstance(children, Table) else 1
        known[id(source)] = Part.of(source.class_name, parts, outputs)
    return known[id(source)]


def roles(part: Part) -> list[str]:
    """Return the role of each part of a graph: "stn", "sppe", "parallel", "alpha", "sdtn1", ...; "" for others."""
    out: list[str] = []
    if part.class_name != GRAPH or SAMPLER not in part.holds or UPSAMPLING not in part.holds:
        return [""] * len(part.parts)
    detransformers, found = 0, False  # SDTNs so far; whether there was an SPPE
    for child in part.parts:
        role = ""
        if child.class_name == ALPHA:
            role = "alpha"
        elif SAMPLER in child.holds:
            detransformers += child.class_name != GRAPH
            role = "stn" if child.class_name == GRAPH else f"sdtn{detransformers}"
        elif UPSAMPLING in child.holds:
            role = "parallel" if found else "sppe"
            found = True
        out.append(role)
    return out


def kind(part: Part) -> str:
    """Describe the network; "" if it is not a published one."""
    found = roles(part)
    stacks = sum(role.startswith("sdtn") for role in found)
    if "stn" in found and "sppe" in found and stacks:
        text = f"RMPE with STN, SPPE (stacked hourglass, {stacks} stacks) and SDTN"
        return f"{text}, and the parallel SPPE ({part.outputs - stacks} stacks)" if "parallel" in found else text
    if part.class_name == GRAPH and UPSAMPLING in part.holds and SAMPLER not in part.holds:
        return f"stacked hourglass (SPPE alone), {part.outputs} stacks"
    if part.class_name == GRAPH and SAMPLER in part.holds and UPSAMPLING not in part.holds:
        return "spatial transformer (STN)"
    return ""
