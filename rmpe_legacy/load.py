"""``load_net``: Caffe's files in, a running network out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.layers import registry
from rmpe_legacy.net import LeftOut, Net
from rmpe_legacy.proto.caffemodel import read_weights
from rmpe_legacy.proto.message import Message
from rmpe_legacy.proto.text import read_text, suggest
from rmpe_legacy.proto.upgrade import upgrade_net
from rmpe_legacy.spec import DE_TRANSFORM, PHASES, LayerSpec, NetState, insert_splits, layer_specs


def load_net(prototxt: str | PathLike, weights: str | PathLike | None = None, phase: str = "TEST", level: int = 0,
             stages: Sequence[str] = (), dialect: str = "rmpe", de_transform: str | None = None,
             strict: bool = True, keep_blobs: bool = False) -> Net:
    """Build the network of a prototxt, with a caffemodel's weights if given: a torch.nn.Module.

    prototxt: a network of format V0, V1 or V2. weights: .caffemodel, or .caffemodel.h5; matched by layer name.
    phase ("TEST" or "TRAIN"), level and stages choose among the layers by their include and exclude rules.
    dialect: whose fields and defaults hold, "rmpe", "ssd" or "bvlc".
    de_transform: what ``de_transform: true`` of a SpatialTransformer shall mean: "paper" (the inverse of theta),
    "published-identity" or "published-ignored"; None is "paper", with a warning.
    strict: True raises one error that lists every field and layer that is not known; False leaves them out where
    the rest can still be computed, and reports them in ``net.left_out`` and a warning.
    keep_blobs: keep every blob of a forward in ``net.blobs``.

    Raises an RmpeError (FileError, PrototxtError, NetError, LayerError) whose message is the whole story.
    """
    _check_choice("phase", phase, PHASES)
    _check_choice("de_transform", de_transform, (None, *DE_TRANSFORM))
    net = upgrade_net(read_text(prototxt, "NetParameter", dialect))
    state = NetState(phase, level, (*net.state.stage, *stages))
    specs = layer_specs(net, state, de_transform)
    left_out = LeftOut()
    unknown = _unknown_fields(net) + _unknown_layers(specs)
    if unknown and strict:
        raise NetError(_listing(str(prototxt), unknown))
    if unknown:
        left_out.fields = _unknown_fields(net)
        specs, left_out.layers = _without_unknown(specs)
    if not specs:
        raise NetError(f"{prototxt}: no layers" + (" can be computed" if unknown else
                       f" in phase {phase}, level {level}, stages {list(state.stages)}"))
    trained = None if weights is None else read_weights(weights)
    built = Net(insert_splits(specs), trained, net.name, net.force_backward, keep_blobs)
    built.left_out.fields, built.left_out.layers = left_out.fields, left_out.layers
    if unknown:
        warnings.warn(_listing(str(prototxt), [*left_out.fields, *left_out.layers], "left out"), stacklevel=2)
    return built


def _check_choice(name: str, value: str | None, choices: tuple) -> None:
    if value not in choices:
        raise RmpeError(f"{name} {value!r} is not one of {', '.join(map(repr, choices))}")


def _unknown_fields(net: Message) -> list[str]:
    """A sentence per unknown field or value; those of a layer of the user's own type are the user's."""
    own = {id(u) for layer in net.layer if registry.is_users_own(layer.fields.get("type", ""))
           for u in layer.unknown if not u.is_value}
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


def _unknown_layers(specs: Sequence[LayerSpec]) -> list[str]:
    found = ((spec, registry.unsupported(spec.type, spec.dialect)) for spec in specs)
    return [str(spec.error(reason)) for spec, reason in found if reason]


def _without_unknown(specs: Sequence[LayerSpec]) -> tuple[list[LayerSpec], list[str]]:
    """The layers that can be computed, and a sentence for each that cannot.

    A layer that reads what an unknown one writes cannot be computed either; an unknown in-place layer takes
    its blob along.
    """
    kept, out = [], []
    lost: dict[str, str] = {}  # blob -> the unknown layer it needs
    for spec in specs:
        reason = registry.unsupported(spec.type, spec.dialect)
        needs = next((lost[b] for b in spec.bottom if b in lost), None)
        if reason or needs:
            out.append(str(spec.error(reason or f"needs {needs}, which is left out")))
            lost |= dict.fromkeys(spec.top, needs or spec.name)
        else:
            kept.append(spec)
            for top in spec.top:
                lost.pop(top, None)
    return kept, out


def _listing(path: str, sentences: Sequence[str], verb: str = "not known") -> str:
    hint = "" if verb == "left out" else (
        "; load with strict=False (--lenient) to leave them out, another dialect, or register the layer (--plugin)")
    return f"{path}: {len(sentences)} fields or layers {verb}{hint}:\n" + "\n".join(f"  {s}" for s in sentences)
