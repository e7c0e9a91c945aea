"""Capsules: vectors of a few values in each row."""

import torch
from torch import Tensor


def squash(x: Tensor, size: int) -> Tensor:
    """Each capsule of `size` values of (N, ...), shortened to a length of 1 - exp(-length)."""
    parts = x.reshape(len(x), -1, size)
    length = (parts.square().sum(2, keepdim=True) + 2e-7).sqrt()
    return (parts * (-torch.expm1(-length) / length)).reshape(x.shape)


def capsule_lengths(x: Tensor, capsules: int) -> Tensor:
    """How long each of the capsules of (N, ...) is: (N, capsules)."""
    return (x.reshape(len(x), capsules, -1).square().sum(2) + 1e-7).sqrt()


def last_capsule(x: Tensor, capsules: int) -> Tensor:
    """(N, ...) with zeros in place of all capsules but the last."""
    last = torch.arange(capsules, device=x.device).unsqueeze(1) == capsules - 1
    return (x.reshape(len(x), capsules, -1) * last).reshape(x.shape)
