"""Names that libraries had when such scripts were written, and have no more."""

from __future__ import annotations

import sys
import time
from importlib import import_module
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


def restore_old_names() -> None:
    """Have NumPy's names of then, ``time.clock``, and ``scipy.misc`` with its functions for pictures.

    What is there already stays as it is.
    """
    for name, value in _NUMPY.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    if not hasattr(time, "clock"):
        time.clock = time.process_time  # type: ignore[attr-defined]
    misc = _stand_in("scipy.misc")
    for name in scipy_misc.__all__:
        if not hasattr(misc, name):
            setattr(misc, name, getattr(scipy_misc, name))


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
        raise _MissingNameError(f"the script uses {name}.{attribute}, and there is no {name} here; install a library "
                                "that has it, or use another function")

    module.__getattr__ = missing  # type: ignore[method-assign]
    return module


class _MissingNameError(RmpeError, AttributeError):
    """Something of a module that is not installed."""
