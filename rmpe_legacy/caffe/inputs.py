"""``rmpe forward``: reads inputs from files, runs a network, and writes blobs to an .npz."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import FileError, NetError, OptionError, RmpeError
from rmpe_legacy.files import check_places, is_same_file, whole_file
from rmpe_legacy.readers.npy import NUMBERS, Npz, read_npy
from rmpe_legacy.reading import first_bytes
from rmpe_legacy.wording import did_you_mean, printable

from .data.image import DETECTOR_MEAN, detector_input, load_image, pose_input
from .data.transformer import Transformer
from .layers.base import Shape, shape_text
from .net import Net

RECIPES = {"detector": detector_input, "pose": pose_input}
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes an input, as the options of pycaffe's Transformer: resized, channels in this order, times
    ``raw_scale``, minus ``mean``, times ``scale``.

    Args:
        mean: One number, or one per channel in ``channel_order``.
        size: Height and width that replace those of the prototxt.
    """

    mean: tuple[float, ...] = (0.0,)
    raw_scale: float = 1.0  # images are read as 0 to 1
    scale: float = 1.0
    channel_order: str = "RGB"
    size: tuple[int, int] | None = None

    def apply(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        """Preprocess an image: (H, W, 3) float32 RGB from 0 to 1 -> (3, height, width) float32.

        Raises:
            RmpeError: `mean` is neither one number nor one per channel.
        """
        transformer = Transformer({"data": (1, 3, height, width)})
        transformer.set_transpose("data", (2, 0, 1))
        if self.channel_order == "BGR":
            transformer.set_channel_swap("data", (2, 1, 0))
        transformer.set_raw_scale("data", self.raw_scale)
        if len(self.mean) not in (1, 3):
            raise RmpeError(f"mean {','.join(map(str, self.mean))}: give one number, or one per channel")
        transformer.set_mean("data", np.broadcast_to(np.array(self.mean, np.float32), 3).copy())
        transformer.set_input_scale("data", self.scale)
        return transformer.preprocess("data", image.copy())

    def __str__(self) -> str:
        mean = f", minus {', '.join(f'{value:g}' for value in self.mean)}" if any(self.mean) else ""
        scale = f", times {self.scale:g}" if self.scale != 1 else ""
        return f"{self.channel_order} from 0 to {self.raw_scale:g}{mean}{scale}"


# What the recipes do, in these terms; their own functions are faster.
_AS_OPTIONS = {"pose": ImageOptions(), "detector": ImageOptions(tuple(map(float, DETECTOR_MEAN)), 255, 1, "BGR")}


def run_forward(net: Net, inputs: Sequence[str], blobs: str | None, output: str | os.PathLike, device: str,
                image: str | ImageOptions, log: Callable[[str], None] = lambda text: None,
                engine: str = "exact") -> dict[str, np.ndarray]:
    """Run a network once and write blobs to an .npz: blob -> array, float32.

    Args:
        net: The network.
        inputs: "NAME=FILE" each. FILE is a .npy; an .npz with a single array or one of the input's name; or an image,
            which is resized to the input's size in the prototxt. Object arrays are refused: nothing is unpickled.
        blobs: None for the network's outputs, "all" for every blob (except the copies made by Caffe's Split layers), or
            names separated by commas.
        output: The .npz; appears whole or not at all.
        device: Where to run the network.
        image: How to preprocess images, "detector" or "pose", see ``rmpe_legacy.caffe.data.image``; or ImageOptions.
        log: Called with a line per image about how it became an input, and one about the engine.
        engine: What runs the network, see ``Net.compiled``.

    Raises:
        RmpeError: An argument is wrong; the message names it.
    """
    names = _blob_names(net, blobs)
    check_places(output)
    if any(is_same_file(output, argument.partition("=")[2]) for argument in inputs):
        raise RmpeError(f"{output}: is an input, which the blobs would replace; give another --output")
    shapes = {top: shape for step in net.steps if not step.bottom
              for top, shape in zip(step.top, step.top_shapes, strict=True)}
    values = read_inputs(inputs, shapes, net.inputs, image, log)
    if missing := [name for name in net.inputs if name not in values]:
        raise NetError(f"no value for input {_listed(missing)}; give each with --input NAME=FILE")
    place = usable_device(device)
    net = net.to(place)
    tensors = {name: torch.from_numpy(value).to(place) for name, value in values.items()}
    made = _run_exact(net, tensors, names) if engine == "exact" else _run_in(engine, net, tensors, names, log)
    found = {name: made[name].cpu().numpy() for name in names}
    _write_npz(Path(output), found)
    return found


def _run_exact(net: Net, tensors: Mapping[str, Tensor], names: Sequence[str]) -> Mapping[str, Tensor]:
    kept, net.keep_blobs = net.keep_blobs, net.keep_blobs or not set(names) <= set(net.outputs)
    try:
        with torch.no_grad():
            net(tensors)
    finally:
        net.keep_blobs = kept
    return net.blobs


def _run_in(engine: str, net: Net, tensors: Mapping[str, Tensor], names: Sequence[str],
            log: Callable[[str], None]) -> Mapping[str, Tensor]:
    if given := [name for name in names if name in net.inputs]:
        raise RmpeError(f"blob {given[0]!r} is an input, which an engine does not return; leave it out of --blobs, or "
                        "use --engine exact")
    compiled = net.compiled(engine, blobs=names)
    made = compiled(tensors)
    proven = "" if compiled.proof is None else f", within {compiled.proof.worst:.2g} of exact's range"
    log(f"engine: {compiled.engine}{proven}")
    return made


# --- inputs -----------------------------------------------------------------------------------------------------


def read_inputs(arguments: Sequence[str], shapes: Mapping[str, Shape], listed: Iterable[str],
                recipe: str | ImageOptions = "pose",
                log: Callable[[str], None] = lambda text: None) -> dict[str, np.ndarray]:
    """Read a network's inputs from files.

    Args:
        arguments: "NAME=FILE" each; see ``run_forward``.
        shapes: The shapes of the network's inputs, by name.
        listed: The inputs that error messages list.
        recipe: How to preprocess images; see ``run_forward``.
        log: Called with a line per image about how it became an input.

    Returns:
        Name -> float32 array.

    Raises:
        RmpeError: An argument is wrong, or a file cannot be read.
    """
    if isinstance(recipe, str) and recipe not in RECIPES:
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
            values[name] = _read_image(file, name, shapes[name], recipe, log)
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
                       "needs the same number of axes, none of them empty")
    with np.errstate(over="ignore"):
        values = np.array(array, np.float32)
    if not np.array_equal(np.isinf(values), np.isinf(array)):
        raise FileError(f"{file}: holds values beyond {np.finfo(np.float32).max:.3g}, the largest number of single "
                        "precision, in which Caffe computes")
    return values


