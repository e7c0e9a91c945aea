"""Caffe's weight fillers: how a parameter begins when no weights are given. Source: filler.hpp of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.proto.message import Message

_FILLERS: dict[str, Callable[[Tensor, Message], None]] = {}
_SPARSE = ("gaussian",)  # the one filler that knows `sparse`


def fill(blob: Tensor, filler: Message) -> None:
    """Fill a blob in place as a FillerParameter says; random ones draw from torch's generator.

    RmpeError names a filler that Caffe lacks, or a shape it refuses.
    """
    make = _FILLERS.get(filler.type)
    if make is None:
        raise RmpeError(f"unknown filler {filler.type!r}; Caffe has {', '.join(_FILLERS)}")
    if filler.sparse != -1 and filler.type not in _SPARSE:
        raise RmpeError(f"filler {filler.type!r} does not support sparse; remove it")
    make(blob, filler)


def _filler(name: str):
    def add(function):
        _FILLERS[name] = function
        return function

    return add


@_filler("constant")
def _constant(blob: Tensor, filler: Message) -> None:
    blob.fill_(filler.value)


@_filler("uniform")
def _uniform(blob: Tensor, filler: Message) -> None:
    if filler.min > filler.max:
        raise RmpeError(f"filler 'uniform' from {filler.min} to {filler.max}; min must not exceed max")
    blob.uniform_(filler.min, filler.max)


@_filler("gaussian")
def _gaussian(blob: Tensor, filler: Message) -> None:
    """With sparse: each output keeps that many inputs on average."""
    blob.normal_(filler.mean, filler.std)
    if filler.sparse >= 0:
        blob.mul_(torch.rand_like(blob) < filler.sparse / blob.shape[0])


@_filler("positive_unitball")
def _positive_unitball(blob: Tensor, filler: Message) -> None:
    rows = blob.uniform_(0, 1).view(blob.shape[0], -1)
    rows.div_(rows.sum(dim=1, keepdim=True))


@_filler("xavier")
def _xavier(blob: Tensor, filler: Message) -> None:
    scale = math.sqrt(3 / _fan(blob, filler))
    blob.uniform_(-scale, scale)


@_filler("msra")
def _msra(blob: Tensor, filler: Message) -> None:
    blob.normal_(0, math.sqrt(2 / _fan(blob, filler)))


@_filler("bilinear")
def _bilinear(blob: Tensor, filler: Message) -> None:
    """Up-sampling by a Deconvolution. The dialects differ for an odd size (filler.hpp:253, BVLC 259)."""
    size = _square(blob, "bilinear")
    f = math.ceil(size / 2)
    bvlc = filler.descriptor.schema.dialect == "bvlc"
    centre = (size - 1) / (2 * f) if bvlc else (2 * f - 1 - f % 2) / (2 * f)
    line = 1 - (torch.arange(size, dtype=torch.float64) / f - centre).abs()
    blob.copy_(torch.outer(line, line))


@_filler("nearest")
def _nearest(blob: Tensor, filler: Message) -> None:
    _square(blob, "nearest")
    blob.fill_(1)


@_filler("file")
def _file(blob: Tensor, filler: Message) -> None:
    """Whitespace-separated numbers. Differs: too few are an error; the fork repeats the last one.

    Differs: a file that is not in the working directory is looked for beside the prototxt.
    """
    path = Path(filler.file)
    beside = Path(filler.origin.path).parent / path
    try:
        values = [float(word) for word in (path if path.exists() else beside).read_text("utf-8").split()]
    except OSError as error:
        raise RmpeError(f"filler 'file': {filler.file}: {error.strerror}") from None
    except ValueError as error:
        raise RmpeError(f"filler 'file': {filler.file}: {error}; numbers are expected") from None
    if len(values) < blob.numel():
        raise RmpeError(f"filler 'file': {filler.file}: has {len(values)} numbers for a blob of {blob.numel()}")
    blob.copy_(torch.tensor(values[: blob.numel()]).view(blob.shape))


def _fan(blob: Tensor, filler: Message) -> float:
    """How many inputs or outputs one value of the blob meets; shape (num, channels, ...)."""
    if blob.dim() > 4 and filler.descriptor.schema.dialect != "bvlc":
        raise RmpeError(f"filler {filler.type!r} takes blobs of at most 4 axes; only dialect 'bvlc' takes more")
    outputs = blob.shape[1] if blob.dim() > 1 else 1
    fan_in, fan_out = blob.numel() // blob.shape[0], blob.numel() // outputs
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[filler.variance_norm]


def _square(blob: Tensor, name: str) -> int:
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise RmpeError(f"filler {name!r} needs a blob (N, C, K, K), not {tuple(blob.shape)}")
    return blob.shape[3]
