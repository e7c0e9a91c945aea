"""Shared by the detector and the pose network: loading a Caffe network, finding its image input, and running it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.load import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.errors import NetError

T = TypeVar("T")


class _Copyable(Protocol):
    def for_another_thread(self: T) -> T: ...


N = TypeVar("N", bound=_Copyable)


def load_trained(prototxt: str | Path, weights: str | Path, de_transform: str | None = None,
                 allow_python: bool = False) -> Net:
    """Load a network with weights for all its layers; arguments as for ``load_net``.

    Raises:
        NetError: The file lacks the weights of a layer, as a file with a backbone alone does.
    """
    net = load_net(prototxt, weights, de_transform=de_transform, allow_python=allow_python)
    if missing := net.left_out.untrained:
        total = sum(bool(step.layer.declared) for step in net.steps)
        raise NetError(f"{weights}: has no weights for {len(missing)} of the {total} layers of {prototxt} that have "
                       f"parameters ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); these weights "
                       "belong to another network, or are the pre-training initialisation; rmpe show --weights "
                       "compares them")
    return net


def image_input(net: Net, what: str) -> tuple[str, int, int]:
    """Return name, height and width of the network's only input.

    Raises:
        NetError: The network does not take a single image.
    """
    if len(net.inputs) != 1:
        raise NetError(f"the {what} {net.name or '(unnamed)'} has the inputs {', '.join(net.inputs) or 'none'}; "
                       "expected a single image input: give its deploy.prototxt")
    ((name, shape),) = net.inputs.items()
    if len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
        raise NetError(f"the {what}'s input {name!r} is {shape_text(shape)}; expected N x 3 x height x width")
    return name, shape[2], shape[3]


def steps_of_type(net: Net, type_name: str) -> list[Step]:
    """Return the network's layers of one type, in file order."""
    return [step for step in net.steps if step.layer.spec.type == type_name]


@contextmanager
def keeping(net: Net, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Collect blobs during the forwards inside the context, without keeping all others in memory.

    Yields:
        A dict that each forward fills: blob -> Tensor, in the blob's shape.
    """
    kept: dict[str, Tensor] = {}

    def hook_of(step: Step):
        def keep(_module: nn.Module, _bottoms: tuple, tops: Tensor | tuple[Tensor, ...]) -> None:
            made = zip(step.top, (tops,) if isinstance(tops, Tensor) else tops, strict=True)
            kept.update((name, top) for name, top in made if name in names)

        return keep

    makers = [step for step in net.steps if not set(names).isdisjoint(step.top)]
    hooks = [step.layer.register_forward_hook(hook_of(step)) for step in makers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def copy_sharing_weights(owner: T, network: nn.Module) -> T:
    """Copy an object that runs a network, with the network but without its weights, for use in another thread: a layer
    holds the shapes of its last forward.
    """
    return copy.deepcopy(owner, {id(weight): weight for weight in chain(network.parameters(), network.buffers())})


class PerThread(threading.local, Generic[N]):
    """A network, or what runs one, for several threads: each gets a copy as ``mine``; a single one, the original."""

    def __init__(self, original: N, threads: int = 1):  # is called again in each thread
        self.mine = original if threads == 1 else original.for_another_thread()


def network_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of threads for networks, in which torch uses as many threads as it does here.

    OpenMP keeps this number per thread: a new one would begin with all of the processor's.
    """
    return ThreadPoolExecutor(count, name, torch.set_num_threads, (torch.get_num_threads(),))


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the CPU if it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def inference_mode_fp32() -> Iterator[None]:
    """Disable gradients and, on a GPU, TF32: torch's default for convolutions, whose rounding moves joints."""
    on_gpu = torch.cuda.is_initialized()
    flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if on_gpu else nullcontext()
    with torch.no_grad(), flags:
        yield
