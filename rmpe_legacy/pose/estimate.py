"""From boxes to poses: crops through the pose network in batches, heat maps read, joints brought back to the picture.

The network is Caffe's (a ``Net``) or Torch7's (of ``load_torch7``); ``load_pose_network`` opens either.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.data.image import pose_input
from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.torch7.load import build_module
from rmpe_legacy.torch7.network_kind import Part, kind, part_of_object, roles
from rmpe_legacy.torch7.reader import read_torch7

from .crop import crop_box, read_heatmaps, scale_torch7, uncrop
from .decode import read_joints
from .networks import answering, device_of, load_trained, picture_input, steps_of_type
from .results import JOINTS, Poses

TORCH7_SIZE = 256  # of the published networks' input; a .t7 file does not tell (predict/main.lua)
BATCH = 16  # crops at once; a stack of the published network takes some 60 MB for each
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # theta of a transformer that changes nothing
STN = ("trained", "identity")


@dataclass(frozen=True, eq=False)
class Answer:
    """What a pose network says of N crops."""

    heatmaps: Tensor  # (N, 16, h, w), in the frame of the crop
    prediction: Tensor | None = None  # prediction_heatmap, (1, 1, N, 48), where the network reads its maps itself
    straightened: Tensor | None = None  # (N, 3, H, W): the crops after the STN
    theta: Tensor | None = None  # (N, 6), Caffe's (row first) or Torch7's (also row first)


@dataclass(frozen=True, eq=False)
class Look:
    """One crop on its way through the network, for people to look at."""

    crop: np.ndarray  # (3, H, W) float32, RGB from 0 to 1: the network's input
    straightened: np.ndarray | None  # the same after the STN
    theta: np.ndarray | None  # (6,)
    heatmaps: np.ndarray  # (16, h, w) float32
    points: np.ndarray  # (16, 2) float32: where they are highest, column and row from 0


class PoseNetwork:
    """A pose network behind one face; a subclass runs it. stn: "identity" switches spatial transformers off."""

    height: int
    width: int

    def __init__(self, module: Any, name: str, stn: str):
        if stn not in STN:
            raise RmpeError(f"stn {stn!r} is not one of {', '.join(map(repr, STN))}")
        self.module, self.name, self.stn = module, name, stn

    def __call__(self, crops: np.ndarray) -> Answer:
        """What the network says of crops (N, 3, height, width), float32 RGB from 0 to 1."""
        with answering():
            answer = self._run(torch.from_numpy(crops).to(device_of(self.module)))
        maps = answer.heatmaps
        if maps.dim() != 4 or maps.shape[:2] != (len(crops), len(JOINTS)):
            raise NetError(f"{self.name}: for {len(crops)} crops its heat maps are {shape_text(tuple(maps.shape))}; "
                           f"{len(crops)} x {len(JOINTS)} x height x width is needed, a map for each of MPII's joints")
        return answer

    def _run(self, crops: Tensor) -> Answer:
        raise NotImplementedError


class CaffePoseNetwork(PoseNetwork):
    """A Caffe network. Its heat maps are what PredictionHeatmap reads, or else the last output with 16 channels."""

    def __init__(self, net: Net, stn: str = "trained"):
        super().__init__(net, net.name or "the pose network", stn)
        self.input, self.height, self.width = picture_input(net, "pose network")
        self.seen: dict[str, Tensor] = {}
        readers = steps_of_type(net, "PredictionHeatmap")
        self.prediction = readers[-1].top[0] if readers else None
        if readers:
            readers[-1].layer.register_forward_pre_hook(self._see_heatmaps)
            self.heatmaps = None
        else:
            self.heatmaps = _heatmap_output(net)
        transformers = steps_of_type(net, "SpatialTransformer")
        if stn == "identity":
            for step in transformers:
                step.layer.register_forward_pre_hook(_without_theta)
        for step in transformers[:1]:
            if step.bottom_shapes[0][1] == 3:  # it works on the picture; one on heat maps is an SDTN
                step.layer.register_forward_hook(self._see_crop)

    def _see_heatmaps(self, layer: nn.Module, bottoms: tuple[Tensor, ...]) -> None:
        self.seen["heatmaps"] = bottoms[0]

    def _see_crop(self, layer: nn.Module, bottoms: tuple[Tensor, ...], top: Tensor) -> None:
        self.seen |= {"straightened": top, "theta": bottoms[1].flatten(1)}

    def _run(self, crops: Tensor) -> Answer:
        self.seen = {}
        outputs = self.module({self.input: crops})
        seen, self.seen = self.seen, {}
        prediction = None if self.prediction is None else outputs[self.prediction]
        return Answer(seen.pop("heatmaps", outputs.get(self.heatmaps)), prediction, **seen)


def _heatmap_output(net: Net) -> str:
    tops = [name for step in net.steps for name, shape in zip(step.top, step.top_shapes, strict=True)
            if name in net.outputs and len(shape) == 4 and shape[1] == len(JOINTS)]
    if not tops:
        raise NetError(f"the network {net.name or 'without a name'} has neither a PredictionHeatmap layer nor an "
                       f"output of N x {len(JOINTS)} x height x width: it is no pose network for MPII's joints")
    return tops[-1]


def _without_theta(layer: nn.Module, bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    free = [value for value, fixed in zip(IDENTITY, layer.fixed, strict=True) if fixed is None]
    image, theta = bottoms
    return image, theta.new_tensor(free).expand(len(theta), -1).reshape(theta.shape)


class Torch7PoseNetwork(PoseNetwork):
    """A Torch7 network. Of several outputs the last stack of the SPPE counts, as in main.lua: not the parallel SPPE."""

    def __init__(self, module: nn.Module, structure: Part, name: str, size: int, stn: str = "trained"):
        super().__init__(module, name, stn)
        self.height = self.width = size
        self.kind = kind(structure)
        self.roles = roles(structure)
        self.stacks = sum(role.startswith("sdtn") for role in self.roles)
        self.seen: dict[str, Tensor] = {}
        for part, role in zip(module.children(), self.roles, strict=False):
            if role == "stn":
                part.register_forward_hook(self._see_crop)

    def _see_crop(self, part: nn.Module, given: tuple, output: list[Tensor]) -> list[Tensor]:
        image, theta = output
        if self.stn == "identity":
            image, theta = given[0], theta.new_tensor(IDENTITY).reshape(2, 3).expand(theta.shape)
        self.seen = {"straightened": image, "theta": theta.reshape(-1, 6)}
        return [image, theta]

    def _run(self, crops: Tensor) -> Answer:
        self.seen = {}
        output = self.module(crops)
        seen, self.seen = self.seen, {}
        if not isinstance(output, Tensor):
            output = output[self.stacks - 1]  # without stacks of an SDTN, the last: 0 - 1
        if not isinstance(output, Tensor):
            raise NetError(f"{self.name}: gives tables of tables; heat maps are needed")
        return Answer(output, None, **seen)


def load_pose_network(network: str | Path, weights: str | Path | None = None, *,
                      device: torch.device | str = "cpu", de_transform: str | None = None,
                      size: int = TORCH7_SIZE, stn: str = "trained", allow_python: bool = False) -> PoseNetwork:
    """The pose network of a .t7 file, or of a deploy.prototxt and its caffemodel.

    de_transform, allow_python: as for ``load_net``. size: of a Torch7 network's input, which its file does not tell.
    stn: "identity" runs the network as if its spatial transformers saw no reason to change anything.
    RmpeError says what does not fit.
    """
    if weights is not None:
        return CaffePoseNetwork(load_trained(network, weights, de_transform, allow_python).to(device), stn)
    file = read_torch7(network)
    module = build_module(file).to(device)
    if training := [m for m in module.modules() if getattr(m, "uses_train", False) and m.training]:
        warnings.warn(f"{network}: {len(training)} of its modules are in training mode; they are run in evaluation "
                      "mode", stacklevel=2)
    return Torch7PoseNetwork(module.eval(), part_of_object(file.root), str(network), size, stn)


def network_input(image: np.ndarray, box_xyxy: np.ndarray, height: int, width: int, geometry: str) -> np.ndarray:
    """What the pose network is given of a box: (3, height, width) float32, RGB from 0 to 1.

    geometry: "demo" or "torch7", as for ``geometry.crop_box``.
    """
    crop = crop_box(image, box_xyxy, geometry)
    if geometry == "demo":
        return pose_input(crop, height, width)
    return scale_torch7(crop, height, width).transpose(2, 0, 1).astype(np.float32)


def estimate_poses(network: PoseNetwork, image: np.ndarray, boxes_xyxy: np.ndarray, geometry: str = "demo",
                   batch: int = BATCH, look: Callable[[Look], None] | None = None) -> Poses:
    """The pose in each box of a picture (H, W, 3), RGB from 0 to 1; boxes (P, 4) as they are to be cut out.

    batch: at most so many crops run at once; it does not matter for the result, up to the rounding of sums.
    look: is given every crop on its way.
    """
    if batch < 1:
        raise RmpeError(f"batch {batch} is less than 1")
    joints, heights = [np.empty((0, len(JOINTS), 2))], [np.empty((0, len(JOINTS)), np.float32)]
    for boxes in _chunks(boxes_xyxy, batch):
        crops = np.stack([network_input(image, box, network.height, network.width, geometry) for box in boxes])
        answer = network(crops)
        points, scores = _read(answer, geometry)
        joints.append(uncrop(points, boxes[:, None], answer.heatmaps.shape[-1], geometry).astype(np.float64))
        heights.append(scores)
        if look:
            for each in _looks(crops, answer):
                look(each)
    return Poses(np.concatenate(joints), np.concatenate(heights))


def _chunks(boxes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(boxes), size):
        yield boxes[start : start + size]


def _read(answer: Answer, geometry: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 16, 2) and heights (N, 16), both float32."""
    if geometry == "demo" and answer.prediction is not None:
        return read_joints(answer.prediction.cpu().numpy())
    return read_heatmaps(answer.heatmaps.cpu().numpy(), geometry)


def _looks(crops: np.ndarray, answer: Answer) -> Iterator[Look]:
    def each(values: Tensor | None) -> list:
        return [None] * len(crops) if values is None else list(values.cpu().numpy())

    columns = each(answer.straightened), each(answer.theta), each(answer.heatmaps)
    for crop, straightened, theta, maps in zip(crops, *columns, strict=True):
        yield Look(crop, straightened, theta, maps, read_heatmaps(maps, "demo")[0])
