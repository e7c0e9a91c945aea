"""Batches for a pose network in training, made one ahead in a thread; and the network that takes them from there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.distributed import World
from rmpe_legacy.errors import NetError

from .boxes import BoxSampler
from .samples import Sample, SampleFormat, make_sample
from .sources import Source

DATA, LABEL, CENTER = "data", "label", "label_center"  # the inputs of a pose network in training

Batch = dict[str, Tensor]


class SampleBatches:
    """Batch k of a training set: a function of k and of what is given here, whatever was asked before.

    name -> float32 tensor: data (N, 3, crop, crop), label (N, J, maps, maps), and label_center where the form has it.
    N is ``size``. Of several processes each makes every world.size-th sample of a batch of N * world.size. A sample
    has random numbers of its own, so that it is the same however many processes share the batch.
    """

    def __init__(self, source: Source, sampler: BoxSampler, form: SampleFormat, size: int, seed: int = 0,
                 world: World | None = None):
        self.source, self.sampler, self.form, self.seed = source, sampler, form, seed
        self.world = world or World()
        self.size = size * self.world.size

    def __call__(self, index: int) -> Batch:
        shots = self.source.shots(index, self.size, self.world)
        samples = [make_sample(np.random.default_rng([self.seed, index, position]), image, person, self.sampler,
                               self.form)
                   for position, (image, person) in zip(self.world.share(range(self.size)), shots, strict=True)]
        return {name: torch.from_numpy(np.stack(arrays)) for name, arrays in _columns(samples).items()}


def _columns(samples: list[Sample]) -> dict[str, list[np.ndarray]]:
    columns = {DATA: [s.data for s in samples], LABEL: [s.label for s in samples]}
    centers = [s.label_center for s in samples if s.label_center is not None]
    return columns | ({CENTER: centers} if centers else {})


class Feed:
    """Gives a network a batch whenever it is run without inputs, and prepares the next one meanwhile.

    index: the batch that the next forward gets; set it to go on elsewhere.
    """

    def __init__(self, net: Net, batches: Callable[[int], Batch]):
        self.index = 0
        self._batches = batches
        self._device = next(net.parameters()).device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[Batch]] | None = None
        self._hook = net.register_forward_pre_hook(self._give)

    def _give(self, net: nn.Module, args: tuple) -> tuple | None:
        if args:
            return None
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead and ahead[0] == self.index else self._batches(self.index)
        self.index += 1
        self._ahead = self.index, self._pool.submit(self._batches, self.index)
        return ({name: value.to(self._device) for name, value in batch.items()},)

    def close(self) -> None:
        """Stop preparing batches, and leave the network as it was."""
        self._hook.remove()
        self._pool.shutdown(wait=True, cancel_futures=True)


def format_of(net: Net, joints: int, published: str, augment: bool = True) -> tuple[SampleFormat, int]:
    """Return what samples a training network takes, from the shapes of its inputs, and the batch size.

    Args:
        net: The training network.
        joints: Number of joints.
        published: Whose crop and targets to use, one of samples.PUBLISHED.
        augment: Mirror and recolour.

    Raises:
        NetError: The inputs are not data, label and, optionally, label_center, square, with ``joints`` heatmaps.
    """
    needed = {DATA: 3, LABEL: joints, CENTER: joints}
    given = dict(net.inputs)
    if set(given) not in ({DATA, LABEL}, {DATA, LABEL, CENTER}):
        raise NetError(f"the network {net.name or 'without a name'} has the inputs {', '.join(given) or 'none'}; a "
                       f"network to train needs {DATA}, {LABEL} and, with a parallel SPPE, {CENTER}")
    for name, shape in given.items():
        if len(shape) != 4 or shape[0] != given[DATA][0] or shape[1] != needed[name] or shape[2] != shape[3]:
            raise NetError(f"the network's input {name!r} is {shape_text(shape)}; expected {given[DATA][0]} x "
                           f"{needed[name]} x size x size")
    centered = given[CENTER][2] if CENTER in given else None
    return SampleFormat(given[DATA][2], given[LABEL][2], centered, published, augment), given[DATA][0]
