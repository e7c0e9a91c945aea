"""What every operator tells torch in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor


def is_exporting() -> bool:
    """Whether torch.export or torch.onnx is looking: they are shown torch's own operators instead of ours."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def autocast_to_single(op: str) -> None:
    """Under autocast, inputs of lower precision are converted to float, as torch does for grid_sample."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(op, device, torch.float32)


def no_gradient(op: str, reason: str) -> None:
    """Make a backward through this operator an error with a reason, not a warning and zeros."""

    def refuse(ctx, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(f"{op.split('::')[1]}: {reason}")

    torch.library.register_autograd(op, refuse)


def fold(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    """Put a vmapped axis in front of the batch and fold it in: (..., N, ...) -> (size * N, ...).

    dim: which axis is mapped; None repeats the tensor for each.
    """
    moved = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.flatten(0, 1)


def unfold(size: int, tensors: Tensor | Sequence[Tensor]) -> tuple:
    """Undo `fold` for what an operator gave: the result, and where the mapped axis is in it."""
    if isinstance(tensors, Tensor):
        return tensors.unflatten(0, (size, -1)), 0
    return tuple(t.unflatten(0, (size, -1)) for t in tensors), (0,) * len(tensors)
