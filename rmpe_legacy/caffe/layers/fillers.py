"""Caffe's weight fillers, which initialise parameters. Source: filler.hpp of RMPE@5188c23."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import Schema
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.registry import Registry

_FILLERS: Registry[str, Callable[[Tensor, Message], None]] = Registry("filler")
_SPARSE = ("gaussian",)  # the only filler that supports `sparse`
_RMPE_ONLY = ("nearest", "file")
_FORKS_ONLY = {  # and a field that tells these forks
    "diagonal": ("FillerParameter", "diag_val"), "borderMask": ("FillerParameter", "border_ratio"),
    "flowBorderMask": ("FillerParameter", "border_ratio"), "dctr": ("LayerParameter", "dctrqt_param"),
    "gaussian_unitball": ("FillerParameter", "alpha"),
}


def fill(blob: Tensor, filler: Message) -> None:
    """Fill a blob in place as `filler`, a FillerParameter, says; random numbers come from torch's generator.

    Raises:
        RmpeError: Caffe does not have the filler, or refuses the blob's shape.
    """
    schema = filler.descriptor.schema
    dialect = schema.dialect
    known = [name for name in _FILLERS if (dialect == "rmpe" or name not in _RMPE_ONLY)
             and (name not in _FORKS_ONLY or _has(schema, *_FORKS_ONLY[name]))]
    if filler.type not in known:
        raise RmpeError(f"unknown filler {filler.type!r}; dialect {dialect!r} has {', '.join(known)}")
    if not blob.numel():
        raise RmpeError(f"filler {filler.type!r}: a blob of {tuple(blob.shape)} has no values to fill")
    if filler.sparse != -1 and filler.type not in _SPARSE:
        raise RmpeError(f"filler {filler.type!r} does not support sparse; remove it")
    try:
        _FILLERS[filler.type](blob, filler)
    except (RuntimeError, OverflowError) as error:  # from torch, for numbers that float32 cannot hold
        reason = str(error).partition("\n")[0]
        raise RmpeError(f"filler {filler.type!r}: cannot fill a blob of {tuple(blob.shape)}: {reason}") from error


def _has(schema: Schema, message: str, field: str) -> bool:
    return field in schema[message].fields


@_FILLERS.register("constant")
def _constant(blob: Tensor, filler: Message) -> None:
    blob.fill_(filler.value)


@_FILLERS.register("uniform")
def _uniform(blob: Tensor, filler: Message) -> None:
    """Differs: a range that float32 cannot hold raises; the fork fills with infinities and nan."""
    if not math.isfinite(filler.max - filler.min) or filler.max - filler.min > torch.finfo(torch.float32).max:
        raise RmpeError(f"filler 'uniform' from {filler.min} to {filler.max}; the range must be finite")
    if filler.min > filler.max:
        raise RmpeError(f"filler 'uniform' from {filler.min} to {filler.max}; min must not exceed max")
    blob.uniform_(filler.min, filler.max)


@_FILLERS.register("gaussian")
def _gaussian(blob: Tensor, filler: Message) -> None:
    """With `sparse`, each value is kept with probability sparse / blob.shape[0]."""
    if not filler.std > 0:
        raise RmpeError(f"filler 'gaussian': std {filler.std} is not positive")
    blob.normal_(filler.mean, filler.std)
    if filler.sparse != -1:
        if not (blob.dim() and 0 <= filler.sparse <= blob.shape[0]):
            raise RmpeError(f"filler 'gaussian': sparse {filler.sparse} is not in 0 to {len(blob) if blob.dim() else 0}"
                            ", the blob's first axis")
        blob.mul_(torch.rand_like(blob) < filler.sparse / blob.shape[0])


@_FILLERS.register("positive_unitball")
def _positive_unitball(blob: Tensor, filler: Message) -> None:
    _at_most_4(blob, filler)
    rows = blob.uniform_(0, 1).view(blob.shape[0] if blob.dim() else 1, -1)
    rows.div_(rows.sum(dim=1, keepdim=True))


@_FILLERS.register("gaussian_unitball")
def _gaussian_unitball(blob: Tensor, filler: Message) -> None:
    """Rows of length 1. Source: filler.hpp of happynear/caffe-windows@967eedf."""
    _at_most_4(blob, filler)
    rows = blob.normal_(0, 1).view(blob.shape[0] if blob.dim() else 1, -1)
    rows.div_((rows.square().sum(dim=1, keepdim=True) + 1e-12).sqrt())


@_FILLERS.register("xavier")
def _xavier(blob: Tensor, filler: Message) -> None:
    scale = math.sqrt(3 / _fan(blob, filler))
    blob.uniform_(-scale, scale)


@_FILLERS.register("msra")
def _msra(blob: Tensor, filler: Message) -> None:
    alpha = filler.alpha if filler.has("alpha") else 0  # the slope of the leaky ReLU behind it: happynear's
    blob.normal_(0, math.sqrt(2 / _fan(blob, filler) / (1 + alpha * alpha)))


@_FILLERS.register("bilinear")
def _bilinear(blob: Tensor, filler: Message) -> None:
    """Weights of a Deconvolution that upsamples. Dialects differ for an odd size (filler.hpp:253, BVLC 259)."""
    size = _square(blob, "bilinear")
    f = math.ceil(size / 2)
    bvlc = filler.descriptor.schema.dialect == "bvlc"
    centre = np.float32((size - 1) / (2 * f) if bvlc else (2 * f - 1 - f % 2) / (2 * f))
    line = 1 - np.abs(np.arange(size, dtype=np.float32) / np.float32(f) - centre)  # float32, as in Caffe
    blob.copy_(torch.from_numpy(np.outer(line, line)))


@_FILLERS.register("nearest")
def _nearest(blob: Tensor, filler: Message) -> None:
    _square(blob, "nearest")
    blob.fill_(1)


@_FILLERS.register("diagonal")
def _diagonal(blob: Tensor, filler: Message) -> None:
    """The mean over the window of the channel of the same number, times its diag_val or 1; else 0.

    Source: filler.hpp of lmb-freiburg/flownet2@b92e198.
    """
    blob.zero_()
    window = blob.view(*blob.shape[:2], -1) if blob.dim() > 2 else blob.view(blob.shape[0], -1, 1)
    given = list(filler.diag_val)
    for n in range(min(window.shape[:2])):
        window[n, n] = (given[n] if n < len(given) else 1) / window.shape[2]


@_FILLERS.register("borderMask")
def _border_mask(blob: Tensor, filler: Message) -> None:
    """0 at the border, as wide as border_ratio of the shorter side, rounded; else 1.

    Source: filler.hpp of bryanyzhu/Hidden-Two-Stream@f7f684a. Differs: a border beyond the middle leaves nothing; the
    published code writes outside the blob then.
    """
    if blob.dim() != 4 or not filler.has("border_ratio"):
        raise RmpeError(f"filler 'borderMask' needs border_ratio and a blob (N, C, H, W), not {tuple(blob.shape)}")
    h, w = blob.shape[2:]
    border = max(0, math.floor(float(np.float32(min(h, w)) * np.float32(filler.border_ratio)) + 0.5))
    blob.zero_()
    blob[:, :, border : max(border, h - border), border : max(border, w - border)] = 1


@_FILLERS.register("flowBorderMask")
def _flow_border_mask(blob: Tensor, filler: Message) -> None:
    """1, but 0 in the first channel's last column and in the second's last row. Source: as borderMask's."""
    if blob.dim() != 4 or blob.shape[1] != 2:
        raise RmpeError(f"filler 'flowBorderMask' needs a blob (N, 2, H, W), not {tuple(blob.shape)}")
    blob.fill_(1)
    blob[:, 0, :, -1] = 0
    blob[:, 1, -1] = 0


