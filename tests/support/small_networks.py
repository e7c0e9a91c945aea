"""A small detector and a small pose network with random weights, as files: what the pipeline does, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rmpe_legacy import load_net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel

DETECTOR_HW, POSE_HW, MAP_HW = (40, 56), (24, 24), (12, 12)

DETECTOR = """
name: "small_detector"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 40 dim: 56 } } }
layer { name: "scaled" type: "Power" bottom: "data" top: "scaled" power_param { scale: 0.02 } }
layer { name: "conv1" type: "Convolution" bottom: "scaled" top: "conv1"
  convolution_param { num_output: 5 kernel_size: 9 stride: 8 pad: 4 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "loc" type: "Convolution" bottom: "conv1" top: "loc"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" flatten_param { axis: 1 } }
layer { name: "conf" type: "Convolution" bottom: "conv1" top: "conf"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_reshape" type: "Reshape" bottom: "conf_perm" top: "conf_reshape"
  reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "conf_softmax" type: "Softmax" bottom: "conf_reshape" top: "conf_softmax" softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_softmax" top: "conf_flat" flatten_param { axis: 1 } }
layer { name: "priors" type: "PriorBox" bottom: "conv1" bottom: "data" top: "priors"
  prior_box_param { min_size: 12 max_size: 24 aspect_ratio: 2 flip: true clip: false
                    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "detection_out" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors"
  top: "detection_out" detection_output_param { num_classes: 2 share_location: true background_label_id: 0
  nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE keep_top_k: 200 confidence_threshold: 0.01 } }
"""

POSE = """
name: "small_pose"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 24 dim: 24 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE kernel_size: 8 stride: 8 } }
layer { name: "theta" type: "InnerProduct" bottom: "pool" top: "theta" inner_product_param { num_output: 6 } }
layer { name: "stn" type: "SpatialTransformer" bottom: "data" bottom: "theta" top: "img"
  st_param { output_H: 24 output_W: 24 to_compute_dU: false } }
layer { name: "conv1" type: "Convolution" bottom: "img" top: "conv1"
  convolution_param { num_output: 7 kernel_size: 5 stride: 2 pad: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "out1" type: "Convolution" bottom: "conv1" top: "out1"
  convolution_param { num_output: 16 kernel_size: 1 } }
layer { name: "merge" type: "Convolution" bottom: "out1" top: "merge"
  convolution_param { num_output: 7 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "merge" bottom: "conv1" top: "sum" }
layer { name: "out2" type: "Convolution" bottom: "sum" top: "out2"
  convolution_param { num_output: 16 kernel_size: 1 } }
layer { name: "destn" type: "SpatialTransformer" bottom: "out2" bottom: "theta" top: "heatmap_back"
  st_param { output_H: 12 output_W: 12 de_transform: true } }
layer { name: "prediction_heatmap" type: "PredictionHeatmap" bottom: "heatmap_back" top: "prediction_heatmap"
  prediction_heatmap_param { num_joints: 16 } }
"""


def write_network(folder: Path, name: str, prototxt: str, seed: int) -> tuple[Path, Path]:
    """The prototxt and caffemodel of a network with random weights; theta is near the identity."""
    folder.mkdir(parents=True, exist_ok=True)
    path, weights = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    path.write_text(prototxt)
    rng = np.random.default_rng(seed)
    layers = []
    for layer, params in load_net(path, de_transform="paper").params.items():
        blobs = [rng.normal(0, (2 / max(1, p[0].numel())) ** 0.5, p.shape).astype(np.float32) for p in params]
        if layer == "theta":
            blobs = [0.2 * blobs[0], np.array([1, 0, 0, 0, 1, 0], np.float32)]
        if layer == "conf":  # background, person by turns
            blobs = [0.6 * blobs[0], np.resize(np.array([1, -1], np.float32), len(blobs[1]))]
        if layer == "out2":
            blobs = [0.3 * blobs[0], np.full(16, 0.6, np.float32)]
        layers.append(TrainedLayer(layer, "", tuple(StoredBlob(b.shape, b.reshape(-1)) for b in blobs)))
    write_caffemodel(weights, layers, name=name)
    return path, weights


def write_detector(folder: Path, seed: int = 1) -> tuple[Path, Path]:
    return write_network(folder, "detector", DETECTOR, seed)


def write_pose(folder: Path, seed: int = 2) -> tuple[Path, Path]:
    return write_network(folder, "pose", POSE, seed)


def network_options(folder: Path) -> list[str]:
    """Both networks, written to a folder, as the commands' options."""
    return ["--detector", *map(str, write_detector(folder)), "--pose", *map(str, write_pose(folder)),
            "--de-transform", "paper"]
