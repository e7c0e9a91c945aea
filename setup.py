"""Builds csrc/: `_C`, the tensor operators (LibTorch's stable ABI, Python's limited API), and `_host`, the loops that
need no torch (pybind11). Copies prototxt/ into the package.

CPU kernels are always built. CUDA kernels are built if torch has CUDA and a toolkit of the same release is found, in
CUDA_HOME or through nvcc. RMPE_CUDA=0 leaves them out; RMPE_CUDA=1 fails if they cannot be built.

`python setup.py build_ext --inplace` compiles what has changed since the last time, and nothing else.
"""

import os
import re
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import pybind11
import torch
from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

STABLE_ABI = "0x020a000000000000"  # torch 2.10: one binary works with every later release
PYTHON_ABI = "0x030A0000"  # Python 3.10; spelled as torch spells it, or the compiler warns of two

# The GPUs to compile for if this machine has none, as in `make cuda`; torch otherwise compiles for the machine's own.
# PTX covers later GPUs.
CUDA_ARCHITECTURES = "7.5;8.0;9.0+PTX"

# No fast-math, and no fused multiply-add except where the code asks for one by name: the bits are part of the result.
# -Wno-unused-parameter: for torch's headers. -g0: Python's own flags ask for debugging symbols, ten times the size of
# the code.
COMPILE = ["-O3", "-g0", "-std=c++20", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra",
           "-Wno-unused-parameter"]
COMPILE_CUDA = ["-O3", "-std=c++20", "--fmad=false"]
LINK = ["-Wl,-x"] if sys.platform == "darwin" else ["-Wl,--strip-all"]

def why_no_cuda() -> str | None:
    """Why CUDA code cannot be built here; None if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    nvcc = CUDA_HOME and shutil.which("nvcc", path=os.path.join(CUDA_HOME, "bin"))
    if not nvcc:
        return f"there is no nvcc{f' in {CUDA_HOME}' if CUDA_HOME else ''}"
    output = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)", output)
    if release is None or release[1] != torch.version.cuda.split(".")[0]:
        return (f"torch is built with CUDA {torch.version.cuda} and the toolkit in {CUDA_HOME} is another release "
                f"({release[1] if release else 'unknown'})")
    return None


def with_cuda() -> bool:
    """Decide whether to build the CUDA sources, and print why. Exits if RMPE_CUDA=1 and they cannot be built."""
    wanted, reason = os.environ.get("RMPE_CUDA"), why_no_cuda()
    if wanted == "1" and reason:
        raise SystemExit(f"RMPE_CUDA=1, but {reason}: install a CUDA build of torch and the CUDA toolkit of the same "
                         "release, name it in CUDA_HOME, or unset RMPE_CUDA")
    if wanted == "0" or reason:
        print(f"rmpe_legacy: building csrc/ for CPU only ({reason or 'RMPE_CUDA=0'})")
        return False
    print(f"rmpe_legacy: building csrc/ for CPU and CUDA {torch.version.cuda}")
    return True


def operators() -> Extension:
    sources = [*glob("csrc/*.cpp"), *glob("csrc/cpu/**/*.cpp", recursive=True)]
    flags = {"cxx": [*COMPILE, f"-DTORCH_TARGET_VERSION={STABLE_ABI}", f"-DPy_LIMITED_API={PYTHON_ABI}"]}
    make = CppExtension
    if with_cuda():
        make = CUDAExtension
        if not torch.cuda.is_available():
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
        sources += glob("csrc/cuda/*.cu")
        flags["cxx"].append("-DUSE_CUDA")
        flags["nvcc"] = [*COMPILE_CUDA, f"-DTORCH_TARGET_VERSION={STABLE_ABI}", "-DUSE_CUDA"]
    return make("rmpe_legacy._C", sorted(sources), include_dirs=[os.path.abspath("csrc")], extra_compile_args=flags,
                extra_link_args=LINK, py_limited_api=True)


def host() -> Extension:
    return Extension("rmpe_legacy._host", sorted(glob("csrc/host/*.cpp")), include_dirs=[pybind11.get_include()],
                     extra_compile_args=COMPILE, extra_link_args=LINK, language="c++")


class BuildWithNetworks(build_py):
    """Copies the networks of prototxt/ into a wheel. An editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in sorted(Path("prototxt").rglob("*.*")):
            target = Path(self.build_lib, "rmpe_legacy", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(ext_modules=[operators(), host()], cmdclass={"build_ext": BuildExtension, "build_py": BuildWithNetworks},
      # An editable installation is a path, not an import hook: mypy and pyright find the package's types in it.
      options={"editable_wheel": {"mode": "compat"}})
