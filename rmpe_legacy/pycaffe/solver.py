"""``SGDSolver`` and its kin: pycaffe's solvers over ours.

Sources: python/caffe/_caffe.cpp of BVLC/caffe@9b89154; Solver::Step (solver.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from rmpe_legacy.caffe.net import Net as TorchNet
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.solver import solver as ours
from rmpe_legacy.caffe.solver.learning_rate import LearningRate
from rmpe_legacy.caffe.solver.parameters import read_solver

from . import settings
from .errors import RuntimeRmpeError, as_pycaffe, file_path
from .install import importable_as_caffe
from .net import TEST, TRAIN, Net

_TORCHRUN = ("this runs one process with one device; to train on several GPUs, start the script under `torchrun "
             "--nproc-per-node=N` and give net.torch to torch's DistributedDataParallel")


class _Training(ours.Solver):
    """The solver itself, with networks whose blobs a script can read and write."""

    def __init__(self, param: Message, dialect: str):
        self.views: dict[int, Net] = {}  # id of a torch network -> what the script has of it
        self.callbacks: list[tuple[Callable[[], object], Callable[[], object]]] = []
        now = settings.current
        super().__init__(param, dialect, device=now.device(), de_transform=now.de_transform, allow_python=True)

    def _build(self, net: Message, phase: str, state: Message | None) -> TorchNet:
        built = super()._build(net, phase, state)
        self.views[id(built)] = Net.over(built, TRAIN if phase == "TRAIN" else TEST, records=phase == "TRAIN")
        return built

    def _forward(self, net: TorchNet) -> None:
        view = self.views[id(net)]
        view._forward(0, len(view.layers) - 1)

    def _forward_backward(self) -> float:
        view = self.views[id(self.net)]
        loss = view._forward(0, len(view.layers) - 1)
        view._backward(len(view.layers) - 1, 0)
        return loss

    def _write_weights(self, write: Callable[..., None], place: Path) -> None:
        view = self.views[id(self.net)]
        view._push_parameters()
        write(place, self.net, self.param.snapshot_diff, added=view._added())

    def _copy_weights(self, trained: Sequence[TrainedLayer]) -> list[str]:
        view = self.views[id(self.net)]
        view._push_parameters()
        return view._copy_trained(trained)

    def _iterate(self) -> None:
        for on_start, _ in self.callbacks:
            on_start()
        super()._iterate()

    def _update(self, display: bool) -> None:
        for _, on_gradients_ready in self.callbacks:
            on_gradients_ready()
        view = self.views[id(self.net)]
        view._push_parameters()
        super()._update(display)


class SolverParameterView:
    """What pycaffe shows of a SolverParameter; base_lr can be set."""

    def __init__(self, training: _Training):
        self._training = training

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._training.param, name)

    @property
    def base_lr(self) -> float:
        """The learning rate that the policy begins with."""
        return self._training.param.base_lr

    @base_lr.setter
    def base_lr(self, value: float) -> None:
        training, step = self._training, self._training.rate.current_step
        training.param = training.param.replace(base_lr=float(value))
        training.rate = LearningRate(training.param)
        training.rate.current_step = step


class Solver:
    """Training as a solver.prototxt describes it.

    `net` and `test_nets` are ``caffe.Net``s: training uses what a script writes into their blobs.
    """

    _type = ""  # that this class trains with, whatever the file says; "" for the file's own

    def __init__(self, solver_file: str | PathLike):
        """Read a solver.prototxt and build its networks.

        Raises:
            RuntimeError: The file is wrong; the message is the RmpeError's.
        """
        dialect = settings.current.dialect
        with as_pycaffe(), importable_as_caffe():
            param = read_solver(file_path("the solver's file", solver_file), dialect)
            self._training = _Training(param.replace(type=self._type) if self._type else param, dialect)
        views = self._training.views
        self.net = views[id(self._training.net)]
        self.test_nets = [views[id(net)] for net in self._training.test_nets]
        self.param = SolverParameterView(self._training)

    @property
    def iter(self) -> int:
        """How many updates there have been."""
        return self._training.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self._training.rate.at(self.iter))

    def step(self, iterations: int) -> None:
        """Train so many iterations."""
        with as_pycaffe():
            self._training.step(iterations)

    def solve(self, resume_file: str | PathLike | None = None) -> None:
        """Train up to max_iter, from a solver state if given."""
        with as_pycaffe():
            self._training.solve(resume_file)

    def restore(self, resume_file: str | PathLike) -> None:
        """Resume from a solver state and the weights that it names."""
        with as_pycaffe():
            self._training.restore(resume_file)

    def snapshot(self) -> None:
        """Write <snapshot_prefix>_iter_<iter>.caffemodel and .solverstate."""
        with as_pycaffe():
            self._training.snapshot()

    def apply_update(self) -> None:
        """Change the parameters by their diffs, as the end of an iteration does; `iter` stays."""
        with as_pycaffe(), torch.no_grad():
            self._training._update(display=False)

    def share_weights(self, net: Net) -> None:
        """Let a network use the parameters that are trained here."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object] | None = None
                     ) -> None:
        """Call the first at the beginning of each iteration, the second before each update."""
        if on_gradients_ready is None:
            raise RuntimeRmpeError(f"add_callback takes two functions; one object is NCCL's: {_TORCHRUN}")
        self._training.callbacks.append((on_start, on_gradients_ready))


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    _type = "SGD"


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient."""

    _type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """AdaGrad."""

    _type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """RMSProp."""

    _type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """AdaDelta."""

    _type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Adam."""

    _type = "Adam"


