"""`rmpe layers`: each layer type, its cases that were run in the real Caffe, and the largest difference.

The numbers come from layers/evidence.json, which tools/measure_layers.py writes;
tests/caffe/test_layers_table.py checks it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.layers.registry import dialects_of, layer_class
from rmpe_legacy.caffe.proto.dialects import BASES
from rmpe_legacy.caffe.proto.schema import Field, load_schema
from rmpe_legacy.caffe.spec import PHASES
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.text_table import WIDTH, text_table, wrapped
from rmpe_legacy.wording import did_you_mean, shorten

EVIDENCE = Path(str(files("rmpe_legacy.caffe.layers").joinpath("evidence.json")))


@dataclass(frozen=True)
class Gap:
    """The largest difference between one array and Caffe's."""

    relative: float  # relative to the array's largest value
    ulp: float  # in units in the last place (single precision) of that value


@dataclass(frozen=True)
class Proof:
    """One case that was run in the real Caffe, and the differences from it; None if the case has no such arrays."""

    case: str  # its folder under tests/golden
    type: str
    runs: tuple[str, ...]  # dialect and phase; first the case's own, then those in which Caffe gives the same bits
    top: Gap | None
    diff: Gap | None  # of bottoms, in Backward
    param_diff: Gap | None

    @property
    def worst(self) -> Gap:
        return worst([self])


@dataclass(frozen=True)
class Evidence:
    """All measurements, with the Caffe and the machine they were made with."""

    caffe: str
    machine: str
    proofs: tuple[Proof, ...]

    def of(self, type_name: str) -> list[Proof]:
        return [proof for proof in self.proofs if proof.type == type_name]


def worst(proofs: list[Proof]) -> Gap:
    """Return the largest differences of several cases."""
    gaps = [gap for proof in proofs for gap in (proof.top, proof.diff, proof.param_diff) if gap]
    return Gap(max((g.relative for g in gaps), default=0.0), max((g.ulp for g in gaps), default=0.0))


def read_evidence(path: Path = EVIDENCE) -> Evidence:
    """Read the measurements. Raises RmpeError if the file is missing or damaged."""
    try:
        data = json.loads(path.read_text("utf-8"))
        proofs = tuple(_proof(name, *values) for name, values in data["cases"].items())
        return Evidence(data["caffe"], data["machine"], proofs)
    except OSError as error:
        raise RmpeError(f"{path}: {error.strerror}; run python tools/measure_layers.py to write it") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RmpeError(f"{path}: contains no measurements; run python tools/measure_layers.py to write it "
                        "again") from None


def _proof(case: str, type_name: str, runs: list[str], *gaps: list[float] | None) -> Proof:
    return Proof(case, type_name, tuple(runs), *(None if gap is None else Gap(*gap) for gap in gaps))


def layers_table(evidence: Evidence) -> list[dict]:
    """Return a row per type: type, phases it was run in, dialects, cases, runs, relative, ulp (None without a case)."""
    return [_row(name, evidence.of(name)) for name in known_types()]


def _row(name: str, proofs: list[Proof]) -> dict:
    gap = worst(proofs)
    return {
        "type": name,
        "phases": [phase for phase in PHASES if any(run.endswith(phase) for p in proofs for run in p.runs)],
        "dialects": dialects_of(name),
        "cases": len(proofs),
        "runs": sum(len(p.runs) for p in proofs),
        "relative": gap.relative if proofs else None,
        "ulp": gap.ulp if proofs else None,
    }


def layer_details(name: str, evidence: Evidence) -> dict:
    """Return a type's row, class, prototxt fields and cases. Raises RmpeError for an unknown type."""
    if name not in known_types():
        raise RmpeError(f"{shorten(name)}: unknown layer type{did_you_mean(name, known_types())}")
    cls = layer_class(name)
    start = inspect.getsourcelines(cls)[1]
    return {
        **_row(name, evidence.of(name)),
        "about": inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0],
        "source": f"{cls.__module__.replace('.', '/')}.py:{start}",
        "reads": {field: _fields(field, dialects_of(name)) for field in cls.params},
        "proofs": [asdict(proof) for proof in evidence.of(name)],
    }


