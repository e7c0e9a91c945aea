"""ONNX: written by ``rmpe_legacy.export.onnx``, run by onnxruntime."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.caffe.layers.base import Shape, shape_text
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.export.onnx import BLOB_NAMES
from rmpe_legacy.export.onnx_model import is_utf8, read_light
from rmpe_legacy.export.onnx_rewired import given_name, rewired
from rmpe_legacy.optional import optional
from rmpe_legacy.reading import first_line, item_count, reading
from rmpe_legacy.silence import silent_stderr

from .base import Arrays, Format, Network, RunResult, Setting, SourceOptions, Writer, has_suffix

RANGE01 = ("Softmax", "Sigmoid")  # ONNX operators whose values are probabilities
MAX_GROUP = 1 << 27  # numbers of values computed together, 512 MB
MAX_INPUT = 1 << 28  # values of a random input for an ONNX file, 1 GB


@dataclass(frozen=True)
class _Node:
    """A node of an ONNX graph."""

    title: str  # its name, or its type if it has none
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Values(Mapping[str, np.ndarray]):
    """The blobs of a run. Those that are no outputs are computed in groups; the last group is kept, and of those before
    it what later groups are computed from.

    Args:
        names: Blob -> the file's value.
        known: The values known already.
        groups: The other values.
        last_group: For each of these, the last group that is computed from it.
        compute: Runs the file for the values of a group; takes others, from which it can go on.
    """

    def __init__(self, names: Mapping[str, str], known: Arrays, groups: Sequence[Sequence[str]],
                 last_group: Mapping[str, int], compute: Callable[[Sequence[str], Arrays], dict[str, np.ndarray]]):
        self.names, self.known, self.compute = names, known, compute
        self.groups, self.last_group = groups, last_group
        self.group_of = {name: i for i, group in enumerate(groups) for name in group}
        self.latest: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}

    def __getitem__(self, blob: str) -> np.ndarray:
        name = self.names[blob]
        if name in self.known:
            return np.asarray(self.known[name])
        if name not in self.latest:
            group = self.group_of[name]
            self.before = {other: value for other, value in {**self.before, **self.latest}.items()
                           if self.group_of[other] < group <= self.last_group.get(other, -1)}
            self.latest = {}
            self.latest = self.compute(self.groups[group], self.before)
        return self.latest[name]

    def __contains__(self, blob: object) -> bool:  # a Mapping's own would compute the blob
        return blob in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _groups(sizes: Mapping[str, int]) -> list[list[str]]:
    """Divide values into groups of at most MAX_GROUP numbers, if each value fits into one."""
    groups: list[list[str]] = [[]]
    total = 0
    for name, size in sizes.items():
        total += size
        if total > MAX_GROUP and groups[-1]:
            groups.append([])
            total = size
        groups[-1].append(name)
    return groups


def _last_groups(nodes: Sequence[_Node], groups: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return for each value of a group the last group that is computed from it, perhaps by way of other values."""
    group_of = {name: i for i, group in enumerate(groups) for name in group}
    made_from: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    for node in nodes:
        sources = set().union(*(made_from.get(name, ()) for name in node.inputs))
        for group in [group_of[name] for name in node.outputs if name in group_of]:
            last.update((source, max(group, last.get(source, -1))) for source in sources)
        made_from.update((name, {name} if name in group_of else sources) for name in node.outputs)
    return last


def _text(name: str | bytes) -> str:
    """Return a name; protobuf gives bytes where it is not UTF-8, which raises UnicodeDecodeError here."""
    return name if isinstance(name, str) else name.decode()


