"""Descriptions of networks: prototxt, JSON, ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np

from .base import MessageTarget, Readers, TextTarget, golden


class Prototxt(TextTarget):
    suffix = ".prototxt"

    def seeds(self) -> Sequence[bytes]:
        found = golden("layers/*/net.prototxt", 4000, 400)
        return [text for text in found if b"Python" not in text and b"Video" not in text]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.load import read_net
        from rmpe_legacy.caffe.proto.text import parse_text
        from rmpe_legacy.caffe.proto.text_writer import format_text
        from rmpe_legacy.caffe.wiring import wire

        def read() -> None:
            net = read_net(path, random.choice(("TEST", "TRAIN")), dialect=random.choice(("rmpe", "ssd", "bvlc")),
                           strict=random.random() < 0.7)
            wire(net.specs)
            parse_text(format_text(net.message))

        return [read]


class Net(Prototxt):
    """Built and run, where it is small."""

    def readers(self, path: Path, random: Random) -> Readers:
        import torch

        from rmpe_legacy.caffe.layers.base import count
        from rmpe_legacy.caffe.load import read_net
        from rmpe_legacy.caffe.wiring import wire
        from rmpe_legacy.formats.base import input_shapes

        def run() -> None:
            parsed = read_net(path, strict=random.random() < 0.8)
            steps = wire(parsed.specs)
            size = sum(count(shape) for step in steps for shape in step.top_shapes)
            size += sum(count(declared.shape) for step in steps for declared in step.layer.declared)
            if size < 300_000:
                with torch.no_grad():
                    parsed.build()(**{name: torch.zeros(shape) for name, shape in input_shapes(steps).items()})

        return [run]


class Json(TextTarget):
    suffix = ".json"

    def __init__(self) -> None:
        super().__init__()
        self._coco = {"results": json.loads(self.all[0]), "truth": json.loads(self.all[1])}

    def seeds(self) -> Sequence[bytes]:
        from rmpe_legacy.caffe.proto.text import parse_text
        from rmpe_legacy.formats.base import Setting
        from rmpe_legacy.formats.network_json import network_json

        joints = [1.0, 2.0, 0.5] * 17
        results = [{"image_id": 1, "category_id": 1, "keypoints": joints, "score": 0.5, "bbox": [0, 0, 9, 9]}] * 2
        truth = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1}], "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": joints, "num_keypoints": 17, "area": 100.0,
             "bbox": [0, 0, 9, 9], "iscrowd": 0}]}
        people = {"images": truth["images"], "annotations": [
            {"image_id": 1, "id": 1, "keypoints": joints[:48], "head_size": 10.0, "head_box": [1, 2, 3, 4]}]}
        poses = [{"image_id": 1, "file_name": "a.jpg", "keypoints": joints[:48], "score": 1.0}] * 2
        nets = [network_json(parse_text(text.decode(), "NetParameter"), Setting(), None)
                for text in golden("layers/*/net.prototxt", 2000, 30)]
        return [json.dumps(each).encode() for each in (results, truth, people, poses)] + [n.encode() for n in nets]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.evaluation.coco import keypoint_ap
        from rmpe_legacy.evaluation.files import read_groups, read_poses
        from rmpe_legacy.formats.network_json import read_json_network
        from rmpe_legacy.readers.json_file import read_json

        yield from (lambda: read_poses(path), lambda: read_groups(path), lambda: read_json_network(path))
        yield lambda: keypoint_ap(read_json(path), self._coco["truth"])
        yield lambda: keypoint_ap(self._coco["results"], read_json(path))


class Onnx(MessageTarget):
    suffix = ".onnx"

    def seeds(self) -> Sequence[bytes]:
        from rmpe_legacy.caffe.load import parse_net
        from rmpe_legacy.caffe.proto.text import parse_text
        from rmpe_legacy.export.onnx import to_onnx

        given = ('layer {{ name: "data" type: "Input" top: "data" '
                 'input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }} '
                 'layer {{ name: "l" type: "{}" bottom: "data" top: "l" {} }}')
        layers = [("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }"), ("ReLU", ""),
                  ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }"), ("LRN", ""), ("Softmax", ""),
                  ("InnerProduct", "inner_product_param { num_output: 3 }"),
                  ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }")]
        nets = [parse_net(parse_text(given.format(*layer), "NetParameter")).build() for layer in layers]
        return [to_onnx(net)[0].SerializeToString() for net in nets]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.formats.onnx import OnnxRunner
        from rmpe_legacy.pose.onnx_network import OnnxPoseNetwork

        def run() -> None:
            runner = OnnxRunner(path, "onnx")
            shapes = runner.inputs()
            runner.run({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})

        def estimate() -> None:
            network = OnnxPoseNetwork(path)
            if network.height * network.width * (network.fixed_batch or 1) < 1 << 16:
                network(np.zeros((1, 3, network.height, network.width), np.float32))

        return [run, estimate]
