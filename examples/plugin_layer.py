"""A layer type of your own.

rmpe show deploy.prototxt --plugin plugin_layer.py     # also for forward, convert, verify and hash

The prototxt may then contain

    layer { name: "snake1" type: "Snake" bottom: "conv1" top: "snake1" snake_param { alpha: 2 } }
"""

import torch

from rmpe_legacy import Layer, register


@register("Snake")
class Snake(Layer):
    """x + sin(alpha x)^2 / alpha, any shape -> the same."""

    fields = {"snake_param": ("alpha",)}  # noqa: RUF012  other fields in snake_param are reported as unknown

    def setup(self, *bottom):
        has_alpha = self.spec.has("snake_param") and self.spec.get("snake_param").has("alpha")
        self.alpha = self.spec.get("snake_param").alpha if has_alpha else 1.0
        if self.alpha <= 0:
            raise self.spec.error(f"alpha is {self.alpha:g}; give a number above 0")

    def forward(self, x):
        return x + torch.sin(self.alpha * x) ** 2 / self.alpha
