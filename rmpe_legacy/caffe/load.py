"""``load_net``: builds a network from Caffe's files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from rmpe_legacy.errors import LayerError, NetError, RmpeError
from rmpe_legacy.wording import call_of_net, did_you_mean, shorten

from .choose_dialect import Layers, Reading, read_network
from .layers import registry
from .layers.unknown_data import FedPython
from .net import LeftOut, Net
from .proto.blobs import TrainedLayer
from .proto.message import Message
from .proto.upgrade import upgrade_net
from .spec import DE_TRANSFORM, PHASES, LayerSpec, NetState, insert_splits, layer_specs
from .step import Step
from .unknown import Finding, check_is_network, list_findings, unknown_fields
from .weights import read_trained
from .wiring import wire, wire_quietly

_WITHOUT_EFFECT = ("engine",)  # enums whose value changes no number
MAX_LAYERS = 20_000  # Differs: Caffe has no limit. Each layer takes a few kilobytes, however short its text is


def load_net(prototxt: str | PathLike, weights: str | PathLike | None = None, phase: str = "TEST", level: int = 0,
             stages: Sequence[str] = (), dialect: str = "auto", de_transform: str | None = None,
             strict: bool = True, keep_blobs: bool = False, allow_python: bool = False) -> Net:
    """Load a Caffe network from its prototxt and, optionally, its weights.

    Args:
        prototxt: A network of format V0, V1 or V2.
        weights: A .caffemodel, a .caffemodel.h5, or a .safetensors or .pt converted from one; matched by layer name.
        phase: "TEST" or "TRAIN"; with `level` and `stages`, selects layers by their include and exclude rules.
        level: See `phase`.
        stages: See `phase`.
        dialect: Whose fields, defaults and layer types to use: "rmpe", "ssd", "bvlc" or a fork that `rmpe dialects`
            lists. "auto" is the first of them that knows everything in the file. What other dialects would compute
            differently is in ``net.notes`` and a warning.
        de_transform: Meaning of ``de_transform: true`` of a SpatialTransformer: "paper" (the inverse of theta),
            "published-identity" or "published-ignored"; None means "paper", with a warning.
        strict: True raises one error that lists all unknown fields and layers. False leaves them out if the rest can
            still be computed, and reports them in ``net.left_out`` and a warning.
        keep_blobs: Keep every blob of a forward in ``net.blobs``.
        allow_python: Import the modules of layers of type "Python". They can run any code, so use this only for
            networks you trust.

    Returns:
        A torch.nn.Module; see ``Net``.

    Raises:
        FileError: A file is missing or damaged.
        PrototxtError: The prototxt cannot be parsed.
        NetError: The layers or the weights do not fit together.
        LayerError: A layer is not supported or its parameters are wrong.
    """
    parsed = read_net(prototxt, phase, level, stages, dialect, de_transform, strict, allow_python)
    net = parsed.build(None if weights is None else read_trained(weights, parsed.specs), keep_blobs)
    for note in parsed.notes:
        warnings.warn(note, stacklevel=2)
    if findings := parsed.findings + set_aside(net.steps):
        warnings.warn(list_findings(str(prototxt), "left out", findings), stacklevel=2)
    return net


def set_aside(steps: Iterable[Step]) -> list[Finding]:
    """Return the options that strict=False left out because they are not supported. They change no blob."""
    return [Finding(str(error), error.reason) for step in steps for error in step.layer.left_out]


@dataclass(frozen=True)
class ParsedNet:
    """A prototxt after upgrade, phase rules and splits, from which a Net is built."""

    name: str
    force_backward: bool
    specs: list[LayerSpec]
    findings: list[Finding]  # unknown fields and layers that were left out
    incomplete: frozenset[str]  # blobs that a left-out in-place layer would have changed
    message: Message  # the whole NetParameter in the current layout, before the phase rules
    # What another dialect would compute differently, fields without effect, and Python modules that are not imported
    notes: tuple[str, ...] = ()

    @property
    def dialect(self) -> str:
        """The name of the dialect it was read in."""
        return self.message.descriptor.schema.name

    @property
    def left_out(self) -> LeftOut:
        """What was left out, one sentence per field and layer."""
        return LeftOut([str(f) for f in self.findings if not f.is_layer], [str(f) for f in self.findings if f.is_layer])

    def wire(self) -> list[Step]:
        """Return the layers with the shapes of their blobs, without allocating the blobs.

        Raises:
            LayerError: A layer's parameters are wrong, or its bottoms do not fit.
        """
        try:
            return wire(self.specs)
        except LayerError as error:
            raise _with_suspects(error, self.specs, self.findings) from error.__cause__

    def build(self, trained: Iterable[TrainedLayer] | None = None, keep_blobs: bool = False) -> Net:
        """Build the network.

        Args:
            trained: Layers with their weights, matched by name; None initialises all parameters by their fillers.
            keep_blobs: Keep every blob of a forward in ``net.blobs``.

        Raises:
            LayerError: A layer's parameters are wrong, or its bottoms or weights do not fit. The message also names
                what was left out before the layer.
        """
        try:
            net = Net(self.specs, trained, self.name, self.force_backward, keep_blobs, self.incomplete)
        except LayerError as error:
            raise _with_suspects(error, self.specs, self.findings) from error.__cause__
        left_out = self.left_out
        left_out.fields += map(str, set_aside(net.steps))
        left_out.weights, left_out.untrained = net.left_out.weights, net.left_out.untrained
        net.left_out = left_out
        net.dialect, net.notes = self.dialect, self.notes
        return net


def read_net(prototxt: str | PathLike, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
             dialect: str = "auto", de_transform: str | None = None, strict: bool = True,
             allow_python: bool | None = False, until: Sequence[str] = ()) -> ParsedNet:
    """Read a prototxt down to the layers of one phase; arguments and errors as for ``load_net`` and ``parse_net``."""
    reading = read_message(prototxt, phase, level, stages, dialect, strict, de_transform=de_transform,
                           allow_python=allow_python)
    parsed = parse_net(reading.message, phase, level, stages, de_transform, strict, allow_python, until, reading.layers)
    return replace(parsed, notes=(*reading.notes, *_not_imported(parsed.specs)))


def _not_imported(specs: Iterable[LayerSpec]) -> Iterator[str]:
    """Yield a note about each Python layer that makes data, but whose module is not imported."""
    for spec in specs:
        if registry.class_of(spec) is FedPython:
            module, tops = shorten(spec.get("python_param").module), call_of_net(spec.top)
            yield str(spec.error(f"its Python module '{module}' is not imported, so pass its tops: {tops}; or allow "
                                 "the module with allow_python=True (--allow-python)"))


def read_message(prototxt: str | PathLike, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
                 dialect: str = "auto", strict: bool = True, **settings: Any) -> Reading:
    """Read a prototxt in a dialect; "auto" chooses it from the file's content.

    Args:
        prototxt: As for ``load_net``, and the others too.
        settings: As for ``layer_spec``, for the layers of ``Reading.layers``.

    Raises:
        FileError, PrototxtError, NetError: As for ``load_net``.
    """

    def specs_of(net: Message) -> list[LayerSpec]:
        return layer_specs(net, net_state(net, phase, level, stages), strict=strict, **settings)

    return read_network(prototxt, dialect, strict, specs_of)


def parse_net(message: Message, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
              de_transform: str | None = None, strict: bool = True, allow_python: bool | None = False,
              until: Sequence[str] = (), layers: Layers | None = None) -> ParsedNet:
    """Select and check the layers of a NetParameter that is already in memory.

    Args:
        message: The NetParameter, in any of the layouts V0, V1 and V2.
        phase: As for ``load_net``.
        level: As for ``load_net``.
        stages: As for ``load_net``.
        de_transform: As for ``load_net``.
        strict: As for ``load_net``.
        allow_python: As for ``load_net``. None does not import modules either, but refuses a Python layer only when it
            is built, for callers that only need the layers' parameters.
        until: Keep only the layers that these blobs depend on, and ignore unknown fields of the others.
        layers: The message in the current layout and the specs of its layers, where they have been made already.

    Raises:
        NetError: No layers are left, fields or layers are unknown, or no layer computes a blob of `until`.
        LayerError: A layer is malformed.
    """
    _check_choice("phase", phase, PHASES)
    _check_choice("de_transform", de_transform, (None, *DE_TRANSFORM))
    check_is_network(message)
    path = message.origin.path
    net, specs = layers or (upgrade_net(message), [])
    state = net_state(net, phase, level, stages)
    if len(net.layer) > MAX_LAYERS:
        raise NetError(f"{path}: has {len(net.layer)} layers; at most {MAX_LAYERS} are supported")
    if layers is None:
        specs = layer_specs(net, state, de_transform=de_transform, strict=strict, allow_python=allow_python)
    if until:
        specs, net = _up_to(specs, net, until)
    findings = unknown_fields(net)
    errors = {id(spec.message): error for spec in specs if (error := registry.unsupported(spec)) is not None}
    if strict and (findings or errors):
        raise _not_loaded(path, findings, list(errors.values()))
    incomplete: frozenset[str] = frozenset()
    if not strict:
        specs, findings, incomplete = _what_is_left(specs, findings, errors)
    if not specs and findings:
        raise NetError(list_findings(path, "left out, and no layer can be computed without them", findings))
    if not specs and not net.layer:
        raise NetError(f"{path}: has no layers; a network's prototxt is expected")
    if not specs:
        raise NetError(f"{path}: no layers in phase {phase}, level {level}, stages {list(state.stages)}")
    try:
        splits = insert_splits(specs)
    except LayerError as error:
        other = next(each for each in PHASES if each != phase)
        if not until and _fits(net, net_state(net, other, level, stages)):
            raise LayerError(f"{error}; the layers of phase {other} fit together (phase=\"{other}\", --phase {other})"
                             ) from None
        raise
    return ParsedNet(net.name, net.force_backward, splits, findings, incomplete, net)


def _fits(net: Message, state: NetState) -> bool:
    """Return whether every bottom of the layers in this state is a top of an earlier one."""
    try:
        return bool(insert_splits(layer_specs(net, state)))
    except RmpeError:
        return False


def _what_is_left(specs: Sequence[LayerSpec], findings: list[Finding], errors: Mapping[int, LayerError]
                  ) -> tuple[list[LayerSpec], list[Finding], frozenset[str]]:
    """Leave out what cannot be loaded or computed; `errors` as for `_computable`.

    Returns:
        The layers that are left; what was left out, after `findings`; and the blobs that a layer which was left out
        would have changed in place.
    """
    specs, fed = _feeding(specs, errors)
    specs, lost, incomplete = _computable(specs, errors)
    return _fitting(specs, findings + fed + lost, incomplete)


def _not_loaded(path: str, fields: Sequence[Finding], errors: Sequence[LayerError]) -> NetError:
    """Return the error that lists everything that prevents loading."""
    if fields or any(error.spec.type not in registry.known_types() for error in errors):
        verb = ("not known; load with strict=False (--lenient) to leave them out, choose another dialect, or register "
                "the layer (--plugin)")
    else:
        verb = "not available; load with strict=False (--lenient) to leave them out"
    made = NetError(list_findings(path, verb, [*fields, *map(Finding.of_layer, errors)]))
    made.__cause__ = next((error.__cause__ for error in errors if error.__cause__), None)
    return made


def net_state(net: Message, phase: str, level: int, stages: Sequence[str]) -> NetState:
    """Return the state that selects layers of an upgraded NetParameter: the caller's, plus the file's own stages."""
    return NetState(phase, level, (*net.state.stage, *stages))


def _check_choice(name: str, value: str | None, choices: tuple) -> None:
    if value not in choices:
        raise RmpeError(f"{name} {value!r} is not one of {', '.join(map(repr, choices))}")


def _up_to(specs: Sequence[LayerSpec], net: Message, blobs: Sequence[str]) -> tuple[list[LayerSpec], Message]:
    """Return the layers that blobs depend on, and the NetParameter with only those."""
    known = [top for spec in specs for top in spec.top]
    for blob in blobs:
        if blob not in known:
            raise NetError(f"no blob '{shorten(blob)}'{did_you_mean(blob, known)}; `rmpe show` lists them under top")
    kept = _needed(specs, blobs)
    messages = {id(spec.message) for spec in kept}
    return kept, net.replace(layer=[layer for layer in net.layer if id(layer) in messages])


def _needed(specs: Sequence[LayerSpec], blobs: Iterable[str]) -> list[LayerSpec]:
    """Return the layers that the final values of blobs depend on, including those that change them in place."""
    together: dict[str, set[str]] = {}  # blob -> blobs that may share its memory
    written = []
    for spec in specs:
        in_place = set(spec.top) & set(spec.bottom)
        written.append(set(spec.top).union(*(together.get(top, ()) for top in in_place)))
        if spec.bottom and registry.may_share_data(spec.type):
            group = together.setdefault(spec.bottom[0], {spec.bottom[0]})
            group.update(spec.top)
            together |= dict.fromkeys(spec.top, group)
    wanted, kept = set(blobs), []
    for spec, tops in zip(reversed(specs), reversed(written), strict=True):
        if wanted & tops:
            kept.append(spec)
            wanted |= set(spec.bottom)
    return kept[::-1]


def _feeding(specs: Sequence[LayerSpec], errors: Mapping[int, LayerError]) -> tuple[list[LayerSpec], list[Finding]]:
    """Keep data layers that cannot be loaded: the caller passes their tops. `errors` as for `_computable`."""
    fed, findings = [], []
    for spec in specs:
        error = errors.get(id(spec.message))
        if error is not None and spec.top and not spec.bottom:
            spec = replace(spec, is_fed=True)
            findings.append(Finding.of_layer(spec.error(
                f"{error.reason}; pass its tops instead: {call_of_net(spec.top)}")))
        fed.append(spec)
    return fed, findings


def _fitting(specs: list[LayerSpec], findings: list[Finding], incomplete: frozenset[str]
             ) -> tuple[list[LayerSpec], list[Finding], frozenset[str]]:
    """Leave out layers that do not take their bottoms, where that may be due to what was left out or assumed before.

    Any other error remains for the one who builds the network, as it would be Caffe's.
    """
    if not findings and all(spec.bottom or spec.type == "Input" for spec in specs):
        return specs, findings, incomplete  # nothing was left out or can be assumed, and wiring takes time
    resize = True  # once; what then fails is left out at the size that is assumed first
    while specs:
        try:
            wire_quietly(insert_splits(specs), resize)
            break
        except LayerError as error:
            told = _with_suspects(error, specs, findings)
            if error.spec is None or error.spec.is_fed or not (error.assumed or told is not error):
                break
            errors = {id(error.spec.message): told}
            specs, fed = _feeding(specs, errors)
            specs, lost, more = _computable(specs, errors)
            findings, incomplete, resize = findings + fed + lost, incomplete | more, False
        except RmpeError:
            break
    return specs, findings, incomplete


def _with_suspects(error: LayerError, specs: Sequence[LayerSpec], findings: Sequence[Finding]) -> LayerError:
    """Add to a layer's error which fields were left out of it and of the layers that it needs; itself if none were."""
    if error.spec is None:
        return error
    messages = [spec.message for spec in specs]
    before = specs[: next((i for i, message in enumerate(messages) if message is error.spec.message), 0)]
    behind = {id(error.spec.message), *(id(spec.message) for spec in _needed(before, error.spec.bottom))}
    suspects = [str(f) for f in findings if id(f.layer) in behind and not f.is_layer]
    if not suspects:
        return error
    more = f" (and {len(suspects) - 3} more)" if len(suspects) > 3 else ""
    return error.spec.error(f"{error.reason}; this may be caused by what was left out: "
                            f"{'; '.join(suspects[-3:])}{more}")


