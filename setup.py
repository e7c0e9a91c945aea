"""Builds csrc/: the tensor operators (_C, LibTorch's stable ABI) and what needs no torch (_host, pybind11).

CPU code is always built. CUDA code is built where torch has CUDA and nvcc is found; RMPE_CUDA=0 or 1 overrides.
"""

import os
from glob import glob

import pybind11
import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

STABLE_ABI = "0x020a000000000000"  # torch 2.10: one binary serves every later release
PYTHON_ABI = "0x030A0000"  # Python 3.10; spelled as torch spells it, or the compiler warns of two

# No fast-math, and no fused multiply-add but those that the code asks for by name: the bits are part of the result.
# -Wno-unused-parameter: for torch's headers.
COMPILE = ["-O3", "-std=c++20", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
COMPILE_CUDA = ["-O3", "-std=c++20", "--fmad=false"]


def with_cuda() -> bool:
    """Whether to build the CUDA sources, and why; stops where they are asked for and cannot be built."""
    wanted = os.environ.get("RMPE_CUDA")
    able = torch.version.cuda is not None and CUDA_HOME is not None
    if wanted == "1" and not able:
        raise SystemExit("RMPE_CUDA=1, but this torch has no CUDA or there is no nvcc: install a CUDA build of torch "
                         "and the CUDA toolkit, or unset RMPE_CUDA")
    build = able and wanted != "0"
    print(f"rmpe_legacy: building csrc/ for CPU{' and CUDA ' + torch.version.cuda if build else ' only'}")
    return build


def operators() -> Extension:
    sources = [*glob("csrc/*.cpp"), *glob("csrc/cpu/*.cpp")]
    flags = {"cxx": [*COMPILE, f"-DTORCH_TARGET_VERSION={STABLE_ABI}", f"-DPy_LIMITED_API={PYTHON_ABI}"]}
    make = CppExtension
    if with_cuda():
        make = CUDAExtension
        sources += glob("csrc/cuda/*.cu")
        flags["cxx"].append("-DUSE_CUDA")
        flags["nvcc"] = [*COMPILE_CUDA, f"-DTORCH_TARGET_VERSION={STABLE_ABI}", "-DUSE_CUDA"]
    return make("rmpe_legacy._C", sorted(sources), include_dirs=[os.path.abspath("csrc")], extra_compile_args=flags,
                py_limited_api=True)


def host() -> Extension:
    return Extension("rmpe_legacy._host", sorted(glob("csrc/host/*.cpp")), include_dirs=[pybind11.get_include()],
                     extra_compile_args=COMPILE, language="c++")


setup(ext_modules=[operators(), host()], cmdclass={"build_ext": BuildExtension})
