"""Names that libraries had when such scripts were written, and have no more."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from inspect import Parameter, signature
from types import ModuleType
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError

from . import scipy_misc

_NUMPY = {"float": float, "int": int, "bool": bool, "object": object, "str": str, "long": int, "unicode": str,
          "float_": np.float64, "complex_": np.complex128, "string_": np.bytes_, "unicode_": np.str_, "Inf": np.inf,
          "Infinity": np.inf, "infty": np.inf, "NaN": np.nan, "NINF": -np.inf, "PINF": np.inf, "product": np.prod,
          "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any, "row_stack": np.vstack,
          "asscalar": lambda array: np.asarray(array).item()}
# Python's own, which ``from numpy import *`` replaces since NumPy 2: max(a, 0.0) would be a maximum along an axis.
_BUILT_IN = frozenset({"abs", "bool", "max", "min", "pow", "round"})
_MOVED = {name: f"PIL.{name}" for name in ("Image", "ImageDraw", "ImageFilter", "ImageFont", "ImageOps")}
_OPENCV = {"CV_AA": "LINE_AA", "CV_LOAD_IMAGE_COLOR": "IMREAD_COLOR", "CV_LOAD_IMAGE_GRAYSCALE": "IMREAD_GRAYSCALE",
           "CV_LOAD_IMAGE_UNCHANGED": "IMREAD_UNCHANGED", "CV_FILLED": "FILLED"}


class _Moved(MetaPathFinder, Loader):
    """Finds a module under the name that it had, where nothing else has that name."""

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name, f"{_MOVED[spec.name]} under its old name.")
        vars(module).update((name, value) for name, value in vars(import_module(_MOVED[spec.name])).items()
                            if not name.startswith("__"))
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _restore_pyplot(module: ModuleType) -> None:
    """``hold``, which today's always does, ``cm.get_cmap``, the labels of ticks and the background of axes."""
    for holder in (module, module.Axes):
        if not hasattr(holder, "hold"):
            holder.hold = lambda *args: None  # type: ignore[union-attr]
    axes, ticks = module.Axes, import_module("matplotlib.axis")
    if not hasattr(ticks.Tick, "label"):
        ticks.Tick.label = property(lambda tick: tick.label1)
    if not hasattr(axes, "set_axis_bgcolor"):
        axes.set_axis_bgcolor, axes.get_axis_bgcolor = axes.set_facecolor, axes.get_facecolor
    if not hasattr(module.cm, "get_cmap"):
        module.cm.get_cmap = module.get_cmap


def _restore_skimage_transform(module: ModuleType) -> None:
    """``rescale`` that leaves the last of three axes, the channels, as it is; today's scales it as well."""
    today = module.rescale

    @wraps(today)
    def rescale(image: Any, *args: Any, multichannel: bool | None = None, **options: Any) -> Any:
        if multichannel is None:
            multichannel = np.ndim(image) == 3
        return today(image, *args, **{"channel_axis": -1 if multichannel else None, **options})

    if "channel_axis" in signature(today).parameters:
        module.rescale = rescale  # type: ignore[attr-defined]


def _restore_yaml(module: ModuleType) -> None:
    """``load`` and ``load_all`` without a Loader, for which today's have no default."""
    for name in ("load", "load_all"):
        today = getattr(module, name)
        if signature(today).parameters["Loader"].default is Parameter.empty:
            setattr(module, name, _with_loader(today, module.FullLoader))


def _with_loader(load: Any, default: Any) -> Any:
    @wraps(load)
    def loaded(stream: Any, *args: Any, **named: Any) -> Any:
        return load(stream, *args, **named) if args or named else load(stream, default)

    return loaded


_RESTORED: dict[str, Callable[[ModuleType], None]] = {
    "matplotlib.pyplot": _restore_pyplot, "skimage.transform": _restore_skimage_transform, "yaml": _restore_yaml}


