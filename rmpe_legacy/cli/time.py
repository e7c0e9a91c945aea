"""rmpe time."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from typing import TYPE_CHECKING

from rmpe_legacy.errors import RmpeError

from .caffe_log import run_logged
from .options import add_caffe_options, add_engine_option, device_of, positive, prepare, stages_of

if TYPE_CHECKING:
    from rmpe_legacy.caffe.net import Net
    from rmpe_legacy.caffe.solver.timing import NetTimes


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("-model", "--model", required=True, metavar="FILE", help="the network's prototxt")
    command.add_argument("-weights", "--weights", metavar="FILE", help="the weights (default: the fillers' values)")
    command.add_argument("-iterations", "--iterations", type=positive, default=50, metavar="N",
                         help="number of runs (default: %(default)s)")
    command.add_argument("--backward", action=argparse.BooleanOptionalAction, default=True,
                         help="time the backward pass too (default: yes)")
    command.add_argument("--trace", metavar="FILE", help="write when each layer ran, as JSON for chrome://tracing or "
                         "ui.perfetto.dev")
    add_engine_option(command, default=None, what="time the forward pass in an engine, in phase TEST")
    add_caffe_options(command, phase="TRAIN")


def run(args: argparse.Namespace) -> int:
    """Time each layer of a network, forward and backward, as `caffe time` does."""
    return run_logged(lambda log: _time(args, log))


def _time(args: argparse.Namespace, log: logging.Logger) -> None:
    from rmpe_legacy.caffe.inputs import usable_device
    from rmpe_legacy.caffe.load import load_net
    from rmpe_legacy.caffe.solver.timing import Timer, chrome_trace
    from rmpe_legacy.files import check_places, whole_file

    prepare(args)
    if args.trace:
        check_places(args.trace)
    device, line = device_of(args.gpu)
    log.info("%s", line)
    phase = args.phase if args.engine is None else "TEST"
    net: Net = load_net(args.model, args.weights, phase, args.level, stages_of(args.stage), args.dialect,
                        args.de_transform, allow_python=args.allow_python).to(usable_device(device))
    if args.engine is not None:
        _time_engine(args, net, log)
        return
    timer = Timer(net, args.backward)
    log.info("Performing Forward")
    loss = timer.warm_up()
    log.info("Initial loss: %g", loss)
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", args.iterations)
    for i, seconds in enumerate(timer.run(args.iterations), 1):
        log.info("Iteration: %d forward-backward time: %g ms.", i, seconds * 1e3)
    _log_times(timer.times, args.backward, log)
    if args.trace:
        with whole_file(args.trace, "w") as file:
            json.dump(chrome_trace(timer.times), file)
        log.info("Trace written to %s", args.trace)


def _time_engine(args: argparse.Namespace, net: Net, log: logging.Logger) -> None:
    """The mean milliseconds of a forward in an engine, and then of each layer where the engine says."""
    from rmpe_legacy.engines.timing import EngineTimer

    if args.trace:
        raise RmpeError("--trace times exact layers; leave out --engine")
    timer = EngineTimer(net, args.engine)
    log.info("Engine: %s", timer.engine)
    if timer.proof is not None:
        log.info("Compared with exact: within %.2g of a blob's range", timer.proof.worst)
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations.", args.iterations)
    for i, seconds in enumerate(timer.run(args.iterations), 1):
        log.info("Iteration: %d forward time: %g ms.", i, seconds * 1e3)
    layers = timer.layers(args.iterations)
    log.info("Average time per layer: " if layers else "Engine %s does not report the time of each layer.",
             *([] if layers else [timer.engine]))
    for name, seconds in layers.items():
        log.info("%10s\tforward: %g ms.", name, seconds * 1e3)
    log.info("Average Forward pass: %g ms.", _mean(timer.seconds))
    log.info("*** Benchmark ends ***")


def _log_times(times: NetTimes, backward: bool, log: logging.Logger) -> None:
    """Caffe's lines: the mean milliseconds of each layer, and of the whole."""
    log.info("Average time per layer: ")
    for layer in times.layers:
        log.info("%10s\tforward: %g ms.", layer.name, _mean(layer.forward))
        if backward:
            log.info("%10s\tbackward: %g ms.", layer.name, _mean(layer.backward))
    log.info("Average Forward pass: %g ms.", _mean([forward for forward, _ in times.iterations]))
    if backward:
        log.info("Average Backward pass: %g ms.", _mean([seconds for _, seconds in times.iterations]))
    totals = [sum(pair) for pair in times.iterations]
    log.info("Average Forward-Backward: %g ms.", _mean(totals))
    log.info("Total Time: %g ms.", sum(totals) * 1e3)
    log.info("*** Benchmark ends ***")


def _mean(seconds: list[float]) -> float:
    """In milliseconds."""
    return statistics.fmean(seconds) * 1e3