class OnnxRunner:
    """Runs an ONNX file in onnxruntime on the CPU. Values that are not outputs come from a second, modified session,
    which reads large weights from the file again, so that they are not in memory twice."""

    def __init__(self, path: Path, title: str):
        self.title = title
        optional("onnx", "running an ONNX file")
        self.runtime = optional("onnxruntime", "running an ONNX file")
        with reading(path, "ONNX file", "it is damaged, or onnxruntime cannot run it"):
            self.path = Path(os.path.realpath(path))
            self.model = read_light(self.path)
            self.names = _blob_names(self.model)
            whole = str(self.path) if is_utf8(self.path) else self.path.read_bytes()
            self.session = self._session(self._options(), whole)
            shapes = {i.name: tuple(d if isinstance(d, int) else 1 for d in i.shape) for i in self.session.get_inputs()}
            self.outputs = [output.name for output in self.session.get_outputs()]
            # Read now: protobuf checks strings when they are accessed, not when the file is parsed.
            self.nodes = [_Node(_text(node.name or node.op_type), node.op_type,
                                *(tuple(_text(name) for name in names if name) for names in (node.input, node.output)))
                          for node in self.model.graph.node]
        for name, shape in shapes.items():
            if (item_count(shape) or MAX_INPUT + 1) > MAX_INPUT and 0 not in shape:
                raise FileError(f"{path}: its input {name!r} is {shape_text(shape)}, too large for a random input")
        self.shapes = shapes

    def _options(self) -> Any:
        options = self.runtime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it grows to twice what the values need
        return options

    def _session(self, options: Any, model: str | bytes) -> Any:
        with silent_stderr():  # it also raises whatever it prints
            # Without enable_fallback=0 it prints the reason to standard output and loads the model a second time.
            return self.runtime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)

    def _changed_session(self) -> Any:
        """Open the model as it has been changed. It is run once or twice, for which weights need not be packed."""
        options = self._options()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self.path.parent))
        options.add_session_config_entry("session.disable_prepacking", "1")
        return self._session(options, self.model.SerializeToString())

    def inputs(self) -> dict[str, Shape]:
        return {self._blob(name): shape for name, shape in self.shapes.items()}

    def run(self, inputs: Arrays, wanted: Mapping[str, Shape] | None = None) -> RunResult:
        return self._result(self.session, inputs, wanted, {})

    def run_from(self, inputs: Arrays, wanted: Mapping[str, Shape], given: Arrays) -> RunResult:
        """Run the file with some values as further inputs, which the nodes read in place of those that it computes."""
        final = {self._blob(name): name for node in self.nodes for name in node.outputs}
        named = {final[blob]: np.asarray(value, np.float32) for blob, value in given.items() if blob in final}
        with rewired(self.model, dict.fromkeys(named)):
            session = self._changed_session()
        return self._result(session, inputs, wanted, named)

    def _result(self, session: Any, inputs: Arrays, wanted: Mapping[str, Shape] | None, given: Arrays) -> RunResult:
        own = {self._blob(name): name for name in self.shapes}
        inputs = {own.get(blob, blob): value for blob, value in inputs.items()}
        made = [name for node in self.nodes for name in node.outputs]
        final = {self._blob(name): name for name in made}
        more = [name for name in made if name not in self.outputs
                and (wanted is None or self._blob(name) in wanted) and final[self._blob(name)] == name]

        def fed(given: Arrays) -> Arrays:
            return {**inputs, **{given_name(name): value for name, value in given.items()}}

        def compute(names: Sequence[str], others: Arrays) -> dict[str, np.ndarray]:
            start = {**others, **given}
            with rewired(self.model, dict.fromkeys(start), names):
                changed = self._changed_session()
            return self._run(changed, names, fed(start))

        known = {**inputs, **self._run(session, self.outputs, fed(given))}
        order = [name for name in dict.fromkeys([*inputs, *made]) if name in known or name in more]
        sizes = {name: math.prod(wanted[self._blob(name)]) if wanted else 0 for name in more}
        groups = _groups(sizes)
        values = _Values({self._blob(name): name for name in order}, known, groups, _last_groups(self.nodes, groups),
                         compute)
        kinds = {name: node.type for node in self.nodes for name in node.outputs}
        makers = {self._blob(name): node.title for node in self.nodes for name in node.outputs}
        return RunResult(values, tuple(map(self._blob, self.outputs)), makers,
                         frozenset(self._blob(name) for name in order if kinds.get(name) in RANGE01))

    def _blob(self, name: str) -> str:
        return self.names.get(name, name)

    def _run(self, session: Any, names: Sequence[str], inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            with silent_stderr():
                return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise NetError(f"{self.title}: onnxruntime cannot run it: {first_line(error)}") from None


def _blob_names(model: Any) -> dict[str, str]:
    """Return value -> blob from the file's metadata. Raises ValueError if they are damaged."""
    names = json.loads({p.key: p.value for p in model.metadata_props}.get(BLOB_NAMES, "{}"))
    if not isinstance(names, dict) or not all(isinstance(blob, str) for blob in names.values()):
        raise ValueError(f"its metadata {BLOB_NAMES!r} is not a mapping of names")
    return names


def _run(path: Path, title: str, setting: Setting, options: SourceOptions) -> OnnxRunner:
    return OnnxRunner(path, title)


def _prepare(network: Network, files: Sequence[Path]) -> Writer:
    from rmpe_legacy.export.onnx import light_onnx

    model, graph = light_onnx(network.net, about=f"converted from {network.title}", dynamic=network.dynamic)
    model.check_size(files[0])  # where files are written, they have other names
    fixed = () if graph.is_dynamic or graph.dynamic is not None else (
        f"the batch has the prototxt's size: {graph.why_fixed}",)
    return Writer(lambda paths: model.write(paths[0]), (*fixed, *graph.notes()), graph.compared_at,
                  graph.few_images(network.net))


ONNX = Format("ONNX", (".onnx",), has_suffix(".onnx"), run=_run, prepare=_prepare, runtime="ONNX")
