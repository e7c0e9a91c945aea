"""From boxes to poses: run crops through the pose network in batches, decode the heatmaps, map joints to the image.

The network is a Caffe ``Net`` or a Torch7 module; ``load_pose_network`` loads either.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.data.image import pose_input
from rmpe_legacy.caffe.layers.base import Layer, shape_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.errors import NetError, OptionError, RmpeError
from rmpe_legacy.torch7.load import build_module
from rmpe_legacy.torch7.network_kind import Part, kind, part_of_object, roles
from rmpe_legacy.torch7.reader import read_torch7

from .crop import crop_box, read_heatmaps, scale_torch7, uncrop
from .decode import read_joints
from .joints import COCO17, MPII16, JointSet
from .networks import (
    copy_sharing_weights,
    device_of,
    image_input,
    inference_mode_fp32,
    load_trained,
    steps_of_type,
)
from .results import JOINTS, Poses
from .top_down import PADDING, crop_top_down, decode_heatmaps, uncrop_top_down

if TYPE_CHECKING:
    from .onnx_network import InputOptions

TORCH7_SIZE = 256  # input size of the published networks; not stored in a .t7 file (predict/main.lua)
BATCH = 16  # crops per forward; each stack of the published network takes about 60 MB per crop
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # the theta of the identity transform
STN = ("trained", "identity")


@dataclass(frozen=True, eq=False)
class PoseOutput:
    """The output of a pose network for N crops."""

    heatmaps: Tensor  # (N, J, h, w), in the frame of the crop; J is 16 for the published networks
    prediction: Tensor | None = None  # prediction_heatmap, (1, 1, N, 48), if the network decodes its heatmaps itself
    straightened: Tensor | None = None  # (N, 3, H, W): the crops after the STN
    theta: Tensor | None = None  # (N, 6), row coordinate first, as in both Caffe and Torch7
    # Points (N, J, 2) in heatmap cells and scores (N, J), if the network gives joints in another way than by heatmaps
    decoded: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class CropTrace:
    """The intermediate results of one crop, for reports."""

    crop: np.ndarray  # (3, H, W) float32, RGB from 0 to 1: the network's input
    straightened: np.ndarray | None  # the crop after the STN; None without STN
    theta: np.ndarray | None  # (6,); None without STN
    heatmaps: np.ndarray  # (J, h, w) float32
    points: np.ndarray  # (J, 2) float32: the maxima as (column, row), from 0


class PoseNetwork:
    """Common interface of Caffe and Torch7 pose networks. stn="identity" disables the spatial transformers."""

    height: int
    width: int
    joints: JointSet = MPII16
    padding: float = PADDING  # of the crop, in the geometry "alphapose"
    engine = "exact"  # what runs the network, see ``Net.compiled``

    def __init__(self, module: Any, name: str, stn: str):
        if stn not in STN:
            raise OptionError(f"stn {stn!r} is not one of {', '.join(map(repr, STN))}")
        self.module, self.name, self.stn = module, name, stn

    def __call__(self, crops: np.ndarray) -> PoseOutput:
        """Run the network on crops (N, 3, height, width), float32 RGB from 0 to 1.

        Raises NetError if the output is not one heatmap per joint and crop.
        """
        with inference_mode_fp32():
            output = self._run(torch.from_numpy(crops).to(device_of(self.module)))
        maps = output.heatmaps
        if maps.dim() != 4 or maps.shape[:2] != (len(crops), len(JOINTS)):
            raise NetError(f"{self.name}: the heatmaps of {len(crops)} crops are {shape_text(tuple(maps.shape))}; "
                           f"expected {len(crops)} x {len(JOINTS)} x height x width, one heatmap per MPII joint")
        return output

    def for_another_thread(self) -> PoseNetwork:
        """Return a network that may run at the same time as this one; they share the weights."""
        return self if self.engine != "exact" else copy_sharing_weights(self, self.module)

    def _run(self, crops: Tensor) -> PoseOutput:
        raise NotImplementedError


class CaffePoseNetwork(PoseNetwork):
    """A Caffe pose network. Its heatmaps are PredictionHeatmap's bottom, or else the last output with 16 channels."""

    def __init__(self, net: Net, stn: str = "trained", engine: str = "exact"):
        super().__init__(net, net.name or "the pose network", stn)
        self.input, self.height, self.width = image_input(net, "pose network")
        self.captured: dict[str, Tensor] = {}
        self.heatmaps: str | None
        readers = steps_of_type(net, "PredictionHeatmap")
        self.prediction = readers[-1].top[0] if readers else None
        if engine != "exact":
            self._compile(net, engine)
            return
        if readers:
            readers[-1].layer.register_forward_pre_hook(self._capture_heatmaps)
            self.heatmaps = None
        else:
            self.heatmaps = _heatmap_output(net)
        transformers = steps_of_type(net, "SpatialTransformer")
        if stn == "identity":
            for step in transformers:
                step.layer.register_forward_pre_hook(_without_theta)
        for step in transformers[:1]:
            if _transforms_image(step):
                step.layer.register_forward_hook(self._capture_crop)

    def _compile(self, net: Net, engine: str) -> None:
        """Let an engine give the blobs that the hooks capture otherwise."""
        if self.stn != "trained":
            raise RmpeError(f"{self.name}: engine {engine!r} cannot run it with stn={self.stn!r}; use 'exact'")
        readers, transformers = (steps_of_type(net, kind) for kind in ("PredictionHeatmap", "SpatialTransformer"))
        self.heatmaps = readers[-1].layer.spec.message.bottom[0] if readers else _heatmap_output(net)
        image = next(filter(_transforms_image, transformers[:1]), None)
        self.shown = {} if image is None else {"straightened": image.top[0],
                                               "theta": image.layer.spec.message.bottom[1]}
        self.compiled = net.compiled(engine, blobs=[self.heatmaps, *self.shown.values()])
        self.engine = self.compiled.settle()

    def _run_compiled(self, crops: Tensor) -> PoseOutput:
        blobs = self.compiled({self.input: crops})
        shown = {name: blobs[blob] for name, blob in self.shown.items()}
        theta = shown.get("theta")
        return PoseOutput(blobs[self.heatmaps], None if self.prediction is None else blobs[self.prediction],
                          shown.get("straightened"), None if theta is None else theta.flatten(1))

    def _capture_heatmaps(self, layer: nn.Module, bottoms: tuple[Tensor, ...]) -> None:
        self.captured["heatmaps"] = bottoms[0]

    def _capture_crop(self, layer: nn.Module, bottoms: tuple[Tensor, ...], top: Tensor) -> None:
        self.captured |= {"straightened": top, "theta": bottoms[1].flatten(1)}

    def _run(self, crops: Tensor) -> PoseOutput:
        if self.engine != "exact":
            return self._run_compiled(crops)
        self.captured = {}
        outputs = self.module({self.input: crops})
        captured, self.captured = self.captured, {}
        prediction = None if self.prediction is None else outputs[self.prediction]
        return PoseOutput(captured.pop("heatmaps", outputs.get(self.heatmaps)), prediction,
                          captured.get("straightened"), captured.get("theta"))


