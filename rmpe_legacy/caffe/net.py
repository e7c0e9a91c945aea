"""Networks: layers run in file order, blobs and shared parameters by name, gradients as in Caffe.

Source: Net::Init, ForwardFromTo, BackwardFromTo (net.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import rmpe_legacy
from rmpe_legacy.errors import LayerError, NetError
from rmpe_legacy.reading import first_line
from rmpe_legacy.text_table import WIDTH, text_table
from rmpe_legacy.wording import call_of_net, did_you_mean, html_text, one_line, printable, shorten, utf8

from .layers.base import Shape, shape_text, shapes_text
from .layers.gradient import overwrite, rewritten, share
from .params import make_params
from .proto.blobs import TrainedLayer
from .spec import LayerSpec
from .step import Step, blobs_text, outputs_of, run_single, run_step
from .wiring import wire

# Whether somebody watches all modules of the process. If a version of torch cannot tell, somebody may.
_has_any_global_hook = getattr(nn.modules.module, "_has_any_global_hook", lambda: True)


@dataclass
class LeftOut:
    """What was left out of a network; each entry is a sentence."""

    fields: list[str] = field(default_factory=list)  # unknown fields and values
    layers: list[str] = field(default_factory=list)  # unknown types, and what depends on them
    weights: list[str] = field(default_factory=list)  # layers without weights, weights without a layer
    untrained: list[str] = field(default_factory=list)  # names of the layers without weights in the file

    def __iter__(self) -> Iterator[str]:
        yield from self.fields + self.layers + self.weights


class Blobs(dict[str, Tensor]):
    """The blobs of the last forward, by Caffe's names. The error for a missing blob says how to keep it."""

    def __missing__(self, name: str) -> Tensor:
        raise NetError(f"blob {name!r} of the last forward is not available; it was not kept, or the network has no "
                       "such blob: set net.keep_blobs = True, then run it")


class Record:
    """Values that a Net keeps from its last forward. Copies and pickles of it are empty.

    It contains tensors of the autograd graph, which torch cannot copy. If a Net contained them directly, it could not
    be copied, averaged or exported after a forward with gradients.
    """

    def __init__(self, blobs: Mapping[str, Tensor] = {}):
        self.blobs = Blobs(blobs)
        self.inputs = dict(blobs)  # what was given, and what layers without bottoms made
        self.first: dict[str, Tensor] = {}  # each blob as its first writer left it; its gradient is the blob's diff
        self.losses: list[tuple[float, Tensor]] = []  # with their loss_weight

    def __reduce__(self) -> tuple:
        return Record, ()


