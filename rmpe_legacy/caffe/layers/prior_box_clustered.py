"""Prior boxes of given widths and heights. Source: prior_box_clustered_layer.cpp of
opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("PriorBoxClustered", form="")
class PriorBoxClustered(Layer):
    """A feature map (N, C, H, W) and perhaps the image -> corners and variances (1, 2, H * W * boxes * 4)."""

    params = ("prior_box_param",)
    bottoms = (1, 2)
    refuses = (0, 1)
    works_in_place = False
    not_exportable = "gives numbers that depend on sizes alone; write them into the network, or use PriorBox"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("prior_box_param")
        self.sizes = list(zip(param.width, param.height, strict=False))
        if not self.sizes or len(param.width) != len(param.height) or min(*param.width, *param.height) <= 0:
            raise self.spec.error("needs as many width as height, positive")
        self.variance = list(param.variance) or [0.1]
        if len(self.variance) not in (1, 4) or min(self.variance) <= 0:
            raise self.spec.error(f"variance must be given once or four times, and be positive, not {self.variance}")
        self.image = self._pair("img_size", "img_h", "img_w")
        self.step = self._pair("step", "step_h", "step_w")
        if self.image is None and len(bottom) < 2:
            raise self.spec.error("needs two bottoms, the feature map and the image")

    def _pair(self, both: str, h: str, w: str) -> tuple[float, float] | None:
        param = self.spec.get("prior_box_param")
        given = param.has(h) or param.has(w)
        if given and param.has(both):
            raise self.spec.error(f"give {both}, or {h} and {w}, not both")
        pair = (getattr(param, h), getattr(param, w)) if given else (getattr(param, both),) * 2
        return pair if min(pair) > 0 else None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 for shape in bottom):
            raise self.spec.error("needs bottoms (N, C, H, W), not " + ", ".join(map(shape_text, bottom)))
        self.map = bottom[0][2:]
        self.picture = self.image or bottom[1][2:]
        return [(1, 2, self.map[0] * self.map[1] * len(self.sizes) * 4)]

    def forward(self, x: Tensor, *image: Tensor) -> Tensor:
        param = self.spec.get("prior_box_param")
        (h, w), (image_h, image_w) = self.map, self.picture
        step_h, step_w = self.step or (np.float32(image_h) / np.float32(h), np.float32(image_w) / np.float32(w))
        offset = np.float32(param.offset)
        y = (np.arange(h, dtype=np.float32) + offset) * np.float32(step_h)
        x_ = (np.arange(w, dtype=np.float32) + offset) * np.float32(step_w)
        box = np.empty((h, w, len(self.sizes), 4))
        for i, (width, height) in enumerate(self.sizes):
            for corner, sign in enumerate((-1, 1)):
                box[:, :, i, 2 * corner] = (x_[None] + sign * (np.float32(width) / 2.0).astype(float)) / image_w
                box[:, :, i, 2 * corner + 1] = (y[:, None] + sign * (np.float32(height) / 2.0).astype(float)) / image_h
        flat = torch.from_numpy(box.astype(np.float32).reshape(-1)).to(x)
        if param.clip:
            flat = flat.clamp(0, 1)
        variance = torch.tensor(self.variance * (4 if len(self.variance) == 1 else 1)).to(x).repeat(flat.numel() // 4)
        return torch.stack([flat, variance]).unsqueeze(0)
