"""The sides that ``rmpe verify`` compares: whatever can run a network, or holds what one gave."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import Shape, shape_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.export.onnx import BLOB_NAMES
from rmpe_legacy.export.python_source import identifier
from rmpe_legacy.optional import optional
from rmpe_legacy.readers.npy import Npz
from rmpe_legacy.reading import first_line, item_count, reading
from rmpe_legacy.silence import silent_stderr

from .source import Torch7Source, input_shapes

Arrays = Mapping[str, np.ndarray]
RANGE01 = ("Softmax", "Sigmoid")  # ONNX operators whose values are probabilities
MAX_INPUT = 1 << 28  # values of an ONNX file's input that are made up; a gigabyte


@dataclass
class RunResult:
    """What one side gave."""

    blobs: dict[str, np.ndarray]  # in the order they were computed
    outputs: tuple[str, ...]
    makers: dict[str, str] = field(default_factory=dict)  # blob -> the layers that make it, in words
    saturating: frozenset[str] = frozenset()  # blobs in 0 to 1, in which large differences hide
    detections: frozenset[str] = frozenset()  # blobs of rows whose order is free where their scores are equal


class Runner(Protocol):
    """One side: what inputs it takes, and what it gives for them."""

    title: str

    def inputs(self) -> dict[str, Shape] | None:
        """Input -> shape; None where this side does not know."""

    def run(self, inputs: Arrays, wanted: Sequence[str] | None) -> RunResult:
        """Run it. wanted: the blobs that the other side has, if that is known by now."""


@runtime_checkable
class ExactRunner(Runner, Protocol):
    """A side that can also say what it would give without rounding."""

    def exact(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """All blobs, computed in double precision."""


class NetRunner:
    """A Net of ours: every blob."""

    def __init__(self, net: Net, title: str):
        self.net, self.title = net, title

    def inputs(self) -> dict[str, Shape]:
        return input_shapes(self.net.steps)

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        every = wanted is None or not set(wanted) <= {*self.net.outputs, *inputs}
        kept, self.net.keep_blobs = self.net.keep_blobs, every
        try:
            with torch.no_grad():
                self.net({name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})
        finally:
            self.net.keep_blobs = kept
        found = self.net.blobs
        steps = [step for step in self.net.steps if not step.layer.spec.is_inserted]
        makers: dict[str, list[str]] = {}
        for step in steps:
            for top in step.top:
                makers.setdefault(top, []).append(f"{step.layer.spec.name} ({step.layer.spec.type})")
        last = {top: step.layer for step in steps for top in step.top}
        blobs = {name: found[name].detach().cpu().numpy() for name in makers if every or name in self.net.outputs}
        return RunResult(blobs, self.net.outputs, {name: ", ".join(who) for name, who in makers.items()},
                         frozenset(name for name, layer in last.items() if layer.range01),
                         frozenset(name for name, layer in last.items() if layer.spec.type == "DetectionOutput"))

    def exact(self, inputs: Arrays) -> dict[str, np.ndarray]:
        self.net.double()
        try:
            return self.run(inputs).blobs
        finally:
            self.net.float()


@dataclass(frozen=True)
class _Node:
    """A node of an ONNX graph."""

    title: str  # its name, or its type where it has none
    type: str
    outputs: tuple[str, ...]


class OnnxRunner:
    """An ONNX file in onnxruntime on the CPU: outputs as users get them, other values from a run that keeps them."""

    def __init__(self, path: Path, title: str):
        self.title = title
        onnx, self.runtime = (optional(name, "running an ONNX file") for name in ("onnx", "onnxruntime"))
        with reading(path, "ONNX file", "it is damaged, or onnxruntime cannot run it"):
            self.model = onnx.load(path)
            self.names = _blob_names(self.model)
            self.session = self._session()
            shapes = {i.name: tuple(d if isinstance(d, int) else 1 for d in i.shape) for i in self.session.get_inputs()}
            self.outputs = [output.name for output in self.session.get_outputs()]
            # Text is checked where it is asked for, not where the file is parsed.
            self.nodes = [_Node(node.name or node.op_type, node.op_type, tuple(filter(None, node.output)))
                          for node in self.model.graph.node]
        for name, shape in shapes.items():
            if (item_count(shape) or MAX_INPUT + 1) > MAX_INPUT and 0 not in shape:
                raise FileError(f"{path}: its input {name!r} is {shape_text(shape)}, which is too large to be tried")
        self.shapes = shapes

    def _session(self) -> Any:
        options = self.runtime.SessionOptions()
        options.log_severity_level = 3
        with silent_stderr():  # what it prints, it also raises
            return self.runtime.InferenceSession(self.model.SerializeToString(), options, ["CPUExecutionProvider"])

    def inputs(self) -> dict[str, Shape]:
        return {self._blob(name): shape for name, shape in self.shapes.items()}

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        outputs = self.outputs
        own = {self._blob(name): name for name in self.shapes}
        inputs = {own.get(blob, blob): value for blob, value in inputs.items()}
        found = self._run(self.session, outputs, inputs)
        made = [name for node in self.nodes for name in node.outputs]
        blobs = {self.names.get(name, name): name for name in made}
        more = [name for name in made if name not in found and (wanted is None or self._blob(name) in wanted)
                and blobs[self._blob(name)] == name]
        if more:
            found |= self._keeping(more, inputs)
        order = [name for name in [*inputs, *made] if name in found or name in inputs]
        kinds = {name: node.type for node in self.nodes for name in node.outputs}
        values = {self._blob(name): found[name] if name in found else np.asarray(inputs[name]) for name in order}
        makers = {self._blob(name): node.title for node in self.nodes for name in node.outputs}
        return RunResult(values, tuple(map(self._blob, outputs)), makers,
                         frozenset(self._blob(name) for name in found if kinds.get(name) in RANGE01))

    def _blob(self, name: str) -> str:
        return self.names.get(name, name)

    def _keeping(self, names: Sequence[str], inputs: Arrays) -> dict[str, np.ndarray]:
        """Values that are no outputs, from a copy of the model in which they are."""
        onnx = optional("onnx", "running an ONNX file")
        count = len(self.model.graph.output)
        self.model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            return self._run(self._session(), names, inputs)
        finally:
            del self.model.graph.output[count:]

    def _run(self, session: Any, names: Sequence[str], inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            with silent_stderr():
                return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common kind
            raise NetError(f"{self.title}: onnxruntime could not run it: {first_line(error)}") from None


class PythonRunner:
    """A model.py that ``rmpe convert`` wrote: its outputs, and the local variables of its forward."""

    def __init__(self, path: Path, title: str):
        self.title = title
        try:
            spec = importlib.util.spec_from_file_location("rmpe_legacy_verified_model", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.model: nn.Module = module.load()
            self.blobs: dict[str, str] = dict(getattr(module, "BLOBS", {}))  # variable -> blob, where they differ
        except OSError as error:
            raise FileError(f"{error.filename or path}: {error.strerror or error}") from None
        except Exception as error:  # the file is a program: whatever it does
            raise FileError(f"{path}: cannot be loaded: {first_line(error)}; a file that rmpe convert wrote, with the "
                            "weights beside it, is needed") from None

    def inputs(self) -> None:
        return None

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        code = type(self.model).forward.__code__
        arguments = code.co_varnames[1 : code.co_argcount]
        blob_of = {identifier(name): name for name in [*(wanted or ()), *inputs]} | self.blobs
        variable_of = {blob: variable for variable, blob in blob_of.items()}
        given = {variable_of.get(name, name): torch.from_numpy(np.array(value)) for name, value in inputs.items()}
        if missing := [name for name in arguments if name not in given]:
            raise NetError(f"{self.title}: its forward takes {', '.join(missing)}, the other side's inputs are "
                           f"{', '.join(inputs)}")
        seen: dict[str, Any] = {}

        def watch(frame: FrameType, event: str, _argument: object) -> None:
            if event == "return" and frame.f_code is code:
                seen.update(frame.f_locals)

        sys.setprofile(watch)
        try:
            with torch.no_grad():
                self.model(*(given[name] for name in arguments))
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise NetError(f"{self.title}: could not run: {first_line(error)}") from None
        finally:
            sys.setprofile(None)
        blobs = {blob_of.get(name, name): value.numpy() for name, value in seen.items() if isinstance(value, Tensor)}
        return RunResult(blobs, self._outputs(blobs, inputs))

    @staticmethod
    def _outputs(blobs: Arrays, inputs: Arrays) -> tuple[str, ...]:
        """What a local variable's name tells: all but the inputs may be one, and an input that was written over is."""
        return tuple(name for name, value in blobs.items()
                     if name not in inputs or not np.array_equal(value, inputs[name], equal_nan=True))