class Net(nn.Module):
    """A Caffe network as a torch module, built by ``load_net``.

    ``net(data=tensor)``, or ``net(tensor)`` if there is a single input, returns a dict: output blob -> Tensor, in
    Caffe's (alphabetical) order.

    Gradients are those of Caffe's Backward: every parameter whose lr_mult is not 0 receives one, and inputs do if
    ``force_backward`` is set (in the prototxt, or by ``net.force_backward = True``) or a layer requests it with
    propagate_down.
    """

    def __init__(self, specs: Sequence[LayerSpec], trained: Iterable[TrainedLayer] | None = None, name: str = "",
                 force_backward: bool = False, keep_blobs: bool = False, incomplete: frozenset[str] = frozenset()):
        super().__init__()
        self.name = name
        self.force_backward = force_backward
        self.keep_blobs = keep_blobs
        self.left_out = LeftOut()
        self.dialect = specs[0].message.descriptor.schema.name if specs else ""
        self.notes: tuple[str, ...] = ()  # what another dialect would compute in another way
        self._record = Record()
        self.params: dict[str, list[nn.Parameter]] = {}
        self.loss_weights: dict[str, float] = {}
        self.inputs: dict[str, Shape] = {}
        self.outputs: tuple[str, ...] = ()
        self._diff_of: dict[str, str] = {}  # blob -> the blob whose diff it shares, through Reshape and similar layers
        self.steps = wire(specs)
        self._sources = {top: step for step in self.steps if not step.bottom for top in step.top}
        for step, name in zip(self.steps, module_names([s.layer.spec.name for s in self.steps]), strict=True):
            self.add_module(name, step.layer)
            self._adopt(step)
        self.outputs = tuple(name for name in outputs_of(self.steps) if name not in incomplete)
        self._make_params(None if trained is None else {layer.name: layer for layer in trained})
        self.plan()

    # --- building -------------------------------------------------------------------------------------------

    def _adopt(self, step: Step) -> None:
        """Register a layer's inputs and losses."""
        spec = step.layer.spec
        if spec.type == "Input":
            self.inputs |= dict(zip(step.top, step.top_shapes, strict=True))
        weights = spec.loss_weight or ((1.0,) if step.layer.is_loss else ())
        if spec.loss_weight and len(weights) != len(step.top):
            raise spec.error(f"loss_weight is given {len(weights)} times for {len(step.top)} tops; "
                             "give it once per top, or not at all")
        self.loss_weights |= {top: w for top, w in zip(step.top, weights, strict=False) if w}

    def _make_params(self, trained: Mapping[str, TrainedLayer] | None) -> None:
        """Create, load and share the parameters."""
        self.params, bare = make_params(self.steps, trained)
        if trained is not None:
            self._report_weights(trained, bare)

    def _report_weights(self, trained: Mapping[str, TrainedLayer], bare: list[str]) -> None:
        here = {step.layer.spec.name for step in self.steps}
        unused = [name for name, layer in trained.items() if name not in here and layer.blobs]
        self.left_out.untrained = bare
        if bare:
            self.left_out.weights.append(f"the weights file has nothing for {', '.join(bare)}, which keep the "
                                         "values of their fillers")
        if unused:
            self.left_out.weights.append(f"the network has no layer {', '.join(unused)}: these weights are not used")
        if bare:
            warnings.warn(self.left_out.weights[0], stacklevel=5)

    def plan(self) -> None:
        """Determine when each blob can be freed, and which bottoms receive no gradient."""
        last: dict[str, int] = {}
        outputs = set(self.outputs)
        for i, step in enumerate(self.steps):
            last |= dict.fromkeys((*step.bottom, *step.top), i)
        for i, step in enumerate(self.steps):
            names = dict.fromkeys((*step.bottom, *step.top))
            step.free = tuple(n for n in names if last[n] == i and n not in outputs)
        self._plan_memory()
        for step in self.steps:
            step.is_plain = bool(step.bottom) and not step.alters
            step.is_single = step.is_plain and len(step.bottom) == len(step.top) == 1
        learned: set[str] = set()  # blobs that depend on a learnt parameter
        for step in self.steps:
            layer, spec = step.layer, step.layer.spec
            wanted = spec.propagate_down or [True] * len(spec.bottom)
            step.cut = tuple(i for i, name in enumerate(step.bottom)
                             if not wanted[i] or (i in layer.unforced and name not in learned))
            step.cut_if_forced = tuple(
                i for i, name in enumerate(step.bottom)
                if i in layer.unforced and not (spec.propagate_down[i] if spec.propagate_down else name in learned))
            if any(layer.learns(i) for i in range(len(layer.declared))) or learned & set(step.bottom):
                learned |= set(step.top)

    def _plan_memory(self) -> None:
        """Find blobs that share memory under several names, so that in-place layers on one change the others."""
        together: dict[str, set[str]] = {}
        for step in self.steps:
            if step.layer.shares_diff:
                self._diff_of |= {top: self._diff_of.get(step.bottom[0], step.bottom[0]) for top in step.top}
            if step.layer.shares_data:
                group = together.setdefault(step.bottom[0], {step.bottom[0]})
                group.update(step.top)
                together |= dict.fromkeys(step.top, group)
            elif in_place := set(step.top) & set(step.bottom):
                step.alters = tuple(sorted(set().union(*(together.get(top, ()) for top in in_place)) - in_place))

    # --- running --------------------------------------------------------------------------------------------

    def forward(self, inputs: Mapping[str, Tensor] | Tensor | None = None, /, **named: Tensor) -> dict[str, Tensor]:
        """Run the network.

        Values are converted to the parameters' dtype and device. An input may have another size than in the prototxt;
        the layers are then reshaped as in Caffe.

        Args:
            inputs: name -> Tensor as one mapping, or the network's only input. Inputs can also be given by keyword.

        Returns:
            Output blob -> Tensor, in alphabetical order.

        Raises:
            NetError, LayerError: The inputs do not fit.
        """
        fed = self.bind(inputs, named)
        record = Record(fed)
        blobs = record.blobs
        keep, gradients, compiles = self.keep_blobs, torch.is_grad_enabled(), torch.compiler.is_compiling()
        if keep and gradients:
            record.first = dict(fed)
            for blob in fed.values():
                if blob.requires_grad:
                    blob.retain_grad()
        quick = not (gradients or self.loss_weights or compiles or _has_any_global_hook())
        for step in self.steps:
            if quick and step.is_single:  # a small network would spend half of its time on what other steps need
                blobs[step.top[0]] = run_single(step, blobs[step.bottom[0]])
            elif quick and step.is_plain:
                blobs.update(zip(step.top, run_step(step, [blobs[name] for name in step.bottom], quick), strict=True))
            elif not step.bottom and step.top and step.top[0] in fed:
                continue  # an input layer, or a data layer whose tops the caller gives
            else:
                self._advance(step, blobs, fed, record)
            if not keep:
                for name in step.free:
                    del blobs[name]
        if keep and not gradients:
            record.first = dict(blobs)
        if not (compiles and torch.compiler.is_exporting()):  # its tensors have no values
            object.__setattr__(self, "_record", record)  # a Module's own looks for parameters and modules first
        return {name: blobs[name] for name in self.outputs}

    def _advance(self, step: Step, blobs: dict[str, Tensor], fed: Mapping[str, Tensor], record: Record) -> None:
        """Run a step and store its tops, with all that gradients, losses and blobs that share memory need."""
        bottoms = [blobs[name] for name in step.bottom]
        gradients = torch.is_grad_enabled()
        refused = self._gate(step, bottoms, fed) if gradients else []
        tops = run_step(step, bottoms)
        if refused:
            _refuse(step, tops, refused)
        if not step.bottom:
            record.inputs |= zip(step.top, tops, strict=True)
        for name, top in zip(step.top, tops, strict=True):
            if self.keep_blobs and gradients and name not in record.first:
                record.first[name] = top
                if top.requires_grad:
                    top.retain_grad()
            if name in blobs:  # in place: later readers of the blob, or of one that shares its memory, see this
                overwrite(blobs[name], top)
                for other in step.alters:
                    if other in blobs:
                        blobs[other] = rewritten(blobs[other], top)
            elif step.layer.shares_data:
                share(blobs[step.bottom[0]], top)
            blobs[name] = top
            if name in self.loss_weights:
                record.losses.append((self.loss_weights[name], top))

    def bind(self, inputs: Any, named: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the inputs of a call by name, as tensors of the parameters' dtype and device.

        Args:
            inputs: What was passed by position: a mapping of names to tensors, or the network's only input.
            named: What was passed by keyword.

        Returns:
            Input blob -> Tensor, with the shapes that were passed.

        Raises:
            NetError: The inputs do not fit the network.
        """
        given = self._named(inputs)
        return self._feed({**given, **named} if named else given)

    def compiled(self, engine: str = "torch", verify: bool = True, blobs: Sequence[str] = (),
                 without: Collection[str] = ()) -> Any:
        """Prepare the network for fast inference, and prove that it still gives this network's results.

        The weights are those of now; later changes have no effect on what is returned.

        Args:
            engine: "torch", "inductor", "onnxruntime" or "openvino"; "auto" is the fastest of those installed, measured
                once per network, input size and machine; "exact" is this network as it is.
            verify: Compare the engine with this network, and refuse it beyond 1e-4 of a blob's range.
            blobs: Further blobs to return beside the outputs.
            without: Passes of "torch" and "inductor" to leave out: see docs/engines.md.

        Returns:
            A ``rmpe_legacy.engines.CompiledNet``: a callable with the call forms, inputs and outputs of this network.

        Raises:
            NetError, LayerError: The engine cannot run the network, or gives other results.
            RmpeError: The engine is unknown, or its library is not installed.
        """
        return rmpe_legacy.compile_net(self, engine, verify, blobs, without)

    def _named(self, inputs: Any) -> Mapping[str, Any]:
        """Return the positional argument of a call by name."""
        if inputs is None:
            return {}
        if isinstance(inputs, Mapping):
            return inputs
        if len(self.inputs) != 1:
            names = list(self.inputs) or list(self._sources)
            raise NetError(f"a value without a name needs a network with a single input, and this one has "
                           f"{len(self.inputs)}; give them by name: {call_of_net(names)}")
        return dict.fromkeys(self.inputs, inputs)

    def _feed(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if given.keys() != self.inputs.keys():
            self._check_names(given)
        param = self._first_parameter()
        return {name: _as_input(name, value, param) for name, value in given.items()}

    def _check_names(self, given: Mapping[str, Tensor]) -> None:
        """Raise a NetError if inputs are unknown or missing."""
        sources = self._sources
        if unknown := [name for name in given if name not in sources]:
            meant = did_you_mean(str(unknown[0]), sources)
            raise NetError(f"no input {_listed(unknown)}{meant}; this network's inputs are {_listed(self.inputs)}")
        if missing := [name for name in self.inputs if name not in given]:
            raise NetError(f"input {_listed(missing)} is missing; give each as a tensor: {call_of_net(self.inputs)}")
        for name in given:
            if lacking := [top for top in sources[name].top if top not in given]:
                raise NetError(f"input {name!r} is given, but not {_listed(lacking)} of the same layer "
                               f"{sources[name].layer.spec.name!r}; give all its tops, or none")

    def _first_parameter(self) -> nn.Parameter | None:
        """Return the first of ``parameters()``, found without going through all modules."""
        for step in self.steps:
            for parameter in step.layer._parameters.values():
                if parameter is not None:
                    return parameter
        return next(self.parameters(), None)

    def _gate(self, step: Step, bottoms: list[Tensor], fed: Mapping[str, Tensor]) -> list[int]:
        """Cut the gradient where Caffe computes none, and return the bottoms whose gradient Caffe refuses."""
        asked = step.layer.spec.propagate_down
        cut = step.cut_if_forced if self.force_backward else step.cut
        for i, name in enumerate(step.bottom):
            if not bottoms[i].requires_grad:
                continue
            closed = name in fed and bottoms[i] is fed[name] and not self.force_backward and not (asked and asked[i])
            if closed:
                warnings.warn(f"input {name!r} requires a gradient, but the network has no force_backward: true, so "
                              "Caffe computes none for it; set net.force_backward = True to get it", stacklevel=5)
            if closed or i in cut:
                bottoms[i] = bottoms[i].detach()
        return [i for i in step.layer.refuses if i < len(bottoms) and bottoms[i].requires_grad]

    def remember(self, blobs: Mapping[str, Tensor], losses: Sequence[tuple[float, Tensor]]) -> None:
        """Set `blobs` and `loss`, for a caller that runs the steps itself.

        Args:
            blobs: Blob -> Tensor, in the blobs' shapes.
            losses: (loss_weight, value) of each top that has a loss weight; a value may have any shape.
        """
        self._record = Record()
        self._record.blobs, self._record.losses = Blobs(blobs), list(losses)

    def loss(self) -> Tensor:
        """Return the loss that Caffe's training minimises: the last forward's losses times their loss_weight, summed.

        Returns:
            A scalar Tensor with a gradient, in the parameters' dtype.

        Raises:
            NetError: The last forward had no loss.
        """
        losses = self._record.losses
        if not losses:
            raise NetError("the last forward had no loss; a loss layer, or a layer with a loss_weight, produces one")
        first, *others = (weight * value.sum() for weight, value in losses)
        return sum(others, first)

    @property
    def blobs(self) -> Blobs:
        """The blobs of the last forward: all of them with keep_blobs, otherwise those that no layer reads."""
        return self._record.blobs

    @property
    def last_inputs(self) -> dict[str, Tensor]:
        """The values that the last forward began with: blob -> Tensor, in the blobs' shapes.

        ``net(net.last_inputs)`` runs it again, without reading new data.
        """
        return dict(self._record.inputs)

    @property
    def diffs(self) -> dict[str, Tensor]:
        """Return each kept blob's diff after a backward, in the blob's shape; zero if it received no gradient.

        Requires keep_blobs. A blob that layers change in place has the gradient of its first value, as in Caffe's
        memory; so does a blob that shares another blob's memory in another shape.
        """
        diffs = {name: torch.zeros_like(blob) if blob.grad is None else blob.grad
                 for name, blob in self._record.first.items()}
        return {name: diffs[self._diff_of.get(name, name)].view(diff.shape) for name, diff in diffs.items()}

    def __repr__(self) -> str:
        """The layers of the file: name, type, bottoms -> tops with shapes, shapes of the parameters."""
        return "\n".join([f"Net {self.extra_repr()}", *(f"  {line}" for line in text_table(self._rows(), WIDTH - 2))])

    def _repr_html_(self) -> str:
        """Notebooks show the same as a table."""
        head, *rows = ("".join(f"<td>{html_text(cell)}</td>" for cell in row) for row in self._rows())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (f"<details open><summary>Net {html_text(self.extra_repr())}</summary><table><thead><tr>"
                f"{head.replace('td>', 'th>')}</tr></thead><tbody>{body}</tbody></table></details>")

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("layer", "type", "blobs", "parameters")]
        for step in self.steps:
            spec = step.layer.spec
            if not spec.is_inserted:
                parameters = ", ".join(shape_text(declared.shape) for declared in step.layer.declared)
                rows.append(tuple(map(one_line, (spec.name, spec.type, blobs_text(step), parameters))))
        return rows

    def extra_repr(self) -> str:
        return printable(f"{self.name or 'unnamed'}: {shapes_text(self.inputs)} -> {', '.join(self.outputs)}")


def module_names(layers: Sequence[str]) -> list[str]:
    """Make layer names valid for torch: UTF-8, no dots, not empty, unique, and not an attribute of Net."""
    taken = set(_own_names()) if layers else set()
    repeated: dict[str, int] = {}  # name -> number for the next layer of this name
    names = []
    for layer in layers:
        name = base = utf8(layer).replace(".", "_") or "unnamed"
        while name in taken:
            n = repeated[base] = repeated.get(base, 1) + 1
            name = f"{base}_{n}"
        taken.add(name)
        names.append(name)
    return names


@cache
def _own_names() -> frozenset[str]:
    return frozenset(dir(Net(())))


def _listed(names: Iterable[Any]) -> str:
    """List quoted names, shortened if there are many; "none" if there are none."""
    return shorten(", ".join(map(repr, names)), 500) or "none"


def _as_input(name: str, value: Any, like: Tensor | None) -> Tensor:
    """Convert an input to a floating-point tensor with the dtype and device of `like`."""
    if isinstance(value, Tensor) and like is not None and value.dtype is like.dtype and value.device == like.device:
        return value
    try:
        value = torch.as_tensor(value)
        if value.is_complex():
            raise TypeError("Caffe has no complex numbers")
        if like is not None:
            return value.to(like.device, like.dtype)
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError) as error:
        raise NetError(f"input {name!r} is a '{type(value).__name__}' object, not a tensor of numbers: "
                       f"{shorten(first_line(error), 300)}") from error


def _refuse(step: Step, tops: Sequence[Tensor], refused: list[int]) -> None:
    """Make a backward through these tops raise an error where Caffe aborts."""
    spec = step.layer.spec
    names = ", ".join(repr(step.bottom[i]) for i in refused)

    def stop(_grad: Tensor) -> LayerError:
        raise spec.error(f"cannot compute a gradient for its bottom {names}; set propagate_down: false for it, or "
                         "remove the parameters that learn below it")

    for top in tops:
        if top.requires_grad:
            top.register_hook(stop)
