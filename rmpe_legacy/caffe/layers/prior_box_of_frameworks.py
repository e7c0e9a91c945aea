"""SSD's default boxes in the orders of TensorFlow and Keras, or of given sizes. Source: prior_box_layer.cpp of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36."""

from __future__ import annotations

import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .prior_box import PriorBox
from .registry import register

INSET_SIZE, INSET = 60, 0.05  # the square of TensorFlow's first map, and how much smaller it is there on each side


@register("PriorBox", form="synopsys")
class PriorBoxOfFrameworks(PriorBox):
    """The boxes of the ssd branch in another order, as the same blob (1, 2, H * W * P * 4).

    With tf, the square between min_size and max_size is the last box of a min_size, and one of 60 pixels is cut by 0.05
    of the image on each side; with keras, it is the first, and the inverse ratios follow all ratios. box_width and
    box_height list the boxes instead. yx_order swaps x and y in the top.
    """

    caffe_source = "prior_box_layer.cpp"

    def read_sizes(self, param: Message) -> None:
        self.given = list(zip(param.box_width, param.box_height, strict=False))
        self.first = "keras" if param.keras else "tf" if param.tf else ""
        if len(param.box_width) != len(param.box_height):
            raise self.spec.error(f"has {len(param.box_width)} box_width and {len(param.box_height)} box_height; give "
                                  "one of each for a box")
        if not self.given:
            super().read_sizes(param)
            if param.keras and param.flip:
                ratios = self.aspect_ratios[1:]
                inverses = [ratio for ratio in ratios[1::2] if all(abs(ratio - r) >= 1e-6 for r in ratios[::2])]
                self.aspect_ratios = [1.0, *ratios[::2], *inverses]

    @property
    def per_cell(self) -> int:
        return len(self.given) or super().per_cell

    def box_sizes(self) -> Tensor:
        if self.given:
            return torch.tensor(self.given)
        sizes, per_size = super().box_sizes(), []
        for boxes in sizes.split(len(sizes) // len(self.min_sizes)):
            if self.max_sizes:  # the square, the root, the ratios
                ratios = range(2, len(boxes))
                order = {"keras": [1, 0, *ratios], "tf": [0, *ratios, 1]}.get(self.first, [0, 1, *ratios])
                boxes = boxes[order]
            per_size.append(boxes)
        return torch.cat(per_size)

    def _corners(self) -> tuple[Tensor, ...]:
        low, high = super()._corners()
        if self.first == "tf" and not self.given:
            inset = torch.zeros(low.shape[2], 1, 1, dtype=torch.float64)
            inset[:: len(inset) // len(self.min_sizes), 0, 0] = torch.tensor(
                [INSET * (int(size) == INSET_SIZE) for size in self.min_sizes], dtype=torch.float64)
            low, high = low + inset, high - inset
        is_yx = self.spec.get("prior_box_param").yx_order
        return (low.flip(-1), high.flip(-1)) if is_yx else (low, high)
