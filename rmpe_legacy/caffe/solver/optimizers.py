"""Caffe's six update rules as torch optimizers: SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam.

Each step does what Caffe does to the gradients (sgd_solver.cpp, ApplyUpdate), in this order: clip them by their
common norm, divide by iter_size, add the weight decay, compute the update, subtract it. A parameter without a gradient
counts as one whose gradient is zero, so weight decay applies and its history is updated, as in Caffe.

A parameter group may have `lr_mult` and `decay_mult`, as a prototxt's param has. The formulas differ from those of
torch.optim: the momentum's history contains the learning rate, and `delta` stands outside the square root and Adam's
correction (adam_solver.cpp:32-76).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import NetError

REGULARIZATIONS = ("L2", "L1")
Loss = TypeVar("Loss")
CPU_CACHE = 1 << 16  # values of a parameter; each step needs a few times as many besides


class CaffeOptimizer(torch.optim.Optimizer):
    """Base class of Caffe's six optimizers.

    Args:
        params: The parameters, or groups of them with `lr_mult` and `decay_mult`.
        lr: The rate before each parameter's lr_mult; set it in `param_groups` to change it.
        clip_gradients: The largest L2 norm of all gradients together; negative for no limit.
        iter_size: Number of backward passes that accumulate gradients before a step.
        weight_decay: Multiplied by each group's decay_mult.
    """

    history_blobs = 1  # that a solver state stores per parameter
    takes_momentum = True

    def __init__(self, params: Iterable[Any], lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0,
                 regularization_type: str = "L2", clip_gradients: float = -1.0, iter_size: int = 1):
        if momentum and not self.takes_momentum:
            raise NetError(f"momentum cannot be used with {type(self).__name__}; leave it out, or set it to 0")
        if regularization_type not in REGULARIZATIONS:
            raise NetError(f"regularization_type {regularization_type!r} is not one of {', '.join(REGULARIZATIONS)}")
        if iter_size < 1:
            raise NetError(f"iter_size is {iter_size}; it must be 1 or more")
        self.momentum, self.weight_decay = momentum, weight_decay
        self.regularization_type, self.clip_gradients, self.iter_size = regularization_type, clip_gradients, iter_size
        self.iteration = 0  # updates so far
        self.clipped: tuple[float, float] | None = None  # of the last step: the gradients' norm and their factor
        super().__init__(params, {"lr": lr, "lr_mult": 1.0, "decay_mult": 1.0})

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters, in the shapes of their blobs and in the order of the groups: the order of a solver state's
        history.
        """
        return [p for group in self.param_groups for p in group["params"]]

    def history(self) -> list[Tensor]:
        """The history blobs in the order of a solver state: the first of every parameter, then the second of every one.

        Each has the shape and dtype of its parameter.
        """
        return [self._history(p)[i] for i in range(self.history_blobs) for p in self.parameters]

    def _history(self, p: Tensor) -> list[Tensor]:
        state = self.state[p]
        if "history" not in state:
            state["history"] = [torch.zeros_like(p) for _ in range(self.history_blobs)]
        return state["history"]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Update every parameter once. Each gradient is replaced by the update that was subtracted, as in Caffe's
        diffs.

        Args:
            closure: Computes the loss, a scalar, and its gradients; called before the update.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = self.parameters
        updates = [self._gradient(p) for p in params]
        self._clip(updates)
        rates = [float(np.float32(group["lr"]) * np.float32(group["lr_mult"]))
                 for group in self.param_groups for _ in group["params"]]
        decays = [float(np.float32(self.weight_decay) * np.float32(group["decay_mult"]))
                  for group in self.param_groups for _ in group["params"]]
        for part in _parts(params):
            histories = [[self._history(p)[i] for p in params[part]] for i in range(self.history_blobs)]
            if self.iter_size > 1:
                torch._foreach_mul_(updates[part], float(np.float32(1) / np.float32(self.iter_size)))
            self._decay(params[part], updates[part], decays[part])
            self._compute_updates(updates[part], rates[part], *histories)
            torch._foreach_sub_(params[part], updates[part])
        self.iteration += 1
        return loss

    @staticmethod
    def _gradient(parameter: Tensor) -> Tensor:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad

    def _clip(self, gradients: list[Tensor]) -> None:
        self.clipped = None
        if self.clip_gradients < 0 or not gradients:
            return
        squares = [float(norm) ** 2 for norm in torch._foreach_norm(list(gradients))]
        norm = np.float32(math.sqrt(sum(squares)))
        if norm > self.clip_gradients:
            factor = float(np.float32(self.clip_gradients) / norm)
            torch._foreach_mul_(gradients, factor)
            self.clipped = float(norm), factor

    def _decay(self, params: Sequence[Tensor], gradients: Sequence[Tensor], decays: Sequence[float]) -> None:
        chosen = [i for i, decay in enumerate(decays) if decay]
        if chosen:
            values: Sequence[Tensor] = [params[i] for i in chosen]
            if self.regularization_type == "L1":
                values = torch._foreach_sign(list(values))
            added = torch._foreach_mul(list(values), [decays[i] for i in chosen])
            torch._foreach_add_([gradients[i] for i in chosen], added)

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        """Replace the gradients in `updates` by the amounts to subtract; updates `histories` too."""
        raise NotImplementedError


class SGD(CaffeOptimizer):
    """h = momentum h + rate g; w -= h. Source: sgd_solver.cpp:207-243."""

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        [history] = histories
        torch._foreach_mul_(history, self.momentum)
        torch._foreach_mul_(updates, rates)
        torch._foreach_add_(history, updates)
        torch._foreach_copy_(updates, history)


