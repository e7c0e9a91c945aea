"""Published files around RMPE as a table, and which of them, or which network, a file is.

The table is rmpe_legacy/models/published.json; the parameters' shapes by which weights are recognised are in
networks.json beside it, written by tools/make_network_shapes.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.caffe.proto.blobs import TrainedLayer
from rmpe_legacy.errors import LayerError, NetError, RmpeError
from rmpe_legacy.evaluation.matfile import is_mat, read_mat
from rmpe_legacy.files import kind_of_file
from rmpe_legacy.formats.read import is_weights, read_weights_alone
from rmpe_legacy.formats.torch7 import is_torch7
from rmpe_legacy.readers.hdf5 import open_hdf5
from rmpe_legacy.reading import first_bytes
from rmpe_legacy.text_table import wrapped
from rmpe_legacy.torch7.network_kind import kind, part_of_object
from rmpe_legacy.torch7.reader import read_torch7
from rmpe_legacy.wording import pluralize, shorten

from .content_hash import weights_hash

_INDENT = " " * 18  # of the text's second column

@dataclass(frozen=True)
class PublishedModel:
    """One row of the table; "" or () for an unknown fact."""

    id: str
    file: str  # the name it was published under
    what: str
    links: tuple[str, ...]  # as the source has them; some no longer work
    source: str  # where its authors give the links
    size: str
    prototxt: str  # below prototxt/, that the weights fit
    known: str  # what is known of its content
    instead: str  # what to do when no link works
    weights_sha256: str  # as `rmpe hash` prints it, where somebody has reported it


@cache
def published_models() -> tuple[PublishedModel, ...]:
    """Return the table, in the order of the file."""
    rows = json.loads(_data("published.json"))
    return tuple(PublishedModel(**{**row, "links": tuple(row["links"])}) for row in rows)


@cache
def _networks() -> dict[str, dict]:
    """prototxt -> {"title", "layers": layer -> shapes of its parameters}."""
    return json.loads(_data("networks.json"))


def _data(name: str) -> str:
    return files("rmpe_legacy").joinpath("models", name).read_text("utf-8")


def describe_models(name: str | None = None) -> str:
    """Format the table as text; for one model, given by its id or file name, format everything that is known.

    Raises:
        RmpeError: The name is not in the table.
    """
    if name is None:
        rows = [wrapped(f"{model.id:<17} {model.what}", _INDENT) + f"\n{_INDENT}{model.file or '(several files)'}"
                for model in published_models()]
        return "\n".join([*rows, "", "rmpe models ID: where it was published, what it fits, what to do if the link is "
                          "dead"])
    chosen = [model for model in published_models() if name in (model.id, model.file)]
    if not chosen:
        raise RmpeError(f"no published model {shorten(name)!r}; rmpe models lists {len(published_models())}")
    model = chosen[0]
    lines = {"what": model.what, "file": model.file, "published": model.source, "links": "\n".join(model.links),
             "size": model.size, "fits": model.prototxt and f"prototxt/{model.prototxt}", "known": model.known,
             "if a link is dead": model.instead, "rmpe hash": model.weights_sha256 or "nobody has reported one"}
    return "\n".join(wrapped(f"{'' if i else key:<17} {value}", _INDENT) for key, text in lines.items() if text
                     for i, value in enumerate(text.split("\n")))


def identify_file(path: str | PathLike) -> str:
    """Return which published file a file is, or which network its weights fit best, as text.

    Decides by content, not by name: the content hash of the weights, the shapes of their layers, the modules of a .t7,
    the variables of a .mat or .h5.

    Raises:
        FileError: The file cannot be read.
    """
    path = Path(path)
    start = first_bytes(path, 4096)
    if is_torch7(path):
        return f"{path}: {_torch7(path)}"
    if is_mat(start):
        return f"{path}: {_mat(read_mat(path))}"
    if start.startswith(b"\x89HDF") and "data" not in (names := set(open_hdf5(path))):
        return f"{path}: {_hdf5(names)}"
    if is_weights(path):
        return f"{path}: {_weights(read_weights_alone(path), str(path))}"
    if path.suffix == ".prototxt":
        return f"{path}: {_prototxt(path)}"
    return f"{path}: {kind_of_file(path) or 'an empty file'}; none of the published files"


def _torch7(path: Path) -> str:
    what = kind(part_of_object(read_torch7(path).root))
    if not what:
        return "a Torch7 file, none of the published networks; rmpe show lists what it holds"
    published = "base-networks" if "SPPE alone" in what or what.startswith("spatial transformer") else "final-model"
    return f"{what}: an architecture of {published} (rmpe models {published}); no hash of its weights has been reported"


def _weights(layers: Sequence[TrainedLayer], title: str) -> str:
    layers = [layer for layer in layers if layer.blobs]
    try:
        digest = weights_hash(layers, title)
    except NetError:  # shared blobs: the hash needs the prototxt, and recognition does not need the hash
        digest = ""
    same = [model for model in published_models() if digest and model.weights_sha256 == digest]
    if same:
        return f"{same[0].id}: {same[0].what}; the content hash is that of the published file"
    shapes = {layer.name: ["" if blob is None else shape_text(blob.shape) for blob in layer.blobs] for layer in layers}
    return _best_fit(f"weights of {pluralize(len(shapes), 'layer')}", shapes,
                     "its content hash has not been reported")


def _prototxt(path: Path) -> str:
    try:
        steps = read_net(path, "TEST", de_transform="paper", strict=False).wire()
    except (LayerError, NetError):  # a file that is only for training lacks its data layer in the other phase
        steps = read_net(path, "TRAIN", de_transform="paper", strict=False).wire()
    shapes = {step.layer.spec.name: [shape_text(d.shape) for d in step.layer.declared] for step in steps
              if step.layer.declared}
    return _best_fit(f"a network with {pluralize(len(shapes), 'layer')} that learn", shapes, "give its weights to see "
                     "whether they are a published file")


def _best_fit(what: str, shapes: Mapping[str, Sequence[str]], further: str) -> str:
    """A sentence about the known network that has most in common with these layers: name -> shapes."""
    def likeness(name: str) -> float:
        layers = _networks()[name]["layers"]
        return _agreement(shapes, layers) / max(1, len(shapes.keys() | layers.keys()))

    name = max(_networks(), key=likeness)
    network, same = _networks()[name], _agreement(shapes, _networks()[name]["layers"])
    if not same:
        return f"{what}; none of them fits a known network"
    if likeness(name) == 1:
        ids = [model.id for model in published_models() if model.prototxt == name]
        return (f"{what}: fits all of prototxt/{name}, {network['title']}; the architecture of "
                f"{', '.join(ids) or 'no published file'}; {further}")
    return (f"{what}; the closest match is prototxt/{name}, {network['title']}: {same} of its {len(network['layers'])} "
            "layers have the same shape. rmpe show PROTOTXT --weights FILE lists the others")


def _agreement(shapes: Mapping[str, Sequence[str]], layers: Mapping[str, Sequence[str]]) -> int:
    """How many layers of a network the weights have in the same shapes."""
    return sum(name in shapes and [_unpadded(text) for text in own] == [_unpadded(text) for text in shapes[name]]
               for name, own in layers.items())


def _unpadded(text: str) -> str:
    """A shape without the leading ones that files of old Caffes have: 1 x 1 x 1 x 64 is 64."""
    while text.startswith("1 x "):
        text = text.removeprefix("1 x ")
    return text


_MAT = {"RELEASE": "mpii-annotations", "groups": "mpii-groups", "annolist": "mpii-ppn", "annolist_test_multi":
        "mpii-ppn"}


def _mat(variables: Mapping[str, object]) -> str:
    known = next((_MAT[name] for name in variables if name in _MAT), None)
    names = ", ".join(map(shorten, list(variables)[:5])) or "nothing"
    if known:
        return f"a Matlab file with {names}, like {known} (rmpe models {known}); rmpe evaluate mpii reads it"
    if "pred" in variables:
        return f"a Matlab file with {names}: predictions for rmpe evaluate mpii"
    return f"a Matlab file with {names}; none of the published files"


def _hdf5(names: set[str]) -> str:
    if {"xmin", "ymin", "xmax", "ymax"} <= names:
        return "boxes of a detector, as test-bbox.h5 of authors-boxes (rmpe models authors-boxes)"
    if {"preds", "scores"} <= names:
        return "poses of the pose network, testres.h5: give them to rmpe nms --poses"
    if "preds" in names:
        return "poses of single persons: give them to rmpe evaluate pckh"
    return f"an HDF5 file with {', '.join(map(shorten, sorted(names)[:5])) or 'nothing'}; none of the published files"
