"""The engines that run the ONNX we write: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import NetError
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.onnx_rewired import rewired
from rmpe_legacy.optional import optional
from rmpe_legacy.reading import first_line
from rmpe_legacy.silence import silent_stderr
from rmpe_legacy.wording import utf8

from .base import ENGINES, EXACT, NOTHING, Engine, Job, Tensors
from .layer_times import LayerTimes, node_times
from .turns import PAUSE_SECONDS, seconds_of, time_in_turns

Run = Callable[[list[np.ndarray]], Sequence[np.ndarray]]  # inputs and new outputs, in the model's order
Open = Callable[[bytes, torch.device, int], Run]  # a model, the device it is to run on, and the number of CPU threads
# The same, inputs, and how often to run it after a first time -> (node, seconds) in all these runs
Profile = Callable[[bytes, torch.device, int, list[np.ndarray], int], Iterator[tuple[str, float]]]

# A network that takes less may be faster in one thread: waking others up, which wait for work between two runs and so
# take time from the program's own threads, costs tens of microseconds for each node.
SMALL_SECONDS = 2e-3
_KERNEL = "_kernel_time"  # the end of the names of ONNX Runtime's events for nodes


class OnnxEngine:
    """Runs a network's ONNX in a runtime. Inputs and outputs pass through CPU memory.

    On the CPU, a small network runs in as many threads as torch has or in one, whichever is faster; that is measured
    when inputs of about a size are first given.
    """

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
        self._inputs, self._outputs = ([value.blob for value in values]
                                       for values in (self.graph.inputs, self.graph.outputs))
        self.threads = torch.get_num_threads()
        self._run = self._load(self.threads)
        self._exact = ENGINES[EXACT](job)  # for inputs without values
        self._in_one_thread: Run | None = None  # loaded if the network is small
        self._chosen: dict[int, Run] = {}  # size of the inputs, see _size_class -> the faster of both

    def _load(self, threads: int) -> Run:
        if (size := self.model.ByteSize()) >= 1 << 31:
            raise NetError(f"{self.title}: engine {self.name!r} takes at most 2 GiB of weights, but the network has "
                           f"{size / 2**30:.1f} GiB; use 'torch'")
        try:
            with silent_stderr():  # the runtimes also raise whatever they print
                return self._open(self.model.SerializeToString(), self.device, threads)
        except Exception as error:  # the runtimes' exceptions have no common base class
            raise NetError(f"{self.title}: engine {self.name!r} cannot load it: {first_line(error)}") from error

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        arrays = self._arrays(inputs)
        if not all(array.size for array in arrays):  # OpenVINO refuses them, and there is nothing to gain
            return self._exact.run(inputs)
        size = _size_class(arrays)
        return self._call(self._chosen.get(size) or self._choose(size, arrays), arrays, self._outputs)

    def _choose(self, size: int, arrays: list[np.ndarray]) -> Run:
        """Return what is faster on these inputs, all threads or one, and keep it for others of about their size."""
        chosen = self._run
        if self.threads > 1 and self.device.type == "cpu":
            in_all = partial(self._call, self._run, arrays, self._outputs)
            in_all()
            time.sleep(PAUSE_SECONDS)
            if min(seconds_of(in_all) for _ in range(3)) < SMALL_SECONDS:
                self._in_one_thread = self._in_one_thread or self._load(1)
                in_one = partial(self._call, self._in_one_thread, arrays, self._outputs)
                in_one()
                seconds = time_in_turns({self._run: in_all, self._in_one_thread: in_one}, rounds=2)
                chosen = min(seconds, key=seconds.__getitem__)
        self._chosen[size] = chosen
        return chosen

    def _arrays(self, inputs: Tensors) -> list[np.ndarray]:
        return [_array(inputs[name]) for name in self._inputs]

    def _call(self, run: Run, arrays: list[np.ndarray], outputs: Sequence[str]) -> dict[str, Tensor]:
        try:
            found = run(arrays)
        except Exception as error:
            raise NetError(f"{self.title}: engine {self.name!r} cannot run it: {first_line(error)}") from error
        tensors = [torch.from_numpy(array) for array in found]
        if self.device.type != "cpu":
            tensors = [tensor.to(self.device) for tensor in tensors]
        return dict(zip(outputs, tensors, strict=True))

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
            run = self._load(self.threads)
        arrays = [*self._arrays(inputs), *(tensor.cpu().numpy() for tensor in new.values())]
        return self._call(run, arrays, [value.blob for value in values])

    def layer_times(self, inputs: Tensors, iterations: int) -> LayerTimes:
        layers = {node.top[0].name if node.layer is None else utf8(node.layer.spec.name) for node in self.graph.nodes}
        arrays = self._arrays(inputs)
        in_one = self._in_one_thread is not None and self._chosen.get(_size_class(arrays)) is self._in_one_thread
        with silent_stderr():
            nodes = self._profile(self.model.SerializeToString(), self.device, 1 if in_one else self.threads, arrays,
                                  iterations)
            return node_times(nodes, layers, iterations)


def _array(value: Tensor) -> np.ndarray:
    """Return a tensor's values, without a copy if they are in order in CPU memory: any shape -> the same."""
    if value.requires_grad or not value.is_cpu:  # both steps take time even where they change nothing
        value = value.detach().cpu()
    return value.contiguous().resolve_neg().numpy()


def _size_class(arrays: Sequence[np.ndarray]) -> int:
    """Return which inputs count as of one size: the first has as many values, to the next power of two."""
    return arrays[0].size.bit_length() if arrays else 0


def _open_onnxruntime(model: bytes, device: torch.device, threads: int) -> Run:
    session = _session(model, device, threads)
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    return lambda arrays: session.run(outputs, dict(zip(inputs, arrays, strict=True)))


def _session(model: bytes, device: torch.device, threads: int, profile: str = "") -> Any:
    """profile: the beginning of the path of the file to which times are written; none without it."""
    runtime = optional("onnxruntime", "engine 'onnxruntime'")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": 0}))
    return runtime.InferenceSession(model, options, providers)


def _profile_onnxruntime(model: bytes, device: torch.device, threads: int, arrays: list[np.ndarray],
                         iterations: int) -> Iterator[tuple[str, float]]:
    """By its profiler. Nothing on a GPU, where it only knows how long it takes to start a node."""
    if device.type != "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, device, threads, os.path.join(folder, "profile"))
        inputs = dict(zip([each.name for each in session.get_inputs()], arrays, strict=True))
        for _ in range(1 + iterations):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    warm = min(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= warm:
            yield event["name"].removesuffix(_KERNEL), event["dur"] * 1e-6


def _open_openvino(model: bytes, device: torch.device, threads: int) -> Run:
    request, one_at_a_time = _request(model, threads), Lock()  # a request holds the tensors of one run

    def run(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        with one_at_a_time:
            return request.infer(dict(enumerate(arrays)), share_inputs=True).to_tuple()

    return run


def _request(model: bytes, threads: int, **further: Any) -> Any:
    openvino = optional("openvino", "engine 'openvino'")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32",  # or it computes in bfloat16 where the CPU has that
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **further}
    return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()


def _profile_openvino(model: bytes, device: torch.device, threads: int, arrays: list[np.ndarray],
                      iterations: int) -> Iterator[tuple[str, float]]:
    """By its counters."""
    request = _request(model, threads, PERF_COUNT=True)
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