class Nesterov(CaffeOptimizer):
    """h' = momentum h + rate g; w -= (1 + momentum) h' - momentum h. Source: nesterov_solver.cpp:13-55."""

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        [history] = histories
        before = torch._foreach_mul(history, -self.momentum)
        torch._foreach_mul_(history, self.momentum)
        torch._foreach_mul_(updates, rates)
        torch._foreach_add_(history, updates)
        torch._foreach_copy_(updates, torch._foreach_mul(history, float(np.float32(1) + np.float32(self.momentum))))
        torch._foreach_add_(updates, before)


class AdaGrad(CaffeOptimizer):
    """h += g g; w -= rate g / (sqrt(h) + delta). Source: adagrad_solver.cpp:13-65."""

    takes_momentum = False

    def __init__(self, params: Iterable[Any], lr: float, *, delta: float = 1e-8, **common: Any):
        super().__init__(params, lr, **common)
        self.delta = delta

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        [history] = histories
        torch._foreach_add_(history, torch._foreach_mul(updates, updates))
        _divide_by_root(updates, history, self.delta)
        torch._foreach_mul_(updates, rates)


class RMSProp(CaffeOptimizer):
    """h = rms_decay h + (1 - rms_decay) g g; w -= rate g / (sqrt(h) + delta). Source: rmsprop_solver.cpp:13-62."""

    takes_momentum = False

    def __init__(self, params: Iterable[Any], lr: float, *, rms_decay: float = 0.99, delta: float = 1e-8,
                 **common: Any):
        super().__init__(params, lr, **common)
        if not 0 <= rms_decay < 1:
            raise NetError(f"rms_decay is {rms_decay:g}; it must lie between 0 and 1")
        self.rms_decay, self.delta = rms_decay, delta

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        [history] = histories
        _average(history, torch._foreach_mul(updates, updates), self.rms_decay)
        _divide_by_root(updates, history, self.delta)
        torch._foreach_mul_(updates, rates)


class AdaDelta(CaffeOptimizer):
    """Updates whose size follows that of earlier updates; `momentum` is the decay of both averages.

    h = average of g g; u = g sqrt((k + delta) / (h + delta)); k = average of u u; w -= rate u.
    Source: adadelta_solver.cpp:25-98.
    """

    history_blobs = 2

    def __init__(self, params: Iterable[Any], lr: float, *, delta: float = 1e-8, **common: Any):
        super().__init__(params, lr, **common)
        self.delta = delta

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        gradients, squares = histories
        _average(gradients, torch._foreach_mul(updates, updates), self.momentum)
        ratio = torch._foreach_add(squares, self.delta)
        torch._foreach_div_(ratio, torch._foreach_add(gradients, self.delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(updates, ratio)
        _average(squares, torch._foreach_mul(updates, updates), self.momentum)
        torch._foreach_mul_(updates, rates)


class Adam(CaffeOptimizer):
    """m and v: averages of g and g g; w -= rate sqrt(1 - momentum2^t) / (1 - momentum^t) m / (sqrt(v) + delta).

    Source: adam_solver.cpp:32-76.
    """

    history_blobs = 2

    def __init__(self, params: Iterable[Any], lr: float, *, momentum: float = 0.9, momentum2: float = 0.999,
                 delta: float = 1e-8, **common: Any):
        super().__init__(params, lr, momentum=momentum, **common)
        self.momentum2, self.delta = momentum2, delta

    def _compute_updates(self, updates: list[Tensor], rates: list[float], *histories: list[Tensor]) -> None:
        first, second = histories
        beta1, beta2, t = np.float32(self.momentum), np.float32(self.momentum2), self.iteration + 1
        powers = [np.float32(np.float64(beta) ** t) for beta in (beta1, beta2)]
        correction = np.sqrt(np.float32(1) - powers[1]) / (np.float32(1) - powers[0])
        _average(first, updates, float(beta1))
        _average(second, torch._foreach_mul(updates, updates), float(beta2))
        torch._foreach_copy_(updates, first)
        _divide_by_root(updates, second, self.delta)
        torch._foreach_mul_(updates, [float(np.float32(rate) * correction) for rate in rates])


def _parts(params: Sequence[Tensor]) -> Iterator[slice]:
    """Consecutive parameters to update together.

    On a GPU all of them, for few launches; on a CPU so many that what is computed for them stays in its cache.
    """
    begin = size = 0
    for i, param in enumerate(params):
        if size and size + param.numel() > CPU_CACHE and param.device.type == "cpu":
            yield slice(begin, i)
            begin, size = i, 0
        size += param.numel()
    yield slice(begin, len(params))


def _average(history: list[Tensor], values: list[Tensor] | tuple[Tensor, ...], decay: float) -> None:
    """history = decay history + (1 - decay) values."""
    torch._foreach_mul_(history, decay)
    torch._foreach_add_(history, values, alpha=float(np.float32(1) - np.float32(decay)))


def _divide_by_root(values: list[Tensor], squares: list[Tensor], delta: float) -> None:
    """values /= sqrt(squares) + delta."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_div_(values, roots)


OPTIMIZERS: dict[str, type[CaffeOptimizer]] = {
    "SGD": SGD, "Nesterov": Nesterov, "AdaGrad": AdaGrad, "RMSProp": RMSProp, "AdaDelta": AdaDelta, "Adam": Adam}
