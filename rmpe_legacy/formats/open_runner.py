"""Opens the two networks of a comparison, as given on the command line."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.reading import refuse_url

from .base import NetRunner, Runner, Setting, SourceOptions, untrained_text
from .opencv import PREFIX, OpenCvRunner
from .read import refuse_torch7_options
from .registry import format_of_file
from .torch7 import is_torch7


@dataclass(frozen=True)
class Side:
    """One of the two arguments: its files, and whether OpenCV runs them."""

    text: str
    files: tuple[Path, ...]
    in_opencv: bool

    @property
    def prototxt(self) -> Path | None:
        """The prototxt, if the argument names one."""
        return self.files[0] if self.files[0].suffix in (".prototxt", ".txt") else None


def open_runners(a: str, b: str, setting: Setting, options: SourceOptions) -> tuple[Runner, Runner]:
    """Open two networks for a comparison.

    Args:
        a: PROTOTXT,WEIGHTS (weights in any format); opencv:PROTOTXT,WEIGHTS for OpenCV's importer; a .json or
            .safetensors that ``rmpe convert`` wrote; .t7; .onnx; .py; .npz; or weights alone, which use the prototxt of
            `b`.
        b: The same.
        setting: How to load the networks.
        options: How to read the files.

    Raises:
        RmpeError: An argument cannot be understood, or its files cannot be read.
    """
    one, other = _parse(a), _parse(b)
    if not any(is_torch7(side.files[0]) for side in (one, other)):
        refuse_torch7_options(f"{a} and {b}", "neither is a .t7 file", options)
    return _open(one, other, setting, options), _open(other, one, setting, options)


def _parse(text: str) -> Side:
    files = tuple(map(Path, text.removeprefix(PREFIX).split(",")))
    if len(files) > 2 or any(not file.name for file in files):
        raise RmpeError(f"{text!r}: give one file, or a prototxt and its weights separated by a comma")
    for file in files:
        refuse_url(file)
        if not os.path.exists(file):
            raise FileError(f"{file}: No such file or directory")
        if os.path.isdir(file):
            raise FileError(f"{file}: is a folder; give the files in it")
    return Side(text, files, text.startswith(PREFIX))


def _open(side: Side, other: Side, setting: Setting, options: SourceOptions) -> Runner:
    title = " and ".join(map(str, side.files))
    if side.in_opencv:
        prototxt, weights = _caffe_files(side, other)
        net = _load(prototxt, weights, setting, options.lenient)
        return OpenCvRunner(prototxt, weights, net, f"{title} in OpenCV")
    found = format_of_file(side.files[0], "run") if len(side.files) == 1 else None
    if found is not None and found.run is not None:
        return found.run(side.files[0], title, setting, options)
    return NetRunner(_load(*_caffe_files(side, other), setting, options.lenient), title)


def _caffe_files(side: Side, other: Side) -> tuple[Path, Path]:
    """Return an argument's prototxt and weights; the prototxt is the other argument's if this one has none."""
    if len(side.files) == 2:
        return side.files
    if side.prototxt is not None:
        raise NetError(f"{side.text}: a prototxt has no weights; append them after a comma: "
                       f"{side.files[0].name},WEIGHTS")
    if other.prototxt is None:
        raise NetError(f"{side.text}: weights alone do not say which network they belong to; give the prototxt too, "
                       f"before a comma: PROTOTXT,{side.files[0].name}")
    return other.prototxt, side.files[0]


def _load(prototxt: Path, weights: Path, setting: Setting, lenient: bool) -> Net:
    parsed = read_net(prototxt, setting.phase, setting.level, setting.stages, setting.dialect, setting.de_transform,
                      not lenient, setting.allow_python)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing weights, which are an error here
        net = parsed.build(read_trained(weights, parsed.specs))
    if (bare := net.left_out.untrained) and not lenient:
        raise NetError(untrained_text(str(weights), bare))
    return net