def _unknown_value(spec: LayerSpec) -> LayerError | None:
    """Return the error for an enum value that the dialect does not have, such as another pooling method."""
    for unknown in spec.message.unknowns():
        if unknown.is_value and unknown.name not in _WITHOUT_EFFECT:
            return spec.error(f"{unknown.owner}.{unknown.name} has no value {shorten(str(unknown.value))}")
    return None


def _computable(specs: Sequence[LayerSpec], errors: Mapping[int, LayerError]
                ) -> tuple[list[LayerSpec], list[Finding], frozenset[str]]:
    """Return the layers that can be computed, why the others cannot, and the blobs that these would write.

    errors: LayerParameter (by id) of each layer that cannot be loaded -> why. Layers that read the output of such a
    layer are left out too, and so is its blob if it works in place.
    """
    kept, findings = [], []
    lost: dict[str, str] = {}  # blob -> the layer it needs
    for spec in specs:
        error = None if spec.is_fed else errors.get(id(spec.message)) or _unknown_value(spec)
        needs = next((lost[b] for b in spec.bottom if b in lost), None)
        if error is not None:
            findings.append(Finding.of_layer(error))
        elif needs is not None:
            findings.append(Finding.of_layer(spec.error(f"needs {shorten(needs)}, which is left out"),
                                             "needs what is left out"))
        else:
            kept.append(spec)
            for top in spec.top:
                lost.pop(top, None)
            continue
        lost |= dict.fromkeys(spec.top, spec.name if needs is None else needs)
    return kept, findings, frozenset(lost)
