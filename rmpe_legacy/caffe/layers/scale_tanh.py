"""The tanh of HashNet, steeper step by step. Source: scale_tanh_layer.cpp of thuml/HashNet@85387b8."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .registry import register


@register("ScaleTanH", form="")
class ScaleTanH(Layer):
    """tanh(scale * x), any shape. Every step_size forwards, the first counted as the second, scale becomes
    init_scale * (1 + gamma * forwards)^power."""

    params = ("scale_tanh_param",)
    not_exportable = "changes its scale as it runs; use TanH, and multiply before it"

    def setup(self, *bottom: tuple[int, ...]) -> None:
        self.param = self.spec.get("scale_tanh_param")
        if self.param.step_size < 1:
            raise self.spec.error("step_size must be above 0")
        self.scale, self.passes = self.param.init_scale, 0
        self._count()

    def _count(self) -> None:
        self.passes += 1
        if self.passes % self.param.step_size == 0:
            self.scale = self.param.init_scale * (1 + self.param.gamma * self.passes) ** self.param.power

    def forward(self, x: Tensor) -> Tensor:
        self._count()
        return (self.scale * x).tanh()
