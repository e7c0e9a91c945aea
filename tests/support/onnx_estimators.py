"""Tiny ONNX pose estimators that find joints by colour, and images of people whose joints are coloured dots.

Colours lie on a sphere around grey, so that the projection on a joint's own colour is largest at its own dot: what such
an estimator should find is known to the pixel.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CELL = 128, 96, 4  # px of the input; px of a heatmap's cell
IMAGE_HW, BOX_WH = (240, 320), (90, 130)
OTHER = 0.84  # the cosine of another joint's colour, at most


def colors(count: int) -> np.ndarray:
    """(count, 3) unit vectors, evenly spread (a Fibonacci lattice)."""
    i = np.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)


def write_estimator(path: Path, joints: int, kind: str = "heatmaps", batch: int | str = "N", bins: int = 1) -> Path:
    """kind: "heatmaps", or "simcc" with so many bins per pixel. batch: a fixed size, or a name for any."""
    weights = (2 * colors(joints) / (1 - OTHER)).astype(np.float32).reshape(joints, 3, 1, 1)
    bias = -weights.sum(axis=(1, 2, 3)) / 2 - OTHER / (1 - OTHER)
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias.astype(np.float32), "bias")]
    nodes = [helper.make_node("Conv", ["image", "weights", "bias"], ["likeness"], kernel_shape=[1, 1]),
             helper.make_node("Relu", ["likeness"], ["match"])]
    if kind == "heatmaps":
        # around pixel 4 x, where the estimators put the cell x
        nodes.append(helper.make_node("AveragePool", ["match"], ["heatmaps"], kernel_shape=[CELL + 1, CELL + 1],
                                      strides=[CELL, CELL], pads=[CELL // 2] * 4))
        outputs = {"heatmaps": [batch, joints, HEIGHT // CELL, WIDTH // CELL]}
    else:
        scales = numpy_helper.from_array(np.array([1, 1, bins, bins], np.float32), "scales")
        constants += [scales, numpy_helper.from_array(np.array([2]), "rows"),
                      numpy_helper.from_array(np.array([3]), "columns")]
        nodes += [helper.make_node("AveragePool", ["match"], ["smooth"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
                  helper.make_node("Resize", ["smooth", "", "scales"], ["fine"], mode="linear"),
                  helper.make_node("ReduceMax", ["fine", "rows"], ["simcc_x"], keepdims=0),
                  helper.make_node("ReduceMax", ["fine", "columns"], ["simcc_y"], keepdims=0)]
        outputs = {"simcc_x": [batch, joints, WIDTH * bins], "simcc_y": [batch, joints, HEIGHT * bins]}
    graph = helper.make_graph(
        nodes, "estimator", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def draw_people(folder: Path, joints: int, images: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Write images of two people each, as 000000000101.png, ...; image name -> joints (2, joints, 2) in pixels.

    Beside the images, boxes.json has COCO-style detections: each person's box, and a slightly moved one.
    """
    random = np.random.default_rng(seed)
    truth, detections = {}, []
    for number in range(101, 101 + images):
        name = f"{number:012d}.png"
        image = np.full((*IMAGE_HW, 3), 0.5)
        people = []
        for left in (30, 190):
            corner = np.array([left, 60]) + random.integers(-8, 9, 2)
            cells = random.permutation(5 * 7)[:joints]  # far enough from one another
            dots = corner + 10 + np.stack([cells % 5 * 17, cells // 5 * 17], axis=1)
            dots += random.integers(-2, 3, (joints, 2))
            for dot, color in zip(dots.tolist(), colors(joints), strict=True):
                cv2.circle(image, dot, 5, (0.5 + 0.5 * color).tolist(), cv2.FILLED)
            people.append(dots)
            for shift, score in ((0, 0.95), (3, 0.6)):
                box = [int(corner[0]) + shift, int(corner[1]) - shift, *BOX_WH]
                detections.append({"image_id": number, "category_id": 1, "bbox": box, "score": score})
        cv2.imwrite(str(folder / name), np.rint(image[:, :, ::-1] * 255).astype(np.uint8))
        truth[name] = np.array(people, np.float64)
    (folder / "boxes.json").write_text(json.dumps(detections))
    return truth


def coco_truth(people: dict[str, np.ndarray]) -> dict:
    """A person_keypoints file for 17 joints."""
    images = [{"id": int(Path(name).stem), "file_name": name} for name in people]
    annotations = []
    for image, persons in zip(images, people.values(), strict=True):
        for joints in persons:
            low, size = joints.min(axis=0), np.ptp(joints, axis=0)
            keypoints = np.column_stack([joints, np.full(len(joints), 2)]).reshape(-1).tolist()
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0,
                                "keypoints": keypoints, "num_keypoints": len(joints), "area": float(np.prod(size)),
                                "bbox": [*low.tolist(), *size.tolist()]})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
