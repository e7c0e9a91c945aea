"""Python layers that whole families of networks share, by module and class: built in, so they need no import.

With allow_python, a module of that name that is there goes before these.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from sys import float_info
from typing import Any

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer

_KNOWN: dict[tuple[str, str, int | None], type[Layer]] = {}  # by module, class, and perhaps number of bottoms
_ENTRY = re.compile(r"""['"](\w+)['"]\s*:\s*(?:!!python/tuple\s*)?(\[[^\][]*\]|\([^()]*\)|'[^']*'|"[^"]*"|[^\s,}]+)""")


def known_python(*names: tuple[str, str], of_bottoms: int | None = None) -> Callable[[type[Layer]], type[Layer]]:
    """``@known_python(("rpn.proposal_layer", "ProposalLayer"))`` above the class that is such a layer.

    Where two repositories have a class of one name, `of_bottoms` tells them apart: this one has so many bottoms.
    """

    def add(cls: type[Layer]) -> type[Layer]:
        taken = {known.form for known in _KNOWN.values()}
        for name in names:
            key = (*name, of_bottoms)
            if key in _KNOWN:
                raise ValueError(f"Python layer {name} is taken by {_KNOWN[key].__qualname__}")
            _KNOWN[key] = cls
        cls.form = names[0][1] if names[0][1] not in taken else ".".join(names[0])
        return cls

    return add


def known_class(spec: LayerSpec) -> type[Layer] | None:
    """The built-in class of a Python layer; None for any other module."""
    param = spec.get("python_param")
    return (_KNOWN.get((param.module, param.layer, len(spec.bottom)))
            or _KNOWN.get((param.module, param.layer, None)))


def known_names() -> list[tuple[str, str]]:
    """(module, class) of each that is built in."""
    return sorted({(module, layer) for module, layer, _ in _KNOWN})


def known_forms() -> dict[str, type[Layer]]:
    """What exporters know them by -> the classes."""
    return {f"Python={cls.form}": cls for cls in _KNOWN.values()}


def parameters(spec: LayerSpec) -> dict[str, Any]:
    """The values of a param_str like "'feat_stride': 16": numbers, texts and lists of these. Nothing is executed."""
    found = {}
    for key, text in _ENTRY.findall(spec.get("python_param").param_str):
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[key] = text
    return found


def number(spec: LayerSpec, values: dict[str, Any], name: str, default: float | None = None) -> float:
    """Return a number from a param_str.

    Raises:
        LayerError: It is missing, or not a finite number.
    """
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > float_info.max or value != value:
        raise spec.error(f"its param_str needs '{name}': a number")
    return value
