"""Adds numbers from a file. Source: power_file_layer.{cpp,cu} of daerduoCarey/SpatialTransformerLayer@cf2a461."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import read_bytes

from .base import Layer, Shape, count
from .registry import register


@register("PowerFile", form="")
class PowerFile(Layer):
    """Adds a number to each value of a sample: (N, ...) -> the same. shift_file holds the numbers, separated by white
    space; where it has too few, or is not there, they are 0, as published, and a warning says so.

    Differs: a file that is not in the working directory is looked up beside the prototxt.
    """

    params = ("power_file_param",)

    def setup(self, *bottom: Shape) -> None:
        wanted = count(bottom[0][1:])
        name = self.spec.get("power_file_param").shift_file
        values = self._read(name)[:wanted] if name else []
        if name and len(values) < wanted:
            warnings.warn(str(self.spec.error(f"shift_file {name!r} gives {len(values)} of {wanted} numbers; the "
                                              "others are set to 0")), stacklevel=2)
        shift = torch.tensor([*values, *[0.0] * (wanted - len(values))], dtype=torch.float32)
        self.register_buffer("shift", shift.view(bottom[0][1:]), persistent=False)

    def _read(self, name: str) -> list[float]:
        """Return the file's numbers, up to the first word that is none, as a C++ stream reads them."""
        path = Path(name)
        if not os.path.exists(path):
            path = Path(self.spec.message.origin.path).parent / path
        numbers = []
        with suppress(FileError, ValueError):
            for word in read_bytes(path).decode("utf-8", "replace").split():
                numbers.append(float(np.float32(word)))
        return numbers

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift
