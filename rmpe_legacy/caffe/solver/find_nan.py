"""Which layer a NaN comes from."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step


def first_nan(net: Net) -> str:
    """Describe the first layer whose output contains a NaN: runs the last forward's inputs again, layer by layer."""
    found: list[str] = []
    hooks = [step.layer.register_forward_hook(partial(_look, step, found)) for step in net.steps]
    inputs = net.last_inputs
    try:
        for name, value in inputs.items():
            if value.isnan().any():
                return f"its input {name!r} holds NaN"
        with torch.no_grad():
            net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "no layer produces NaN when the same batch is run again"


def _look(step: Step, found: list[str], layer: nn.Module, _bottoms: Any, tops: Tensor | tuple[Tensor, ...]) -> None:
    if found:
        return
    spec = step.layer.spec
    tops = (tops,) if isinstance(tops, Tensor) else tops
    if any(parameter.isnan().any() for parameter in layer.parameters(recurse=False)):
        found.append(f"the first layer with NaN is {spec.name} ({spec.type}), in its parameters")
    else:
        found.extend(f"the first layer with NaN is {spec.name} ({spec.type}), in its top {name!r}"
                     for name, top in zip(step.top, tops, strict=True) if top.isnan().any())
