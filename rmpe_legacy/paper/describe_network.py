"""Describes a network: number of stacks, with or without STN, at which stage of training."""

from __future__ import annotations

from dataclasses import dataclass

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.pose.estimate import CaffePoseNetwork, PoseNetwork, Torch7PoseNetwork
from rmpe_legacy.pose.networks import steps_of_type
from rmpe_legacy.pose.results import JOINTS


@dataclass(frozen=True)
class NetworkDescription:
    """Facts about a network, derived from its layers and parameters."""

    what: str
    stage: str  # stage of training, if it can be inferred

    def __str__(self) -> str:
        return f"{self.what}; {self.stage}" if self.stage else self.what


def describe_detector(detector: Detector) -> NetworkDescription:
    """Describe a detector: size, classes and backbone."""
    classes = len(detector.output.labels) + 1
    names = {step.layer.spec.name for step in detector.net.steps}
    base = " on VGG16" if {"conv1_1", "conv5_3", "fc7"} <= names else ""
    what = f"{detector.output.kind} detector{base}, {detector.size}, {classes} classes"
    if layers := steps_of_type(detector.net, "DetectionOutput"):
        what += f", {layers[-1].bottom_shapes[2][2] // 4} default boxes"
    return NetworkDescription(what, "" if classes == 2 else f"class {detector.label} is person")


def describe_pose_network(network: PoseNetwork) -> NetworkDescription:
    """Describe a pose network: stacks, STN, SDTN, parallel SPPE, and the stage of training they imply."""
    if isinstance(network, Torch7PoseNetwork):
        return _torch7_pose(network)
    if isinstance(network, CaffePoseNetwork):
        return _caffe_pose(network)
    return NetworkDescription(f"{network.name}, {network.height} x {network.width}", "")


def _torch7_pose(network: Torch7PoseNetwork) -> NetworkDescription:
    what = network.kind or f"a Torch7 network of an unknown kind ({type(network.module).__name__})"
    return NetworkDescription(f"{what}, {network.height} x {network.width}", _torch7_stage(network))


def _torch7_stage(network: Torch7PoseNetwork) -> str:
    if "parallel" in network.roles:
        return "as saved by the last training, with the parallel SPPE"
    if "stn" in network.roles:
        return "SPPE with symmetric STN, without the parallel SPPE"
    return "SPPE alone: after the first training, or a final model without its STN, as the authors published it"


def _caffe_pose(network: CaffePoseNetwork) -> NetworkDescription:
    net = network.module
    maps = [step.top_shapes[0][2:] for step in steps_of_type(net, "Convolution")
            if step.top_shapes[0][1] == len(JOINTS) and _is_pointwise(step)]
    stacks = sum(size == maps[-1] for size in maps)
    transformers = [step.bottom_shapes[0][1] for step in steps_of_type(net, "SpatialTransformer")]
    parts = ["STN"] * (3 in transformers) + [f"{stacks}-stack hourglass" if stacks > 1 else "1 stack of heatmaps"]
    parts += ["SDTN"] * (len(JOINTS) in transformers)
    what = (f"{net.name or 'pose network'}: {', '.join(parts)}, {network.height} x {network.width}, heatmaps "
            f"{shape_text(maps[-1])}" if maps else f"{net.name or 'pose network'}: {', '.join(parts)}")
    if 3 not in transformers:
        return NetworkDescription(what, "SPPE alone, without STN")
    return NetworkDescription(what, "the STN is untrained: the same theta for every crop" if _constant_theta(network)
                              else "the STN is trained")


def _is_pointwise(step: Step) -> bool:
    return step.layer.declared[0].shape[2:] == (1, 1)


def _constant_theta(network: CaffePoseNetwork) -> bool:
    """Return whether the layer that computes theta still has its initial weights of 0."""
    stn = next(step for step in steps_of_type(network.module, "SpatialTransformer") if step.bottom_shapes[0][1] == 3)
    sources = {top: step for step in network.module.steps for top in step.top}
    step = sources[stn.bottom[1]]
    while step.layer.spec.type in ("Split", "Reshape", "Flatten"):
        step = sources[step.bottom[0]]
    weights = network.module.params.get(step.layer.spec.name, ())
    return bool(weights) and not weights[0].any()
