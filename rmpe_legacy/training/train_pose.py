"""``PoseTraining``: a pose network trained by Caffe's solver on PGPG samples, as RMPE's was.

The STN learns through the heat maps alone: from the losses behind the SDTN, and from those of the parallel SPPE, whose
weights do not change and whose target has the person in the middle. Source: section 3.2 of the paper;
train/src/{model,train}.lua of multi-human-pose@094e29b.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from rmpe_legacy.caffe.inputs import usable_device
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.solver.solver import Action, Solver
from rmpe_legacy.distributed import World
from rmpe_legacy.errors import NetError, RmpeError

from .boxes import BoxSampler
from .feed import Feed, SampleBatches, format_of
from .sources import Source

PARALLEL = "para_"  # begins the names of the parallel SPPE's layers
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # theta, row coordinate first


class PoseTraining:
    """A solver whose training net is fed with samples; ``run`` trains up to max_iter. STNs start as the identity.

    Args:
        solver: The path of a solver.prototxt, or a SolverParameter.
        source: The training set.
        sampler: How boxes are disturbed.
        published: Whose crop and targets to use, "torch7" or "demo".
        batch: Number of samples in a batch; None takes the prototxt's.
        seed: Of the samples; the solver's random_seed is that of the weights.
        action: As for ``Solver``.
        device: Where to train.
        world: The processes that train together, each on a batch of its own; together they train like one process with
            a batch that is larger by their number.

    Raises:
        NetError: The training net does not take such samples, or there are test nets.
        RmpeError: `batch` is less than 1, or the device cannot be used.
    """

    def __init__(self, solver: str | PathLike | Message, source: Source, sampler: BoxSampler, published: str = "torch7",
                 batch: int | None = None, seed: int = 0, action: Callable[[], Action] | None = None,
                 device: str = "cpu", world: World | None = None):
        # the paper's meaning of de_transform is the only one through which the STN can learn
        self.solver = Solver(solver, action=action, device=usable_device(device), de_transform="paper",
                             world=world)
        if self.solver.test_nets:
            raise NetError(f"{self.solver.param.where}: has test nets, which are not supported here; remove them, and "
                           "evaluate the poses with rmpe evaluate or rmpe reproduce")
        if batch is not None and batch < 1:
            raise RmpeError(f"batch {batch} is less than 1")
        self.net = self.solver.net
        start_as_identity(self.net)
        form, size = format_of(self.net, source.joints, published)
        self._feed = Feed(self.net, SampleBatches(source, sampler, form, batch or size, seed, world))

    def start_from(self, sppe: str | Path | None, parallel: str | Path | None = None) -> None:
        """Copy trained weights: those of the network itself, and of a single SPPE for the parallel branch.

        Raises:
            NetError: Layers that should have weights get none.
        """
        layers: list[TrainedLayer] = [] if sppe is None else list(read_weights(sppe))
        if parallel is not None:
            layers += [replace(layer, name=PARALLEL + layer.name) for layer in read_weights(parallel)]
        given = {layer.name for layer in layers if layer.blobs}
        lacking = [name for name in self.parallel_layers() if name not in given]
        if lacking:
            raise NetError(f"the parallel SPPE has no weights for {len(lacking)} of its layers, such as {lacking[0]}, "
                           "and training does not change them; give the weights of a trained SPPE with the same number "
                           "of stacks")
        if sppe is not None and not any(name in given for name in self.net.params if not name.startswith(PARALLEL)):
            raise NetError(f"{sppe}: has no layer of the network {self.net.name}; they are the weights of another "
                           "network")
        self.solver.copy_trained(layers)

    def parallel_layers(self) -> list[str]:
        """The layers of the parallel SPPE that have weights."""
        return [name for name in self.net.params if name.startswith(PARALLEL) and not is_constant(self.net, name)]

    def run(self, resume: str | PathLike | None = None) -> bool:
        """Train up to max_iter, continuing from a solver state if one is given.

        A run that is stopped earlier writes a snapshot, whatever the solver's snapshot_after_train says.

        Returns:
            Whether max_iter was reached.
        """
        try:
            if resume is not None:
                self.solver.restore(resume)
            self._feed.index = self.solver.iter * self.solver.param.iter_size
            self.solver.solve()
            if self.solver.stopped and self._lacks_snapshot():
                self.solver.snapshot()
        finally:
            self._feed.close()
        return not self.solver.stopped

    def _lacks_snapshot(self) -> bool:
        """Whether the current iteration has no snapshot yet; the process that writes them says so to the others."""
        world = self.solver.world
        return bool(world.largest(int(world.first and not os.path.exists(state_file(self.solver)))))


def is_constant(net: Net, name: str) -> bool:
    """Return whether a layer's weights come from its filler alone, such as those of an upsampling Deconvolution."""
    step = next(step for step in net.steps if step.layer.spec.name == name)
    return step.layer.spec.type == "Deconvolution"


def start_as_identity(net: Net) -> None:
    """Initialise every InnerProduct that computes theta so that theta is the identity for any image.

    Raises:
        LayerError: Such a layer does not have six outputs with a bias.

    Source: spatial_transformer_with_theta.lua:114-119 of multi-human-pose@094e29b.
    """
    splits = {top: step.bottom[0] for step in net.steps if step.layer.spec.type == "Split" for top in step.top}
    thetas = {splits.get(step.bottom[1], step.bottom[1]) for step in net.steps
              if step.layer.spec.type == "SpatialTransformer"}
    for step in net.steps:
        if step.layer.spec.type != "InnerProduct" or step.top[0] not in thetas:
            continue
        params = net.params[step.layer.spec.name]
        if len(params) != 2 or params[1].numel() != len(IDENTITY):
            raise step.layer.spec.error(f"computes theta, and needs {len(IDENTITY)} outputs with a bias to start as "
                                        "the identity")
        with torch.no_grad():
            params[0].zero_()
            params[1].copy_(torch.tensor(IDENTITY).view_as(params[1]))


def weights_file(solver: Solver) -> Path:
    """Return the path of the weights in a solver's snapshot of the current iteration."""
    return _snapshot(solver, "caffemodel")


def state_file(solver: Solver) -> Path:
    """Return the path of the solver state in a solver's snapshot of the current iteration."""
    return _snapshot(solver, "solverstate")


def _snapshot(solver: Solver, kind: str) -> Path:
    end = ".h5" if solver.param.snapshot_format == "HDF5" else ""
    return Path(f"{solver.param.snapshot_prefix}_iter_{solver.iter}.{kind}{end}")
