"""rmpe --version; with --verbose, details of the installation for a bug report."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import rmpe_legacy
from rmpe_legacy import __version__
from rmpe_legacy.wording import pluralize

LIBRARIES = ("numpy", "opencv-python-headless", "protobuf", "h5py", "safetensors", "onnx", "onnxruntime", "pycocotools",
             "matplotlib", "tensorboard")
# These change which code runs, and so last bits or times.
VARIABLES = ("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
             "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")


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
            **_processors(),
            "operators": _operators(),
            **{name: _version_of(name) for name in LIBRARIES},
            "installed in": str(Path(rmpe_legacy.__file__).parent),
            "environment": ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ) or "-"}


def _processors() -> dict[str, str]:
    """The instruction set that torch uses, on which a convolution's last bits depend, and the GPUs it finds."""
    try:
        import torch
    except ImportError as error:
        return {"CPU": f"{platform.machine()}; torch cannot be loaded: {error}"}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"CPU": f"{platform.machine()}; torch uses {torch.backends.cpu.get_cpu_capability()} and "
                   f"{pluralize(torch.get_num_threads(), 'thread')}",
            "GPU": ", ".join(gpus) or "none",
            "CUDA": f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if torch.version.cuda
                    else "none; torch is built without it"}


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
