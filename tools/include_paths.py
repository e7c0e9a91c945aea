"""Prints the compiler's -I options for the headers of Python, torch and pybind11."""

import sysconfig

import pybind11
from torch.utils.cpp_extension import include_paths

print(*(f"-I{path}" for path in (*include_paths(), pybind11.get_include(), sysconfig.get_path("include"))))
