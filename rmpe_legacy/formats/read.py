"""Reads what is to be converted: a network from any files that contain one, or weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.load import parse_net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.weights import read_state
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.deploy import outputs_to_run
from rmpe_legacy.export.prune import up_to
from rmpe_legacy.files import is_binary
from rmpe_legacy.wording import shorten_list

from .base import Network, Setting, SourceOptions
from .registry import CAFFE, format_of_file
from .torch7 import TORCH7


def read_network(sources: Sequence[str | PathLike], setting: Setting, options: SourceOptions | None = None,
                 weights_needed: bool = True, runtime: str = "") -> Network:
    """Read a network.

    Args:
        sources: A prototxt; a prototxt and a weights file; a .json or .safetensors that ``rmpe convert`` wrote; or a
            .t7 file.
        setting: How to load the network.
        options: How to read the files.
        weights_needed: Raise an error if the network has parameters and no weights are given.
        runtime: Name of the runtime if the network is to run outside Caffe. Data layers then become inputs, and layers
            that need labels are left out (if `options.lenient`) or refused.

    Raises:
        RmpeError: The files cannot be read, or do not contain a network.
    """
    options, paths = options or SourceOptions(), [Path(source) for source in sources]
    if len(paths) > 2:
        raise RmpeError(f"{len(paths)} sources are given; expected at most two, a prototxt and a weights file")
    source_format = (format_of_file(paths[0], "read") if len(paths) == 1 else None) or CAFFE
    for path in paths:
        _refuse_only_run(path)
    if source_format is not TORCH7:
        refuse_torch7_options(str(paths[0]), "is not a .t7 file", options)
    assert source_format.read is not None
    network = source_format.read(paths, setting, options, bool(runtime))
    ends = options.until
    notes: list[str] = []
    if runtime and not ends:
        ends, notes = outputs_to_run(network.parsed.wire())
    if weights_needed and network.trained is None:
        _refuse_without_weights(network)
    if ends:
        network = _up_to(network, ends)
    return replace(network, notes=(*network.notes, *notes), dynamic=options.dynamic)


def _refuse_only_run(path: Path) -> None:
    """Raise NetError for a file that ``rmpe verify`` runs, but from which no network can be read."""
    known = format_of_file(path, "run")
    if known is not None and known.read is None:
        raise NetError(f"{path}: a {path.suffix} cannot be read back as a Caffe network; give the files that it was "
                       "made from")


def refuse_torch7_options(where: str, reason: str, options: SourceOptions) -> None:
    """Raise RmpeError for options that only apply to .t7 files."""
    if not options.parallel or options.key is not None:
        raise RmpeError(f"{where}: {reason}; --drop-parallel and --key apply only to .t7 files")


def _up_to(network: Network, ends: Sequence[str]) -> Network:
    s = network.setting
    parsed = parse_net(up_to(network.parsed.wire(), network.message, ends), s.phase, s.level, s.stages, s.de_transform,
                       allow_python=s.allow_python)
    names = {spec.name for spec in parsed.specs}
    trained = None if network.trained is None else [layer for layer in network.trained if layer.name in names]
    return replace(network, parsed=parsed, trained=trained, prototxt=None, until=tuple(ends))


def _refuse_without_weights(network: Network) -> None:
    if bare := [step.layer.spec.name for step in network.parsed.wire() if step.layer.declared]:
        raise NetError(f"{network.title}: has parameters ({shorten_list(bare)}), but no weights are given; give the "
                       "caffemodel too")


def is_weights(path: Path) -> bool:
    """Return whether a file contains weights without a network."""
    if format_of_file(path, "read") is not None or format_of_file(path, "run") is not None:
        return False
    try:
        with open(path, "rb") as file:
            return is_binary(file.read(4096))
    except OSError:
        return False  # reported when the file is read


def read_weights_alone(path: str | PathLike) -> list[TrainedLayer]:
    """Read weights without their network: a caffemodel, an HDF5 file, or a safetensors that ``rmpe convert`` wrote."""
    state = read_state(path)
    if state is None:
        return read_weights(path)
    if state.layers is None:
        raise NetError(f"{path}: does not say which of Caffe's blobs each tensor is; give the prototxt too")
    return [TrainedLayer(layer.name, layer.type, tuple(map(state.blob, layer.keys))) for layer in state.layers]