class OpenCvRunner:
    """OpenCV 4's own importer of Caffe's files: every blob that it gives an output for."""

    def __init__(self, prototxt: Path, weights: Path, net: Net, title: str):
        import cv2

        self.title, self.net, self.cv2 = title, net, cv2
        if not hasattr(cv2.dnn, "readNetFromCaffe"):
            raise RmpeError(f"OpenCV {cv2.__version__} has no importer of Caffe's files; install "
                            "'opencv-python-headless<5'")
        try:
            with silent_stderr():
                self.model = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
            self.model.enableFusion(False)  # or values between the fused layers are not there to see
        except cv2.error as error:
            raise NetError(f"{title}: OpenCV cannot read it: {first_line(error)}") from None

    def inputs(self) -> dict[str, Shape]:
        return dict(self.net.inputs)

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        places = self._places()
        names = list(dict.fromkeys(layer for layer, _ in places.values()))
        try:
            for name, value in inputs.items():
                self.model.setInput(np.asarray(value, np.float32), name)
            found = dict(zip(names, self.model.forwardAndRetrieve(names), strict=True))
        except self.cv2.error as error:
            raise NetError(f"{self.title}: OpenCV cannot run it: {first_line(error)}; convert a part with --until") \
                from None
        blobs = {}
        for step in self.net.steps:
            for blob, shape in zip(step.top, step.top_shapes, strict=True):
                if blob in places:
                    layer, index = places[blob]
                    blobs[blob] = self._like_caffe(step.layer.spec, found[layer][index], shape)
        return RunResult(blobs, tuple(blob for blob in self.net.outputs if blob in blobs))

    def _places(self) -> dict[str, tuple[str, int]]:
        """Blob -> OpenCV's layer and which of its outputs. A layer with one top of another name goes by that name.

        OpenCV numbers the layers after the first that have the same name: conv, conv_1, conv_2.
        """
        layers = set(self.model.getLayerNames())
        places: dict[str, tuple[str, int]] = {}
        count: Counter[str] = Counter()
        for step in self.net.steps:
            spec = step.layer.spec
            if spec.is_inserted:
                continue
            own = spec.name if not count[spec.name] else f"{spec.name}_{count[spec.name]}"
            count[spec.name] += 1
            if spec.type in ("Split", "Input"):
                continue
            for index, blob in enumerate(step.top):
                name = next((n for n in (own, blob) if n in layers), None)
                places.pop(blob, None)
                if name is not None:
                    places[blob] = (name, index)
        return places

    @staticmethod
    def _like_caffe(spec: Any, value: np.ndarray, shape: Shape) -> np.ndarray:
        """OpenCV pads detections with rows of 0 to keep_top_k, and does not clip them; else only shapes may differ."""
        if spec.type == "DetectionOutput":
            rows = value.reshape(-1, 7)
            rows = rows[rows[:, 2] > 0]
            if spec.dialect == "rmpe":
                rows = np.concatenate([rows[:, :3], rows[:, 3:].clip(0, 1)], 1)
            return rows.reshape(1, 1, -1, 7)
        return value.reshape(shape) if value.size == np.prod(shape) else value