def _member(file: str, members: Sequence[str], name: str) -> str:
    if name in members:
        return name
    if len(members) == 1:
        return members[0]
    raise FileError(f"{file}: holds {_listed(members)}, but no {name!r}; rename one, or give a file with one array")


def _read_image(file: str, name: str, shape: Shape, recipe: str | ImageOptions,
                  log: Callable[[str], None]) -> np.ndarray:
    if len(shape) != 4 or shape[1] != 3:
        raise NetError(f"{file}: an image needs an input of N x 3 x height x width; {name!r} is {shape_text(shape)}. "
                       "Give a .npy or .npz")
    image = load_image(file)
    options = _AS_OPTIONS[recipe] if isinstance(recipe, str) else recipe
    height, width = options.size or shape[2:]
    log(f"{name}: {file}, {image.shape[1]} x {image.shape[0]} pixels, resized to {width} x {height}; {options}")
    make = RECIPES[recipe] if isinstance(recipe, str) else recipe.apply
    return make(image, height, width)[np.newaxis]


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
    """Return the device with this name, after allocating on it once.

    Raises:
        RmpeError: There is no such device, or it cannot be used.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" is a device too, but holds no values
    except (RuntimeError, AssertionError) as error:  # torch raises either
        said = str(error).splitlines()[0]
        reason = "PyTorch knows no such device" if said.startswith("Expected one of cpu") else said
        raise OptionError(f"device {name!r} cannot be used: {reason}; --device cpu always works") from None
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