def restore_when_imported(name: str, restore: Callable[[ModuleType], None]) -> None:
    """Call `restore` with the module of this name when it is imported."""
    _RESTORED[name] = restore


class _Restored(MetaPathFinder, Loader):
    """Gives a module of _RESTORED, once it is imported, what it had."""

    def __init__(self) -> None:
        self._real: dict[str, Loader] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in _RESTORED else None
        if spec is not None and spec.loader is not None:
            self._real[name], spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real[spec.name].create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real[module.__name__].exec_module(module)
        _RESTORED[module.__name__](module)


def restore_old_names() -> None:
    """Restore names that newer versions of libraries removed.

    These are names of NumPy, OpenCV, matplotlib, scikit-image and PyYAML, ``time.clock``, PIL's top-level modules and
    ``scipy.misc``. Names that exist are not changed.
    """
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
        sys.meta_path.insert(0, _Restored())
    for name, value in _NUMPY.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    np.__all__ = [name for name in np.__all__ if name not in _BUILT_IN]
    _restore_print_options()
    _restore_fromstring()
    if not hasattr(time, "clock"):
        time.clock = time.process_time  # type: ignore[attr-defined]
    _restore_opencv()
    misc = _stand_in("scipy.misc")
    for name in scipy_misc.__all__:
        if not hasattr(misc, name):
            setattr(misc, name, getattr(scipy_misc, name))


def _restore_print_options() -> None:
    """``np.set_printoptions(threshold="nan")`` and ``np.nan``, which printed arrays in full."""
    today = np.set_printoptions

    @wraps(today)
    def set_printoptions(precision: Any = None, threshold: Any = None, *args: Any, **options: Any) -> None:
        if isinstance(threshold, str | float) and str(threshold) == "nan":
            threshold = sys.maxsize
        today(precision, threshold, *args, **options)

    if not hasattr(today, "__wrapped__"):
        np.set_printoptions = set_printoptions


def _restore_fromstring() -> None:
    """``np.fromstring`` of an array's bytes."""
    today = np.fromstring

    @wraps(today)
    def fromstring(string: Any, dtype: Any = float, count: int = -1, *, sep: str = "", **options: Any) -> np.ndarray:
        if sep:
            return today(string, dtype, count, sep=sep, **options)
        data = string.encode("latin-1") if isinstance(string, str) else string
        return np.frombuffer(data, dtype, count).copy()

    if not hasattr(today, "__wrapped__"):
        np.fromstring = fromstring  # type: ignore[assignment]


def _restore_opencv() -> None:
    """OpenCV 2's names: CV_AA and so on, and ``cv2.cv`` with a CV_ before every constant."""
    import cv2

    for name, now in _OPENCV.items():
        if not hasattr(cv2, name):
            setattr(cv2, name, getattr(cv2, now))
    if not hasattr(cv2, "cv"):
        constants = {f"CV_{name}": value for name, value in vars(cv2).items() if name.isupper() and type(value) is int}
        module = ModuleType("cv2.cv", "OpenCV's constants under the names that they had in OpenCV 2.")
        vars(module).update(constants, CV_FOURCC=cv2.VideoWriter_fourcc)  # type: ignore[attr-defined]
        sys.modules["cv2.cv"] = cv2.cv = module  # type: ignore[attr-defined]


def _stand_in(name: str) -> ModuleType:
    """The module, or an empty one where it no longer exists; a name that this lacks is an error with our sentence."""
    try:
        return import_module(name)
    except ImportError:
        module = sys.modules[name] = ModuleType(name, f"A stand-in for {name}, which is not installed.")
    module.__path__ = []
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(_stand_in(parent), child, module)

    def missing(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise _MissingNameError(f"the script uses {name}.{attribute}, but {name} is not installed; install a library "
                                "that has it, or use another function")

    module.__getattr__ = missing  # type: ignore[method-assign]
    return module


class _MissingNameError(RmpeError, AttributeError):
    """Something of a module that is not installed."""