class Torch7Runner:
    """A .t7 file run by the modules of ``load_torch7``: its outputs, called as in the Caffe network made of it."""

    def __init__(self, source: Torch7Source, title: str, shapes: Mapping[str, Shape]):
        from rmpe_legacy.torch7.load import load_torch7

        self.title, self.source, self.shapes = title, source, dict(shapes)
        self.model = load_torch7(source.path, evaluate=True, key=source.key)

    def inputs(self) -> dict[str, Shape]:
        return self.shapes

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        names = self.source.inputs
        if missing := [name for name in names if name not in inputs]:
            raise NetError(f"{self.title}: its input is called {', '.join(missing)}, the other side's inputs are "
                           f"{', '.join(inputs)}")
        values = [torch.from_numpy(np.array(inputs[name])) for name in names]
        with torch.no_grad():
            given = _flat(self.model(values[0] if len(values) == 1 else values))
        blobs = {name: value.numpy() for name, value in zip(self.source.outputs, given, strict=False)}
        return RunResult({**{name: np.asarray(inputs[name]) for name in names}, **blobs}, tuple(blobs))


class StoredRunner:
    """Blobs that were stored in an .npz: inputs among them serve as the other side's."""

    def __init__(self, path: Path, title: str):
        self.title = title
        self.blobs = Npz(path).numbers()
        if not self.blobs:
            raise FileError(f"{path}: holds no arrays of numbers")

    def inputs(self) -> None:
        return None

    def run(self, inputs: Arrays, wanted: Sequence[str] | None = None) -> RunResult:
        return RunResult(self.blobs, tuple(name for name in self.blobs if name not in inputs))


def _blob_names(model: Any) -> dict[str, str]:
    """Value -> blob, as the file's metadata say. ValueError where they are damaged."""
    names = json.loads({p.key: p.value for p in model.metadata_props}.get(BLOB_NAMES, "{}"))
    if not isinstance(names, dict) or not all(isinstance(blob, str) for blob in names.values()):
        raise ValueError(f"its metadata {BLOB_NAMES!r} is no list of names")
    return names


def _flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in _flat(part)]


def check_shapes(runner: Runner, inputs: Arrays) -> None:
    """NetError where a side's inputs have other names or another number of axes than those given."""
    shapes = runner.inputs()
    if shapes is None:
        return
    if missing := [name for name in shapes if name not in inputs]:
        raise NetError(f"{runner.title}: its input {', '.join(map(repr, missing))} is not among the given, "
                       f"{', '.join(map(repr, inputs)) or 'none'}")
    for name, shape in shapes.items():
        if shape and inputs[name].ndim != len(shape):
            raise NetError(f"{runner.title}: its input {name!r} is {shape_text(shape)}, the given one "
                           f"{shape_text(inputs[name].shape)}")
