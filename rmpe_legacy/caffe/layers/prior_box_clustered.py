"""Prior boxes of given widths and heights. Source: prior_box_clustered_layer.cpp of
opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import Shape, shape_text
from .prior_box import PriorBox
from .registry import register


@register("PriorBoxClustered", form="")
class PriorBoxClustered(PriorBox):
    """A feature map (N, C, H, W) and perhaps the image -> corners and variances (1, 2, H * W * boxes * 4)."""

    bottoms = (1, 2)
    refuses = (0, 1)

    @property
    def is_ssd(self) -> bool:
        return True  # its arithmetic, whatever the file's dialect

    def read_sizes(self, param: Message) -> None:
        self.sizes = list(zip(param.width, param.height, strict=False))
        if not self.sizes or len(param.width) != len(param.height) or min(*param.width, *param.height) <= 0:
            raise self.spec.error("needs as many width as height, positive")

    def _pair(self, name: str, h: str, w: str) -> tuple[float, float] | None:
        """As PriorBox's, but a pair that holds a 0 counts as not given."""
        param = self.spec.get("prior_box_param")
        apart = param.has(h) or param.has(w)
        given = min(getattr(param, h), getattr(param, w)) > 0 or param.has(name) if apart else getattr(param, name) > 0
        return super()._pair(name, h, w) if given else None

    @property
    def per_cell(self) -> int:
        return len(self.sizes)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 for shape in bottom):
            raise self.spec.error("needs bottoms (N, C, H, W), not " + ", ".join(map(shape_text, bottom)))
        return super().reshape(*bottom)

    def box_sizes(self) -> Tensor:
        return torch.tensor(self.sizes)
