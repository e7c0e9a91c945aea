"""``load_net``: Caffe's files in, a running network out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.layers import registry
from rmpe_legacy.net import LeftOut, Net
from rmpe_legacy.proto.caffemodel import TrainedLayer
from rmpe_legacy.proto.message import Message
from rmpe_legacy.proto.text import read_text, suggest
from rmpe_legacy.proto.upgrade import upgrade_net
from rmpe_legacy.spec import DE_TRANSFORM, PHASES, LayerSpec, NetState, insert_splits, layer_specs
from rmpe_legacy.weights import read_trained


def load_net(prototxt: str | PathLike, weights: str | PathLike | None = None, phase: str = "TEST", level: int = 0,
             stages: Sequence[str] = (), dialect: str = "rmpe", de_transform: str | None = None,
             strict: bool = True, keep_blobs: bool = False) -> Net:
    """Build the network of a prototxt, with a caffemodel's weights if given: a torch.nn.Module.

    prototxt: a network of format V0, V1 or V2. weights: .caffemodel, .caffemodel.h5, or the .safetensors or .pt that
    were made of such; matched by layer name.
    phase ("TEST" or "TRAIN"), level and stages choose among the layers by their include and exclude rules.
    dialect: whose fields and defaults hold, "rmpe", "ssd" or "bvlc".
    de_transform: what ``de_transform: true`` of a SpatialTransformer shall mean: "paper" (the inverse of theta),
    "published-identity" or "published-ignored"; None is "paper", with a warning.
    strict: True raises one error that lists every field and layer that is not known; False leaves them out where
    the rest can still be computed, and reports them in ``net.left_out`` and a warning.
    keep_blobs: keep every blob of a forward in ``net.blobs``.

    Raises an RmpeError (FileError, PrototxtError, NetError, LayerError) whose message is the whole story.
    """
    parsed = read_net(prototxt, phase, level, stages, dialect, de_transform, strict)
    net = parsed.build(None if weights is None else read_trained(weights, parsed.specs), keep_blobs)
    if left_out := list(parsed.left_out):
        warnings.warn(_listing(str(prototxt), "left out", left_out), stacklevel=2)
    return net


@dataclass(frozen=True)
class ParsedNet:
    """A prototxt after upgrade, phase rules and splits: what a Net is made of."""

    name: str
    force_backward: bool
    specs: list[LayerSpec]
    left_out: LeftOut
    incomplete: frozenset[str]  # blobs that a left-out layer would have worked on further
    message: Message  # the whole NetParameter in today's layout, before the phase rules

    def build(self, trained: Iterable[TrainedLayer] | None = None, keep_blobs: bool = False) -> Net:
        """The network, with the weights if given."""
        net = Net(self.specs, trained, self.name, self.force_backward, keep_blobs, self.incomplete)
        net.left_out.fields, net.left_out.layers = self.left_out.fields, self.left_out.layers
        return net


def read_net(prototxt: str | PathLike, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
             dialect: str = "rmpe", de_transform: str | None = None, strict: bool = True) -> ParsedNet:
    """Read a prototxt down to the layers of one phase; arguments and errors as for ``load_net``."""
    return parse_net(read_text(prototxt, "NetParameter", dialect), phase, level, stages, de_transform, strict)


def parse_net(message: Message, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
              de_transform: str | None = None, strict: bool = True) -> ParsedNet:
    """The same from a NetParameter that is at hand."""
    _check_choice("phase", phase, PHASES)
    _check_choice("de_transform", de_transform, (None, *DE_TRANSFORM))
    net, path = upgrade_net(message), message.origin.path
    state = net_state(net, phase, level, stages)
    specs = layer_specs(net, state, de_transform)
    left_out = LeftOut(fields=_unknown_fields(net))
    unknown = left_out.fields + [str(spec.error(reason)) for spec in specs if (reason := _unsupported(spec))]
    if unknown and strict:
        raise NetError(_listing(
            path, "not known; load with strict=False (--lenient) to leave them out, choose another dialect, "
            "or register the layer (--plugin)", unknown))
    incomplete: frozenset[str] = frozenset()
    if unknown:
        specs, left_out.layers, incomplete = _without_unknown(specs)
    if not specs:
        state_text = f"in phase {phase}, level {level}, stages {list(state.stages)}"
        raise NetError(f"{path}: no layers {'can be computed' if unknown else state_text}")
    return ParsedNet(net.name, net.force_backward, insert_splits(specs), left_out, incomplete, net)


def net_state(net: Message, phase: str, level: int, stages: Sequence[str]) -> NetState:
    """The state that chooses among the layers of an upgraded NetParameter: the caller's, and the file's own stages."""
    return NetState(phase, level, (*net.state.stage, *stages))


def _check_choice(name: str, value: str | None, choices: tuple) -> None:
    if value not in choices:
        raise RmpeError(f"{name} {value!r} is not one of {', '.join(map(repr, choices))}")


def _unsupported(spec: LayerSpec) -> str | None:
    return registry.unsupported(spec.type, spec.dialect)


def _unknown_fields(net: Message) -> list[str]:
    """A sentence per unknown field or value; those of a layer of the user's own type are the user's."""
    own = {id(u) for layer in net.layer if registry.is_users_own(layer.fields.get("type", ""))
           for u in layer.unknown}
    out = []
    for u in net.unknowns():
        if id(u) in own:
            continue
        if u.is_value:
            out.append(f"{u.where}: {u.owner}.{u.name} has no value {u.value}")
        else:
            owner = net.descriptor.schema.messages[u.owner]
            out.append(f"{u.where}: {u.owner} has no field {u.name!r}{suggest(owner, u.name)}")
    return out


def _without_unknown(specs: Sequence[LayerSpec]) -> tuple[list[LayerSpec], list[str], frozenset[str]]:
    """The layers that can be computed, a sentence for each that cannot, and the blobs that these would write.

    A layer that reads what an unknown one writes cannot be computed either; an unknown in-place layer takes
    its blob along.
    """
    kept, out = [], []
    lost: dict[str, str] = {}  # blob -> the unknown layer it needs
    for spec in specs:
        reason = _unsupported(spec)
        needs = next((lost[b] for b in spec.bottom if b in lost), None)
        if reason or needs:
            out.append(str(spec.error(reason or f"needs {needs}, which is left out")))
            lost |= dict.fromkeys(spec.top, needs or spec.name)
        else:
            kept.append(spec)
            for top in spec.top:
                lost.pop(top, None)
    return kept, out, frozenset(lost)


def _listing(path: str, verb: str, sentences: Sequence[str]) -> str:
    what = "1 field or layer is" if len(sentences) == 1 else f"{len(sentences)} fields or layers are"
    return "\n  ".join([f"{path}: {what} {verb}:", *sentences])
