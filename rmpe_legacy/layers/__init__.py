"""Caffe's layers as torch modules. Importing this package registers them all."""

from . import (
    accuracy,
    argmax,
    arrange,
    batch_norm,
    choose,
    convolution,
    data,
    eltwise,
    embed,
    hdf5_data,
    hdf5_output,
    heatmap_data,
    heatmap_loss,
    inner_product,
    list_data,
    loss,
    lrn,
    mvn,
    neuron,
    parameter,
    pooling,
    python_layer,
    recurrent,
    reduction,
    scale,
    softmax,
    spp,
    store_data,
)
from .base import Layer
from .registry import create, known_types, register

__all__ = ["Layer", "create", "known_types", "register"]
