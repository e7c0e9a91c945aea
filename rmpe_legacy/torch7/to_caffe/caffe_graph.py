"""A Caffe network under construction: adds layers in order, and makes the result readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.text_writer import format_text
from rmpe_legacy.errors import NetError

MAX_LAYERS = 100_000  # a file can refer to one module many times
_IN_PLACE = ("BatchNorm", "Scale", "ReLU")


@dataclass
class CaffeLayer:
    """One layer: its prototxt fields and its weights."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    params: dict[str, dict[str, Any]] = field(default_factory=dict)  # {"pooling_param": {"kernel_size": 2}}
    blobs: Sequence[np.ndarray] = ()
    learns: bool = True

    def message(self) -> Message:
        schema = load_schema()
        layer = schema["LayerParameter"]
        fields: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.bottoms:
            fields["bottom"] = self.bottoms
        if self.tops:
            fields["top"] = self.tops
        if self.blobs and not self.learns:
            frozen = Message(schema["ParamSpec"], {"lr_mult": 0.0, "decay_mult": 0.0})
            fields["param"] = [frozen] * len(self.blobs)
        for name, values in self.params.items():
            fields[name] = Message(layer.fields[name].message, values)
        return Message(layer, fields)


@dataclass(frozen=True)
class CaffeNetwork:
    """The result of ``torch7_to_caffe``: the contents of Caffe's two files."""

    net: Message  # the NetParameter, without weights
    layers: list[TrainedLayer]  # the weights
    inputs: list[str]  # input blobs, in the order of Torch7's inputs
    outputs: list[str]  # output blobs, in the order of Torch7's outputs
    kind: str  # description of the published network; "" if it is not one

    @property
    def prototxt(self) -> str:
        """The text of the prototxt."""
        return format_text(self.net)


class CaffeGraph:
    """The layers so far. A layer with a single top gives the blob its name."""

    def __init__(self) -> None:
        self.layers: list[CaffeLayer] = []
        self._taken: set[str] = set()

    def add(self, type: str, name: str, bottoms: Sequence[str], tops: int = 1, *, blobs: Sequence[np.ndarray] = (),
            learns: bool = True, **params: dict[str, Any]) -> list[str]:
        """Add a layer and return the names of its tops.

        Args:
            type: The layer's type.
            name: The layer's name.
            bottoms: The blobs that it reads.
            tops: Number of tops.
            blobs: Its weights, float32, in the shapes of Caffe's blobs.
            learns: False sets the learning rates of its parameters to 0.
            params: Its parameter messages, such as convolution_param.

        Raises:
            NetError: The network would have more than MAX_LAYERS layers.
        """
        if len(self.layers) >= MAX_LAYERS:
            raise NetError(f"the network would have more than {MAX_LAYERS} layers")
        name = self.unique(name)
        names = [name] if tops == 1 else [self.unique(f"{name}_{i + 1}") for i in range(tops)]
        self.layers.append(CaffeLayer(name, type, list(bottoms), names, params, blobs, learns))
        return names

    def unique(self, name: str) -> str:
        """Return the name, or the first unused one of name_2, name_3, ..."""
        number = 2
        free = name
        while free in self._taken:
            free = f"{name}_{number}"
            number += 1
        self._taken.add(free)
        return free

    def finish(self, outputs: Sequence[str], names: Sequence[str]) -> list[str]:
        """Keep the layers that outputs depend on, name these, silence unread blobs, and work in place where it is safe.

        Returns the outputs' names, which are `names`.
        """
        self._name_outputs(outputs, names)
        self._prune(names)
        self._work_in_place(set(names))
        self._silence(set(names))
        return list(names)

    def _name_outputs(self, outputs: Sequence[str], names: Sequence[str]) -> None:
        """Add a Split for an output that other layers read, because Caffe only outputs blobs that none reads."""
        made = {top for layer in self.layers if layer.type != "Input" for top in layer.tops}
        taken = {blob for layer in self.layers for blob in layer.bottoms}
        renamed: dict[str, str] = {}
        for output, name in zip(outputs, names, strict=True):
            if output in made - taken and output not in renamed:
                renamed[output] = name
                continue
            maker = next(i for i, layer in enumerate(self.layers) if output in layer.tops)
            self.layers.insert(maker + 1, CaffeLayer(name, "Split", [output], [name]))
        for layer in self.layers:
            layer.bottoms = [renamed.get(blob, blob) for blob in layer.bottoms]
            layer.tops = [renamed.get(blob, blob) for blob in layer.tops]

    def _prune(self, outputs: Sequence[str]) -> None:
        needed, kept = set(outputs), []
        for layer in reversed(self.layers):
            if layer.type == "Input" or not needed.isdisjoint(layer.tops):
                needed.update(layer.bottoms)
                kept.append(layer)
        self.layers = kept[::-1]

    def _work_in_place(self, outputs: set[str]) -> None:
        """Let BatchNorm, Scale and ReLU work in place on a blob that only they read, as in handwritten networks."""
        readers = Counter(blob for layer in self.layers for blob in layer.bottoms)
        inputs = {top for layer in self.layers if layer.type == "Input" for top in layer.tops}
        renamed: dict[str, str] = {}
        for layer in self.layers:
            bottoms = layer.bottoms
            layer.bottoms = [renamed.get(blob, blob) for blob in bottoms]
            alone = layer.type in _IN_PLACE and readers[bottoms[0]] == 1 and bottoms[0] not in inputs | outputs
            if alone and layer.tops[0] not in outputs:
                renamed[layer.tops[0]] = layer.bottoms[0]
                layer.tops = layer.bottoms[:1]

    def _silence(self, outputs: set[str]) -> None:
        read = {blob for layer in self.layers for blob in layer.bottoms}
        finished = []
        for layer in self.layers:
            finished.append(layer)
            idle = [top for top in layer.tops if top not in read and top not in outputs]
            if idle:  # otherwise an unread input would also be an output
                finished.append(CaffeLayer(self.unique(f"{layer.name}_silence"), "Silence", idle, []))
        self.layers = finished

    def message(self, name: str) -> Message:
        """Return the network as a NetParameter."""
        return Message(load_schema()["NetParameter"], {
            "name": name, "layer": [layer.message() for layer in self.layers]})

    def trained(self) -> list[TrainedLayer]:
        """Return the layers that have weights."""
        return [TrainedLayer(layer.name, layer.type, tuple(map(_stored, layer.blobs)))
                for layer in self.layers if layer.blobs]


def _stored(values: np.ndarray) -> StoredBlob:
    """Return values as in a caffemodel, without a copy if they are contiguous."""
    return StoredBlob(values.shape, values.astype(np.float32, copy=False).reshape(-1))
