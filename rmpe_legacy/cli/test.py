"""rmpe test."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from .caffe_log import run_logged
from .options import add_caffe_options, device_of, positive, prepare, refuse_inputs, stages_of


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("-model", "--model", required=True, metavar="FILE", help="the network's prototxt")
    command.add_argument("-weights", "--weights", required=True, metavar="FILE", help="the weights")
    command.add_argument("-iterations", "--iterations", type=positive, default=50, metavar="N",
                         help="number of batches (default: %(default)s)")
    add_caffe_options(command)


def run(args: argparse.Namespace) -> int:
    """Run a network in phase TEST and log the means of its outputs, as `caffe test` does."""
    return run_logged(lambda log: _test(args, log))


def _test(args: argparse.Namespace, log: logging.Logger) -> None:
    import numpy as np
    import torch

    from rmpe_legacy.caffe.inputs import usable_device
    from rmpe_legacy.caffe.load import read_net
    from rmpe_legacy.caffe.proto.caffemodel import read_weights
    from rmpe_legacy.caffe.solver.scores import Scores, weighted
    from rmpe_legacy.caffe.weights import copy_trained

    prepare(args)
    device, line = device_of(args.gpu)
    log.info("%s", line)
    net = read_net(args.model, "TEST", args.level, stages_of(args.stage), args.dialect, args.de_transform,
                   allow_python=args.allow_python).build().to(usable_device(device))
    refuse_inputs(net)
    for name in copy_trained(net, read_weights(args.weights)):
        log.info("Ignoring source layer %s", name)
    log.info("Running for %d iterations.", args.iterations)
    scores = Scores()
    loss: Any = np.float32(0)
    for i in range(args.iterations):
        with torch.no_grad():
            net()
        if net.loss_weights:
            loss = np.float32(loss + np.float32(float(net.loss())))
        for name, value in scores.add(net):
            log.info("Batch %d, %s = %g", i, name, value)
    log.info("Loss: %g", loss / np.float32(args.iterations))
    for name, mean in scores.results():
        log.info("%s = %g%s", name, mean, weighted(net, name, mean))
