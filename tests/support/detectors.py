"""Small detectors of each kind, as prototxts."""

from __future__ import annotations

DATA = ('layer {{ name: "data" type: "Input" top: "data" '
        "input_param {{ shape {{ dim: 1 dim: 3 dim: {} dim: {} }} }} }}\n")


def region_detector(classes: int, moves: int, pooling: str = "ROIPooling") -> str:
    """Faster R-CNN with classes and moves as many as asked for; with PSROIPooling, R-FCN."""
    head = _rfcn(classes, moves) if pooling == "PSROIPooling" else _rcnn(classes, moves)
    return 'name: "regions"\n' + DATA.format(64, 96) + """
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "scaled" type: "Power" bottom: "data" top: "scaled" power_param { scale: 0.01 } }
layer { name: "conv" type: "Convolution" bottom: "scaled" top: "conv"
  convolution_param { num_output: 6 kernel_size: 17 stride: 16 pad: 8 } }
layer { name: "rpn_cls" type: "Convolution" bottom: "conv" top: "rpn_cls"
  convolution_param { num_output: 12 kernel_size: 3 pad: 1 } }
layer { name: "rpn_bbox" type: "Convolution" bottom: "conv" top: "rpn_bbox"
  convolution_param { num_output: 24 kernel_size: 3 pad: 1 } }
layer { name: "rpn_pairs" type: "Reshape" bottom: "rpn_cls" top: "rpn_pairs"
  reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "rpn_softmax" type: "Softmax" bottom: "rpn_pairs" top: "rpn_softmax" }
layer { name: "rpn_prob" type: "Reshape" bottom: "rpn_softmax" top: "rpn_prob"
  reshape_param { shape { dim: 0 dim: 12 dim: -1 dim: 0 } } }
layer { name: "proposal" type: "Python" bottom: "rpn_prob" bottom: "rpn_bbox" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
                 param_str: "'feat_stride': 16\\n'scales': [1, 2]" } }
""" + head


def _rcnn(classes: int, moves: int) -> str:
    return f"""
layer {{ name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_w: 2 pooled_h: 2 spatial_scale: 0.0625 }} }}
layer {{ name: "cls_score" type: "InnerProduct" bottom: "pool" top: "cls_score"
  inner_product_param {{ num_output: {classes} }} }}
layer {{ name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred"
  inner_product_param {{ num_output: {moves} }} }}
layer {{ name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }}
"""


def _rfcn(classes: int, moves: int) -> str:
    parts = []
    for name, count in (("cls", classes), ("bbox", moves)):
        parts.append(f"""
layer {{ name: "rfcn_{name}" type: "Convolution" bottom: "conv" top: "rfcn_{name}"
  convolution_param {{ num_output: {4 * count} kernel_size: 1 }} }}
layer {{ name: "{name}_pooled" type: "PSROIPooling" bottom: "rfcn_{name}" bottom: "rois" top: "{name}_pooled"
  psroi_pooling_param {{ spatial_scale: 0.0625 output_dim: {count} group_size: 2 }} }}
layer {{ name: "{name}_mean" type: "Pooling" bottom: "{name}_pooled" top: "{name}_mean"
  pooling_param {{ pool: AVE kernel_size: 2 stride: 2 }} }}""")
    return "".join(parts) + f"""
layer {{ name: "cls_softmax" type: "Softmax" bottom: "cls_mean" top: "cls_softmax" }}
layer {{ name: "cls_prob" type: "Reshape" bottom: "cls_softmax" top: "cls_prob"
  reshape_param {{ shape {{ dim: -1 dim: {classes} }} }} }}
layer {{ name: "bbox_pred" type: "Reshape" bottom: "bbox_mean" top: "bbox_pred"
  reshape_param {{ shape {{ dim: -1 dim: {moves} }} }} }}
"""


def yolo_detector(version: int, classes: int, height: int = 32, width: int = 32) -> str:
    """One anchor of 16 x 8 pixels (v3) or 0.5 x 0.25 cells (v2), in cells of 16 pixels."""
    v2 = f"""type: "YoloDetectionOutput" yolo_detection_output_param {{ num_classes: {classes} num_box: 1 biases: 0.5
  biases: 0.25 confidence_threshold: 0.01 nms_threshold: 0.45 }}"""
    v3 = f"""type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ num_classes: {classes} num_box: 1 biases: 16
  biases: 8 mask: 0 mask_group_num: 1 anchors_scale: 16 confidence_threshold: 0.01 nms_threshold: 0.45 }}"""
    return f"""name: "yolo"
{DATA.format(height, width)}
layer {{ name: "maps" type: "Convolution" bottom: "data" top: "maps"
  convolution_param {{ num_output: {5 + classes} kernel_size: 16 stride: 16 }} }}
layer {{ name: "detection_out" bottom: "maps" top: "detection_out" {v2 if version == 2 else v3} }}
"""
