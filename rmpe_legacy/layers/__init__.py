"""Caffe's layers as torch modules. Importing this package registers them all."""

from . import (
    arrange,
    batch_norm,
    convolution,
    data,
    eltwise,
    inner_product,
    lrn,
    mvn,
    neuron,
    pooling,
    scale,
    softmax,
    spp,
)
from .base import Layer
from .registry import create, known_types, register

__all__ = ["Layer", "create", "known_types", "register"]
