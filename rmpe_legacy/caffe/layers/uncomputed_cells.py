"""YOLO v1's loss and detections, which have shapes, and refuse to run: see `uncomputed`."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed


class _OfCells(Uncomputed):
    """Base: YOLO v1's rows of side * side * (num_class + 5 * num_object) values, and labels of side * side * 7."""

    bottoms = 2

    def check(self, *bottom: Shape) -> tuple[int, int]:
        """Return how many cells there are, and classes. Raises LayerError for other bottoms."""
        param = self.spec.get(self.params[0])
        cells = param.side**2
        sizes = cells * (param.num_class + 5 * param.num_object), cells * 7
        if not all(bottom) or (count(bottom[0][1:]), count(bottom[1][1:])) != sizes:
            raise self.spec.error(f"needs rows of {sizes[0]} values and labels of {sizes[1]}; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return cells, param.num_class


@register("DetectionLoss", form="cells")
class DetectionLossOfCells(_OfCells):
    """Compares the objects of each cell with labels. Source: detection_loss_layer.cpp of hari-sikchi/BoxYolo@cca17cb, a
    copy of yeahkun/caffe-yolo."""

    params = ("detection_loss_param",)
    is_loss = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [()] * self.top_count


@register("EvalDetection", form="cells")
class EvalDetectionOfCells(_OfCells):
    """The detections of each class, as the other forms have them: (N, num_class + 4 * side * side * num_object).
    Source: eval_detection_layer.cpp of the same."""

    params = ("eval_detection_param",)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        cells, classes = self.check(*bottom)
        return [(bottom[0][0], classes + 4 * cells * self.spec.get("eval_detection_param").num_object)]


@chooses("DetectionLoss")
def _choose_detection_loss(spec: LayerSpec) -> Choice:
    """MS-CNN's has maps of a field's size; YOLO v1's has cells."""
    given = spec.get("detection_loss_param").fields.keys()
    named = given & {"side", "num_object", "object_scale", "constriant", "sqrt"}
    return Choice("cells", ("",)) if named else Choice("", ("cells",))
