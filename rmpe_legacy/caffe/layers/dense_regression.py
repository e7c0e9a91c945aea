"""DenseReg's coordinates: which step of a coordinate a place belongs to, and how far it is within the step.

Sources: CombineRegressions.py and CombineRegressionsHuman.py of ralpguler/DenseReg@d28c89e.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .known_python import known_python


class _CombineRegressions(Layer):
    """Base: steps of two coordinates, (1, 1, H, W) each, and places within the steps, (1, K, H, W) each -> two
    coordinates (1, 1, H, W). Step 0 is the background. No gradient."""

    params = ("python_param",)
    bottoms = 4
    tops = 2
    works_in_place = False
    unforced = (0, 1, 2, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        steps, places = bottom[0], bottom[2]
        if (len(steps) != 4 or steps[:2] != (1, 1) or bottom[1] != steps or bottom[3] != places or len(places) != 4
                or places[0] != 1 or places[2:] != steps[2:] or places[1] < 2):
            raise self.spec.error("needs steps of two coordinates (1, 1, H, W) and places within 2 or more steps "
                                  f"(1, K, H, W); its bottoms are {', '.join(map(shape_text, bottom))}")
        return [steps, steps]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, Tensor]:
        x, y, within_x, within_y = (bottom.detach() for bottom in bottoms)
        return self.combined(x, within_x), self.combined(y, within_y)

    def combined(self, step: Tensor, within: Tensor) -> Tensor:
        """One coordinate of each place."""
        raise NotImplementedError

    @staticmethod
    def chosen(step: Tensor, within: Tensor) -> Tensor:
        """The place within its own step, 0 in the background, in double precision."""
        numbers = torch.arange(within.shape[1], dtype=step.dtype, device=step.device).view(1, -1, 1, 1)
        return torch.where((step == numbers) & (numbers > 0), within, 0).sum(1, keepdim=True).double()


@known_python(("CombineRegressions", "CombineRegressionsLayer"))
class PyCombineRegressions(_CombineRegressions):
    """Of a face: coordinates from 0 to 1, -1 in the background."""

    def combined(self, step: Tensor, within: Tensor) -> Tensor:
        place = (step + self.chosen(step, within) - 1) / (within.shape[1] - 1)
        return torch.where(place < 0, -1, place).to(step.dtype)


@known_python(("CombineRegressionsHuman", "CombineRegressionsLayer"))
class PyCombineRegressionsHuman(_CombineRegressions):
    """Of a person: coordinates from 0 to 1 within a part of the body, 0 in the background."""

    def combined(self, step: Tensor, within: Tensor) -> Tensor:
        return self.chosen(step, within).clamp(0, 1).to(step.dtype)
