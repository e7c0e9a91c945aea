"""What the real Torch7 gave, and modules that many tests build."""

from pathlib import Path

import numpy as np
import torch
from difference import Difference
from t7_writer import module, tensor

from rmpe_legacy.torch7.objects import Storage, Torch7Object


def values(folder: Path, node: dict | list) -> torch.Tensor | list:
    """An input, output or gradient of a case."""
    if isinstance(node, list):
        return [values(folder, item) for item in node]
    return torch.from_numpy(np.fromfile(folder / node["file"], "<f4").reshape(node["shape"]))


def flat(value: torch.Tensor | list) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [item for part in value for item in flat(part)]


def torch7_gave(name: str, want: torch.Tensor, got: torch.Tensor, path: Path) -> Difference:
    """path: the .t7 file."""
    return Difference(name, want.numpy(), got.detach().numpy(), path.name, "Torch7")


def long_storage(*numbers: int) -> Storage:
    return Storage("torch.LongStorage", np.array(numbers, np.int64))


def linear(**fields: object) -> Torch7Object:
    return module("nn.Linear", **{"weight": tensor(np.ones((2, 3), np.float32)), **fields})


def convolution(**fields: object) -> Torch7Object:
    weight = tensor(np.ones((4, 3, 2, 2), np.float32))
    return module("nn.SpatialConvolution",
                  **{"nInputPlane": 3, "nOutputPlane": 4, "kW": 2, "kH": 2, "weight": weight, **fields})