def _transforms_image(step: Step) -> bool:
    """Whether a SpatialTransformer is the STN; an SDTN transforms heatmaps."""
    return bool(step.bottom_shapes) and step.bottom_shapes[0][1] == 3


def _heatmap_output(net: Net) -> str:
    tops = [name for step in net.steps for name, shape in zip(step.top, step.top_shapes, strict=True)
            if name in net.outputs and len(shape) == 4 and shape[1] == len(JOINTS)]
    if not tops:
        raise NetError(f"the network {net.name or '(unnamed)'} has neither a PredictionHeatmap layer nor an output of "
                       f"N x {len(JOINTS)} x height x width, so it is not a pose network for MPII's joints")
    return tops[-1]


def _without_theta(layer: Layer, bottoms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    free = [value for value, fixed in zip(IDENTITY, layer.fixed, strict=True) if fixed is None]
    image, theta = bottoms
    return image, theta.new_tensor(free).expand(len(theta), -1).reshape(theta.shape)


class Torch7PoseNetwork(PoseNetwork):
    """A Torch7 pose network. If it has several outputs, uses the SPPE's last stack, as main.lua does, and not the
    parallel SPPE.
    """

    def __init__(self, module: nn.Module, structure: Part, name: str, size: int, stn: str = "trained"):
        super().__init__(module, name, stn)
        self.height = self.width = size
        self.kind = kind(structure)
        self.roles = roles(structure)
        self.stacks = sum(role.startswith("sdtn") for role in self.roles)
        self.captured: dict[str, Tensor] = {}
        for part, role in zip(module.children(), self.roles, strict=False):
            if role == "stn":
                part.register_forward_hook(self._capture_crop)

    def _capture_crop(self, part: nn.Module, given: tuple, output: list[Tensor]) -> list[Tensor]:
        image, theta = output
        if self.stn == "identity":
            image, theta = given[0], theta.new_tensor(IDENTITY).reshape(2, 3).expand(theta.shape)
        self.captured = {"straightened": image, "theta": theta.reshape(-1, 6)}
        return [image, theta]

    def _run(self, crops: Tensor) -> PoseOutput:
        self.captured = {}
        output = self.module(crops)
        captured, self.captured = self.captured, {}
        if not isinstance(output, Tensor):
            output = output[self.stacks - 1]  # no SDTN: index -1, the last output
        if not isinstance(output, Tensor):
            raise NetError(f"{self.name}: returned nested tables, expected a heatmap tensor")
        return PoseOutput(output, None, captured.get("straightened"), captured.get("theta"))


def load_pose_network(network: str | Path, weights: str | Path | None = None, *,
                      device: torch.device | str = "cpu", de_transform: str | None = None,
                      size: int = TORCH7_SIZE, stn: str = "trained", allow_python: bool = False,
                      joints: JointSet | None = None, onnx_input: InputOptions | None = None,
                      engine: str = "exact") -> PoseNetwork:
    """Load the pose network of a .t7 file, of a deploy.prototxt and its caffemodel, or of an .onnx file.

    Args:
        network: A .t7 file, a prototxt or an .onnx file.
        weights: The caffemodel of a prototxt.
        device: Where the network runs.
        de_transform: As for ``load_net``.
        size: Input size in pixels of a Torch7 network, which its file does not store.
        stn: "trained", or "identity" to run the network with every spatial transformer set to the identity.
        allow_python: As for ``load_net``.
        joints: The joint set of an .onnx network; COCO's 17 if not given.
        onnx_input: How crops become the input of an .onnx network.
        engine: What runs a Caffe network, see ``Net.compiled``. An .onnx always runs in ONNX Runtime.

    Raises:
        RmpeError: A file cannot be read or is not a pose network, or the engine cannot run it.
    """
    if Path(network).suffix.lower() == ".onnx":
        from .onnx_network import OnnxPoseNetwork

        if weights is not None:
            raise RmpeError(f"{network}: an ONNX network is one file; leave out {weights}")
        if engine not in ("exact", "auto", "onnxruntime"):
            raise RmpeError(f"{network}: an ONNX network runs in ONNX Runtime, not in engine {engine!r}; use 'auto'")
        return OnnxPoseNetwork(network, joints or COCO17, onnx_input, device)
    if joints not in (None, MPII16):
        raise RmpeError(f"{network}: joint sets other than {MPII16.name} are for ONNX networks; leave out --joints")
    if weights is not None:
        return CaffePoseNetwork(load_trained(network, weights, de_transform, allow_python).to(device), stn, engine)
    if engine != "exact":
        raise RmpeError(f"{network}: engine {engine!r} runs Caffe networks; convert the .t7 to one with rmpe convert, "
                        "or use 'exact'")
    file = read_torch7(network)
    module = build_module(file).to(device)
    if training := [m for m in module.modules() if getattr(m, "uses_train", False) and m.training]:
        warnings.warn(f"{network}: {len(training)} of its modules are in training mode and will be run in evaluation "
                      "mode", stacklevel=2)
    return Torch7PoseNetwork(module.eval(), part_of_object(file.root), str(network), size, stn)


def network_input(image: np.ndarray, box_xyxy: np.ndarray, height: int, width: int, geometry: str,
                  padding: float = PADDING) -> np.ndarray:
    """Crop a box and resize it to the pose network's input: (3, height, width) float32, RGB from 0 to 1.

    geometry: "demo" or "torch7", see ``crop.crop_box``; or "alphapose" with its padding, see ``top_down``.
    """
    if geometry == "alphapose":
        return crop_top_down(image, box_xyxy, height, width, padding).transpose(2, 0, 1)
    crop = crop_box(image, box_xyxy, geometry)
    if geometry == "demo":
        return pose_input(crop, height, width)
    return scale_torch7(crop, height, width).transpose(2, 0, 1).astype(np.float32)


def estimate_poses(network: PoseNetwork, image: np.ndarray, boxes_xyxy: np.ndarray, geometry: str = "demo",
                   batch: int = BATCH, on_crop: Callable[[CropTrace], None] | None = None) -> Poses:
    """Estimate the pose in each box of an image.

    Args:
        network: The pose network.
        image: (H, W, 3) float32 RGB from 0 to 1.
        boxes_xyxy: (P, 4) boxes in pixels, cropped as they are.
        geometry: "demo" or "torch7", see ``crop.crop_box``; or "alphapose", see ``top_down``.
        batch: Maximum number of crops per forward; affects results only through the rounding of sums.
        on_crop: Called with the intermediate results of every crop.

    Returns:
        P poses: joints in pixels of the image, and the heights of the heatmaps.

    Raises:
        OptionError: `batch` is less than 1.
    """
    if batch < 1:
        raise OptionError(f"batch {batch} is less than 1")
    count, size = len(network.joints), (network.height, network.width)
    joints, heights = [np.empty((0, count, 2))], [np.empty((0, count), np.float32)]
    for boxes in _chunks(boxes_xyxy, batch):
        crops = np.stack([network_input(image, box, *size, geometry, network.padding) for box in boxes])
        output = network(crops)
        points, scores = _decode(output, geometry)
        map_hw = output.heatmaps.shape[2], output.heatmaps.shape[3]
        if geometry == "alphapose":
            joints.append(uncrop_top_down(points, boxes, size, map_hw, network.padding))
        else:
            joints.append(uncrop(points, boxes[:, None], map_hw[1], geometry).astype(np.float64))
        heights.append(scores)
        if on_crop:
            for trace in _traces(crops, output):
                on_crop(trace)
    return Poses(np.concatenate(joints), np.concatenate(heights))


def _chunks(boxes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(boxes), size):
        yield boxes[start : start + size]


def _decode(output: PoseOutput, geometry: str) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, J, 2) in heatmap cells and heights (N, J), both float32."""
    if output.decoded is not None:
        return output.decoded
    if geometry == "alphapose":
        return decode_heatmaps(output.heatmaps.cpu().numpy())
    if geometry == "demo" and output.prediction is not None:
        return read_joints(output.prediction.cpu().numpy())
    return read_heatmaps(output.heatmaps.cpu().numpy(), geometry)


def _traces(crops: np.ndarray, output: PoseOutput) -> Iterator[CropTrace]:
    def each(values: Tensor | None) -> list:
        return [None] * len(crops) if values is None else list(values.cpu().numpy())

    columns = each(output.straightened), each(output.theta), each(output.heatmaps)
    for crop, straightened, theta, maps in zip(crops, *columns, strict=True):
        yield CropTrace(crop, straightened, theta, maps, _maxima(maps))


def _maxima(maps: np.ndarray) -> np.ndarray:
    """(J, h, w) -> (J, 2) float32: column and row of each map's maximum."""
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[2])
    return np.stack([column, row], axis=-1).astype(np.float32)
