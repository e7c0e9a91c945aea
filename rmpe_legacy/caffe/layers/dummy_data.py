"""Fills tops with constants or random numbers. Source: dummy_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema

from .base import Shape
from .base_data import BlobLayer
from .fillers import fill
from .registry import register


@register("DummyData")
class DummyData(BlobLayer):
    """Tops filled by fillers: zeros, a constant, or random numbers drawn in each forward.

    Its random numbers come from torch's generator, which no thread may use ahead of time: `read_ahead` has no effect.

    Differs: Caffe fills a constant once, so an in-place layer gets its own result in the next forward; here it gets
    the constant each time.
    """

    params = ("dummy_data_param",)
    exact = True
    tops = (1, None)

    def setup(self) -> None:
        super().setup()
        param = self.spec.get("dummy_data_param")
        constant = Message(load_schema(self.spec.dialect)["FillerParameter"], {"type": "constant"})
        self.fillers = self._each("data_filler", param.data_filler or (constant,))

    def reshape(self) -> Sequence[Shape]:
        param = self.spec.get("dummy_data_param")
        legacy = [name for name in ("num", "channels", "height", "width") if param.has(name)]
        if not legacy:
            return [tuple(shape.dim) for shape in self._each("shape", param.shape)]
        if param.shape:
            raise self.spec.error(f"has shape and {', '.join(legacy)}; keep shape")
        sizes = (self._each(name, getattr(param, name)) for name in ("num", "channels", "height", "width"))
        return list(zip(*sizes, strict=True))

    def _each(self, name: str, values: Sequence) -> Sequence:
        """Return a field's values, one per top; a single value is repeated for every top."""
        if len(values) not in (1, self.top_count):
            raise self.spec.error(f"has {name} {len(values)} times for {self.top_count} tops; give it once, or once "
                                  "per top")
        return tuple(values) * self.top_count if len(values) == 1 else tuple(values)

    def forward(self) -> tuple[Tensor, ...]:
        tops = tuple(self.place.new_empty(shape) for shape in self.reshape())
        with self.named():
            for top, filler in zip(tops, self.fillers, strict=True):
                fill(top, filler)
        return tops
