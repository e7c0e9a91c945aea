"""Writes a network as files of one kind: Caffe's own, HDF5, safetensors, a state dict, ONNX, or a model.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.proto.hdf5_writer import write_hdf5_weights
from rmpe_legacy.caffe.proto.text import format_text
from rmpe_legacy.caffe.weights import write_safetensors, write_state_dict
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import all_or_none, make_folder

from .network_json import network_json
from .replaced import PROTOTXT_MARK, check_replaceable
from .source import Network

Write = Callable[[Network, list[Path]], str]


@dataclass(frozen=True)
class Target:
    """One kind of result. `suffixes` are those of its files, that of the destination first."""

    what: str
    suffixes: tuple[str, ...]
    write: Write  # fills the places of these files; gives what is to be said about them, or ""
    to_run: str = ""  # the format's name, if the result runs outside Caffe and without its data layers


@dataclass(frozen=True)
class WriteResult:
    """What has been written, and where."""

    target: Target
    files: list[Path]
    notes: list[str]


def write_network(network: Network, target: Target, destination: str | PathLike, sources: Sequence[Path] = (),
                  force: bool = False) -> WriteResult:
    """Write a network as `target`, which is what `target_of` gave for the destination.

    All the files appear, or none. sources: files that must not be written over. force: replace files that an earlier
    conversion has not written. RmpeError names what cannot be written in this form.
    """
    first = Path(destination)
    if _is_folder(destination):
        first = first / f"{network.stem}{target.suffixes[0]}"
    stem = first.name.removesuffix(target.suffixes[0])
    files = [first.with_name(stem + suffix) for suffix in target.suffixes]
    if target is CAFFE and network.prototxt is not None and not _is_folder(destination):
        target, files = CAFFEMODEL, files[:1]  # the prototxt is there already
    _spare(files, sources)
    notes = check_replaceable(files, force)
    if _is_folder(destination):
        make_folder(first.parent)
    with all_or_none(*files) as places:
        note = target.write(network, places)
    return WriteResult(target, files, notes + ([note] if note else []))


def write_weights(layers: list[TrainedLayer], destination: str | PathLike, sources: Sequence[Path] = (),
                  force: bool = False) -> WriteResult:
    """Write weights whose network is not known, as .caffemodel or .h5."""
    path = Path(destination)
    kinds = {".caffemodel": (CAFFEMODEL, write_caffemodel), ".h5": (HDF5, write_hdf5_weights)}
    if path.suffix not in kinds:
        raise RmpeError(f"{path}: weights alone can become a .caffemodel or a .caffemodel.h5; for anything else give "
                        "the prototxt before them")
    target, write = kinds[path.suffix]
    _spare([path], sources)
    notes = check_replaceable([path], force)
    with all_or_none(path) as [place]:
        write(place, layers)
    return WriteResult(target, [path], notes)


def target_of(destination: str | PathLike) -> Target:
    """The kind of result that a destination's suffix asks for; a folder asks for Caffe's two files."""
    path = Path(destination)
    if _is_folder(destination):
        return CAFFE
    if not path.name.removesuffix(path.suffix):
        raise RmpeError(f"{path}: has no name before its suffix; give one")
    for target in TARGETS:
        if path.name.endswith(target.suffixes[0]) and path.name != target.suffixes[0]:
            return target
    kinds = "; ".join(f"{target.suffixes[0]}: {target.what}" for target in TARGETS)
    raise RmpeError(f"{path}: its suffix does not say what to write. A folder: prototxt and caffemodel; {kinds}")


def _is_folder(destination: str | PathLike) -> bool:
    return str(destination).endswith(("/", "\\")) or Path(destination).is_dir()


def _spare(files: Sequence[Path], sources: Sequence[Path]) -> None:
    for file in files:
        if any(file.exists() and source.exists() and file.samefile(source) for source in sources):
            raise FileError(f"{file}: is one of the sources; give the result another name")


# --- the kinds ----------------------------------------------------------------------------------------------------


def _as_caffemodel(network: Network, places: list[Path]) -> str:
    write_caffemodel(places[0], network.weights, network.message)
    return ""


def _as_caffe(network: Network, places: list[Path]) -> str:
    _as_prototxt(network, places[1:])
    return _as_caffemodel(network, places)


def _as_prototxt(network: Network, places: list[Path]) -> str:
    places[0].write_text(f"{PROTOTXT_MARK}\n{format_text(network.message)}", "utf-8")
    return ""


def _as_hdf5(network: Network, places: list[Path]) -> str:
    write_hdf5_weights(places[0], network.owned)
    return ""


def _as_safetensors(network: Network, places: list[Path]) -> str:
    weights, graph = places
    write_safetensors(weights, network.layers, network.weights)
    graph.write_text(network_json(network.message, network.setting, weights.name), "utf-8")
    return ""


def _as_state_dict(network: Network, places: list[Path]) -> str:
    write_state_dict(places[0], network.layers, network.weights)
    return ""


def _as_onnx(network: Network, places: list[Path]) -> str:
    from rmpe_legacy.export.onnx import to_onnx, write_onnx

    model, graph = to_onnx(network.net, about=f"made of {network.title}")
    write_onnx(places[0], model)
    return "" if graph.is_dynamic else f"the batch has the prototxt's size: {graph.why_fixed}"


def _as_python(network: Network, places: list[Path]) -> str:
    from rmpe_legacy.export.python_source import to_python, write_state

    text, weights = places
    model = to_python(network.net, network.title, weights.name)
    text.write_text(model.text, "utf-8")
    write_state(weights, model.state)
    return "" if model.graph.is_dynamic else f"the batch has the prototxt's size: {model.graph.why_fixed}"


CAFFE = Target("a caffemodel, and its prototxt where the source has none", (".caffemodel", ".prototxt"), _as_caffe)
CAFFEMODEL = Target("a caffemodel", (".caffemodel",), _as_caffemodel)
HDF5 = Target("Caffe's weights as HDF5", (".h5",), _as_hdf5)
SAFETENSORS = Target("safetensors, and the network as .json", (".safetensors", ".json"), _as_safetensors)
STATE_DICT = Target("a PyTorch state dict", (".pt",), _as_state_dict)
ONNX = Target("ONNX", (".onnx",), _as_onnx, to_run="ONNX")
PYTHON = Target("a PyTorch module of its own, with its weights as .pt", (".py", ".pt"), _as_python, to_run="PyTorch")
PROTOTXT = Target("the network in today's layout, without weights", (".prototxt",), _as_prototxt)
TARGETS = (CAFFE, HDF5, SAFETENSORS, STATE_DICT, ONNX, PYTHON, PROTOTXT)
