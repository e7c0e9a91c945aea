"""rmpe --version; with --verbose, details of the installation for a bug report."""

from __future__ import annotations

import platform
from importlib import metadata

from rmpe_legacy import __version__

LIBRARIES = ("numpy", "opencv-python-headless", "protobuf", "h5py", "safetensors", "onnx", "onnxruntime", "pycocotools",
             "matplotlib", "tensorboard")


def version_text(verbose: bool) -> str:
    """One line; with verbose, a table of the operators' build and of the libraries' versions."""
    first = f"rmpe_legacy {__version__}"
    if not verbose:
        return first
    return "\n".join([first, *(f"{name:<24} {value}" for name, value in _details().items())])


def _details() -> dict[str, str]:
    return {"Python": f"{platform.python_version()} ({platform.python_implementation()})",
            "system": platform.platform(),
            "torch": _version_of("torch"),
            "operators": _operators(),
            **{name: _version_of(name) for name in LIBRARIES}}


def _operators() -> str:
    """How csrc/ was built, or why it cannot be loaded."""
    try:
        from rmpe_legacy.ops.registration import BUILT_WITH_CUDA  # first: it loads torch, which _C needs
        from rmpe_legacy import _C  # isort: skip
    except ImportError as error:
        return f"cannot be loaded: {error}"
    return f"built with torch {_C.BUILT_WITH_TORCH}, {'CPU and CUDA' if BUILT_WITH_CUDA else 'CPU only'}"


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
