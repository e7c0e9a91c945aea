"""The engines that run the ONNX we write: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import NetError
from rmpe_legacy.export.graph import Value
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.onnx_rewired import rewired
from rmpe_legacy.optional import optional
from rmpe_legacy.reading import first_line
from rmpe_legacy.silence import silent_stderr
from rmpe_legacy.wording import utf8

from .base import ENGINES, NOTHING, Engine, Job, Tensors
from .layer_times import LayerTimes, node_times

Run = Callable[[list[np.ndarray]], Sequence[np.ndarray]]  # inputs and new outputs, in the model's order
Open = Callable[[bytes, torch.device], Run]  # a model and the device it is to run on
# The same, inputs, and how often to run it after a first time -> (node, seconds) in all these runs
Profile = Callable[[bytes, torch.device, list[np.ndarray], int], Iterator[tuple[str, float]]]

_KERNEL = "_kernel_time"  # the end of the names of ONNX Runtime's events for nodes


class OnnxEngine:
    """Runs a network's ONNX in a runtime. Inputs and outputs pass through CPU memory."""

    shows_blobs = False

    def __init__(self, name: str, job: Job, open_model: Open, profile: Profile):
        self.name, self.title, self._open, self._profile = name, job.title, open_model, profile
        parameter = next(job.net.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        if parameter is not None and parameter.dtype is not torch.float32:
            raise NetError(f"{self.title}: engine {name!r} needs float32 parameters, not {parameter.dtype}; call "
                           "net.float() first")
        for step in job.net.steps:
            if step.layer.keeps_state:
                raise step.layer.spec.error(f"engine {name!r} does not keep its state from one forward to the next; "
                                            "use 'torch'")
        self.model, self.graph = to_onnx(job.net, job.blobs)
        self.any_batch = self.graph.is_dynamic
        self._run = self._load()

    def _load(self) -> Run:
        if (size := self.model.ByteSize()) >= 1 << 31:
            raise NetError(f"{self.title}: engine {self.name!r} takes at most 2 GiB of weights, but the network has "
                           f"{size / 2**30:.1f} GiB; use 'torch'")
        try:
            with silent_stderr():  # the runtimes also raise whatever they print
                return self._open(self.model.SerializeToString(), self.device)
        except Exception as error:  # the runtimes' exceptions have no common base class
            raise NetError(f"{self.title}: engine {self.name!r} cannot load it: {first_line(error)}") from error

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        return self._call(self._run, self._arrays(inputs), self.graph.outputs)

    def _arrays(self, inputs: Tensors) -> list[np.ndarray]:
        return [inputs[value.blob].contiguous().cpu().numpy() for value in self.graph.inputs]

    def _call(self, run: Run, arrays: list[np.ndarray], outputs: Sequence[Value]) -> dict[str, Tensor]:
        try:
            found = run(arrays)
        except Exception as error:
            raise NetError(f"{self.title}: engine {self.name!r} cannot run it: {first_line(error)}") from error
        return {value.blob: torch.from_numpy(array).to(self.device)
                for value, array in zip(outputs, found, strict=True)}

    def blobs(self, inputs: Tensors, shown: Collection[str] | None = None, given: Tensors = NOTHING
              ) -> dict[str, Tensor]:
        """Run a second model that has more outputs, and an input for each blob of `given`. See ``Engine.blobs`` for
        shapes.
        """
        made = {value for node in self.graph.nodes for value in node.top}
        final = {blob: value for blob, value in self.graph.final.items() if value in made and value.blob == blob}
        values = [value for blob, value in final.items()
                  if shown is None or blob in shown or value in self.graph.outputs]
        read = {name for node in self.model.graph.node for name in node.input}  # OpenVINO drops inputs not read
        new = {blob: tensor for blob, tensor in given.items() if blob in final and final[blob].name in read}
        with rewired(self.model, {final[blob].name: tensor.dim() for blob, tensor in new.items()},
                     [value.name for value in values]):
            run = self._load()
        return self._call(run, [*self._arrays(inputs), *(tensor.cpu().numpy() for tensor in new.values())], values)

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        layers = {node.top[0].name if node.layer is None else utf8(node.layer.spec.name) for node in self.graph.nodes}
        with silent_stderr():
            nodes = self._profile(self.model.SerializeToString(), self.device, self._arrays(inputs), iterations)
            return node_times(nodes, layers, iterations)


def _open_onnxruntime(model: bytes, device: torch.device) -> Run:
    session = _session(model, device)
    names = [each.name for each in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _session(model: bytes, device: torch.device, profile: str = "") -> Any:
    """profile: the beginning of the path of the file to which times are written; none without it."""
    runtime = optional("onnxruntime", "engine 'onnxruntime'")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": 0}))
    return runtime.InferenceSession(model, options, providers)


def _profile_onnxruntime(model: bytes, device: torch.device, arrays: list[np.ndarray],
                         iterations: int) -> Iterator[tuple[str, float]]:
    """By its profiler. Nothing on a GPU, where it only knows how long it takes to start a node."""
    if device.type != "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, device, os.path.join(folder, "profile"))
        inputs = dict(zip([each.name for each in session.get_inputs()], arrays, strict=True))
        for _ in range(1 + iterations):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    warm = min(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= warm:
            yield event["name"].removesuffix(_KERNEL), event["dur"] * 1e-6


def _open_openvino(model: bytes, device: torch.device) -> Run:
    request = _request(model)

    def run(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        return request.infer(dict(enumerate(arrays)), share_inputs=True).to_tuple()

    return run


def _request(model: bytes, **further: Any) -> Any:
    openvino = optional("openvino", "engine 'openvino'")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32",  # or it computes in bfloat16 where the CPU has that
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads(), **further}
    return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()


def _profile_openvino(model: bytes, device: torch.device, arrays: list[np.ndarray],
                      iterations: int) -> Iterator[tuple[str, float]]:
    """By its counters."""
    request = _request(model, PERF_COUNT=True)
    request.infer(dict(enumerate(arrays)), share_inputs=True)
    for _ in range(iterations):
        request.infer(dict(enumerate(arrays)), share_inputs=True)
        for node in request.profiling_info:
            if node.status == node.Status.EXECUTED:
                yield node.node_name, node.real_time.total_seconds()


@ENGINES.register("onnxruntime")
def make_onnxruntime(job: Job) -> Engine:
    optional("onnxruntime", "engine 'onnxruntime'")
    return OnnxEngine("onnxruntime", job, _open_onnxruntime, _profile_onnxruntime)


@ENGINES.register("openvino")
def make_openvino(job: Job) -> Engine:
    optional("openvino", "engine 'openvino'")
    return OnnxEngine("openvino", job, _open_openvino, _profile_openvino)
