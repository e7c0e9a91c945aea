"""``rmpe convert`` and ``rmpe verify``: from arguments to files and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.files import check_places, whole_file
from rmpe_legacy.forward import read_inputs
from rmpe_legacy.load import read_net
from rmpe_legacy.net import Net
from rmpe_legacy.weights import read_trained

from .html import html_report
from .network_json import Setting, load_converted
from .runners import NetRunner, OnnxRunner, PythonRunner, Runner, Torch7Runner
from .sides import open_sides
from .source import Network, Torch7Options, is_weights, left_out, read_network, read_weights_alone
from .targets import CAFFE, ONNX, PROTOTXT, PYTHON, SAFETENSORS, Written, write_network, write_weights
from .verify import SEED, TOLERANCE, Verdict, arrays_same, common_inputs, verify


@dataclass(frozen=True)
class Trial:
    """What two networks are compared on."""

    inputs: Sequence[str] = ()  # "NAME=FILE"; what is missing is random
    image: str = "pose"  # how a picture becomes an input
    tolerance: float = TOLERANCE
    seed: int = SEED


@dataclass
class Converted:
    """What a conversion did, for people."""

    files: list[Path]
    notes: list[str] = field(default_factory=list)
    same: bool = True  # as far as it was compared
    verdict: str = ""


def run_convert(sources: Sequence[str], destination: str, setting: Setting, until: Sequence[str] = (),
                torch7: Torch7Options | None = None, trial: Trial | None = None) -> Converted:
    """Convert, then compare the result with what it was made of; the comparison goes to <result>.verify.html.

    trial: what to compare on; None does not compare. See ``read_network`` for sources, ``write_network`` for the
    destination. RmpeError says what cannot be converted; nothing is written then.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and is_weights(paths[0]):
        return _weights_alone(paths[0], destination, until)
    network = read_network(paths, setting, until, torch7, weights_needed=Path(destination).suffix != ".prototxt")
    written = write_network(network, destination, paths)
    done = Converted(written.files, [*left_out(network), *([written.note] if written.note else [])])
    if trial is None or written.target is PROTOTXT:
        return done
    try:
        verdict = _verified(network, written, trial)
    except RmpeError as error:
        done.notes.append(f"not compared: {error}")
        return done
    report = written.files[0].with_name(f"{written.files[0].name}.verify.html")
    write_report(report, verdict)
    done.files.append(report)
    done.same, done.verdict = verdict.same, verdict.sentence
    return done


def run_verify(a: str, b: str, setting: Setting, trial: Trial, html: str | PathLike | None = None,
               parallel: bool = True) -> Verdict:
    """Compare two networks; see ``open_sides`` for what they may be. html: where to draw it."""
    if html is not None:
        check_places(html)
    verdict = _compared(*open_sides(a, b, setting, parallel), trial)
    if html is not None:
        write_report(html, verdict)
    return verdict


def write_report(path: str | PathLike, verdict: Verdict) -> None:
    """Draw a comparison as a page."""
    with whole_file(path, "w") as file:
        file.write(html_report(verdict))


def _compared(a: Runner, b: Runner, trial: Trial) -> Verdict:
    shapes = common_inputs(a, b)
    if not shapes:  # neither side says: any name will do
        shapes = {argument.partition("=")[0]: () for argument in trial.inputs}
    given = read_inputs(trial.inputs, shapes, shapes, trial.image)
    return verify(a, b, given, trial.tolerance, seed=trial.seed)


# --- after a conversion -------------------------------------------------------------------------------------------


def _verified(network: Network, written: Written, trial: Trial) -> Verdict:
    title = " and ".join(map(str, written.files))
    result = _runner(network, written, title)
    if network.torch7 is None or network.until:
        return _compared(NetRunner(network.net, network.title), result, trial)
    return _compared(Torch7Runner(network.torch7, network.title, network.shapes), result, trial)


def _runner(network: Network, written: Written, title: str) -> Runner:
    first, kind = written.files[0], written.target
    if kind is ONNX:
        return OnnxRunner(first, title)
    if kind is PYTHON:
        return PythonRunner(first, title)
    if kind is SAFETENSORS:
        return NetRunner(load_converted(first), title)
    return NetRunner(_reloaded(network, written), title)


def _reloaded(network: Network, written: Written) -> Net:
    """The network from the weights that were written, and from the prototxt if that was, too."""
    s, parsed = network.setting, network.parsed
    if written.target is CAFFE:
        parsed = read_net(written.files[1], s.phase, s.level, s.stages, s.dialect, s.de_transform,
                          allow_python=s.allow_python)
    return parsed.build(read_trained(written.files[0], parsed.specs))


def _weights_alone(source: Path, destination: str, until: Sequence[str]) -> Converted:
    if until:
        raise NetError(f"{source}: weights alone do not say what --until depends on; give the prototxt too")
    layers = read_weights_alone(source)
    written = write_weights(layers, destination, [source])
    again = read_weights_alone(written.files[0])
    before, after = _arrays(layers), _arrays(again)
    same = before.keys() == after.keys() and all(arrays_same(before[key], after[key]) for key in before)
    count = sum(map(len, before.values()))
    return Converted(written.files, [], same, f"the same: {count} blobs, every bit" if same else "not the same bits")


def _arrays(layers) -> dict[str, list[np.ndarray]]:
    return {layer.name: [blob.data for blob in layer.blobs if blob is not None] for layer in layers if layer.blobs}
