"""rmpe train."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .caffe_log import run_logged, snapshot_named
from .options import add_caffe_options, device_of, prepare, refuse_inputs, stages_of

if TYPE_CHECKING:
    from rmpe_legacy.caffe.proto.message import Message
    from rmpe_legacy.caffe.solver.solver import Action, Solver
    from rmpe_legacy.distributed import World

EFFECTS = ("snapshot", "stop", "none")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("-solver", "--solver", required=True, metavar="FILE", help="the solver.prototxt")
    begin = command.add_mutually_exclusive_group()
    begin.add_argument("-weights", "--weights", metavar="W[,W2]", help="initial weights; separate several files by "
                       "commas")
    begin.add_argument("-snapshot", "--snapshot", metavar="STATE", help="the .solverstate to resume from")
    command.add_argument("-sigint_effect", "--sigint_effect", choices=EFFECTS, default="stop",
                         help="what Ctrl-C does (default: %(default)s)")
    command.add_argument("-sighup_effect", "--sighup_effect", choices=EFFECTS, default="snapshot",
                         help="what closing the terminal does (default: %(default)s)")
    command.add_argument("--log-dir", metavar="DIR", help="write TensorBoard scalars and curves.png there")
    command.add_argument("--skip-bad-records", action="store_true",
                         help="skip records and images that cannot be read, with a warning for each")
    command.add_argument("--no-prefetch", action="store_true",
                         help="read data between iterations, not ahead in threads; the results are the same")
    add_caffe_options(command)


def run(args: argparse.Namespace) -> int:
    """Train the network of a solver.prototxt, as `caffe train` does.

    To train in several processes: torchrun --nproc-per-node 2 -m rmpe_legacy train ...
    """
    first = os.environ.get("RANK", "0") == "0"
    return run_logged(lambda log: _train(args, log), quiet=not first)


def _train(args: argparse.Namespace, log: logging.Logger) -> None:
    from rmpe_legacy.caffe.solver.parameters import read_solver
    from rmpe_legacy.distributed import join_world

    prepare(args)
    param = _with_state(read_solver(args.solver, args.dialect), args)
    with join_world() as world:
        _run_solver(args, param, world, log)


def _with_state(param: Message, args: argparse.Namespace) -> Message:
    """The solver with --level and --stage in its train_state."""
    state = param.train_state
    stages = [*state.stage, *stages_of(args.stage)]
    return param.replace(train_state=state.replace(level=args.level, stage=stages or None))


def _run_solver(args: argparse.Namespace, param: Message, world: World, log: logging.Logger) -> None:
    from rmpe_legacy.caffe.inputs import usable_device
    from rmpe_legacy.caffe.solver.solver import PREFETCH, Solver

    device, line = device_of(args.gpu, param.solver_mode == "GPU")
    if device.startswith("cuda") and world.size > 1:
        device = f"cuda:{world.local_rank}"
    log.info("%s", line)
    if device == "cpu" and param.has("solver_mode") and param.solver_mode == "GPU":
        log.warning("The solver's solver_mode is GPU, and there is no GPU that PyTorch can use")
    with _signals(args.sigint_effect, args.sighup_effect) as actions, _scalars(args.log_dir, world) as curves:
        solver = Solver(param, args.dialect, actions.next, device=usable_device(device), world=world,
                        de_transform=args.de_transform, allow_python=args.allow_python,
                        prefetch=0 if args.no_prefetch else PREFETCH, skip_bad_records=args.skip_bad_records,
                        report=curves)
        for net in (solver.net, *solver.test_nets):
            refuse_inputs(net)
        log.info("Solver scaffolding done.")
        _begin(solver, args, log)
        log.info("Starting Optimization")
        with snapshot_named(solver):
            solver.solve()
    log.info("Optimization Done.")


def _begin(solver: Solver, args: argparse.Namespace, log: logging.Logger) -> None:
    from rmpe_legacy.caffe.proto.caffemodel import read_weights

    if args.snapshot:
        log.info("Resuming from %s", args.snapshot)
        solver.restore(args.snapshot)
    for path in (args.weights or "").split(","):
        if path:
            log.info("Finetuning from %s", path)
            solver.copy_trained(read_weights(path))


class _Actions:
    """What signals that have come in ask for, each once. Source: util/signal_handler.cpp of RMPE@5188c23."""

    def __init__(self, effects: dict[signal.Signals, Action]):
        self.effects = effects
        self.come: dict[signal.Signals, bool] = dict.fromkeys(effects, False)

    def note(self, number: int, _frame: object) -> None:
        self.come[signal.Signals(number)] = True

    def next(self) -> Action:
        for number, effect in self.effects.items():
            if self.come[number]:
                self.come[number] = False
                return effect
        return "none"


@contextmanager
def _signals(sigint: Action, sighup: Action) -> Iterator[_Actions]:
    actions = _Actions({signal.SIGHUP: sighup, signal.SIGINT: sigint})
    before = {number: signal.signal(number, actions.note) for number in actions.effects}
    try:
        yield actions
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _scalars(folder: str | None, world: World) -> Iterator:
    """What to call with each iteration's values; None without --log-dir."""
    if folder is None or not world.first:
        yield None
        return
    from .training_curves import TrainingCurves

    curves = TrainingCurves(folder)
    try:
        yield curves.add
    finally:
        curves.close()
