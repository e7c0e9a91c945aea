"""``Solver``: trains the networks of a solver.prototxt as ``caffe train`` does.

Source: solver.cpp, sgd_solver.cpp of RMPE@5188c23. Log lines have Caffe's form, so that programs that read Caffe's
logs read these too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Layer, shape_text
from rmpe_legacy.caffe.load import parse_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.caffe.weights import copy_trained
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.files import all_or_none

from .detection_ap import DetectionScores
from .learning_rate import LearningRate
from .parameters import learnable_parameters, make_optimizer, read_solver
from .snapshot import stored_blobs, write_weights, write_weights_hdf5
from .state import SolverState, read_state, write_state, write_state_hdf5

log = logging.getLogger(__name__)
Action = Literal["none", "snapshot", "stop"]


class Solver:
    """Training as a solver.prototxt describes it.

    ``net`` is the network in phase TRAIN, ``test_nets`` are those in phase TEST, ``iter`` counts the updates so far.
    ``step(n)`` trains n iterations, ``solve()`` up to max_iter; ``snapshot()`` and ``restore()`` write and read
    Caffe's .caffemodel and .solverstate. Files that the solver and its networks name are looked for in the working
    directory, as Caffe does.

    action: asked after each iteration; "snapshot" writes one, "stop" ends the training.
    """

    def __init__(self, solver: str | PathLike | Message, dialect: str = "rmpe",
                 action: Callable[[], Action] | None = None):
        """solver: the path of a solver.prototxt, or a SolverParameter. RmpeError says what is wrong with it."""
        self.param = solver if isinstance(solver, Message) else read_solver(solver, dialect)
        self.dialect = dialect
        self.action = action or (lambda: "none")
        self.iter = 0
        self.stopped = False  # by `action`
        self._check_snapshot_place()
        if self.param.random_seed >= 0:
            torch.manual_seed(self.param.random_seed)
        self.net = self._train_net()
        self.test_nets = self._test_nets()
        self.parameters = learnable_parameters(self.net)
        self.rate = LearningRate(self.param)
        self.optimizer = make_optimizer(self.param, self.parameters)
        self.smoothed_loss = np.float32(0)
        self._losses: list[np.float32] = []

    # --- networks -----------------------------------------------------------------------------------------------

    def _train_net(self) -> Net:
        p = self.param
        for name in ("train_net_param", "net_param"):
            if p.has(name):
                return self._build(getattr(p, name), "TRAIN", p.train_state)
        return self._build(self._read_net(p.train_net if p.has("train_net") else p.net), "TRAIN", p.train_state)

    def _test_nets(self) -> list[Net]:
        """The test nets: those named as such, then as many of the common net as test_iter has further entries."""
        p = self.param
        named = [*p.test_net_param, *map(self._read_net, p.test_net)]
        common = p.net_param if p.has("net_param") else self._read_net(p.net) if p.has("net") else None
        further = len(p.test_iter) - len(named)
        if further < 0 or (further and common is None):
            raise NetError(f"{p.where}: test_iter is given {len(p.test_iter)} times for {len(named)} test nets; give "
                           "it once per test net")
        nets = named + [common] * further
        if p.test_state and len(p.test_state) != len(nets):
            raise NetError(f"{p.where}: test_state is given {len(p.test_state)} times for {len(nets)} test nets; give "
                           "it once per test net, or not at all")
        if nets and p.test_interval < 1:
            raise NetError(f"{p.where}: there are test nets, and test_interval is {p.test_interval}; set it above 0")
        states = p.test_state or [None] * len(nets)
        return [self._build(net, "TEST", state) for net, state in zip(nets, states, strict=True)]

    def _read_net(self, path: str) -> Message:
        if not os.path.exists(path) and (beside := Path(self.param.origin.path).parent / path).exists():
            raise FileError(f"{self.param.where}: there is no {path} in the working directory, where Caffe looks for "
                            f"it; there is {beside}: start from its folder, or name it by its whole path")
        return read_text(path, "NetParameter", self.dialect)

    def _build(self, net: Message, phase: str, state: Message | None) -> Net:
        """A network; the file's own state goes before the phase, the solver's before that."""
        level, stages = 0, ()
        if state is not None:
            phase = state.phase if state.has("phase") else phase
            level, stages = state.level, tuple(state.stage)
        if net.state.has("level") and not (state is not None and state.has("level")):
            level = net.state.level
        return parse_net(net, phase, level, stages).build()

    def copy_trained(self, layers: Iterable[TrainedLayer]) -> None:
        """Begin from weights, in the training net and in the test nets: ``caffe train --weights``."""
        layers = list(layers)
        for net in (self.net, *self.test_nets):
            for name in copy_trained(net, layers):
                log.info("Ignoring source layer %s", name)

    # --- training -----------------------------------------------------------------------------------------------

    def solve(self, resume: str | PathLike | None = None) -> None:
        """Train up to max_iter, from a solver state if given, with the tests, snapshots and log lines of Caffe."""
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", self.param.lr_policy)
        self.stopped = False
        if resume is not None:
            log.info("Restoring previous solver status from %s", resume)
            self.restore(resume)
        start, p = self.iter, self.param
        self.step(p.max_iter - self.iter)
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        if self.stopped:
            log.info("Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            with torch.no_grad():
                self._forward(self.net)
            self._smooth(np.float32(float(self.net.loss())), start)
            log.info("Iteration %d, loss = %g", self.iter, self.smoothed_loss)
        if p.test_interval and self.iter % p.test_interval == 0:
            self.test_all()
        log.info("Optimization Done.")

    def step(self, iterations: int = 1) -> None:
        """Train so many iterations; the smoothed loss begins anew, as in each of Caffe's Step."""
        p, start = self.param, self.iter
        stop = self.iter + iterations
        self._losses.clear()
        self.smoothed_loss = np.float32(0)
        while self.iter < stop:
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                self.test_all()
                if self.stopped:
                    return
            self._iterate(start)
            action = self.action()
            if (p.snapshot and self.iter % p.snapshot == 0) or action == "snapshot":
                self.snapshot()
            if action == "stop":
                self.stopped = True
                return

    def _iterate(self, start: int) -> None:
        p = self.param
        display = bool(p.display) and self.iter % p.display == 0
        self.optimizer.zero_grad(set_to_none=True)
        loss = np.float32(0)
        for _ in range(p.iter_size):
            loss = np.float32(loss + np.float32(self._forward_backward()))
        loss = np.float32(loss / np.float32(p.iter_size))
        self._smooth(loss, start)
        if display:
            log.info("Iteration %d, loss = %g", self.iter, self.smoothed_loss)
            self._log_outputs("Train", self.net, _flat(self.net))
        self._update(display)
        self.iter += 1

    def _forward_backward(self) -> float:
        """Run the training net on its next batch and add up the gradients; returns the loss."""
        self._forward(self.net)
        total = self.net.loss()
        if total.requires_grad:
            total.backward()
        return float(total.detach())

    def _forward(self, net: Net) -> None:
        """Run one network on its next batch."""
        net()

    def _update(self, display: bool) -> None:
        rate = self.rate.at(self.iter)
        if display:
            log.info("Iteration %d, lr = %g", self.iter, rate)
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate)
        self.optimizer.iteration = self.iter
        self.optimizer.step()
        if self.optimizer.clipped is not None:
            log.info("Gradient clipping: scaling down gradients (L2 norm %g > %g) by scale factor %g",
                     self.optimizer.clipped[0], self.param.clip_gradients, self.optimizer.clipped[1])

    def _smooth(self, loss: np.float32, start: int) -> None:
        """The mean of the last average_loss losses."""
        size = self.param.average_loss
        if len(self._losses) < size:
            self._losses.append(loss)
            n = np.float32(len(self._losses))
            self.smoothed_loss = np.float32((self.smoothed_loss * (n - 1) + loss) / n)
        else:
            at = (self.iter - start) % size
            self.smoothed_loss = np.float32(self.smoothed_loss + (loss - self._losses[at]) / np.float32(size))
            self._losses[at] = loss

    def _log_outputs(self, kind: str, net: Net, values: Sequence[tuple[str, float]]) -> None:
        for i, (name, value) in enumerate(values):
            weight = net.loss_weights.get(name, 0)
            part = f" (* {weight:g} = {np.float32(weight) * np.float32(value):g} loss)" if weight else ""
            log.info("    %s net output #%d: %s = %g%s", kind, i, name, value, part)

    # --- tests --------------------------------------------------------------------------------------------------

    def test_all(self) -> None:
        """Run every test net over its test_iter batches and log the means of its outputs, or the mAP."""
        for i in range(len(self.test_nets)):
            if self.stopped:
                return
            self.test(i)

    def test(self, index: int) -> list[tuple[str, float]]:
        """Run one test net on the weights as they are: (output, mean of a value) in order, or (output, mAP)."""
        log.info("Iteration %d, Testing net (#%d)", self.iter, index)
        net, p = self.test_nets[index], self.param
        share_trained(net, self.net)
        detection = "eval_type" in p.descriptor.fields and p.eval_type == "detection"
        loss, scores = np.float32(0), _Scores(detection)
        for _ in range(p.test_iter[index]):
            if self._asked_to_stop():
                log.info("Test interrupted.")
                return []
            with torch.no_grad():
                self._forward(net)
            if p.test_compute_loss:
                loss = np.float32(loss + np.float32(float(net.loss())))
            scores.add(net)
        if p.test_compute_loss:
            log.info("Test loss: %g", loss / np.float32(p.test_iter[index]))
        results = scores.results(p.test_iter[index], p.ap_version if detection else "")
        self._log_outputs("Test", net, results)
        return results

    def _asked_to_stop(self) -> bool:
        while (action := self.action()) != "none":
            if action == "snapshot":
                self.snapshot()
            else:
                self.stopped = True
                break
        return self.stopped

    # --- snapshots ----------------------------------------------------------------------------------------------

    def _name(self, suffix: str) -> str:
        return f"{self.param.snapshot_prefix}_iter_{self.iter}{suffix}"

    def _check_snapshot_place(self) -> None:
        folder = Path(self._name("")).parent
        if self.param.snapshot and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise FileError(f"{self.param.where}: snapshots go to {folder}, which is not a folder that can be written; "
                            "make it first")

    def snapshot(self) -> tuple[Path, Path]:
        """Write weights and solver state, both or none; returns their paths."""
        p = self.param
        is_hdf5 = p.snapshot_format == "HDF5"
        end, what = (".h5", "HDF5") if is_hdf5 else ("", "binary proto")
        weights, state = self._name(f".caffemodel{end}"), self._name(f".solverstate{end}")
        log.info("Snapshotting to %s file %s", what, weights)
        log.info("Snapshotting solver state to %s file %s", what, state)
        content = SolverState(self.iter, self.rate.current_step, weights, stored_blobs(self.optimizer.history()))
        with all_or_none(weights, state) as places:
            (write_weights_hdf5 if is_hdf5 else write_weights)(places[0], self.net, p.snapshot_diff)
            (write_state_hdf5 if is_hdf5 else write_state)(places[1], content)
        return Path(weights), Path(state)

    def restore(self, path: str | PathLike) -> None:
        """Go on from a solver state and the weights that it names. FileError or NetError say what does not fit."""
        state = read_state(path)
        history = self.optimizer.history()
        if len(state.history) != len(history):
            raise NetError(f"{path}: holds {len(state.history)} history blobs, and {self.param.type} needs "
                           f"{len(history)} for this network; it belongs to another network or type of solver")
        for parameter, blob in zip(self.parameters * self.optimizer.history_blobs, state.history, strict=True):
            if not blob.fits(tuple(parameter.value.shape)):
                raise NetError(f"{path}: the history of {parameter} is {shape_text(blob.shape)}, and the parameter "
                               f"{shape_text(tuple(parameter.value.shape))}; it belongs to another network")
        if state.learned_net:
            for name in copy_trained(self.net, read_weights(self._learned_net(path, state.learned_net))):
                log.info("Ignoring source layer %s", name)
        log.info("SGDSolver: restoring history")
        with torch.no_grad():
            for value, blob in zip(history, state.history, strict=True):
                value.copy_(torch.from_numpy(np.array(blob.data, np.float32)).view(value.shape))
        self.iter, self.rate.current_step = state.iteration, state.current_step

    @staticmethod
    def _learned_net(state: str | PathLike, named: str) -> str | Path:
        """The weights that a state names, in the working directory as Caffe looks for them, or beside the state."""
        beside = Path(state).parent / Path(named).name
        return named if os.path.exists(named) or not beside.exists() else beside


