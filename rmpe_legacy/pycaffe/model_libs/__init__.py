"""``caffe.model_libs``: the networks of SSD and RMPE, written into a NetSpec by functions with the original names.

With dialect "rmpe" (at first) they give what RMPE's give, with "ssd" and "bvlc" what SSD's give. A script that says
``from caffe.model_libs import *`` also gets caffe, L, P, caffe_pb2, os and math, as there.

Sources: python/caffe/model_libs.py of RMPE@5188c23 and of weiliu89/caffe@4817bf8 (branch ssd).
"""

import math
import os

from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.pycaffe.net_spec import layers as L
from rmpe_legacy.pycaffe.net_spec import params as P
from rmpe_legacy.pycaffe.proto import caffe_pb2

from .blocks import ConvBNLayer, InceptionTower, ResBody, UnpackVariable
from .data import CreateAnnotatedDataLayer, CreateHeatmapDataLayer
from .hourglass import HGStacked, HourGlass
from .inception import InceptionV3Body
from .multibox import CreateMultiBoxHead
from .resnet import ResNet101Body, ResNet152Body
from .squeezenet import SqueezeNetBody
from .vgg import VGGNetBody, VGGNetBodyBN, VGGNetBodyBNkernel1, ZFNetBody

__all__ = ["ConvBNLayer", "CreateAnnotatedDataLayer", "CreateHeatmapDataLayer", "CreateMultiBoxHead", "HGStacked",
           "HourGlass", "InceptionTower", "InceptionV3Body", "L", "P", "ResBody", "ResNet101Body", "ResNet152Body",
           "SqueezeNetBody", "UnpackVariable", "VGGNetBody", "VGGNetBodyBN", "VGGNetBodyBNkernel1", "ZFNetBody",
           "caffe", "caffe_pb2", "check_if_exist", "make_if_not_exist", "math", "os"]


def check_if_exist(path: str) -> bool:
    """Return whether the file or folder exists."""
    return os.path.exists(path)


def make_if_not_exist(path: str) -> None:
    """Make a folder and its parents unless it exists."""
    os.makedirs(path, exist_ok=True)
