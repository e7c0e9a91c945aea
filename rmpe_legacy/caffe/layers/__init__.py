"""Caffe's layers as torch modules. Importing this package registers them all.

A type is in the file named after its Caffe source file, without ``_layer.cpp`` and in lower case: Concat
(concat_layer.cpp) is in concat.py, Convolution (conv_layer.cpp) in conv.py. Three of Caffe's base classes have one
file each for the types derived from them: neuron.py, recurrent.py (with LSTMUnit), and loss.py unless a loss has a file
of its own.
"""

from importlib import import_module
from pkgutil import iter_modules

from .base import Layer
from .registry import create, known_types, register

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Layer", "create", "known_types", "register"]
