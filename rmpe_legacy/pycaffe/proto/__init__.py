"""``caffe.proto``: Caffe's messages as protobuf classes."""

from . import caffe_pb2

__all__ = ["caffe_pb2"]
