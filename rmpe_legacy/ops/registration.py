"""What every operator tells torch in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad

from rmpe_legacy.errors import RmpeError

_LIBRARY = torch.library.Library("rmpe", "IMPL")

# Whether csrc/ was built with its CUDA kernels.
BUILT_WITH_CUDA: bool = torch._C._dispatch_has_kernel_for_dispatch_key("rmpe::spatial_transformer", "CUDA")


def _name(op: str) -> str:
    """Without the library's: "rmpe::spatial_transformer" -> "spatial_transformer"."""
    return op.split("::")[1]


def is_exporting() -> bool:
    """Whether torch.export or torch.onnx is looking: they are shown torch's own operators instead of ours."""
    # The flag itself: of torch 2.10, torch.compile takes torch.compiler.is_exporting() for true. ONNX's older exporter
    # traces. Each eager call asks this, and asking torch.onnx takes longest.
    return torch.compiler._is_exporting_flag or (torch.jit.is_tracing() and torch.onnx.is_in_onnx_export())


def say_if_cuda_is_missing(op: str) -> None:
    """Where csrc/ was built without CUDA, this operator answers a CUDA tensor with an RmpeError."""
    name = _name(op)

    def refuse(*inputs: Any) -> NoReturn:
        raise RmpeError(f"{name}: csrc/ was built without CUDA, so it runs on the CPU alone; with a CUDA "
                        "build of torch and its toolkit, build it again: pip install --no-build-isolation -e .")

    if not BUILT_WITH_CUDA:
        _LIBRARY.impl(name, refuse, "CUDA")


def autocast_to_single(op: str) -> None:
    """Under autocast, inputs of lower precision are converted to float, as torch does for grid_sample."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(op, device, torch.float32)


def register_gradient(op: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Give an operator its gradient, as torch.library.register_autograd does, but for what torch leaves unsaid.

    Where a forward-mode derivative is asked for, or torch.func's, it says that there is none; torch's forward mode
    would give zeros.
    backward(ctx, *grads) gives a gradient or None for each input, from what setup_context(ctx, inputs, output) kept.
    """
    name = _name(op)
    overload = getattr(torch.ops.rmpe, name).default
    defaults = tuple(argument.default_value for argument in overload._schema.arguments)

    def forward(ctx, *inputs: Any) -> Any:
        output = below_autograd(overload, *inputs)
        setup_context(ctx, inputs, output)
        return output

    gradient = type(f"Gradient_{name}", (torch.autograd.Function,),
                    {"forward": staticmethod(forward), "backward": staticmethod(backward)})

    def kernel(*inputs: Any) -> Any:
        tensors = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
        if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
            # torch alone would go on with zeros
            raise NotImplementedError(f"{name}: forward-mode derivatives are not available; use autograd.grad")
        needed = any(tensor.requires_grad for tensor in tensors)
        if not (needed and torch.is_grad_enabled()):
            return below_autograd(overload, *inputs)
        if torch._C._are_functorch_transforms_active():
            raise NotImplementedError(f"{name}: torch.func's derivatives are not available; use autograd.grad")
        return gradient.apply(*inputs, *defaults[len(inputs):])  # torch leaves out what equals a default

    _LIBRARY.impl(name, kernel, "Autograd")


def below_autograd(op: OpOverload, *args: Any) -> Any:
    """Call an operator whose gradient nobody asks for."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def no_gradient(op: str, reason: str) -> None:
    """Make a backward through this operator an error with a reason, not a warning and zeros."""

    def refuse(ctx, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(f"{_name(op)}: {reason}")

    register_gradient(op, refuse, lambda ctx, inputs, output: None)


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
