"""``Net``: pycaffe's network over ours, with blobs that stay and passes that begin and end anywhere.

Sources: python/caffe/pycaffe.py and _caffe.cpp of BVLC/caffe@9b89154; Net::Init, ForwardFromTo, BackwardFromTo
(net.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.layers.python import Python
from rmpe_legacy.caffe.layers.registry import forms_in, known_types
from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.caffe.net import Net as TorchNet
from rmpe_legacy.caffe.proto.dialects import AUTO
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.step import Step, reshape_step
from rmpe_legacy.caffe.weights import TrainedLayer, copy_trained, read_trained
from rmpe_legacy.errors import InputError
from rmpe_legacy.files import all_or_none
from rmpe_legacy.wording import did_you_mean, shorten_list

from . import settings
from .batches import batches, item_count
from .blob import Blob, ParameterBlob
from .errors import (
    ArgumentError,
    NameOfLayerError,
    ReadOnlyError,
    RuntimeRmpeError,
    as_pycaffe,
    file_path,
)
from .install import importable_as_caffe
from .passes import Passes
from .views import LayerView, Named

TRAIN, TEST = 0, 1
_PHASES = ("TRAIN", "TEST")
_Callback = Callable[[int], object]

log = logging.getLogger(__name__)


class Net:
    """A Caffe network.

    ``Net(prototxt, phase, level=0, stages=None, weights=None)``, or the older ``Net(prototxt, weights, phase)``.
    ``net.torch`` is the ``torch.nn.Module`` below: it has the parameters that `params` shows.
    """

    def __init__(self, network_file: str | PathLike, *args: Any, phase: int | None = None, level: int = 0,
                 stages: Sequence[str] | None = None, weights: str | PathLike | None = None):
        """Read the network, and its weights if given.

        Args:
            network_file: A prototxt of any format.
            phase: caffe.TRAIN or caffe.TEST.
            level: For the min_level and max_level rules of layers.
            stages: For the stage rules of layers.
            weights: A .caffemodel, .caffemodel.h5, .safetensors or .pt; matched by layer name.

        Raises:
            RuntimeError: With an RmpeError's sentence: what cannot be opened, read or built.
            TypeError: For arguments that fit neither signature.
        """
        phase, level, stages, weights = _arguments(args, phase, level, stages, weights)
        now = settings.current
        with as_pycaffe(), importable_as_caffe():
            parsed = read_net(file_path("caffe.Net: the network", network_file), _PHASES[phase], level,
                              tuple(stages or ()), now.dialect, now.de_transform, allow_python=True)
            trained = None if weights is None else file_path("caffe.Net: the weights", weights)
            net = parsed.build(None if trained is None else read_trained(trained, parsed.specs))
        self._adopt(net, phase)

    @classmethod
    def over(cls, net: TorchNet, phase: int, records: bool = True) -> Net:
        """Wrap a network that is already built.

        Args:
            net: The network.
            phase: caffe.TRAIN or caffe.TEST.
            records: Whether each forward keeps what a backward needs; if False, a backward runs the layers again.
        """
        made = cls.__new__(cls)
        made._adopt(net, phase, records)
        return made

    def _adopt(self, net: TorchNet, phase: int, records: bool = True) -> None:
        self.torch = net
        self._steps = net.steps
        self.phase = phase
        self._callbacks: dict[str, list[_Callback]] = {
            name: [] for name in ("before_forward", "after_forward", "before_backward", "after_backward")}
        shapes = {name: shape for step in self._steps for name, shape in zip(step.top, step.top_shapes, strict=True)}
        self._blob_names = list(shapes)
        self._layer_names = [step.layer.spec.name for step in self._steps]
        self.blobs = Named("blob", ((name, Blob(shape, name, net.loss_weights.get(name, 0.0)))
                                    for name, shape in shapes.items()))
        self.layers = [self._layer_view(step) for step in self._steps]
        self.params = Named("layer with parameters", (
            (name, layer.blobs) for name, layer in zip(self._layer_names, self.layers, strict=True) if layer.blobs))
        self.layer_dict = Named("layer", zip(self._layer_names, self.layers, strict=True))
        self.top_names = Named("layer", ((step.layer.spec.name, list(step.top)) for step in self._steps))
        self.bottom_names = Named("layer", ((step.layer.spec.name, list(step.bottom)) for step in self._steps))
        self.inputs, self.outputs = list(net.inputs), list(net.outputs)
        for step in self._steps:
            if step.layer.shares_diff:
                for name in step.top:
                    self.blobs[name].diff_memory = self.blobs[step.bottom[0]].diff_memory
        self._passes = Passes(net, self.blobs, records)

    @staticmethod
    def _layer_view(step: Step) -> Any:
        layer = step.layer
        blobs = [ParameterBlob(getattr(layer, declared.name), declared.shape, f"{layer.spec.name}[{i}]")
                 for i, declared in enumerate(layer.declared)]
        if not isinstance(layer, Python):  # one of type "Python" may be built in
            return LayerView(layer.spec.type, blobs)
        layer.user.blobs[:] = blobs
        return layer.user

    # --- attributes -------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in self.__dict__:
            raise ReadOnlyError(f"net.{name} cannot be replaced; write into the arrays of its blobs")
        super().__setattr__(name, value)

    @property
    def blob_loss_weights(self) -> Named:
        """Each blob's weight in the loss; 0 for most."""
        return Named("blob", zip(self._blob_names, self._blob_loss_weights, strict=True))

    @property
    def _blob_loss_weights(self) -> list[float]:
        return [self.torch.loss_weights.get(name, 0.0) for name in self._blob_names]

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._steps[layer].bottom]

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._steps[layer].top]

    # --- passes -----------------------------------------------------------------------------------------------------

    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the layers from `start` to `end`, inclusive; None means the first or the last layer.

        Args:
            blobs: Names of blobs to return besides the network's outputs, or besides the tops of `end`.
            start: The name of the first layer.
            end: The name of the last layer.
            inputs: Values of all inputs by name, float32, each with the batch size of its blob.

        Returns:
            Name -> view of the blob's data, float32 in the blob's shape.

        Raises:
            InputError: The inputs have other names, or another batch size.
            KeyError: The network has no such blob.
            ValueError: The network has no such layer, or the values do not fit.
            RuntimeError: A layer raised an error.
        """
        first, last = self._range(start, end, 0, len(self._steps) - 1)
        wanted = self.outputs if end is None else self.top_names[end]
        names = dict.fromkeys([*wanted, *(blobs or ())])
        found = [self.blobs[name] for name in names]
        self._give(inputs, self.inputs, "input", "data")
        self._forward(first, last)
        return {name: blob.data for name, blob in zip(names, found, strict=True)}

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **tops: np.ndarray) -> dict[str, np.ndarray]:
        """Run the layers' Backward from `start` down to `end`, inclusive; None means the last or the first layer.

        Parameters' diffs accumulate until ``clear_param_diffs``; blobs' diffs are overwritten.

        Args:
            diffs: Names of blobs whose diffs to return besides the inputs', or besides those of the bottoms of `end`.
            start: The name of the layer to begin with, the uppermost.
            end: The name of the layer to end with.
            tops: Diffs of all outputs by name, float32 in the blobs' shapes. Without them, the diffs in the blobs are
                used; a loss has its loss_weight there.

        Returns:
            Name -> view of the blob's diff, float32 in the blob's shape.

        Raises:
            InputError, KeyError, ValueError, RuntimeError: As for ``forward``.
        """
        first, last = self._range(start, end, len(self._steps) - 1, 0)
        wanted = self.inputs if end is None else self.bottom_names[end]
        names = dict.fromkeys([*wanted, *(diffs or ())])
        found = [self.blobs[name] for name in names]
        self._give(tops, self.outputs, "output", "diff")
        self._backward(first, last)
        return {name: blob.diff for name, blob in zip(names, found, strict=True)}

    def _range(self, start: str | None, end: str | None, first: int, last: int) -> tuple[int, int]:
        at = [default if name is None else self._layer_index(name)
              for name, default in ((start, first), (end, last))]
        return at[0], at[1]

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            near = did_you_mean(str(name), self._layer_names) or f"; it has {shorten_list(self._layer_names)}"
            raise NameOfLayerError(f"the network has no layer {name!r}{near}")
        return self._layer_names.index(name)

    def _give(self, values: Mapping[str, np.ndarray], names: Sequence[str], what: str, to: str) -> None:
        """Write values that the caller gives into the blobs' data or diffs."""
        if values and set(values) != set(names):
            raise InputError(f"{what}s {shorten_list(list(values))} are given; the network's {what}s are "
                             f"{shorten_list(list(names)) or 'none'}, and all of them or none must be given")
        for name, value in values.items():
            array = getattr(self.blobs[name], to)
            if np.shape(value)[:1] != array.shape[:1]:
                raise InputError(f"{what} {name!r} has shape {np.shape(value)}, and its blob {array.shape}; the batch "
                                 f"sizes differ: reshape the blob first, net.blobs[{name!r}].reshape(...)")
            array[...] = value

    def _forward(self, start: int, end: int) -> float:
        """Run the steps from one index to another, both included; returns the loss, as Caffe's ForwardFromTo."""
        self._push_parameters()
        losses: list[tuple[float, Tensor]] = []
        with as_pycaffe():
            for i in range(start, end + 1):
                self._call("before_forward", i)
                losses += self._passes.forward(i)
                self._call("after_forward", i)
        self.torch.remember({name: blob.data_memory.tensor for name, blob in self.blobs.items()
                             if blob.data_memory.tensor is not None}, losses)
        return sum(weight * float(value.detach().sum()) for weight, value in losses)

    def _backward(self, start: int, end: int) -> None:
        """Run the steps' Backward from one index down to another, both included."""
        self._push_parameters()
        with as_pycaffe():
            for i in range(start, end - 1, -1):
                self._call("before_backward", i)
                self._passes.backward(i)
                self._call("after_backward", i)

    def _push_parameters(self) -> None:
        """On a GPU: copy values that the script wrote into parameters to the module."""
        device = settings.current.device()
        parameter = next(self.torch.parameters(), None)
        if parameter is not None and parameter.device != device:
            self.torch.to(device)
        if device.type == "cuda":
            for blob in (blob for blobs in self.params.values() for blob in blobs):
                blob.data_memory.push()
                blob.diff_memory.push()

    # --- callbacks --------------------------------------------------------------------------------------------------

    def _call(self, when: str, layer: int) -> None:
        for callback in self._callbacks[when]:
            callback(layer)

    def before_forward(self, run: _Callback) -> None:
        """Call `run(index of the layer)` before each layer's forward."""
        self._callbacks["before_forward"].append(run)

    def after_forward(self, run: _Callback) -> None:
        """Call `run(index of the layer)` after each layer's forward."""
        self._callbacks["after_forward"].append(run)

    def before_backward(self, run: _Callback) -> None:
        """Call `run(index of the layer)` before each layer's Backward."""
        self._callbacks["before_backward"].append(run)

    def after_backward(self, run: _Callback) -> None:
        """Call `run(index of the layer)` after each layer's Backward."""
        self._callbacks["after_backward"].append(run)

    # --- batches ----------------------------------------------------------------------------------------------------

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run any number of items in batches of the network's size.

        The last batch is filled up with zeros, whose results are dropped.

        Args:
            blobs: Names of blobs to return besides the outputs.
            inputs: Values of all inputs by name, (n, ...) float32 for any n.

        Returns:
            Name -> (n, ...) float32.
        """
        names = dict.fromkeys([*self.outputs, *(blobs or ())])
        collected: dict[str, list[np.ndarray]] = {name: [] for name in names}
        count = item_count(inputs)
        for batch in batches(inputs, self._batch_size()):
            for name, values in self.forward(blobs, None, None, **batch).items():
                collected[name].extend(values.copy())
        return {name: np.asarray(values[:count]) for name, values in collected.items()}

    def forward_backward_all(self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None,
                             **values: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run any number of items forward and backward, in batches of the network's size.

        Args:
            blobs: Names of blobs to return besides the outputs.
            diffs: Names of blobs whose diffs to return besides the inputs'.
            values: Values of all inputs and, optionally, diffs of the outputs by name, (n, ...) float32 for any n.

        Returns:
            Blobs and diffs, each name -> (n, ...) float32.
        """
        all_blobs: dict[str, list] = {name: [] for name in dict.fromkeys([*self.outputs, *(blobs or ())])}
        all_diffs: dict[str, list] = {name: [] for name in dict.fromkeys([*self.inputs, *(diffs or ())])}
        count = item_count(values)
        forwards = batches({name: values[name] for name in self.inputs if name in values}, self._batch_size())
        backwards = batches({name: values[name] for name in self.outputs if name in values}, self._batch_size())
        nothing: dict[str, Any] = {}
        for up, down in zip_longest(forwards, backwards, fillvalue=nothing):
            for found, collected in ((self.forward(blobs=blobs, **up), all_blobs),
                                     (self.backward(diffs=diffs, **down), all_diffs)):
                for name, array in found.items():
                    collected[name].extend(array.copy())
        return ({name: np.asarray(items[:count]) for name, items in all_blobs.items()},
                {name: np.asarray(items[:count]) for name, items in all_diffs.items()})

    def _batch_size(self) -> int:
        return next(iter(self.blobs.values())).shape[0]

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Let the first layer, a MemoryData, read these arrays.

        Args:
            data: (n, C, H, W) float32, C-contiguous.
            labels: n values, float32, C-contiguous.

        Raises:
            RuntimeError: The first layer is of another type, or the arrays do not fit it.
        """
        layer = self._steps[0].layer
        if layer.spec.type != "MemoryData":
            raise RuntimeRmpeError(f"set_input_arrays needs a first layer of type MemoryData; it is {layer.spec.type}")
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        for what, array in (("data", data), ("labels", labels)):
            if array.ndim != 4 or array.dtype != np.float32 or not array.flags.c_contiguous:
                raise RuntimeRmpeError(f"the {what} array has {array.ndim} axes of {array.dtype}; expected 4 axes of "
                                       "float32, C-contiguous")
        with as_pycaffe():
            layer.reset(data, labels)

    # --- shapes and parameters --------------------------------------------------------------------------------------

    def reshape(self) -> None:
        """Reshape every layer for its bottoms, for example after ``net.blobs[...].reshape(...)``."""
        with as_pycaffe():
            for step in self._steps:
                if step.bottom or step.layer.spec.type == "Python":
                    reshape_step(step, tuple(self.blobs[name].shape for name in step.bottom))
                    for name, shape in zip(step.top, step.top_shapes, strict=True):
                        self.blobs[name].reshape(*shape)

    def clear_param_diffs(self) -> None:
        """Set the parameters' diffs to 0."""
        for blob in (blob for blobs in self.params.values() for blob in blobs):
            blob.diff_memory.read().zero_()

    def copy_from(self, trained: str | PathLike) -> None:
        """Copy the weights of a file into the layers with the same names; other layers do not change.

        Raises:
            RuntimeError: The file cannot be read, or its blobs do not fit a layer.
        """
        self._push_parameters()
        with as_pycaffe():
            path = file_path("net.copy_from: the file", trained)
            for name in self._copy_trained(read_trained(path, [step.layer.spec for step in self._steps])):
                log.info("Ignoring source layer %s", name)

    load_hdf5 = copy_from

    def _copy_trained(self, layers: Sequence[TrainedLayer]) -> list[str]:
        """Copy weights, those of added blobs too; returns the names of layers that the network lacks."""
        added = self._added()
        return copy_trained(self.torch, [_without_added(stored, added.get(stored.name, [])) for stored in layers])

    def share_with(self, other: Net) -> None:
        """Use another network's parameters in the layers with the same names, without a copy.

        Raises:
            ArgumentError: `other` is not a caffe.Net.
            RuntimeError: A layer's parameters have other shapes.
        """
        from rmpe_legacy.caffe.solver.solver import share_trained

        if not isinstance(other, Net):
            raise ArgumentError(f"net.share_with takes a caffe.Net, not {type(other).__name__}")
        with as_pycaffe():
            share_trained(self.torch, other.torch)

    def save(self, path: str | PathLike) -> None:
        """Write a .caffemodel, byte for byte as Caffe does; the file appears whole or not at all."""
        from rmpe_legacy.caffe.solver.snapshot import write_weights

        self._push_parameters()
        with as_pycaffe():
            write_weights(path, self.torch, added=self._added())

    def save_hdf5(self, path: str | PathLike) -> None:
        """Write a .caffemodel.h5; the file appears whole or not at all."""
        from rmpe_legacy.caffe.solver.snapshot import write_weights_hdf5

        self._push_parameters()
        with as_pycaffe(), all_or_none(path) as [place]:
            write_weights_hdf5(place, self.torch, added=self._added())

    def _added(self) -> dict[str, list[np.ndarray]]:
        """What a script has added by ``net.params[...].add_blob``, by layer."""
        found = {step.layer.spec.name: [blob.data for blob in view.blobs[len(step.layer.declared):]]
                 for step, view in zip(self._steps, self.layers, strict=True)}
        return {name: arrays for name, arrays in found.items() if arrays}