def _fields(name: str, dialects: Sequence[str]) -> list[dict]:
    """Return the fields of one of the layer's messages, in these dialects: name, type, default, dialects."""
    rows: dict[tuple, list[str]] = {}
    for dialect in dialects:
        for field in _schema_fields(name, dialect):
            default = None if field.default is None else str(field.default)
            rows.setdefault((field.name, _type_text(field), default), []).append(dialect)
    return [{"name": key[0], "type": key[1], "default": key[2], "dialects": having}
            for key, having in rows.items()]


def _schema_fields(name: str, dialect: str) -> Iterator[Field]:
    field = load_schema(dialect)["LayerParameter"].fields.get(name)
    if field is not None:
        yield from field.message.fields.values() if field.message else [field]


def _type_text(field: Field) -> str:
    kind = "|".join(field.enum.numbers) if field.enum else field.type
    return f"{kind}, repeated" if field.repeated else kind


# --- as text ---------------------------------------------------------------------------------------------------


def describe_layers(evidence: Evidence) -> str:
    """Format the table of all types, with an explanation of its numbers."""
    rows = [("type", "phases", "dialects", "cases", "runs", "relative", "ulp")]
    rows += [(row["type"], *_cells(row)) for row in layers_table(evidence)]
    own = {proof.type for proof in evidence.proofs} & set(known_types())
    rest = sorted({proof.type for proof in evidence.proofs} - own)
    counts = ", ".join(f"{name} {len(evidence.of(name))}" for name in rest)
    return "\n".join([
        *text_table(rows), "",
        wrapped(f"{len(known_types())} types, {len(evidence.proofs)} cases"
                + (f" ({counts} involve several types)" if rest else "")
                + f", each compared with {evidence.caffe}; measured on {evidence.machine}."),
        "runs: the cases in their own dialect and phase, and in others where Caffe computes the same bits.",
        "relative: the largest difference of an array, divided by the array's largest value.",
        "ulp: the same difference in units in the last place of that value.",
    ])


def describe_layer(details: dict) -> str:
    """Format one type: description, parameters and cases."""
    lines = [f"{details['type']}  {details['source']}", wrapped(f"dialects: {', '.join(details['dialects'])}"), "",
             wrapped(details["about"].replace("\n", " "))]
    for message, fields in details["reads"].items():
        lines += ["", message]
        lines += ["  " + line for line in text_table([_field_cells(f, details["dialects"]) for f in fields], WIDTH - 2)]
    lines += ["", f"{details['cases']} cases"]
    rows: list[tuple[str, ...]] = [("", "top", "bottom's diff", "parameter's diff", "ulp", "in")]
    rows += [_proof_cells(proof) for proof in details["proofs"]]
    return "\n".join([*lines, *text_table(rows)] if details["proofs"] else lines)


def _cells(row: dict) -> tuple[str, ...]:
    dialects = "all" if row["dialects"] == list(BASES) else " ".join(row["dialects"])
    if not row["cases"]:
        return "", dialects, "0", "0", "not compared", ""
    counts = str(row["cases"]), str(row["runs"])
    return " ".join(row["phases"]), dialects, *counts, _number(row["relative"]), _number(row["ulp"])


def _field_cells(field: dict, dialects: list[str]) -> tuple[str, ...]:
    only = "" if field["dialects"] == dialects else f"dialect {' and '.join(field['dialects'])}"
    return field["name"], field["type"], "" if field["default"] is None else f"default {field['default']}", only


def _proof_cells(proof: dict) -> tuple[str, ...]:
    gaps = [proof["top"], proof["diff"], proof["param_diff"]]
    relative = ("" if gap is None else _number(gap["relative"]) for gap in gaps)
    ulp = max((gap["ulp"] for gap in gaps if gap), default=0.0)
    return proof["case"], *relative, _number(ulp), _runs(proof["runs"])


def _runs(runs: Sequence[str]) -> str:
    """rmpe TEST, rmpe TRAIN, ssd TRAIN -> rmpe TEST TRAIN, ssd TRAIN"""
    phases: dict[str, list[str]] = {}
    for run in runs:
        dialect, _, phase = run.rpartition(" ")
        phases.setdefault(dialect, []).append(phase)
    return ", ".join(" ".join([dialect, *each]) for dialect, each in phases.items())


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
