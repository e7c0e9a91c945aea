"""Other people's top-down pose estimators in ONNX: heatmaps, or a pair of SimCC vectors, through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.errors import FileError, NetError, OptionError, RmpeError
from rmpe_legacy.optional import optional
from rmpe_legacy.reading import first_bytes, first_line, item_count, reading
from rmpe_legacy.silence import silent_stderr

from .estimate import PoseNetwork, PoseOutput
from .joints import COCO17, JointSet
from .top_down import PADDING

SUFFIX = ".onnx"
ORDERS = ("RGB", "BGR")
MAX_INPUT = 1 << 28  # values of a batch, 1 GB
_MAP_CELLS = 4  # SimCC's bins are shown as heatmaps of a cell for this many input pixels


@dataclass(frozen=True)
class InputOptions:
    """How a crop becomes the network's input: channels in ``order``, times ``raw_scale``, minus mean, over std.

    Args:
        mean, std: One number, or one per channel in ``order``, in units of ``raw_scale``.
        order: "RGB" or "BGR".
        raw_scale: The value of white: 1, or 255 for networks that expect 0 to 255.
        padding: How much larger than the box the crop is.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = "RGB"
    raw_scale: float = 1.0
    padding: float = PADDING

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise OptionError(f"channel order {self.order!r} is not one of {', '.join(ORDERS)}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not np.isfinite(values).all():
                raise RmpeError(f"{name} {','.join(map(str, values))}: give one finite number, or one per "
                                "channel")
        if not min(self.std) > 0:
            raise RmpeError(f"std {','.join(map(str, self.std))}: give numbers above 0")
        for name, value in (("raw scale", self.raw_scale), ("box padding", self.padding)):
            if not 0 < value < 1e6:
                raise RmpeError(f"{name} {value:g} is not above 0")

    def apply(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 RGB from 0 to 1 -> the network's input."""
        ordered = crops if self.order == "RGB" else crops[:, ::-1]
        mean, std = (np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return np.ascontiguousarray((ordered * np.float32(self.raw_scale) - mean) / std, np.float32)


class OnnxPoseNetwork(PoseNetwork):
    """An ONNX estimator: one input (N, 3, H, W); output (N, J, h, w), or (N, J, x bins) and (N, J, y bins)."""

    def __init__(self, path: str | Path, joints: JointSet = COCO17, options: InputOptions | None = None,
                 device: torch.device | str = "cpu"):
        self.name, self.joints, self.options = str(path), joints, options or InputOptions()
        self.padding = self.options.padding
        self.session = _session(path, torch.device(device))
        with reading(path, "ONNX file"):  # names and shapes are decoded when they are read
            self.input, self.height, self.width, self.fixed_batch = _image_input(self.name, self.session)
            self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, crops: np.ndarray) -> PoseOutput:
        """Run the network on crops (N, 3, height, width), float32 RGB from 0 to 1. NetError if its output is not a
        heatmap, or a pair of SimCC vectors, per joint and crop."""
        given = self.options.apply(crops)
        step = self.fixed_batch or max(1, len(given))
        parts = [self._run_padded(given[i : i + step], step if self.fixed_batch else None)
                 for i in range(0, len(given), step)]
        try:
            outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        except ValueError as error:  # a model may let its outputs' shapes depend on the values
            raise NetError(f"{self.name}: its outputs differ in shape from batch to batch: {error}") from None
        return self._read(dict(zip(self.outputs, outputs, strict=True)), len(crops))

    def for_another_thread(self) -> OnnxPoseNetwork:
        """Return this network: several threads may run it."""
        return self

    def _run_padded(self, crops: np.ndarray, count: int | None) -> list[np.ndarray]:
        """Outputs for a batch; a network with a fixed batch size gets zeros behind the last crop."""
        missing = 0 if count is None else count - len(crops)
        given = np.concatenate([crops, np.zeros((missing, *crops.shape[1:]), np.float32)]) if missing else crops
        try:
            with silent_stderr():
                outputs = self.session.run(None, {self.input: given})
            return [np.atleast_1d(output)[: len(crops)] for output in outputs]  # a sequence may not become an array
        except Exception as error:  # ONNX Runtime has no common class for what a model makes it raise
            raise NetError(f"{self.name}: ONNX Runtime cannot run it on {shape_text(given.shape)}: "
                           f"{first_line(error)}") from error

    def _read(self, outputs: dict[str, np.ndarray], count: int) -> PoseOutput:
        want = (count, len(self.joints))
        maps = [value for value in outputs.values() if value.ndim == 4]
        vectors = {name: value for name, value in outputs.items() if value.ndim == 3}
        for value in reversed(maps):  # of several stacks the last one
            if value.shape[:2] == want:
                return PoseOutput(torch.from_numpy(np.asarray(value, np.float32)))
        pair = [value for value in vectors.values() if value.shape[:2] == want]
        if len(pair) == 2:
            return self._read_simcc(*self._x_first(vectors))
        shapes = ", ".join(f"{name} {shape_text(value.shape)}" for name, value in outputs.items()) or "nothing"
        raise NetError(f"{self.name}: for {count} crops it returned {shapes}; expected {count} x {len(self.joints)} x "
                       f"height x width, or two of {count} x {len(self.joints)} x bins, for the {len(self.joints)} "
                       f"joints of {self.joints.name} (--joints)")

    def _x_first(self, vectors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the horizontal and the vertical vectors, recognised by name, by the input's sides, or by order."""
        (first, a), (second, b) = vectors.items()
        if first.lower().endswith("y") and second.lower().endswith("x"):
            return b, a
        if a.shape[2] * self.height == b.shape[2] * self.width:
            return a, b
        if b.shape[2] * self.height == a.shape[2] * self.width:
            return b, a
        raise NetError(f"{self.name}: its SimCC vectors {first} and {second} have {a.shape[2]} and {b.shape[2]} bins, "
                       f"which are not a multiple of its input's {self.width} x {self.height} pixels")

    def _read_simcc(self, x: np.ndarray, y: np.ndarray) -> PoseOutput:
        """The bins of the maxima; a joint's score is the lower of the two (RTMPose's get_simcc_maximum)."""
        scores = np.minimum(x.max(axis=2), y.max(axis=2)).astype(np.float32)
        maps_h, maps_w = max(1, self.height // _MAP_CELLS), max(1, self.width // _MAP_CELLS)
        cells = np.array([maps_w / x.shape[2], maps_h / y.shape[2]], np.float32)
        points = np.stack([x.argmax(axis=2), y.argmax(axis=2)], axis=-1).astype(np.float32) * cells
        points[scores <= 0] = 0
        shown = np.minimum(_pooled(x, maps_w)[:, :, None, :], _pooled(y, maps_h)[:, :, :, None])
        return PoseOutput(torch.from_numpy(np.ascontiguousarray(shown, np.float32)), decoded=(points, scores))


def _pooled(vectors: np.ndarray, count: int) -> np.ndarray:
    """(N, J, bins) -> (N, J, count): the maximum of each run of bins."""
    starts = (np.arange(count) * vectors.shape[2]) // count
    return np.maximum.reduceat(vectors, starts, axis=2)


def _session(path: str | Path, device: torch.device):
    onnxruntime = optional("onnxruntime", "running an .onnx pose network")
    first_bytes(path)  # a missing file is reported as such
    providers: list = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise RmpeError(f"{path}: this ONNX Runtime has no CUDA; pip install onnxruntime-gpu, or use --device cpu")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    with reading(path, "ONNX file"), silent_stderr():
        # Without enable_fallback=0 it prints why a provider failed, and then computes on another device.
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)


def _image_input(name: str, session) -> tuple[str, int, int, int | None]:
    """Name, height, width and batch size (None: any) of the one input."""
    inputs: Sequence = session.get_inputs()
    if len(inputs) != 1:
        raise NetError(f"{name}: has the inputs {', '.join(each.name for each in inputs) or 'none'}; a pose network "
                       "has one, for images")
    shape = inputs[0].shape
    text = " x ".join(map(str, shape))
    if len(shape) != 4 or shape[1] != 3:
        raise NetError(f"{name}: its input is {text}; expected N x 3 x height x width")
    batch, _, height, width = shape
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise NetError(f"{name}: its input is {text}, without a fixed height and width; export it with a fixed size")
    if (item_count((batch if isinstance(batch, int) else 1, 3, height, width)) or MAX_INPUT + 1) > MAX_INPUT:
        raise NetError(f"{name}: its input is {text}, larger than 1 GB")
    if inputs[0].type != "tensor(float)":
        raise FileError(f"{name}: its input is {inputs[0].type}; export it with float32")
    return inputs[0].name, height, width, batch if isinstance(batch, int) and batch > 0 else None
