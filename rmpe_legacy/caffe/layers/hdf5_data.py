"""Rows of HDF5 files, untransformed. Source: hdf5_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.hdf5_rows import RowReader
from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .base_data import ASSUMED, COLORS, BlobLayer
from .example_data import example_shape
from .fed import channels_beside
from .read_ahead import Position
from .registry import register


@register("HDF5Data")
class HDF5Data(BlobLayer):
    """The next rows of the datasets named like the tops: (batch, ...).

    shuffle mixes the files and the rows of each file in the same way in every run, as in Caffe, which never seeds the
    generator it uses here.
    """

    params = ("hdf5_data_param",)
    exact = True
    tops = (1, None)
    _rows: RowReader | None = None
    _assumed: Sequence[Shape | None] = ()

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        if not os.path.exists(self.spec.get("hdf5_data_param").source):
            self._assumed = [_sample_by_use(top, specs) for top in self.spec.top]

    def setup(self) -> None:
        super().setup()
        if self.spec.message.has("transform_param"):
            raise self.spec.error("does not transform its values; remove transform_param")
        if not self.spec.get("hdf5_data_param").batch_size:
            raise self.spec.error("needs a batch_size above 0")

    def reshape(self) -> Sequence[Shape]:
        param = self.spec.get("hdf5_data_param")
        example = ""
        if not os.path.exists(param.source) and self.top_count == 2:
            example, features = example_shape(param.source)
        if example:
            warnings.warn(str(self.spec.error(f"its source {param.source!r} does not exist; its name suggests "
                                              f"{example}, with {features[0]} features and a label")), stacklevel=2)
            return [(param.batch_size, *features), (param.batch_size,)]
        samples = [sample for sample in self._assumed if sample is not None]
        if not os.path.exists(param.source) and len(samples) == self.top_count:
            self.guesses = True
            shapes = [(param.batch_size, *sample) for sample in samples]
            told = ", ".join(f"{top} {shape_text(shape)}" for top, shape in zip(self.spec.top, shapes, strict=True))
            warnings.warn(str(self.spec.error(f"its source {param.source!r} does not exist; from the layers that use "
                                              f"them, its tops are assumed to be {told}")), stacklevel=2)
            return shapes
        with self.named():
            return [(param.batch_size, *shape) for shape in self.rows.shapes]

    @property
    def rows(self) -> RowReader:
        """The position in the files; the first file is read on first use."""
        if self._rows is None:
            param = self.spec.get("hdf5_data_param")
            if not os.path.exists(param.source):
                raise self.spec.error(f"its source {param.source!r} does not exist, and nothing else determines the "
                                      "shapes of its tops; create it, or give the network Input layers")
            self._rows = RowReader(param.source, self.spec.top, param.shuffle)
        return self._rows

    def batch(self) -> Sequence[np.ndarray]:
        count = self.spec.get("hdf5_data_param").batch_size
        if self.processes == 1:
            return self.rows.take(count)
        return [np.ascontiguousarray(rows[self.rank :: self.processes])
                for rows in self.rows.take(count * self.processes)]

    def read_position(self) -> Position:
        return self.rows.position()

    def read_from(self, position: Position) -> None:
        self.rows.seek(position)

    def shard(self, rank: int, processes: int) -> None:
        super().shard(rank, processes)
        self.end_prefetch()
        self._rows = None


_OF_IMAGES = {"Convolution", "Deconvolution", "LRN", "Pooling"}
_OF_CLASSES = {"Accuracy", "HingeLoss", "MultinomialLogisticLoss", "SoftmaxWithLoss"}
_OF_VALUES = {"EuclideanLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss"}
_OF_SAME_SHAPE = {"BatchNorm", "Bias", "Dropout", "ELU", "Eltwise", "LRN", "PReLU", "Power", "ReLU", "Scale", "Sigmoid",
                  "Split", "TanH"}


def _sample_by_use(top: str, specs: Sequence[LayerSpec]) -> Shape | None:
    """Return the shape of one sample of a top of which only the use is known; None if the use does not tell.

    It is an image; a class; as many values as the layer has with which a loss compares it, or a map as large as that
    layer's; or, cut by a Slice, as many values as the parts have. Differs: Caffe builds no network whose source is
    missing.
    """
    copies = {top, *(copy for spec in specs if spec.type == "Split" and top in spec.bottom for copy in spec.top)}
    users = {spec.type: copies & {*spec.bottom[1:]} for spec in specs if copies & {*spec.bottom}}
    users.pop("Split", None)
    if _OF_IMAGES & {*users}:
        return _channels_by_sum(copies, specs), ASSUMED, ASSUMED
    if not users or any(users.get(name) for name in _OF_CLASSES):
        return ()
    if "Slice" in users:
        return _sample_of_parts(next(spec for spec in specs if spec.type == "Slice" and copies & {*spec.bottom}), specs)
    if not any(users.get(name) for name in _OF_VALUES):
        return None
    loss = next(spec for spec in specs if spec.type in _OF_VALUES and copies & {*spec.bottom[1:]})
    values = channels_beside(top, specs)
    return _map_of(loss.bottom[0], specs) or ((values,) if values else None)


def _sample_of_parts(cut: LayerSpec, specs: Sequence[LayerSpec]) -> Shape | None:
    """The values that a Slice of rows cuts in parts: up to its last point, and those of the last part by its use."""
    param = cut.get("slice_param")
    axis = param.slice_dim if param.has("slice_dim") else param.axis
    points = list(param.slice_point)
    if axis not in (1, -1) or len(points) != len(cut.top) - 1 or points != sorted({*points} - {0}):
        return None
    last = _sample_by_use(cut.top[-1], specs)
    if last is not None and len(last) < 2:
        return (points[-1] + (last[0] if last else 1),)
    widths = {b - a for a, b in zip([0, *points], points, strict=False)}
    return (points[-1] + widths.pop(),) if len(widths) == 1 else None


def _channels_by_sum(image: set[str], specs: Sequence[LayerSpec]) -> int:
    """Channels of an image: those of a convolution that is added to it, if there is one."""
    makers = {top: spec for spec in reversed(specs) for top in spec.top}
    for spec in specs:
        if spec.type == "Eltwise" and image & {*spec.bottom}:
            for blob in spec.bottom:
                maker = makers.get(blob)
                if maker is not None and maker.type == "Convolution":
                    return maker.get("convolution_param").num_output
    return COLORS


def _map_of(blob: str, specs: Sequence[LayerSpec]) -> Shape | None:
    """The shape of one sample of a blob that convolutions, poolings and layers which keep the shape compute from an
    image of ASSUMED pixels; None if it is no such map."""
    makers = {top: spec for spec in reversed(specs) for top in spec.top if spec.bottom}
    steps: list[LayerSpec] = []
    seen: set[str] = set()
    while blob in makers and blob not in seen:
        seen.add(blob)
        spec = makers[blob]
        if spec.type in ("Convolution", "Deconvolution", "Pooling"):
            steps.append(spec)
        elif spec.type not in _OF_SAME_SHAPE:
            return None
        blob = next((name for name in spec.bottom if name in makers and makers[name].type != "Split"), spec.bottom[0])
    filters = [spec.get("convolution_param").num_output for spec in steps if spec.type != "Pooling"]
    size = ASSUMED
    for spec in reversed(steps):
        size = _size_after(spec, size)
        if size < 1:
            return None
    return (filters[0], size, size) if filters else None


def _size_after(spec: LayerSpec, size: int) -> int:
    """The side of what a square convolution, deconvolution or pooling makes of a square map; 0 if it is not square."""
    name = "pooling_param" if spec.type == "Pooling" else "convolution_param"
    param = spec.get(name)

    def number(field: str, default: int) -> int:
        value = getattr(param, field) if param.has(field) else default
        return value[0] if isinstance(value, list) else value

    kernel, stride, pad = number("kernel_size", 0), number("stride", 1), number("pad", 0)
    if not kernel or not stride:
        return 0
    if spec.type == "Pooling":
        return -(-(size + 2 * pad - kernel) // stride) + 1
    reach = (number("dilation", 1) if "dilation" in param.descriptor.fields else 1) * (kernel - 1) + 1
    if spec.type == "Deconvolution":
        return stride * (size - 1) + reach - 2 * pad
    return (size + 2 * pad - reach) // stride + 1
