"""Noise on what a network learns from. Source: noise_layer.{cpp,cu} of goodluckcwl/custom-caffe@aa5345b."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer
from .registry import register


@register("Noise", form="")
class Noise(Layer):
    """In TRAIN, the bottom plus noise, any shape: normal around `bias`, of the width gaussian_std times 0, 1, 2 or 3,
    drawn for each forward, times the root of the bottom's mean square; or with uniform_range alone, uniform. In TEST,
    the bottom. The gradient passes.

    This is the GPU code's arithmetic; the CPU code leaves out the factor of 0 to 3. Numbers come from torch's
    generator.
    """

    params = ("noise_param",)

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("noise_param")
        if self.spec.phase != "TRAIN":
            return x.clone()
        if param.has("gaussian_std"):
            width = x.detach().square().mean().sqrt() * param.gaussian_std * int(torch.randint(4, ()))
            return x + (param.bias + width * torch.randn_like(x))
        if param.has("uniform_range"):
            return x + (param.bias + param.uniform_range * (2 * torch.rand_like(x) - 1))
        raise self.spec.error("needs gaussian_std or uniform_range")
