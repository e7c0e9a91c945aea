"""Builds csrc/: the tensor operators (_C, LibTorch's stable ABI), a gradient that needs more of torch than that ABI has
(_autograd, for the torch at hand alone), and what needs no torch (_host, pybind11).

CPU code is always built. CUDA code is built where torch has CUDA and there is a toolkit of the same release, in
CUDA_HOME or where nvcc is found; RMPE_CUDA=0 builds none, and RMPE_CUDA=1 stops where it cannot be built.
"""

import os
import re
import shutil
import subprocess
from glob import glob

import pybind11
import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

STABLE_ABI = "0x020a000000000000"  # torch 2.10: one binary serves every later release
PYTHON_ABI = "0x030A0000"  # Python 3.10; spelled as torch spells it, or the compiler warns of two

# For which GPUs CUDA code is built where none can be asked, as `make cuda` does; torch asks the machine's own. PTX
# serves later ones.
CUDA_ARCHITECTURES = "7.5;8.0;9.0+PTX"

# No fast-math, and no fused multiply-add but those that the code asks for by name: the bits are part of the result.
# -Wno-unused-parameter: for torch's headers.
COMPILE = ["-O3", "-std=c++20", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
COMPILE_CUDA = ["-O3", "-std=c++20", "--fmad=false"]


def why_no_cuda() -> str | None:
    """Why CUDA code cannot be built here; None where it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    nvcc = CUDA_HOME and shutil.which("nvcc", path=os.path.join(CUDA_HOME, "bin"))
    if not nvcc:
        return f"there is no nvcc{f' in {CUDA_HOME}' if CUDA_HOME else ''}"
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)", told)
    if release is None or release[1] != torch.version.cuda.split(".")[0]:
        return (f"torch is built with CUDA {torch.version.cuda} and the toolkit in {CUDA_HOME} is another release "
                f"({release[1] if release else 'none that it tells'})")
    return None


def with_cuda() -> bool:
    """Whether to build the CUDA sources, and why; stops where they are asked for and cannot be built."""
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
    sources = [*glob("csrc/*.cpp"), *glob("csrc/cpu/*.cpp")]
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
                py_limited_api=True)


def gradients() -> Extension:
    flags = [*COMPILE, f"-DPy_LIMITED_API={PYTHON_ABI}"]
    return CppExtension("rmpe_legacy._autograd", sorted(glob("csrc/autograd/*.cpp")), extra_compile_args=flags,
                        py_limited_api=True)


def host() -> Extension:
    return Extension("rmpe_legacy._host", sorted(glob("csrc/host/*.cpp")), include_dirs=[pybind11.get_include()],
                     extra_compile_args=COMPILE, language="c++")


setup(ext_modules=[operators(), gradients(), host()], cmdclass={"build_ext": BuildExtension})
