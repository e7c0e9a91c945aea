"""``rmpe convert`` and ``rmpe verify``: from arguments to files and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.inputs import read_inputs
from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.load import ParsedNet, read_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.files import check_places, whole_file
from rmpe_legacy.formats.network_json import Setting, load_converted
from rmpe_legacy.formats.open_runner import open_sides
from rmpe_legacy.formats.replaced import report_place
from rmpe_legacy.formats.runners import NetRunner, OnnxRunner, PythonRunner, Runner, Torch7Runner
from rmpe_legacy.formats.source import (
    Network,
    SourceOptions,
    is_weights,
    read_network,
    read_weights_alone,
    untrained,
    untrained_text,
    unused_weights,
)
from rmpe_legacy.formats.targets import (
    CAFFE,
    ONNX,
    PROTOTXT,
    PYTHON,
    SAFETENSORS,
    Target,
    WriteResult,
    target_of,
    write_network,
    write_weights,
)

from .content_hash import network_hash
from .html import html_report
from .verify import SEED, TOLERANCE, Verdict, common_inputs, verify


@dataclass(frozen=True)
class CompareOptions:
    """What two networks are compared on."""

    inputs: Sequence[str] = ()  # "NAME=FILE"; what is missing is random
    image: str = "pose"  # how a picture becomes an input
    tolerance: float = TOLERANCE
    seed: int = SEED


@dataclass
class ConvertResult:
    """What a conversion did, for people."""

    files: list[Path]
    notes: list[str] = field(default_factory=list)
    same: bool = True  # False: what was written is not the same network, or could not be compared with its source
    verdict: str = ""


def run_convert(sources: Sequence[str], destination: str, setting: Setting, options: SourceOptions | None = None,
                compare: CompareOptions | None = None, force: bool = False) -> ConvertResult:
    """Convert, then compare the result with what it was made of; the comparison goes to <result>.verify.html.

    trial: what to compare on; None does not compare. See ``read_network`` for sources, ``write_network`` for the
    destination and `force`. RmpeError says what cannot be converted; nothing is written then.
    """
    options = options or SourceOptions()
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and is_weights(paths[0]):
        return _weights_alone(paths[0], destination, options, compare, force)
    target = target_of(destination)
    network = read_network(paths, setting, options, target is not PROTOTXT, target.to_run)
    notes = [*network.notes, *([] if target is PROTOTXT else _check_weights(network, options.lenient))]
    if compare is not None:
        _check_inputs(network, compare, target)
    written = write_network(network, target, destination, paths, force)
    done = ConvertResult(written.files, notes + written.notes)
    if compare is None:
        return done
    if target is PROTOTXT:
        done.same, done.verdict = _same_prototxt(network, written)
        return done
    try:
        verdict = _verified(network, written, compare)
        report = report_place(written.files[0])
        write_report(report, verdict)
    except RmpeError as error:
        done.same = False
        done.verdict = f"not compared, so it is not known to be the same network: {error}"
        return done
    done.files.append(report)
    done.same, done.verdict = verdict.same, verdict.sentence
    return done


def run_verify(a: str, b: str, setting: Setting, compare: CompareOptions, html: str | PathLike | None = None,
               options: SourceOptions | None = None) -> Verdict:
    """Compare two networks; see ``open_sides`` for what they may be. html: where to draw it."""
    if html is not None:
        check_places(html)
    verdict = _compared(*open_sides(a, b, setting, options or SourceOptions()), compare)
    if html is not None:
        write_report(html, verdict)
    return verdict


def write_report(path: str | PathLike, verdict: Verdict) -> None:
    """Draw a comparison as a page."""
    with whole_file(path) as file:
        file.write(html_report(verdict).encode("utf-8", "backslashreplace"))


def _check_weights(network: Network, lenient: bool) -> list[str]:
    """What is to be said about the weights. NetError where layers have none, unless `lenient`."""
    if (bare := untrained(network)) and not lenient:
        raise NetError(untrained_text(network.title, bare))
    return unused_weights(network)


def _check_inputs(network: Network, compare: CompareOptions, target: Target) -> None:
    """NetError for inputs that the network to be written, whose sizes are fixed, could not take."""
    for name, value in read_inputs(compare.inputs, network.shapes, network.shapes, compare.image).items():
        shape = network.shapes[name]
        if target.to_run and shape and value.shape[1:] != shape[1:]:
            sizes = ",".join(map(str, value.shape))
            raise NetError(f"{network.title}: --input {name} is {shape_text(value.shape)}, but the network is "
                           f"converted for {shape_text(shape)}; add --input-shape {name}={sizes}")


def _compared(a: Runner, b: Runner, compare: CompareOptions) -> Verdict:
    shapes = common_inputs(a, b)
    if not shapes:  # neither side says: any name will do
        shapes = {argument.partition("=")[0]: () for argument in compare.inputs}
    given = read_inputs(compare.inputs, shapes, shapes, compare.image)
    return verify(a, b, given, compare.tolerance, seed=compare.seed)


# --- after a conversion -------------------------------------------------------------------------------------------


def _verified(network: Network, written: WriteResult, compare: CompareOptions) -> Verdict:
    title = " and ".join(map(str, written.files))
    result = _runner(network, written, title)
    if network.torch7 is None or network.until:
        return _compared(NetRunner(network.net, network.title), result, compare)
    return _compared(Torch7Runner(network.torch7, network.title, network.shapes), result, compare)


def _runner(network: Network, written: WriteResult, title: str) -> Runner:
    first, kind = written.files[0], written.target
    if kind is ONNX:
        return OnnxRunner(first, title)
    if kind is PYTHON:
        return PythonRunner(first, title)
    if kind is SAFETENSORS:
        return NetRunner(load_converted(first, allow_python=network.setting.allow_python), title)
    return NetRunner(_reloaded(network, written), title)


def _reloaded(network: Network, written: WriteResult) -> Net:
    """The network from the weights that were written, and from the prototxt if that was, too."""
    parsed = _read_back(network, written.files[1]) if written.target is CAFFE else network.parsed
    return parsed.build(read_trained(written.files[0], parsed.specs))


def _read_back(network: Network, prototxt: Path) -> ParsedNet:
    s, strict = network.setting, not network.parsed.findings
    return read_net(prototxt, s.phase, s.level, s.stages, s.dialect, s.de_transform, strict, s.allow_python)


def _same_prototxt(network: Network, written: WriteResult) -> tuple[bool, str]:
    """Whether the prototxt that was written reads back as the same layers."""
    before, after = network.message, _read_back(network, written.files[0]).message
    if network_hash(before) == network_hash(after):
        return True, f"the same: {len(after.layer)} layers, every field"
    return False, "not the same: the prototxt does not read back as the same layers"


def _weights_alone(source: Path, destination: str, options: SourceOptions, compare: CompareOptions | None,
                   force: bool) -> ConvertResult:
    if options != SourceOptions():
        raise NetError(f"{source}: holds weights without a network; the options for one need the prototxt too")
    layers = read_weights_alone(source)
    written = write_weights(layers, destination, [source], force)
    if compare is None:
        return ConvertResult(written.files, written.notes)
    before, after = _blobs(layers), _blobs(read_weights_alone(written.files[0]))
    same = before == after
    count = sum(len(blobs) for _, blobs in before)
    return ConvertResult(written.files, written.notes, same,
                     f"the same: {count} blobs, every bit" if same else "not the same bits")


def _blobs(layers: Sequence[TrainedLayer]) -> list[tuple[str, list[tuple]]]:
    """Every layer that has blobs, by name, with each blob's shape, type and bytes."""
    return sorted((layer.name, [(blob.shape, blob.data.dtype.str, blob.data.tobytes())
                                for blob in layer.blobs if blob is not None])
                  for layer in layers if layer.blobs)
