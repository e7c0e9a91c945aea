"""Helpers that register an op's autograd, autocast, vmap and missing-CUDA error with torch."""

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
    """Strip the library's name: "rmpe::spatial_transformer" -> "spatial_transformer"."""
    return op.split("::")[1]


def is_exporting() -> bool:
    """Return whether torch.export or torch.onnx is tracing; these see torch's own operators instead of ours."""
    # The flag itself: of torch 2.10, torch.compile takes torch.compiler.is_exporting() for true. ONNX's older exporter
    # traces. Each eager call asks this, and asking torch.onnx takes longest.
    return torch.compiler._is_exporting_flag or (torch.jit.is_tracing() and torch.onnx.is_in_onnx_export())


def say_if_cuda_is_missing(op: str) -> None:
    """If csrc/ was built without CUDA, register a CUDA implementation that raises RmpeError."""
    name = _name(op)

    def refuse(*inputs: Any) -> NoReturn:
        raise RmpeError(f"{name}: csrc/ was built without CUDA, so it runs only on the CPU; install a CUDA build of "
                        "torch and its toolkit, and build it again: pip install --no-build-isolation -e .")

    if not BUILT_WITH_CUDA:
        _LIBRARY.impl(name, refuse, "CUDA")


def autocast_to_single(op: str) -> None:
    """Under autocast, convert inputs of lower precision to float, as torch does for grid_sample."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(op, device, torch.float32)


def register_gradient(op: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Register an operator's gradient like torch.library.register_autograd, but refuse what torch silently gets wrong.

    Forward-mode derivatives and torch.func transforms raise an error; torch's forward mode would return zeros.
    backward(ctx, *grads) returns a gradient or None per input, from what setup_context(ctx, inputs, output) saved.
    """
    name = _name(op)
    overload = getattr(torch.ops.rmpe, name).default
    defaults = tuple(argument.default_value for argument in overload._schema.arguments)

    def forward(ctx, *inputs: Any) -> Any:
        output = below_autograd(overload, *inputs)
        setup_context(ctx, inputs, output)
        return output

    gradient: type[torch.autograd.Function] = type(
        f"Gradient_{name}", (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward)})

    def kernel(*inputs: Any) -> Any:
        # Plain loops: on a small tensor, generators take longer than the operator itself.
        needed = False
        for tensor in inputs:
            if isinstance(tensor, Tensor):
                needed = needed or tensor.requires_grad
                if forward_ad.unpack_dual(tensor).tangent is not None:  # torch itself would continue with zeros
                    raise NotImplementedError(f"{name}: forward-mode derivatives are not available; use autograd.grad")
        if not (needed and torch.is_grad_enabled()):
            return below_autograd(overload, *inputs)
        if torch._C._are_functorch_transforms_active():
            raise NotImplementedError(f"{name}: torch.func's derivatives are not available; use autograd.grad")
        return gradient.apply(*inputs, *defaults[len(inputs):])  # torch omits arguments that equal the default

    _LIBRARY.impl(name, kernel, "Autograd")


def below_autograd(op: OpOverload, *args: Any) -> Any:
    """Call an operator without autograd."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def no_gradient(op: str, reason: str) -> None:
    """Make a backward through this operator raise an error with a reason, instead of warning and returning zeros."""

    def refuse(ctx, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(f"{_name(op)}: {reason}")

    register_gradient(op, refuse, lambda ctx, inputs, output: None)


def without_autograd(op: str) -> None:
    """Make the results of an operator require no gradient, whatever its inputs do. Costs no time in a call."""
    _LIBRARY.impl(_name(op), torch.library.fallthrough_kernel, "Autograd")


def fold(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    """Fold a vmapped axis into the batch axis: (..., N, ...) -> (size * N, ...).

    dim: the mapped axis; None repeats the tensor.
    """
    moved = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.flatten(0, 1)


def unfold(size: int, tensors: Tensor | Sequence[Tensor]) -> tuple:
    """Undo `fold` for an operator's result: (size * N, ...) -> (size, N, ...), per tensor.

    Returns:
        The tensors, and the position of the mapped axis for each.
    """
    if isinstance(tensors, Tensor):
        return tensors.unflatten(0, (size, -1)), 0
    return tuple(t.unflatten(0, (size, -1)) for t in tensors), (0,) * len(tensors)
