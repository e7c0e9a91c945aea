"""The learning rate of each iteration.

Sources: SGDSolver::GetLearningRate (sgd_solver.cpp:28-67) of RMPE@5188c23; plateau: the same of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import NetError

log = logging.getLogger(__name__)
_ONE = np.float32(1)
NO_LOSS = np.float32(1e38)  # minimum_loss of a state that stores none


class LearningRate:
    """The learning rate of each iteration, float32, by the solver's `lr_policy`.

    Attributes:
        current_step: Number of steps that a `step`, `multistep` or `plateau` policy has taken.
        minimum_loss: Smallest smoothed loss so far, for `plateau`.
        iter_last_event: Iteration of the last new minimum or step, for `plateau`.

    A solver state stores these, because the policies take at most one step per iteration and so depend on earlier
    iterations.
    """

    def __init__(self, param: Message):
        """param: a SolverParameter. NetError names an unknown policy, or a field that the policy needs."""
        self.param = param
        self.current_step = 0
        self.minimum_loss = np.finfo(np.float32).max
        self.iter_last_event = 0
        policy = param.lr_policy
        known = [name for name in POLICIES if name != "plateau" or self.has_plateau]
        if policy not in known:
            raise NetError(f"{param.where}: lr_policy {policy!r} is not one of {', '.join(sorted(known))}")
        if policy == "step" and param.stepsize < 1:
            raise NetError(f"{param.where}: lr_policy \"step\" needs a stepsize above 0")
        if policy == "poly" and param.max_iter < 1:
            raise NetError(f"{param.where}: lr_policy \"poly\" needs a max_iter above 0")

    @property
    def has_plateau(self) -> bool:
        """Whether the solver's dialect has the plateau policy."""
        return "plateau_winsize" in self.param.descriptor.fields

    def at(self, iteration: int, smoothed_loss: float = 0.0) -> np.float32:
        """Return the rate of an iteration.

        Args:
            iteration: Must not be less than in an earlier call.
            smoothed_loss: The smoothed loss of this iteration; only `plateau` uses it.
        """
        if self.param.lr_policy == "plateau":
            self._watch(iteration, np.float32(smoothed_loss))
        with np.errstate(over="ignore", invalid="ignore"):  # exp may overflow, a negative base has no power: as in C
            return np.float32(POLICIES[self.param.lr_policy](self, iteration))

    def _watch(self, iteration: int, loss: np.float32) -> None:
        """Take a step if the loss has had no new minimum for as many iterations as plateau_winsize says."""
        windows, display = self.param.plateau_winsize, self.param.display
        if loss < self.minimum_loss:
            self.minimum_loss, self.iter_last_event = loss, iteration
        if self.current_step < len(windows) and iteration >= self.iter_last_event + windows[self.current_step]:
            self.current_step += 1
            self.iter_last_event = iteration
            log.info("Plateau Status: Iteration %d, step = %d", iteration, self.current_step)
        if display and iteration % display == 0 and self.iter_last_event > iteration - display:
            log.info("Plateau Status: Iteration %d, current minimum_loss = %g", iteration, self.minimum_loss)


def _fixed(rate: LearningRate, _iteration: int) -> float:
    return rate.param.base_lr


def _step(rate: LearningRate, iteration: int) -> float:
    rate.current_step = iteration // rate.param.stepsize
    return _stepped(rate)


def _multistep(rate: LearningRate, iteration: int) -> float:
    values = rate.param.stepvalue
    if rate.current_step < len(values) and iteration >= values[rate.current_step]:
        rate.current_step += 1
        log.info("MultiStep Status: Iteration %d, step = %d", iteration, rate.current_step)
    return _stepped(rate)


def _stepped(rate: LearningRate, _iteration: int = 0) -> float:
    """C++ takes the power in double, as it does of a float and an int."""
    return np.float64(rate.param.base_lr) * np.float64(rate.param.gamma) ** rate.current_step


def _exp(rate: LearningRate, iteration: int) -> float:
    return np.float64(rate.param.base_lr) * np.float64(rate.param.gamma) ** iteration


def _inv(rate: LearningRate, iteration: int) -> np.floating:
    p = rate.param
    return np.float32(p.base_lr) * (_ONE + np.float32(p.gamma) * np.float32(iteration)) ** np.float32(-p.power)


def _poly(rate: LearningRate, iteration: int) -> np.floating:
    p = rate.param
    return np.float32(p.base_lr) * (_ONE - np.float32(iteration) / np.float32(p.max_iter)) ** np.float32(p.power)


def _sigmoid(rate: LearningRate, iteration: int) -> float:
    p = rate.param
    distance = np.float32(iteration) - np.float32(p.stepsize)
    return np.float32(p.base_lr) * (_ONE / (_ONE + np.exp(np.float32(-p.gamma) * distance)))


POLICIES: dict[str, Callable[[LearningRate, int], float | np.floating]] = {
    "fixed": _fixed, "step": _step, "exp": _exp, "inv": _inv, "multistep": _multistep, "poly": _poly,
    "sigmoid": _sigmoid, "plateau": _stepped}
