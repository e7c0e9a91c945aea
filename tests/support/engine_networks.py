"""A network that has what the engines' passes rewrite, with parameters that are all different."""

from __future__ import annotations

from pathlib import Path

import torch

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net

EVERYTHING = """
name: "everything"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 17 dim: 13 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "bn2" type: "BatchNorm" bottom: "pool1" top: "bn2" batch_norm_param { eps: 0.01 } }
layer { name: "affine2" type: "EltwiseAffine" bottom: "bn2" top: "affine2" }
layer { name: "relu2" type: "ReLU" bottom: "affine2" top: "relu2" }
layer { name: "grouped" type: "Convolution" bottom: "relu2" top: "grouped"
  convolution_param { num_output: 6 kernel_size: 3 pad: 2 dilation: 2 group: 3 } }
layer { name: "shift3" type: "Bias" bottom: "grouped" top: "shift3" }
layer { name: "sum" type: "Eltwise" bottom: "shift3" bottom: "pool1" top: "sum" }
layer { name: "relu3" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "small" type: "Pooling" bottom: "sum" top: "small" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "small" top: "up"
  convolution_param { num_output: 6 group: 6 kernel_size: 2 stride: 2 bias_term: false
                      weight_filler { type: "constant" value: 1 } } }
layer { name: "learnt" type: "Deconvolution" bottom: "small" top: "learnt"
  convolution_param { num_output: 4 group: 2 kernel_size: 4 stride: 2 pad: 1 } }
layer { name: "scale4" type: "Scale" bottom: "learnt" top: "scale4" }
layer { name: "drop" type: "Dropout" bottom: "scale4" top: "drop" }
layer { name: "both" type: "Concat" bottom: "up" bottom: "drop" top: "both" }
layer { name: "slice" type: "Slice" bottom: "both" top: "left" top: "right" slice_param { slice_point: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "left" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "bn5" type: "BatchNorm" bottom: "fc" top: "bn5" }
layer { name: "scale5" type: "Scale" bottom: "bn5" top: "bn5" scale_param { bias_term: true } }
layer { name: "prob" type: "Softmax" bottom: "bn5" top: "prob" }
layer { name: "last" type: "Convolution" bottom: "right" top: "last"
  convolution_param { num_output: 7 kernel_size: 1 } }
layer { name: "leaky" type: "ReLU" bottom: "last" top: "last" relu_param { negative_slope: 0.1 } }
"""


def everything(folder: Path, text: str = EVERYTHING) -> Net:
    """Load a network, with random parameters that differ from one another."""
    path = folder / "net.prototxt"
    path.write_text(text)
    net = load_net(path)
    random = torch.Generator().manual_seed(5)
    for step in net.steps:
        for declared in step.layer.declared:
            value = getattr(step.layer, declared.name).data
            if step.layer.spec.name == "up":  # nearest-neighbour upsampling
                continue
            if declared.name in ("variance", "scale_factor", "scale", "slope"):
                value.uniform_(0.5, 2, generator=random)
            else:
                value.normal_(0, 0.3, generator=random)
    return net
