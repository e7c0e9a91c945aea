"""The learning rate of each iteration. Source: SGDSolver::GetLearningRate (sgd_solver.cpp:28-67) of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import NetError

_ONE = np.float32(1)


class LearningRate:
    """The rate as a float32 for each iteration, by the solver's `lr_policy`.

    current_step: how many steps a `step` or `multistep` policy has taken. A solver state stores it, since `multistep`
    takes one step per iteration at most and so depends on what it did before.
    """

    def __init__(self, param: Message):
        """param: a SolverParameter. NetError names a policy that is not known, or a field that it lacks."""
        self.param = param
        self.current_step = 0
        policy = param.lr_policy
        if policy not in POLICIES:
            raise NetError(f"{param.where}: lr_policy {policy!r} is not one of {', '.join(sorted(POLICIES))}")
        if policy == "step" and param.stepsize < 1:
            raise NetError(f"{param.where}: lr_policy \"step\" needs a stepsize above 0")
        if policy == "poly" and param.max_iter < 1:
            raise NetError(f"{param.where}: lr_policy \"poly\" needs a max_iter above 0")

    def at(self, iteration: int) -> np.float32:
        """The rate of an iteration, which must not be before the last one asked for."""
        with np.errstate(over="ignore", invalid="ignore"):  # exp may overflow, a negative base has no power: as in C
            return np.float32(POLICIES[self.param.lr_policy](self, iteration))


def _fixed(rate: LearningRate, _iteration: int) -> float:
    return rate.param.base_lr


def _step(rate: LearningRate, iteration: int) -> float:
    rate.current_step = iteration // rate.param.stepsize
    return _stepped(rate)


def _multistep(rate: LearningRate, iteration: int) -> float:
    values = rate.param.stepvalue
    if rate.current_step < len(values) and iteration >= values[rate.current_step]:
        rate.current_step += 1
    return _stepped(rate)


def _stepped(rate: LearningRate) -> float:
    """C++ takes the power in double, as it does of a float and an int."""
    return np.float64(rate.param.base_lr) * np.float64(rate.param.gamma) ** rate.current_step


def _exp(rate: LearningRate, iteration: int) -> float:
    return np.float64(rate.param.base_lr) * np.float64(rate.param.gamma) ** iteration


def _inv(rate: LearningRate, iteration: int) -> float:
    p = rate.param
    return np.float32(p.base_lr) * (_ONE + np.float32(p.gamma) * np.float32(iteration)) ** np.float32(-p.power)


def _poly(rate: LearningRate, iteration: int) -> float:
    p = rate.param
    return np.float32(p.base_lr) * (_ONE - np.float32(iteration) / np.float32(p.max_iter)) ** np.float32(p.power)


def _sigmoid(rate: LearningRate, iteration: int) -> float:
    p = rate.param
    distance = np.float32(iteration) - np.float32(p.stepsize)
    return np.float32(p.base_lr) * (_ONE / (_ONE + np.exp(np.float32(-p.gamma) * distance)))


POLICIES: dict[str, Callable[[LearningRate, int], float]] = {
    "fixed": _fixed, "step": _step, "exp": _exp, "inv": _inv, "multistep": _multistep, "poly": _poly,
    "sigmoid": _sigmoid}
