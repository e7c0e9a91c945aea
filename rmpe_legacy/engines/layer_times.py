"""How long each layer takes in an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

LayerTimes = dict[str, float]  # layer -> seconds of a run on average, in the order of execution
OTHER = "(other)"  # what a runtime adds by itself, such as reordering values, and what it makes of constants


def module_times(modules: Iterable[tuple[str, nn.Module]], run: Callable[[], object], iterations: int) -> LayerTimes:
    """Return the mean seconds per run of each module, under the name of its layer.

    Args:
        modules: (layer, module) pairs.
        run: Runs the modules once.
        iterations: How often to call `run`.
    """
    spent: LayerTimes = {}
    begun: list[float] = []
    hooks = []

    def end(name: str, tops: Tensor | tuple[Tensor, ...]) -> None:
        wait_for((tops,) if isinstance(tops, Tensor) else tops)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - begun.pop()

    for name, module in modules:
        hooks += [module.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter())),
                  module.register_forward_hook(lambda _module, _bottoms, tops, name=name: end(name, tops))]
    try:
        for _ in range(iterations):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: seconds / iterations for name, seconds in spent.items()}


def node_times(nodes: Iterable[tuple[str, float]], layers: Collection[str], iterations: int) -> LayerTimes:
    """Sum a runtime's node times by layer: the mean seconds per run.

    Args:
        nodes: (name, seconds) of each node, summed over all runs.
        layers: The names of the layers.
        iterations: Number of runs.
    """
    spent: LayerTimes = {}
    for name, seconds in nodes:
        layer = layer_of(name, layers)
        spent[layer] = spent.get(layer, 0.0) + seconds
    return {layer: seconds / iterations for layer, seconds in sorted(spent.items(), key=lambda item: item[0] == OTHER)}


def layer_of(node: str, layers: Collection[str]) -> str:
    """Return the layer that a node of our ONNX belongs to, from the name that a runtime gives the node.

    We name nodes LAYER or LAYER/OPERATION. ONNX Runtime prefixes "fused " and appends "_nchwc"; OpenVINO appends
    "/WithoutBiases".
    """
    name = node.removeprefix("fused ").removesuffix("_nchwc")
    while name not in layers:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return OTHER
    return name


def wait_for(values: Iterable[Tensor]) -> None:
    """Wait until the GPU has computed these tensors, of any shape. Does nothing for tensors on the CPU."""
    if any(value.is_cuda for value in values):
        torch.cuda.synchronize()