@_FILLERS.register("dctr")
def _dctr(blob: Tensor, filler: Message) -> None:
    """The patterns of a cosine transform of 5 x 5 values, one for each of 25 outputs.

    Source: dctrqt_caffe.patch of tansq/hybrid_deep_learning_framework_for_jpeg_steganalysis@a88b4f2. Differs: for other
    shapes, the published code writes outside the blob or fills a part of it.
    """
    side = 5
    if tuple(blob.shape) != (side * side, 1, side, side):
        raise RmpeError(f"filler 'dctr' fills a blob of (25, 1, 5, 5), not {tuple(blob.shape)}")
    mode, place = np.arange(side).reshape(-1, 1), np.arange(side)
    wave = np.where(mode == 0, 1, np.sqrt(2)) * np.cos(np.pi * mode * (2 * place + 1) / (2 * side)) / np.sqrt(side)
    blob.copy_(torch.from_numpy(np.einsum("im,jn->ijmn", wave, wave)).view_as(blob))


@_FILLERS.register("file")
def _file(blob: Tensor, filler: Message) -> None:
    """Read numbers separated by white space. If there are too few, repeat the last, as the fork does, and warn.

    Differs: text that is not a number is an error; the fork continues with zeros.
    Differs: a file that is not in the working directory is looked up beside the prototxt.
    """
    path = Path(filler.file)
    if not os.path.exists(path):
        path = Path(filler.origin.path).parent / path
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise RmpeError(f"filler 'file': {filler.file or 'no file is given'}: is not a file")
        values = np.array(path.read_text("utf-8").split()[: blob.numel()], np.float32)
    except OSError as error:
        raise RmpeError(f"filler 'file': {filler.file or 'no file is given'}: {error.strerror}") from None
    except ValueError as error:
        raise RmpeError(f"filler 'file': {filler.file}: {error}; numbers are expected") from None
    if not len(values):
        raise RmpeError(f"filler 'file': {filler.file}: is empty")
    if len(values) < blob.numel():
        warnings.warn(f"filler 'file': {filler.file}: has {len(values)} numbers for a blob of {blob.numel()}; the last "
                      "one is repeated", stacklevel=2)
        values = np.pad(values, (0, blob.numel() - len(values)), mode="edge")
    blob.copy_(torch.from_numpy(values).view(blob.shape))


def _fan(blob: Tensor, filler: Message) -> float:
    """Return the fan-in, fan-out or their mean of a blob (num, channels, ...), as variance_norm says."""
    _at_most_4(blob, filler)
    num, channels = (*blob.shape, 1, 1)[:2]
    fan_in, fan_out = blob.numel() // num, blob.numel() // channels
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[filler.variance_norm]


def _at_most_4(blob: Tensor, filler: Message) -> None:
    if blob.dim() > 4 and filler.descriptor.schema.dialect != "bvlc":
        raise RmpeError(f"filler {filler.type!r} takes blobs of at most 4 axes; only dialect 'bvlc' takes more")


def _square(blob: Tensor, name: str) -> int:
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise RmpeError(f"filler {name!r} needs a blob (N, C, K, K), not {tuple(blob.shape)}")
    return blob.shape[3]
