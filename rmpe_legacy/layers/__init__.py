"""Caffe's layers as torch modules. Importing this package registers them all."""

from . import (
    accuracy,
    argmax,
    arrange,
    batch_norm,
    choose,
    convolution,
    data,
    detection_evaluate,
    detection_output,
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
    multibox_loss,
    mvn,
    neuron,
    normalize,
    parameter,
    pooling,
    prior_box,
    python_layer,
    recurrent,
    reduction,
    scale,
    smooth_l1_loss,
    softmax,
    spp,
    store_data,
)
from .base import Layer
from .registry import create, known_types, register

__all__ = ["Layer", "create", "known_types", "register"]