_CLASSES = {cls._type: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver,
                                       AdamSolver)}


def get_solver(solver_file: str | PathLike) -> Solver:
    """The solver of the type that a solver.prototxt names.

    Raises:
        RuntimeError: The file is wrong; the message is the RmpeError's.
    """
    with as_pycaffe():
        kind = read_solver(file_path("the solver's file", solver_file), settings.current.dialect).type
    return _CLASSES[kind](solver_file)


class Timer:
    """Measures what lies between ``start()`` and ``stop()``: `ms`, in milliseconds."""

    def __init__(self) -> None:
        self._start = self._stop = time.perf_counter()

    def start(self) -> None:
        """Begin to measure."""
        self._start = time.perf_counter()

    def stop(self) -> None:
        """End to measure; what a GPU still has to do counts too."""
        if settings.current.device().type == "cuda":
            torch.cuda.synchronize()
        self._stop = time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds between the two."""
        return 1000 * (self._stop - self._start)


# --- several GPUs ---------------------------------------------------------------------------------------------------


class NCCL:
    """Refused: several GPUs are torchrun's."""

    def __init__(self, *args: Any):
        raise RuntimeRmpeError(f"caffe.NCCL: {_TORCHRUN}")

    @staticmethod
    def new_uid() -> bytes:
        """Refused."""
        raise RuntimeRmpeError(f"caffe.NCCL.new_uid: {_TORCHRUN}")


def has_nccl() -> bool:
    """False."""
    return False


def solver_count() -> int:
    """1: of the processes that train together."""
    return 1


def solver_rank() -> int:
    """0: the place among the processes that train together."""
    return 0


def set_solver_count(count: int) -> None:
    """Refused, unless it is 1."""
    if count != 1:
        raise RuntimeRmpeError(f"caffe.set_solver_count({count}): {_TORCHRUN}")


def set_solver_rank(rank: int) -> None:
    """Refused, unless it is 0."""
    if rank != 0:
        raise RuntimeRmpeError(f"caffe.set_solver_rank({rank}): {_TORCHRUN}")


def set_multiprocess(multiprocess: bool) -> None:
    """Refused, unless it is False."""
    if multiprocess:
        raise RuntimeRmpeError(f"caffe.set_multiprocess({multiprocess}): {_TORCHRUN}")
