"""The lines of a solver's debug_info: the mean absolute value of every blob, diff and parameter.

Source: Net::ForwardDebugInfo, BackwardDebugInfo and Backward (net.cpp:575-655) of RMPE@5188c23.
Differs: a parameter that layers share shows, in each of these layers' [Backward] lines, its whole diff; Caffe shows
what had been added up when that layer's turn ended.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step

log = logging.getLogger(__name__)


class DebugInfo:
    """Logs a network's forward and backward passes while it is entered: ``with DebugInfo(net) as debug: net()``."""

    def __init__(self, net: Net):
        self.net = net
        self._hooks: list[RemovableHandle] = []
        self._diffs: dict[tuple[int, int], float] = {}  # (step, bottom) -> mean absolute diff

    def __enter__(self) -> DebugInfo:
        for i, step in enumerate(self.net.steps):
            self._hooks += [step.layer.register_forward_pre_hook(partial(self._watch_bottoms, i)),
                            step.layer.register_forward_hook(partial(_log_forward, step))]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _watch_bottoms(self, index: int, _layer: nn.Module, bottoms: Sequence[Tensor]) -> None:
        for j, bottom in enumerate(bottoms):
            if bottom.requires_grad:
                self._hooks.append(bottom.register_hook(partial(self._keep, (index, j))))

    def _keep(self, place: tuple[int, int], diff: Tensor) -> None:
        self._diffs[place] = _mean(diff)

    def log_backward(self, learnable: Iterable[Tensor]) -> None:
        """Log the diffs of the backward that has just ended, layer by layer from the last, and their sums.

        Args:
            learnable: The network's parameters, of any shape, whose data and diffs are summed up.
        """
        for i in reversed(range(len(self.net.steps))):
            step = self.net.steps[i]
            layer, name = step.layer, step.layer.spec.name
            for j, bottom in enumerate(step.bottom):
                if (i, j) in self._diffs:
                    log.info("    [Backward] Layer %s, bottom blob %s diff: %g", name, bottom, self._diffs[i, j])
            for j, declared in enumerate(layer.declared):
                diff = getattr(layer, declared.name).grad
                if diff is not None:
                    log.info("    [Backward] Layer %s, param blob %d diff: %g", name, j, _mean(diff))
        self._diffs.clear()
        params = list(learnable)
        diffs = [param.grad for param in params if param.grad is not None]
        log.error("    [Backward] All net params (data, diff): L1 norm = (%g, %g); L2 norm = (%g, %g)",
                  _sum(params, 1), _sum(diffs, 1), _sum(params, 2) ** 0.5, _sum(diffs, 2) ** 0.5)


def _log_forward(step: Step, _layer: nn.Module, _bottoms: Any, tops: Tensor | tuple[Tensor, ...]) -> None:
    layer, spec = step.layer, step.layer.spec
    for name, top in zip(step.top, (tops,) if isinstance(tops, Tensor) else tops, strict=True):
        log.info("    [Forward] Layer %s, top blob %s data: %g", spec.name, name, _mean(top))
    for i, declared in enumerate(layer.declared):
        named = spec.params[i].name if i < len(spec.params) else ""
        log.info("    [Forward] Layer %s, param blob %s data: %g", spec.name, named or i,
                 _mean(getattr(layer, declared.name)))


def _mean(values: Tensor) -> float:
    return float(values.detach().abs().mean())


def _sum(tensors: Iterable[Tensor], power: int) -> float:
    return float(sum(float((tensor.detach().abs() ** power).sum()) for tensor in tensors))
