"""``rmpe convert`` and ``rmpe verify``: convert a network, and compare two networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from rmpe_legacy.caffe.inputs import read_inputs
from rmpe_legacy.caffe.layers.base import Shape, shape_text, shapes_text
from rmpe_legacy.caffe.load import ParsedNet, read_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.files import check_places, whole_file
from rmpe_legacy.formats.base import (
    Format,
    NetRunner,
    Network,
    Runner,
    SampleRunner,
    Setting,
    SourceOptions,
    untrained,
    untrained_text,
    unused_weights,
)
from rmpe_legacy.formats.existing_files import report_path
from rmpe_legacy.formats.onnx import ONNX
from rmpe_legacy.formats.open_runner import open_runners
from rmpe_legacy.formats.read import is_weights, read_network, read_weights_alone
from rmpe_legacy.formats.registry import CAFFE, HDF5, PROTOTXT, STATE_DICT, format_to_write
from rmpe_legacy.formats.torch7 import Torch7Runner
from rmpe_legacy.formats.write import WriteResult, write_network, write_weights
from rmpe_legacy.wording import pluralize

from .content_hash import network_hash
from .html import html_report
from .verify import SEED, TOLERANCE, Verdict, common_inputs, verify


@dataclass(frozen=True)
class CompareOptions:
    """The inputs and the tolerance of a comparison."""

    inputs: Sequence[str] = ()  # "NAME=FILE"; missing inputs are random
    image: str = "pose"  # how to preprocess images, see read_inputs
    tolerance: float = TOLERANCE
    seed: int = SEED


@dataclass
class ConvertResult:
    """The files of a conversion and the verdict of the comparison."""

    files: list[Path]
    notes: list[str] = field(default_factory=list)
    same: bool = True  # False: the result is a different network, or could not be compared with its source
    verdict: str = ""


def run_convert(sources: Sequence[str], destination: str, setting: Setting, options: SourceOptions | None = None,
                compare: CompareOptions | None = None, force: bool = False) -> ConvertResult:
    """Convert a network and compare the result with its source; the comparison is written to <result>.verify.html.

    Args:
        sources: See ``read_network``.
        destination: See ``write_network``.
        setting: How to load the network.
        options: How to read the files.
        compare: How to compare; None skips the comparison.
        force: See ``write_network``.

    Raises:
        RmpeError: The network cannot be converted. Nothing is written.
    """
    options = options or SourceOptions()
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and is_weights(paths[0]):
        return _weights_alone(paths[0], destination, options, compare, force)
    target = format_to_write(destination)
    if options.dynamic is not None and target is not ONNX:
        raise RmpeError(f"{destination}: --dynamic is for .onnx only; networks in other formats take other sizes "
                        "without it")
    network = read_network(paths, setting, options, target is not PROTOTXT, target.runtime)
    notes = [*network.notes, *([] if target is PROTOTXT and network.trained is None
                                else _check_weights(network, options.lenient))]
    if options.input_shapes and target in (HDF5, STATE_DICT):
        notes.append(f"{destination} holds weights alone, so --input-shape is not stored; it is the size at which the "
                     "two are compared")
    if compare is not None:
        _check_inputs(network, compare, target)
    written = write_network(network, target, destination, paths, force)
    result = ConvertResult(written.files, notes + written.notes)
    if compare is not None:
        _judge(result, network, written, compare)
    return result


def run_verify(a: str, b: str, setting: Setting, compare: CompareOptions, html: str | PathLike | None = None,
               options: SourceOptions | None = None,
               change_b: Callable[[Runner], Runner] = lambda runner: runner) -> Verdict:
    """Compare two networks; see ``open_runners`` for the arguments.

    Args:
        a: The reference.
        b: The network to compare with it.
        setting: How to load the networks.
        compare: The inputs and the tolerance.
        html: Where to write the comparison as a page.
        options: How to read the files.
        change_b: Replaces `b` before the comparison, for example to run it in an engine.

    Raises:
        RmpeError: A file cannot be read, or the networks cannot be compared.
    """
    if html is not None:
        check_places(html)
    one, other = open_runners(a, b, setting, options or SourceOptions())
    verdict = _compared(one, change_b(other), compare)
    if html is not None:
        write_report(html, verdict)
    return verdict


def write_report(path: str | PathLike, verdict: Verdict) -> None:
    """Write a comparison as an HTML page."""
    with whole_file(path) as file:
        file.write(html_report(verdict).encode("utf-8", "backslashreplace"))


def _check_weights(network: Network, lenient: bool) -> list[str]:
    """Return notes about the weights. Raises NetError if layers have none, unless `lenient`."""
    if (bare := untrained(network)) and not lenient:
        raise NetError(untrained_text(network.title, bare))
    return unused_weights(network)


def _check_inputs(network: Network, compare: CompareOptions, target: Format) -> None:
    """Raise NetError for inputs whose size differs from that of the converted network, if its sizes are fixed."""
    for name, value in read_inputs(compare.inputs, network.shapes, network.shapes, compare.image).items():
        shape = network.shapes[name]
        if target.runtime and shape and value.shape[1:] != shape[1:]:
            sizes = ",".join(map(str, value.shape))
            raise NetError(f"{network.title}: --input {name} is {shape_text(value.shape)}, but the network is "
                           f"converted for {shape_text(shape)}; add --input-shape {name}={sizes}")


def _compared(a: Runner, b: Runner, compare: CompareOptions, few_images: Mapping[str, Shape] | None = None) -> Verdict:
    """Compare on the inputs given or, unless values of inputs have a meaning, on random ones in these shapes."""
    shapes = common_inputs(a, b)
    if not shapes:  # neither network names its inputs, so accept any name
        shapes = {argument.partition("=")[0]: () for argument in compare.inputs}
    inputs = read_inputs(compare.inputs, shapes, shapes, compare.image)
    if inputs or (isinstance(a, SampleRunner) and any(
            a.typical(name, np.random.default_rng(compare.seed)) is not None for name in few_images or ())):
        few_images = None
    return verify(a, b, inputs, compare.tolerance, seed=compare.seed, shapes=few_images)


# --- after a conversion -------------------------------------------------------------------------------------------


def _judge(result: ConvertResult, network: Network, written: WriteResult, compare: CompareOptions) -> None:
    """Compare what was written with its source: set the result's verdict, and add the report to its files."""
    if written.format is PROTOTXT:
        result.same, result.verdict = _same_prototxt(network, written)
        return
    try:
        verdict, others = _verified(network, written, compare)
        report = report_path(written.files[0])
        write_report(report, verdict)
    except RmpeError as error:
        result.same, result.verdict = False, f"not compared, so it may compute something else: {error}"
    else:
        result.files.append(report)
        result.same, result.verdict = verdict.same, verdict.sentence + others


