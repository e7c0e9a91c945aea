"""What the detector and the pose network have in common: a Caffe network's picture input, and how it is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.load import load_net
from rmpe_legacy.caffe.net import Net, Step
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.errors import NetError


def load_trained(prototxt: str | Path, weights: str | Path, de_transform: str | None = None,
                 allow_python: bool = False) -> Net:
    """A network with all its weights. NetError where the file lacks some, as what training starts from does."""
    net = load_net(prototxt, weights, de_transform=de_transform, allow_python=allow_python)
    stored = {layer.name for layer in read_weights(weights) if layer.blobs}
    own = [step.layer.spec for step in net.steps if step.layer.declared]
    missing = [spec.name for spec in own if spec.name not in stored and not spec.message.blobs]
    if missing:
        raise NetError(f"{weights}: has nothing for {len(missing)} of the {len(own)} layers of {prototxt} that learn "
                       f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}): it is another network, or "
                       "what training began with; rmpe show --weights compares them")
    return net


def picture_input(net: Net, what: str) -> tuple[str, int, int]:
    """Name, height and width of the one input that takes pictures, as the prototxt says. NetError if there is none."""
    if len(net.inputs) != 1:
        raise NetError(f"the {what} {net.name or 'without a name'} has the inputs {', '.join(net.inputs) or 'none'}; "
                       "one for pictures is needed: give its deploy.prototxt")
    ((name, shape),) = net.inputs.items()
    if len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
        raise NetError(f"the {what}'s input {name!r} is {shape_text(shape)}; N x 3 x height x width is needed")
    return name, shape[2], shape[3]


def steps_of_type(net: Net, type_name: str) -> list[Step]:
    """The network's layers of one type, in file order."""
    return [step for step in net.steps if step.layer.spec.type == type_name]


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes: where its parameters are."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def answering() -> Iterator[None]:
    """No gradients; and on a GPU full single precision: TF32, torch's default for convolutions, moves joints."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