class _Scores:
    """The outputs of a test net over its batches."""

    def __init__(self, detection: bool):
        self.detection = detection
        self.sums: list[tuple[str, np.float32]] = []
        self.detections: dict[str, DetectionScores] = {}

    def add(self, net: Net) -> None:
        if self.detection:
            for name in net.outputs:
                self.detections.setdefault(name, DetectionScores()).add(net.blobs[name].cpu().numpy())
            return
        values = _flat(net)
        if self.sums:
            values = [(name, np.float32(total + value))
                      for (name, total), (_, value) in zip(self.sums, values, strict=True)]
        self.sums = values

    def results(self, batches: int, ap_version: str) -> list[tuple[str, float]]:
        if self.detection:
            return [(name, scores.mean_ap(ap_version)) for name, scores in self.detections.items()]
        return [(name, np.float32(total / np.float32(batches))) for name, total in self.sums]


def _flat(net: Net) -> list[tuple[str, np.float32]]:
    """Each value of each output, in Caffe's order."""
    return [(name, np.float32(value)) for name in net.outputs
            for value in net.blobs[name].detach().cpu().reshape(-1).tolist()]


def share_trained(target: Net, source: Net) -> None:
    """Let a network use another's parameters, layer by layer by name, without a copy.

    Source: Net::ShareTrainedLayersWith (net.cpp:684-717) of RMPE@5188c23. LayerError where a shape differs.
    """
    targets = {}
    for step in target.steps:
        targets.setdefault(step.layer.spec.name, step.layer)
    for step in source.steps:
        layer, theirs = targets.get(step.layer.spec.name), step.layer
        if layer is None:
            continue
        if [d.shape for d in layer.declared] != [d.shape for d in theirs.declared]:
            raise layer.spec.error("has other parameters in the test net than in the training net, "
                                   f"{_shapes(layer)} and {_shapes(theirs)}; give both the same")
        for mine, other in zip(layer.declared, theirs.declared, strict=True):
            value: Tensor = getattr(theirs, other.name)
            parameter = getattr(layer, mine.name)
            if parameter.data_ptr() != value.data_ptr():
                parameter.data = value.data.view(parameter.shape)


def _shapes(layer: Layer) -> str:
    return ", ".join(shape_text(declared.shape) for declared in layer.declared) or "none"
