"""Writes a network or weights in any format: all files of a conversion, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.layers.base import Shape
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import all_or_none, is_same_file, make_folder

from .base import Format, Network
from .existing_files import check_replaceable
from .registry import CAFFE, CAFFEMODEL, FORMATS, is_folder


@dataclass(frozen=True)
class WriteResult:
    """The files that were written, in which format, and notes for the user."""

    format: Format
    files: list[Path]
    notes: list[str]
    compared_at: tuple[Mapping[str, Shape], ...] = ()  # shapes of the inputs to compare at, besides the prototxt's
    few_images: Mapping[str, Shape] = field(default_factory=dict)  # shapes of random inputs in place of the prototxt's


def write_network(network: Network, target: Format, destination: str | PathLike, sources: Sequence[Path] = (),
                  force: bool = False) -> WriteResult:
    """Write a network. All the files appear, or none.

    Args:
        network: The network.
        target: The format, as ``format_to_write`` returns it for the destination.
        destination: A file name with the format's suffix, or a folder.
        sources: Files that must not be overwritten.
        force: Also replace files that no earlier conversion wrote.

    Raises:
        RmpeError: The network cannot be expressed in this format, or the files cannot be written.
    """
    first = Path(destination)
    if is_folder(destination):
        first = first / f"{network.stem}{target.suffixes[0]}"
    stem = first.name.removesuffix(target.suffixes[0])
    files = [first.with_name(stem + suffix) for suffix in target.suffixes]
    if target is CAFFE and network.prototxt is not None and not is_folder(destination):
        target, files = CAFFEMODEL, files[:1]  # the user has the prototxt already
    _refuse_sources(files, sources)
    notes = check_replaceable(files, target, force)
    assert target.prepare is not None
    writer = target.prepare(network, files)
    if is_folder(destination):
        make_folder(first.parent)
    with all_or_none(*files) as paths:
        writer.write(paths)
    return WriteResult(target, files, notes + list(writer.notes), writer.compared_at, writer.few_images)


def write_weights(layers: list[TrainedLayer], destination: str | PathLike, sources: Sequence[Path] = (),
                  force: bool = False) -> WriteResult:
    """Write weights without their network, as .caffemodel or .h5; arguments as for ``write_network``.

    Raises:
        RmpeError: The destination has another suffix.
        FileError: The file cannot be written.
    """
    path = Path(destination)
    target = next((each for each in FORMATS if each.write_weights and path.suffix == each.suffixes[0]), None)
    if target is None or target.write_weights is None:
        raise RmpeError(f"{path}: weights without a network can only be written as .caffemodel or .caffemodel.h5; for "
                        "other formats give the prototxt before them")
    _refuse_sources([path], sources)
    notes = check_replaceable([path], target, force)
    with all_or_none(path) as [place]:
        target.write_weights(place, layers)
    return WriteResult(target, [path], notes)


def _refuse_sources(files: Sequence[Path], sources: Sequence[Path]) -> None:
    for file in files:
        if any(is_same_file(file, source) for source in sources):
            raise FileError(f"{file}: is one of the sources; give the result another name")
