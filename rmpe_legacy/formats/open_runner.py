"""The two sides of a comparison, from what stands on the command line: files of any kind that can be run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.errors import FileError, NetError, RmpeError

from .network_json import Setting, load_converted
from .runners import NetRunner, OnnxRunner, OpenCvRunner, PythonRunner, Runner, StoredRunner, Torch7Runner
from .source import SourceOptions, is_converted, is_torch7, read_network, untrained_text

OPENCV = "opencv:"


@dataclass(frozen=True)
class Side:
    """One argument: its files, and whether OpenCV shall run them."""

    text: str
    files: tuple[Path, ...]
    by_opencv: bool

    @property
    def prototxt(self) -> Path | None:
        """The network's description, where this side names one."""
        return self.files[0] if self.files[0].suffix in (".prototxt", ".txt") else None


def open_sides(a: str, b: str, setting: Setting, options: SourceOptions) -> tuple[Runner, Runner]:
    """Runners for two arguments. RmpeError says what is wrong with which.

    Each is PROTOTXT,WEIGHTS (weights of any kind); opencv:PROTOTXT,WEIGHTS for OpenCV's importer; a .json or
    .safetensors that ``rmpe convert`` wrote; .t7; .onnx; .py; .npz. Weights alone get the other side's prototxt.
    """
    one, other = _parse(a), _parse(b)
    if (not options.parallel or options.key is not None) and not any(is_torch7(side.files[0]) for side in (one, other)):
        raise RmpeError(f"{a} and {b}: neither is a .t7 file; --drop-parallel and --key are for those")
    return _open(one, other, setting, options), _open(other, one, setting, options)


def _parse(text: str) -> Side:
    by_opencv = text.startswith(OPENCV)
    files = tuple(map(Path, text.removeprefix(OPENCV).split(",")))
    if len(files) > 2 or any(not file.name for file in files):
        raise RmpeError(f"{text!r}: a side is one file, or a prototxt and its weights with a comma between")
    for file in files:
        if not file.exists():
            raise FileError(f"{file}: No such file or directory")
        if file.is_dir():
            raise FileError(f"{file}: is a folder; give the files in it")
    return Side(text, files, by_opencv)


def _open(side: Side, other: Side, setting: Setting, options: SourceOptions) -> Runner:
    first, title = side.files[0], " and ".join(map(str, side.files))
    if side.by_opencv:
        prototxt, weights = _both(side, other)
        return OpenCvRunner(prototxt, weights, _net(prototxt, weights, setting, options.lenient), f"{title} in OpenCV")
    if len(side.files) == 1:
        if make := _BY_SUFFIX.get(first.suffix):
            return make(first, title)
        if is_torch7(first):
            network = read_network([first], setting, options)
            return Torch7Runner(network.torch7, title, network.shapes)
        if is_converted(first):
            return NetRunner(load_converted(first, allow_python=setting.allow_python), title)
    return NetRunner(_net(*_both(side, other), setting, options.lenient), title)


def _both(side: Side, other: Side) -> tuple[Path, Path]:
    """A side's prototxt and weights; the prototxt is the other side's where this has none."""
    if len(side.files) == 2:
        return side.files
    if side.prototxt is not None:
        raise NetError(f"{side.text}: a prototxt has no weights; give them with a comma between: "
                       f"{side.files[0].name},WEIGHTS")
    if other.prototxt is None:
        raise NetError(f"{side.text}: weights alone do not say which network; give the prototxt too, with a comma "
                       f"between: PROTOTXT,{side.files[0].name}")
    return other.prototxt, side.files[0]


def _net(prototxt: Path, weights: Path, setting: Setting, lenient: bool) -> Net:
    parsed = read_net(prototxt, setting.phase, setting.level, setting.stages, setting.dialect, setting.de_transform,
                      not lenient, setting.allow_python)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing weights, which are an error here
        net = parsed.build(read_trained(weights, parsed.specs))
    if (bare := net.left_out.untrained) and not lenient:
        raise NetError(untrained_text(str(weights), bare))
    return net


_BY_SUFFIX: Mapping[str, type[OnnxRunner | PythonRunner | StoredRunner]] = {
    ".onnx": OnnxRunner, ".py": PythonRunner, ".npz": StoredRunner}
