"""A network with inputs of other sizes: layers of its own, and the same parameters in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.caffe.wiring import wire_quietly


def at_sizes(net: Net, shapes: Mapping[str, Shape]) -> Net:
    """Return a copy of the network for inputs of these shapes. Running either does not change the other.

    Raises:
        LayerError: A layer reads its data itself, or does not accept bottoms of the resulting sizes.
    """
    for step in net.steps:
        if not (step.bottom or step.layer.is_constant or step.layer.spec.type == "Input"):
            raise step.layer.spec.error("produces its own data, so no engine can be compared with Caffe's results; "
                                        "replace it with an Input layer, as in a deploy.prototxt")
    steps = wire_quietly([_sized(step.layer.spec, shapes) for step in net.steps])
    for step, old in zip(steps, net.steps, strict=True):
        _share_parameters(step, old)
    made = copy.copy(net)
    made.steps = steps
    made.inputs = {name: tuple(shapes[name]) for name in net.inputs}
    made.plan()
    return made


def _sized(spec: LayerSpec, shapes: Mapping[str, Shape]) -> LayerSpec:
    if spec.type != "Input":
        return spec
    blob_shape = load_schema(spec.dialect)["BlobShape"]
    param = spec.get("input_param").replace(shape=[Message(blob_shape, {"dim": list(shapes[top])})
                                                   for top in spec.top])
    return replace(spec, message=spec.message.replace(input_param=param))


def _share_parameters(step: Step, old: Step) -> None:
    for mine, theirs in zip(step.layer.declared, old.layer.declared, strict=True):
        if mine.shape != theirs.shape:
            raise step.layer.spec.error(f"its parameter {mine.name} fits only one input size; give inputs of the size "
                                        "in the prototxt")
    for name, value in old.layer.named_parameters(recurse=False):
        step.layer.register_parameter(name, value)
    for name, buffer in old.layer.named_buffers(recurse=False):
        step.layer.register_buffer(name, buffer)
    step.layer.train(old.layer.training)
