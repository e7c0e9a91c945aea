"""``Solver``: trains the networks of a solver.prototxt as ``caffe train`` does.

Source: solver.cpp, sgd_solver.cpp of RMPE@5188c23. Log lines have Caffe's form, so that programs that read Caffe's
logs read these too.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Layer, shape_text
from rmpe_legacy.caffe.load import parse_net, read_message
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.dialects import AUTO
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.weights import copy_trained
from rmpe_legacy.distributed import World
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.files import all_or_none, as_os_errors
from rmpe_legacy.wording import shorten

from .debug_info import DebugInfo
from .find_nan import first_nan
from .learning_rate import NO_LOSS, LearningRate
from .parameters import learnable_parameters, make_optimizer, read_solver
from .run_state import RunState, capture, data_layers, path_beside, read_run_state, write_run_state
from .run_state import restore as restore_run
from .scores import Scores, Values, output_values, weighted
from .snapshot import stored_blobs, write_weights, write_weights_hdf5
from .state import SolverState, read_state, write_state, write_state_hdf5

log = logging.getLogger(__name__)
Action = Literal["none", "snapshot", "stop"]  # the later wins where processes ask for different ones
ACTIONS: tuple[Action, ...] = get_args(Action)
PREFETCH = 3  # batches: PREFETCH_COUNT of base_data_layer.hpp


class Solver:
    """Training as a solver.prototxt describes it.

    ``net`` is the network in phase TRAIN, ``test_nets`` are those in phase TEST, ``iter`` counts the updates so far.
    ``step(n)`` trains n iterations, ``solve()`` up to max_iter; ``snapshot()`` and ``restore()`` write and read
    Caffe's .caffemodel and .solverstate, with a .runstate beside them that lets a restored run end with the same bits
    as one that was never interrupted. Files that the solver and its networks name are looked for in the working
    directory, as Caffe does.

    Of several processes each trains on its own records; gradients are averaged, and the first process tests, logs and
    writes snapshots.
    """

    def __init__(self, solver: str | PathLike | Message, dialect: str = AUTO,
                 action: Callable[[], Action] | None = None, *, device: str | torch.device = "cpu",
                 de_transform: str | None = None, allow_python: bool = False, prefetch: int = PREFETCH,
                 skip_bad_records: bool = False, world: World | None = None,
                 report: Callable[[int, Mapping[str, float]], None] | None = None):
        """Build the networks of a solver.

        Args:
            solver: the path of a solver.prototxt, or a SolverParameter.
            dialect: as for ``load_net``; "auto" is chosen for the solver and for each network's file.
            action: asked after each iteration, and before each test batch; "snapshot" writes one, "stop" ends the
                training.
            device: where the networks are.
            de_transform, allow_python: as for ``load_net``.
            prefetch: how many batches the data layers read ahead, in a thread each; 0 for none.
            skip_bad_records: pass over records and images that cannot be read, with a warning.
            world: the processes that train together; each needs a Solver of the same file.
            report: called with the iteration and the values by name wherever Caffe logs them.

        Raises:
            RmpeError: a mistake in the solver or its networks, by file and line.
        """
        self.param = solver if isinstance(solver, Message) else read_solver(solver, dialect)
        self.dialect = dialect
        self.action = action or (lambda: "none")
        self.device = torch.device(device)
        self.world = world or World()
        self.report = report or (lambda _iteration, _values: None)
        self._de_transform, self._allow_python = de_transform, allow_python
        self._read: dict[str, Message] = {}  # path -> a network that the solver names
        self.iter = 0
        self.stopped = False  # by `action`
        self.last_snapshot: Path | None = None
        self._check_snapshot_place()
        if self.param.random_seed >= 0:
            torch.manual_seed(self.param.random_seed)
        self.net = self._train_net()
        self.test_nets = self._test_nets() if self.world.first else []
        self._prepare_data(prefetch, skip_bad_records)
        self.parameters = learnable_parameters(self.net)
        if not self.parameters:
            raise NetError(f"{self.param.origin.path}: the network {shorten(self.net.name)!r} has no parameters in "
                           "phase TRAIN, so there is nothing to train")
        self.rate = LearningRate(self.param)
        self.optimizer = make_optimizer(self.param, self.parameters)
        self.smoothed_loss = np.float32(0)
        self._losses: list[np.float32] = []
        self._start = 0  # the iteration in which their average began
        self._restored = False  # `_losses` come from a run state, to be continued
        self._before_test: dict | None = None  # where the data was when the test in progress began
        self._copy_from_first()

    def _prepare_data(self, prefetch: int, skip_bad_records: bool) -> None:
        for net in (self.net, *self.test_nets):
            for layer in data_layers(net):
                layer.read_ahead, layer.skip_bad_records = prefetch, skip_bad_records
        if self.world.size > 1:
            for layer in data_layers(self.net):
                layer.shard(self.world.rank, self.world.size)
            if self.world.rank:  # the same parameters and order of records, other random numbers
                torch.manual_seed(torch.initial_seed() + self.world.rank)

    def _copy_from_first(self) -> None:
        """Give every process the first one's parameters."""
        with torch.no_grad():
            self.world.copy_from_first([p.value.data for p in self.parameters])

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
            raise NetError(f"{p.where}: there are test nets, but test_interval is {p.test_interval}; set it above 0")
        states = p.test_state or [None] * len(nets)
        return [self._build(net, "TEST", state) for net, state in zip(nets, states, strict=True)]

    def _read_net(self, path: str) -> Message:
        """The network in a file, which is read once however often the solver names it."""
        if path not in self._read:
            self._read[path] = self._read_file(path)
        return self._read[path]

    def _read_file(self, path: str) -> Message:
        if not os.path.exists(path) and os.path.exists(beside := Path(self.param.origin.path).parent / path):
            raise FileError(f"{self.param.where}: there is no {path} in the working directory, where Caffe looks for "
                            f"it, but there is {beside}; start from its folder, or give the full path")
        reading = read_message(path, "TRAIN", dialect=self.dialect)  # the same for a net that is also tested
        for text in reading.notes:
            warnings.warn(text, stacklevel=2)
        return reading.message

    def _build(self, net: Message, phase: str, state: Message | None) -> Net:
        """A network; the file's own state goes before the phase, the solver's before that."""
        level, stages = 0, ()
        if state is not None:
            phase = state.phase if state.has("phase") else phase
            level, stages = state.level, tuple(state.stage)
        if net.state.has("level") and not (state is not None and state.has("level")):
            level = net.state.level
        parsed = parse_net(net, phase, level, stages, self._de_transform, allow_python=self._allow_python)
        return parsed.build().to(self.device)

    def copy_trained(self, layers: Iterable[TrainedLayer]) -> None:
        """Copy weights into the training net and the test nets, as ``caffe train --weights`` does.

        Raises:
            LayerError: The blobs do not fit a layer.
        """
        layers = list(layers)
        for net in (self.net, *self.test_nets):
            for name in copy_trained(net, layers):
                log.info("Ignoring source layer %s", name)
        self._copy_from_first()

    # --- training -----------------------------------------------------------------------------------------------

    def solve(self, resume: str | PathLike | None = None) -> None:
        """Train up to max_iter, with Caffe's tests, snapshots and log lines.

        Args:
            resume: A solver state to continue from.

        Raises:
            FileError, NetError: The solver state does not fit, or a snapshot cannot be written.
        """
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", self.param.lr_policy)
        self.stopped = False
        if resume is not None:
            log.info("Restoring previous solver status from %s", resume)
            self.restore(resume)
        p = self.param
        if not self._restored:
            self._forget_losses()
        self._train(p.max_iter)
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        if self.stopped:
            log.info("Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            with torch.no_grad():
                self._forward(self.net)
            self._smooth(np.float32(float(self.net.loss())))
            log.info("Iteration %d, loss = %g", self.iter, self.smoothed_loss)
            self.report(self.iter, {"train/loss": float(self.smoothed_loss)})
        if p.test_interval and self.iter % p.test_interval == 0:
            self.test_all()
        log.info("Optimization Done.")

    def step(self, iterations: int = 1) -> None:
        """Train for a number of iterations; the smoothed loss restarts, as in Caffe's Step."""
        self._forget_losses()
        self._train(self.iter + iterations)

    def _forget_losses(self) -> None:
        self._losses.clear()
        self.smoothed_loss, self._start, self._restored = np.float32(0), self.iter, False

    def _train(self, stop: int) -> None:
        """Train until this many updates are done."""
        p = self.param
        while self.iter < stop:
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                self.test_all()
                if self.stopped:
                    return
            self._iterate()
            action = ACTIONS[self.world.largest(ACTIONS.index(self.action()))]
            if (p.snapshot and self.iter % p.snapshot == 0) or action == "snapshot":
                self.snapshot()
            if action == "stop":
                self.stopped = True
                return

    def _iterate(self) -> None:
        p = self.param
        display = bool(p.display) and self.iter % p.display == 0
        self.optimizer.zero_grad(set_to_none=True)
        for step in self.net.steps:
            step.layer.begin_iteration(self.iter)
        loss = np.float32(0)
        for _ in range(p.iter_size):
            with DebugInfo(self.net) if display and p.debug_info else nullcontext() as debug:
                one = np.float32(self._forward_backward())
                if debug is not None:
                    debug.log_backward(q.value for q in self.parameters)
            if np.isnan(one):
                self._stop_at_nan()
            loss = np.float32(loss + one)
        loss = np.float32(loss / np.float32(p.iter_size))
        self._smooth(loss)
        if display:
            log.info("Iteration %d, loss = %g", self.iter, self.smoothed_loss)
            outputs = output_values(self.net)
            self._log_outputs("Train", self.net, outputs)
            self.report(self.iter, {"train/loss": float(self.smoothed_loss), **_by_name("train", outputs)})
        self._share_gradients()
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

    def _stop_at_nan(self) -> None:
        """Differs: Caffe goes on, and overwrites its snapshots with parameters that are all NaN."""
        kept = f"the last snapshot is {self.last_snapshot}" if self.last_snapshot else "there is no snapshot yet"
        raise NetError(f"{self.param.where}: iteration {self.iter}: the loss is NaN; {first_nan(self.net)}; {kept}; "
                       "lower base_lr, set clip_gradients, or correct the data")

    def _share_gradients(self) -> None:
        """Average the gradients over the processes, and give each the parameters that no gradient changes.

        Those are BatchNorm's statistics. Source: P2PSync (parallel.cpp:263-367) of RMPE@5188c23, where the workers get
        all parameters of the root, and the root the sum of the gradients, which it divides by their number.
        """
        if self.world.size == 1:
            return
        learned = [p.value for p in self.parameters if p.value.requires_grad]
        for value in learned:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        with torch.no_grad():
            self.world.mean([value.grad for value in learned if value.grad is not None])
            self.world.copy_from_first([p.value.data for p in self.parameters if not p.value.requires_grad])

    def _update(self, display: bool) -> None:
        loss = torch.tensor([float(self.smoothed_loss)])
        if self.param.lr_policy == "plateau":  # the rate depends on the loss, and must be the same everywhere
            self.world.copy_from_first([loss])
        rate = self.rate.at(self.iter, float(loss))
        if display:
            log.info("Iteration %d, lr = %g", self.iter, rate)
            self.report(self.iter, {"train/lr": float(rate)})
        for group in self.optimizer.param_groups:
            group["lr"] = float(rate)
        self.optimizer.iteration = self.iter
        self.optimizer.step()
        if self.optimizer.clipped is not None:
            log.info("Gradient clipping: scaling down gradients (L2 norm %g > %g) by scale factor %g",
                     self.optimizer.clipped[0], self.param.clip_gradients, self.optimizer.clipped[1])

    def _smooth(self, loss: np.float32) -> None:
        """The mean of the last average_loss losses."""
        size = self.param.average_loss
        if len(self._losses) < size:
            self._losses.append(loss)
            n = np.float32(len(self._losses))
            self.smoothed_loss = np.float32((self.smoothed_loss * (n - 1) + loss) / n)
        else:
            at = (self.iter - self._start) % size
            self.smoothed_loss = np.float32(self.smoothed_loss + (loss - self._losses[at]) / np.float32(size))
            self._losses[at] = loss

    def _log_outputs(self, kind: str, net: Net, values: Values) -> None:
        for i, (name, value) in enumerate(values):
            log.info("    %s net output #%d: %s = %g%s", kind, i, name, value, weighted(net, name, value))

    # --- tests --------------------------------------------------------------------------------------------------

    def test_all(self) -> None:
        """Run every test net over its test_iter batches and log the means of its outputs, or the mAP."""
        self._before_test = capture(self._nets, self.device)
        for i in range(len(self.test_nets)):
            if not self.stopped:
                self.test(i)
        self._before_test = None
        self.stopped = bool(self.world.largest(int(self.stopped)))

    def test(self, index: int) -> list[tuple[str, float]]:
        """Run one test net with the current weights.

        Args:
            index: The net's index in ``test_nets``.

        Returns:
            (output, mean of one of its values) for each value in order; or (output, mAP). Empty if the user interrupts.
        """
        log.info("Iteration %d, Testing net (#%d)", self.iter, index)
        net, p = self.test_nets[index], self.param
        share_trained(net, self.net)
        detection = "eval_type" in p.descriptor.fields and p.eval_type == "detection"
        loss, scores = np.float32(0), Scores(p.ap_version if detection else None)
        for _ in range(p.test_iter[index]):
            if self._asked_to_stop():
                log.info("Test interrupted.")
                return []
            with torch.no_grad(), DebugInfo(net) if p.debug_info else nullcontext():
                self._forward(net)
            if p.test_compute_loss:
                loss = np.float32(loss + np.float32(float(net.loss())))
            scores.add(net)
        if p.test_compute_loss:
            log.info("Test loss: %g", loss / np.float32(p.test_iter[index]))
        results = scores.results()
        self._log_outputs("Test", net, results)
        self.report(self.iter, _by_name(f"test{index}", results))
        return results

    def _asked_to_stop(self) -> bool:
        while (action := self.action()) != "none":
            if action == "stop":
                self.stopped = True
                break
            if self.world.size > 1:
                log.warning("No snapshot while testing, because the other processes cannot take part in it")
            else:
                self.snapshot()
        return self.stopped

    # --- snapshots ----------------------------------------------------------------------------------------------

    def _name(self, suffix: str) -> str:
        return f"{self.param.snapshot_prefix}_iter_{self.iter}{suffix}"

    @property
    def _nets(self) -> list[Net]:
        return [self.net, *self.test_nets]

    def _check_snapshot_place(self) -> None:
        folder = Path(self._name("")).parent
        if self.world.first and self.param.snapshot and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise FileError(f"{self.param.where}: snapshots go to {folder}, which is not a writable folder; create it "
                            "first")

    def snapshot(self) -> tuple[Path, Path]:
        """Write weights, solver state and run state, all or none.

        Every process must call this; the first one writes.

        Returns:
            The paths of the weights and of the solver state.

        Raises:
            OSError: A file cannot be written.
        """
        p = self.param
        is_hdf5 = p.snapshot_format == "HDF5"
        end, what = (".h5", "HDF5") if is_hdf5 else ("", "binary proto")
        weights, state = self._name(f".caffemodel{end}"), self._name(f".solverstate{end}")
        processes = self.world.gather(self._before_test or capture(self._nets, self.device))
        if self.world.first:
            log.info("Snapshotting to %s file %s", what, weights)
            log.info("Snapshotting solver state to %s file %s", what, state)
            run = RunState(self.iter, tuple(map(float, self._losses)), float(self.smoothed_loss), self._start,
                           tuple(processes))
            # the state comes last: where it is, the other two are
            with all_or_none(weights, path_beside(state), state) as places, as_os_errors():
                self._write_weights(write_weights_hdf5 if is_hdf5 else write_weights, places[0])
                write_run_state(places[1], run)
                (write_state_hdf5 if is_hdf5 else write_state)(places[2], self._state(weights))
        self.last_snapshot = Path(state)
        return Path(weights), Path(state)

    def _write_weights(self, write: Callable[..., None], place: Path) -> None:
        write(place, self.net, self.param.snapshot_diff)

    def _copy_weights(self, trained: Sequence[TrainedLayer]) -> list[str]:
        """Copy weights into the network; returns the names of layers that it lacks."""
        return copy_trained(self.net, trained)

    def _state(self, weights: str) -> SolverState:
        plateau = (float(self.rate.minimum_loss), self.rate.iter_last_event) if self.rate.has_plateau else None
        return SolverState(self.iter, self.rate.current_step, weights, stored_blobs(self.optimizer.history()), plateau)

    def restore(self, path: str | PathLike) -> None:
        """Continue from a solver state and the weights that it names.

        If its .runstate is beside it, data and random numbers continue where the snapshot was taken; otherwise they
        start from the beginning, as in Caffe.

        Raises:
            FileError, NetError: A file cannot be read, or does not fit the solver.
        """
        state = read_state(path)
        history = self.optimizer.history()
        self._check_history(path, state, history)
        if state.learned_net:
            for name in self._copy_weights(read_weights(self._learned_net(path, state.learned_net))):
                log.info("Ignoring source layer %s", name)
        log.info("SGDSolver: restoring history")
        with torch.no_grad():
            for value, blob in zip(history, state.history, strict=True):
                value.copy_(torch.from_numpy(np.array(blob.data, np.float32)).view(value.shape))
        self.iter, self.rate.current_step = state.iteration, state.current_step
        least, self.rate.iter_last_event = state.plateau or (NO_LOSS, 0)
        self.rate.minimum_loss = np.float32(least)
        self.last_snapshot = Path(path)
        self._restore_run(path)

    def _check_history(self, path: str | PathLike, state: SolverState, history: Sequence[Tensor]) -> None:
        if len(state.history) != len(history):
            raise NetError(f"{path}: holds {len(state.history)} history blobs, and {self.param.type} needs "
                           f"{len(history)} for this network; it belongs to another network or type of solver")
        for parameter, blob in zip(self.parameters * self.optimizer.history_blobs, state.history, strict=True):
            if not blob.fits(tuple(parameter.value.shape)):
                raise NetError(f"{path}: the history of {parameter} is {shape_text(blob.shape)}, and the parameter "
                               f"{shape_text(tuple(parameter.value.shape))}; it belongs to another network")

    def _restore_run(self, path: str | PathLike) -> None:
        beside = path_beside(path)
        if not os.path.exists(beside):
            log.info("No run state %s: as in Caffe, the data and the random numbers start again from the beginning",
                     beside)
            return
        run = read_run_state(beside)
        if run.iteration != self.iter:
            raise FileError(f"{beside}: belongs to iteration {run.iteration}, but the solver state beside it to "
                            f"{self.iter}; delete it to restart the data")
        if len(run.processes) != self.world.size:
            log.info("Run state %s is from %d processes, but this run has %d: the data and the random numbers start "
                     "again from the beginning", beside, len(run.processes), self.world.size)
            return
        restore_run(run.processes[self.world.rank], self._nets, self.device, beside)
        self._losses = [np.float32(loss) for loss in run.losses]
        self.smoothed_loss, self._start, self._restored = np.float32(run.smoothed_loss), run.start, True

    @staticmethod
    def _learned_net(state: str | PathLike, named: str) -> str | Path:
        """The weights that a state names, in the working directory as Caffe looks for them, or beside the state."""
        beside = Path(state).parent / Path(named).name
        return named if os.path.exists(named) or not os.path.exists(beside) else beside


def _by_name(kind: str, values: Values) -> dict[str, float]:
    """Values by "kind/output"; an output of several has "kind/output/0" and so on."""
    names = [name for name, _ in values]
    counts = Counter(names)
    seen: Counter[str] = Counter()
    found = {}
    for name, value in values:
        found[f"{kind}/{name}" + (f"/{seen[name]}" if counts[name] > 1 else "")] = float(value)
        seen[name] += 1
    return found


def share_trained(target: Net, source: Net) -> None:
    """Let a network use another's parameters, layer by layer by name, without a copy.

    Raises:
        LayerError: A layer's parameters have other shapes.

    Source: Net::ShareTrainedLayersWith (net.cpp:684-717) of RMPE@5188c23.
    """
    targets: dict[str, Layer] = {}
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
