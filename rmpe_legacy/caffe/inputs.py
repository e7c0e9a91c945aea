"""``rmpe forward``: reads inputs from files, runs a network, and writes blobs to an .npz."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.files import check_places, whole_file
from rmpe_legacy.readers.npy import NUMBERS, Npz, read_npy
from rmpe_legacy.reading import first_bytes
from rmpe_legacy.wording import did_you_mean, printable

from .data.image import detector_input, load_image, pose_input
from .layers.base import Shape, shape_text
from .net import Net

RECIPES = {"detector": detector_input, "pose": pose_input}
ARRAYS = (".npy", ".npz")


def run_forward(net: Net, inputs: Sequence[str], blobs: str | None, output: str | os.PathLike, device: str,
                image: str) -> dict[str, np.ndarray]:
    """Run a network once and write blobs to an .npz: blob -> array, float32.

    Args:
        net: The network.
        inputs: "NAME=FILE" each. FILE is a .npy; an .npz with a single array or one of the input's name; or an image,
            which is resized to the input's size in the prototxt. Object arrays are refused: nothing is unpickled.
        blobs: None for the network's outputs, "all" for every blob (except the copies made by Caffe's Split layers), or
            names separated by commas.
        output: The .npz; appears whole or not at all.
        device: Where to run the network.
        image: How to preprocess images, "detector" or "pose"; see ``rmpe_legacy.caffe.data.image``.

    Raises:
        RmpeError: An argument is wrong; the message names it.
    """
    names = _blob_names(net, blobs)
    check_places(output)
    shapes = {top: shape for step in net.steps if not step.bottom
              for top, shape in zip(step.top, step.top_shapes, strict=True)}
    values = read_inputs(inputs, shapes, net.inputs, image)
    place = usable_device(device)
    net = net.to(place)
    kept, net.keep_blobs = net.keep_blobs, net.keep_blobs or not set(names) <= set(net.outputs)
    try:
        with torch.no_grad():
            net({name: torch.from_numpy(value).to(place) for name, value in values.items()})
    finally:
        net.keep_blobs = kept
    found = {name: net.blobs[name].cpu().numpy() for name in names}
    _write_npz(Path(output), found)
    return found


# --- inputs -----------------------------------------------------------------------------------------------------


def read_inputs(arguments: Sequence[str], shapes: Mapping[str, Shape], listed: Iterable[str],
                recipe: str = "pose") -> dict[str, np.ndarray]:
    """Read inputs from files, "NAME=FILE" each: name -> float32 array. shapes: of the network's inputs.

    listed: the inputs to list in error messages. Raises RmpeError if an argument is wrong.
    """
    if recipe not in RECIPES:
        raise RmpeError(f"image {recipe!r} is not one of {', '.join(map(repr, RECIPES))}")
    values: dict[str, np.ndarray] = {}
    for argument in arguments:
        name, equals, file = argument.partition("=")
        if not (name and equals and file):
            raise RmpeError(f"input {argument!r} is not of the form NAME=FILE; the inputs are {_listed(listed)}")
        if name not in shapes:
            raise NetError(f"no input {name!r}{did_you_mean(name, shapes)}; the inputs are {_listed(listed)}")
        if name in values:
            raise NetError(f"input {name!r} is given twice; give it once")
        if Path(file).suffix.lower() in ARRAYS:
            values[name] = _read_array(file, name, shapes[name])
        else:
            values[name] = _read_picture(file, name, shapes[name], recipe)
    return values


def _read_array(file: str, name: str, shape: Shape) -> np.ndarray:
    """Read an array as float32, the only type of Caffe's blobs."""
    if first_bytes(file).startswith(b"PK"):
        stored = Npz(file)
        array = stored.read(_member(file, stored.names, name))
    else:
        array = read_npy(file)
    if array.dtype.kind not in NUMBERS:
        raise FileError(f"{file}: holds {array.dtype} values; an input needs an array of numbers")
    if array.size == 0 or (shape and array.ndim != len(shape)):
        raise NetError(f"{file}: its array is {shape_text(array.shape)}; input {name!r} is {shape_text(shape)}, and "
                       "needs as many axes, none of them empty")
    return np.array(array, np.float32)


def _member(file: str, members: Sequence[str], name: str) -> str:
    if name in members:
        return name
    if len(members) == 1:
        return members[0]
    raise FileError(f"{file}: holds {_listed(members)}, but no {name!r}; name one so, or give a file of one array")


def _read_picture(file: str, name: str, shape: Shape, recipe: str) -> np.ndarray:
    if len(shape) != 4 or shape[1] != 3:
        raise NetError(f"{file}: a picture needs an input of N x 3 x height x width; {name!r} is {shape_text(shape)}. "
                       "Give a .npy or .npz")
    return RECIPES[recipe](load_image(file), *shape[2:])[np.newaxis]


# --- running ----------------------------------------------------------------------------------------------------


def _blob_names(net: Net, asked: str | None) -> list[str]:
    if asked is None:
        return list(net.outputs)
    tops = {top: step for step in net.steps for top in step.top}
    if asked == "all":
        return [name for name, step in tops.items() if not step.layer.spec.is_inserted]
    names = list(dict.fromkeys(asked.split(",")))
    for name in names:
        if name not in tops:
            raise NetError(f"no blob {name!r}{did_you_mean(name, tops)}; `rmpe show` lists them under top")
    return names


def usable_device(name: str) -> torch.device:
    """Return the device with this name after trying it. Raises RmpeError if it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" is a device too, but holds no values
    except (RuntimeError, AssertionError) as error:  # torch raises either
        reason = str(error).splitlines()[0]
        raise RmpeError(f"device {name!r} cannot be used: {reason}; cpu always can") from None
    return device


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


# --- output -----------------------------------------------------------------------------------------------------


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz. Unlike numpy.savez, allows a blob named "file"; escapes names that are not valid UTF-8."""
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{printable(name)}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
