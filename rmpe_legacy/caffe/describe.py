"""Describes a prototxt or a weights file as a text table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmpe_legacy.text_table import text_table
from rmpe_legacy.wording import one_line, pluralize

from .layers.base import count, shape_text
from .load import read_net, set_aside
from .proto.blobs import StoredBlob, TrainedLayer
from .proto.caffemodel import read_weights
from .proto.dialects import dialects
from .proto.message import Message, Unknown
from .proto.text_writer import format_text
from .step import Step, blobs_text, outputs_of
from .unknown import MAX_KINDS, list_findings
from .weights import read_trained

FITS = "fits"
MAX_LINES, MAX_WIDTH = 20, 200  # of an unknown field that is shown as it stood


@dataclass(frozen=True)
class Description:
    """A network as a table, and the layers that the given weights do not fit."""

    text: str
    misfits: tuple[str, ...] = ()  # layers whose parameters the weights lack, or have in another shape


def describe_net(prototxt: str, phase: str = "TEST", level: int = 0, stages: Sequence[str] = (),
                 dialect: str = "auto", weights: str | None = None) -> Description:
    """Describe a prototxt: its layers with name, type, top shapes and parameters, totals, and everything unknown.

    Allocates no parameters or blobs and imports no module: Python layers are left out. With weights, also reports for
    each layer whether they fit.
    """
    any_mode = "paper"  # of de_transform; shapes are the same in each
    parsed = read_net(prototxt, phase, level, stages, dialect, any_mode, strict=False)
    steps = parsed.wire()
    stored = None if weights is None else {layer.name: layer for layer in read_trained(weights, parsed.specs)}
    shown = [step for step in steps if not step.layer.spec.is_inserted]
    rows = [_row(step, stored) for step in shown]
    rows = [tuple(map(one_line, row)) for row in rows]
    table = text_table([("layer", "type", "blobs", "parameters"), *rows])
    lines = [parsed.name or prototxt, *table, "", *_sums(steps), f"dialect: {dialect_text(parsed.dialect)}",
             *(f"note: {note}" for note in parsed.notes)]
    misfits: list[str] = []
    if stored is not None:
        names = {step.layer.spec.name for step in steps}
        lines += [f"weights for a layer that the network does not have: {name}" for name in stored
                  if name not in names and stored[name].blobs]
        misfits = [step.layer.spec.name for step in shown
                   if step.layer.declared and _verdict(step, stored.get(step.layer.spec.name)) != FITS]
    lines = list(map(one_line, lines))
    findings = parsed.findings + set_aside(steps)
    if findings:
        lines += ["", list_findings(prototxt, "left out of the above", findings)]
        layers = [finding.layer for finding in findings if finding.is_layer and finding.layer is not None]
        if any(layer.fields.get("type") == "Python" for layer in layers):
            lines.append("rmpe show imports no Python modules, so the shapes after such a layer are unknown")
        lines += _unknown_text(parsed.message)
    return Description("\n".join(lines), tuple(misfits))


def dialect_text(name: str) -> str:
    """Return a dialect's name and where the dialect comes from."""
    return f"{name} ({dialects()[name].repository})"


def describe_weights(path: str) -> str:
    """Describe a weights file: its layers with the shapes of their blobs."""
    layers = [layer for layer in read_weights(path) if layer.blobs]
    rows = [(one_line(layer.name), one_line(layer.type), _blob_shapes(layer.blobs)) for layer in layers]
    total = sum(blob.data.size for layer in layers for blob in layer.blobs if blob is not None)
    summary = f"{pluralize(len(layers), 'layer')}, {_amount(total)}"
    return "\n".join([*text_table([("layer", "type", "blobs"), *rows]), "", summary])


def _row(step: Step, stored: dict[str, TrainedLayer] | None) -> tuple[str, ...]:
    spec = step.layer.spec
    parameters = ", ".join(f"{d.name} {shape_text(d.shape)}" for d in step.layer.declared)
    if stored is not None and step.layer.declared:
        parameters += f"  [{_verdict(step, stored.get(spec.name))}]"
    return spec.name, spec.type, blobs_text(step), parameters


def _verdict(step: Step, trained: TrainedLayer | None) -> str:
    if trained is None:
        return "no weights"
    declared = step.layer.declared
    fits = len(trained.blobs) == len(declared) and all(
        blob is None or blob.fits(d.shape) for blob, d in zip(trained.blobs, declared, strict=True))
    return FITS if fits else f"does not fit: {_blob_shapes(trained.blobs)}"


def _sums(steps: Sequence[Step]) -> list[str]:
    owned: dict[str | tuple[str, int], int] = {}  # a shared parameter counts once
    for step in steps:
        params = step.layer.spec.params
        for i, declared in enumerate(step.layer.declared):
            name = params[i].name if i < len(params) else ""
            owned.setdefault(name or (step.layer.spec.name, i), count(declared.shape))
    blobs = {name: count(shape) for step in steps for name, shape in zip(step.top, step.top_shapes, strict=True)}
    inputs = [name for step in steps if step.layer.spec.type == "Input" for name in step.top]
    return [
        f"{pluralize(sum(not step.layer.spec.is_inserted for step in steps), 'layer')}, "
        f"{_amount(sum(owned.values()))} of parameters, {_amount(sum(blobs.values()))} in all blobs",
        f"inputs: {', '.join(inputs) or 'none'}; outputs: {', '.join(outputs_of(steps)) or 'none'}",
    ]


def _unknown_text(net: Message) -> list[str]:
    """List unknown fields as they appear in the file; of a repeated field, the first occurrence."""
    first: dict[tuple, Unknown] = {}
    for unknown in net.unknowns():
        first.setdefault((unknown.owner, unknown.name, unknown.value if unknown.is_value else None), unknown)
    lines = []
    for unknown in list(first.values())[:MAX_KINDS]:
        text = _as_text(unknown).splitlines()
        cut = [*text[:MAX_LINES], "..."] if len(text) > MAX_LINES else text
        lines += [f"{unknown.where}:", *(f"    {line[:MAX_WIDTH]}{' ...' * (len(line) > MAX_WIDTH)}" for line in cut)]
    return lines


def _as_text(unknown: Unknown) -> str:
    return format_text(Message(None, {unknown.name: unknown.value}))


def _blob_shapes(blobs: Sequence[StoredBlob | None]) -> str:
    return ", ".join("(shared)" if blob is None else shape_text(blob.shape) for blob in blobs)


def _amount(values: int) -> str:
    return f"{values:,} values ({values * 4 / 1e6:.1f} MB)"
