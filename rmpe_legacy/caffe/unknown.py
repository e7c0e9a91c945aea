"""Unknown fields, enum values and layers of a prototxt, listed individually or grouped by kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rmpe_legacy.errors import LayerError, NetError
from rmpe_legacy.wording import did_you_mean, shorten

from .layers import registry
from .proto.message import Message, Unknown
from .proto.text import suggest

MAX_KINDS = 40  # listed in one message
MAX_HINTS = 200  # names for which a similar known one is searched

# Messages that are commonly given instead of a network, and what to call them.
_OTHER_MESSAGES = {"SolverParameter": "a solver", "LabelMap": "a label map"}
_NETS_OF_A_SOLVER = ("net", "train_net", "test_net")


@dataclass(frozen=True, eq=False)
class Finding:
    """A field, enum value or layer that is unknown, or a layer that depends on one."""

    sentence: str  # with its position, and the layer's name if it is about a layer
    kind: str  # equal for findings that differ only in position
    layer: Message | None = None  # the LayerParameter that contains it
    is_layer: bool = False  # the layer itself, not a field or a value in it

    def __str__(self) -> str:
        return self.sentence

    @classmethod
    def of_layer(cls, error: LayerError, kind: str = "") -> Finding:
        """Make a finding for a layer that cannot be computed."""
        return cls(str(error), kind or f"({error.spec.type}): {error.reason}", error.spec.message, is_layer=True)


def list_findings(path: str, verb: str, findings: Sequence[Finding]) -> str:
    """Format findings with one line per kind: the first of the kind, and their number."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    what = "1 field or layer is" if len(findings) == 1 else f"{len(findings)} fields or layers are"
    lines = [f"{found[0]}" + (f" ({len(found)} times)" if len(found) > 1 else "") for found in kinds.values()]
    if len(lines) > MAX_KINDS:
        lines[MAX_KINDS - 1 :] = [f"... and {len(lines) - MAX_KINDS + 1} more kinds"]
    return "\n  ".join([f"{path}: {what} {verb}:", *lines])


def unknown_fields(net: Message) -> list[Finding]:
    """Return every unknown field and value of a NetParameter in the current layout, including those of users'
    layers.
    """
    hints: dict[tuple[str, str], str] = {}
    found = [_finding(unknown, None, net, hints) for unknown in net.replace(layer=None).unknowns()]
    for layer in net.layer:
        type_name = layer.fields.get("type", "")
        own = registry.is_users_own(type_name)
        for unknown in layer.unknowns():
            if own and any(unknown is field for field in layer.unknown) and not unknown.is_value:
                found += _beyond(unknown, layer, registry.declared_fields(type_name))
            else:
                found.append(_finding(unknown, layer, net, hints))
    return found


def _finding(unknown: Unknown, layer: Message | None, net: Message, hints: dict[tuple[str, str], str]) -> Finding:
    name, key = shorten(unknown.name), (unknown.owner, unknown.name)
    if unknown.is_value:
        reason = f"{unknown.owner}.{name} has no value {shorten(str(unknown.value))}"
        return Finding(f"{unknown.where}: {reason}", reason, layer)
    if unknown.is_again:
        reason = f"{unknown.owner}.{name} is given again, but takes one value; the first one is used"
        return Finding(f"{unknown.where}: {reason}", reason, layer)
    if key not in hints and len(hints) < MAX_HINTS:
        hints[key] = suggest(net.descriptor.schema[unknown.owner], unknown.name)
    reason = f"{unknown.owner} has no field '{name}'{hints.get(key, '')}"
    return Finding(f"{unknown.where}: {reason}", reason, layer)


def _beyond(unknown: Unknown, layer: Message, fields: Mapping[str, Sequence[str]] | None) -> Iterator[Finding]:
    """Return the undeclared fields of a user's layer; none if its class declares no fields."""
    if fields is None:
        return
    if unknown.name not in fields:
        hint = did_you_mean(unknown.name, fields)
        reason = f"{shorten(layer.type)} declares no field '{shorten(unknown.name)}'{hint}"
        yield Finding(f"{unknown.where}: {reason}", reason, layer)
    elif isinstance(unknown.value, Message):
        inner = fields[unknown.name]
        for name in unknown.value.fields:
            if name not in inner:
                reason = f"{unknown.name} declares no field '{shorten(name)}'{did_you_mean(name, inner)}"
                yield Finding(f"{unknown.where}: {reason}", reason, layer)


def check_is_network(net: Message) -> None:
    """Check that a message is a network.

    Raises:
        NetError: A solver or another Caffe file was given.
    """
    if net.layer or net.layers or not net.unknown:
        return
    names = {unknown.name for unknown in net.unknown}
    for owner, what in _OTHER_MESSAGES.items():
        kind = net.descriptor.schema.messages.get(owner)
        if kind is not None and 2 * len(names & kind.fields.keys()) > len(names):  # the others may be a fork's
            named = [shorten(str(u.value)) for u in net.unknown if u.name in _NETS_OF_A_SOLVER]
            instead = f"the network that it names, {' or '.join(named)}" if named else "a network's prototxt"
            raise NetError(f"{net.origin.path}: is {what}, not a network; give {instead}")
