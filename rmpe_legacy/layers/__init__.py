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
    eltwise_affine,
    embed,
    hdf5_output,
    heatmap_loss,
    inner_product,
    loss,
    lrn,
    mvn,
    neuron,
    parameter,
    pooling,
    prediction_heatmap,
    python_layer,
    recurrent,
    reduction,
    scale,
    softmax,
    spatial_transformer,
    spp,
)
from .base import Layer
from .registry import create, known_types, register

__all__ = ["Layer", "create", "known_types", "register"]