def _verified(network: Network, written: WriteResult, compare: CompareOptions) -> tuple[Verdict, str]:
    """Compare at the network's own sizes, with few images if any number will do, then at the others of its inputs.

    Returns:
        The first verdict that finds a difference, else that for the own sizes; and what its sentence lacks.
    """
    title = " and ".join(map(str, written.files))
    result = _runner(network, written, title)
    if network.torch7 is None or network.until:
        verdict = _compared(NetRunner(network.net, network.title), result, compare, written.few_images)
    else:
        verdict = _compared(Torch7Runner(network.torch7, network.title, network.shapes), result, compare)
    others = []
    for shapes in written.compared_at if verdict.same else ():
        text = shapes_text(shapes)
        try:
            other = verify(NetRunner(network.net, network.title), result, None, compare.tolerance, seed=compare.seed,
                           shapes=shapes)
        except RmpeError as error:
            raise NetError(f"with {text}: {error}") from None
        if not other.same:
            return other, f"; with {text}"
        others.append(text)
    return verdict, f"; the same with {', and with '.join(others)}" if others else ""


def _runner(network: Network, written: WriteResult, title: str) -> Runner:
    if written.format.run is not None:
        return written.format.run(written.files[0], title, network.setting, SourceOptions())
    return NetRunner(_reloaded(network, written), title)


def _reloaded(network: Network, written: WriteResult) -> Net:
    """Load the network from the weights that were written, and from the prototxt if one was written."""
    parsed = _read_back(network, written.files[1]) if written.format is CAFFE else network.parsed
    return parsed.build(read_trained(written.files[0], parsed.specs))


def _read_back(network: Network, prototxt: Path) -> ParsedNet:
    s, strict = network.setting, not network.parsed.findings
    return read_net(prototxt, s.phase, s.level, s.stages, s.dialect, s.de_transform, strict, s.allow_python)


def _same_prototxt(network: Network, written: WriteResult) -> tuple[bool, str]:
    """Return whether the prototxt that was written reads back as the same layers."""
    before, after = network.message, _read_back(network, written.files[0]).message
    if network_hash(before) == network_hash(after):
        return True, f"the same: {pluralize(len(after.layer), 'layer')}, every field"
    return False, "not the same: the prototxt does not read back as the same layers"


def _weights_alone(source: Path, destination: str, options: SourceOptions, compare: CompareOptions | None,
                   force: bool) -> ConvertResult:
    if options != SourceOptions():
        raise NetError(f"{source}: contains weights without a network; options for networks need the prototxt too")
    layers = read_weights_alone(source)
    written = write_weights(layers, destination, [source], force)
    if compare is None:
        return ConvertResult(written.files, written.notes)
    before, after = _blobs(layers), _blobs(read_weights_alone(written.files[0]))
    same = before == after
    count = sum(len(blobs) for _, blobs in before)
    return ConvertResult(written.files, written.notes, same,
                     f"the same: {pluralize(count, 'blob')}, every bit" if same else "not the same bits")


def _blobs(layers: Sequence[TrainedLayer]) -> list[tuple[str, list[tuple]]]:
    """Return every layer with blobs, by name, with the shape, type and bytes of each blob."""
    return sorted((layer.name, [(blob.shape, blob.data.dtype.str, blob.data.tobytes())
                                for blob in layer.blobs if blob is not None])
                  for layer in layers if layer.blobs)
