"""Libraries that only some users need. Each belongs to an extra of the package, which the error names."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import RmpeError

EXTRAS = {  # module -> the extra in pyproject.toml that installs it
    "argcomplete": "completion",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "pycocotools": "eval",
    "matplotlib": "report",
    "networkx": "draw",
    "PIL": "py2",
    "scipy": "mat",
    "tensorboard": "train",
    "lmdb": "train",
    "sklearn": "train",
    "starlette": "serve",
    "uvicorn": "serve",
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow"}  # module -> the name to install it by, where that differs


def optional(module: str, purpose: str) -> ModuleType:
    """Import a module of a library in EXTRAS, for example "matplotlib.figure".

    Args:
        module: The module to import.
        purpose: What needs it, as the subject of a sentence: "writing ONNX files".

    Raises:
        RmpeError: The library is not installed; the message says what to install.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # the library is there, and itself lacks something
        name = DISTRIBUTIONS.get(library, library)
        raise RmpeError(f"{purpose} needs {name}; pip install 'rmpe-legacy[{EXTRAS[library]}]'") from None