_FIXED = frozenset({"blobs", "params", "layers", "layer_dict", "inputs", "outputs", "top_names", "bottom_names",
                    "torch"})


def layer_type_list() -> list[str]:
    """Return the layer types of the current dialect; for "auto", those of all dialects."""
    dialect = settings.current.dialect
    return [name for name in known_types() if dialect == AUTO or forms_in(name, load_schema(dialect))]


def _arguments(args: Sequence[Any], phase: int | None, level: int, stages: Sequence[str] | None,
               weights: Any) -> tuple[int, int, Sequence[str] | None, Any]:
    """phase, level, stages and weights from either signature."""
    given = list(args)
    if given and not isinstance(given[0], int):  # Net(prototxt, weights, phase)
        weights = given.pop(0)
        fits = len(given) + (phase is not None) == 1
    else:
        fits = len(given) <= 4 and bool(given) == (phase is None)
    if fits and given:
        rest: list[Any] = [phase, level, stages, weights]
        phase, level, stages, weights = [*given, *rest[len(given):]]
    if not fits or isinstance(phase, bool) or phase not in (TRAIN, TEST):
        raise ArgumentError("caffe.Net takes (prototxt, phase, level=0, stages=None, weights=None) or (prototxt, "
                            "weights, phase), with a phase of caffe.TRAIN or caffe.TEST")
    return phase, level, stages, weights


def _without_added(stored: TrainedLayer, added: Sequence[np.ndarray]) -> TrainedLayer:
    """Copy a layer's last stored blobs into the arrays that a script has added to it; returns the others."""
    if not added or not stored.blobs:
        return stored
    for array, blob in zip(reversed(added), reversed(stored.blobs), strict=False):
        if blob is None or tuple(blob.shape) != array.shape:
            raise RuntimeRmpeError(f"layer {stored.name!r}: the weights do not hold the {shape_text(array.shape)} of a "
                                   "blob that was added to it; load them before adding one")
        array[...] = np.reshape(blob.data, array.shape)
    return replace(stored, blobs=stored.blobs[:-len(added)])
