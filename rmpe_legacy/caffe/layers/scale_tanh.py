"""The tanh of HashNet, steeper step by step. Source: scale_tanh_layer.cpp of thuml/HashNet@85387b8."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .registry import register

FIRST = 2  # the number of the first forward: setup counts as one


@register("ScaleTanH", form="")
class ScaleTanH(Layer):
    """tanh(scale * x), any shape. Every step_size forwards, the first counted as the second, scale becomes
    init_scale * (1 + gamma * forwards)^power."""

    params = ("scale_tanh_param",)
    keeps_state = True
    lost = "keeps the scale of a first forward; in the fork, it changes as the network runs"

    def setup(self, *bottom: tuple[int, ...]) -> None:
        self.param = self.spec.get("scale_tanh_param")
        if self.param.step_size < 1:
            raise self.spec.error("step_size must be above 0")
        self.reset()

    def reset(self) -> None:
        """Begin anew with init_scale."""
        self.passes = FIRST - 1

    def scale(self, passes: int) -> float:
        """The scale in the forward of this number."""
        steps = passes - passes % self.param.step_size
        return self.param.init_scale * (1 + self.param.gamma * steps) ** self.param.power if steps else \
            self.param.init_scale

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return (self.scale(self.passes) * x).tanh()
