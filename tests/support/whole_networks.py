"""The two whole networks that the real Caffe ran (tests/golden/nets): their files, and what Caffe gave.

23 million weights of the detector and 18 million of the pose network are drawn again from the seeds that they came
from. What cannot be drawn lies in weights.json and batch_norm.npy; a sha256 says that every bit is right.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from harness import GOLDEN

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel

NAMES = ("ssd", "pose")
DE_TRANSFORM = "published-identity"  # no parameter depends on it
COARSE = 1000  # blobs of so many values or more hold 15 different ones
BATCH_NORM_FACTOR = 2.5  # the third blob: mean and variance are stored times this
THETA_BIAS = 0.85, 0.12, 0.05, -0.1, 0.9, -0.04
NORMALIZE_SCALE = 20
OBJECT_IS_RARE = 1  # added to the bias of class 0, the background


class WholeNetwork:
    """One of NAMES: its prototxt, its weights as a file in `scratch`, and what Caffe gave."""

    def __init__(self, name: str, scratch: Path):
        self.name, self.folder = name, GOLDEN / "nets" / name
        self.prototxt = self.folder / "deploy.prototxt"
        self.weights = scratch / f"{name}.caffemodel"
        layers = draw_layers(self.folder)
        if (found := digest(layers)) != (wanted := read_json(self.folder / "weights.json")["sha256"]):
            raise AssertionError(f"the weights of {name} do not come out again: sha256 {found}, not {wanted}")
        write_caffemodel(self.weights, layers, name=name)

    @property
    def files(self) -> tuple[Path, Path]:
        return self.prototxt, self.weights

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The blobs that are stored whole; "data" is the input."""
        packed = (self.folder / "blobs.npz.xz").read_bytes()
        return dict(np.load(io.BytesIO(lzma.decompress(packed))))

    @cached_property
    def stats(self) -> dict[str, dict]:
        """Of every blob: shape, mean, std, min, max, and 16 samples, one every samples_stride values."""
        return read_json(self.folder / "stats.json")


def transformers(net: Net) -> list[torch.nn.Module]:
    return [step.layer for step in net.steps if step.layer.spec.type == "SpatialTransformer"]


@contextmanager
def fed_to_transformers(net: Net, theta: np.ndarray) -> Iterator[None]:
    """Within, each SpatialTransformer takes this theta in place of the network's own, for every image."""
    given = torch.from_numpy(theta)
    handles = [layer.register_forward_pre_hook(lambda _, bottoms: (bottoms[0], given.expand_as(bottoms[1])))
               for layer in transformers(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def digest(layers: list[TrainedLayer]) -> str:
    """The sha256 of all blobs, with the layers' names and the blobs' shapes."""
    hashed = hashlib.sha256()
    for layer in layers:
        for blob in layer.blobs:
            hashed.update(f"{layer.name} {list(blob.shape)}\n".encode() + blob.data.astype("<f4").tobytes())
    return hashed.hexdigest()


def draw_layers(folder: Path) -> list[TrainedLayer]:
    """The layers that have parameters, with their values. They are drawn in this order, from one stream."""
    net = load_net(folder / "deploy.prototxt", de_transform=DE_TRANSFORM)
    draws = Draws(folder)
    layers = []
    for step in net.steps:
        name, kind = step.layer.spec.name, step.layer.spec.type
        if name in net.params:
            shapes = [tuple(param.shape) for param in net.params[name]]
            values = draws.of(name, kind, shapes)
            blobs = tuple(StoredBlob(shape, np.asarray(blob, np.float32).reshape(-1))
                          for shape, blob in zip(shapes, values, strict=True))
            layers.append(TrainedLayer(name, kind, blobs))
    return layers


class Draws:
    """Gives each layer its values, layer after layer."""

    def __init__(self, folder: Path):
        about = read_json(folder / "weights.json")
        self.random = np.random.RandomState(about["seed"])
        self.steps, self.borders = about["steps"], about["borders"]
        path = folder / "batch_norm.npy"
        self.batch_norm = np.load(path) if path.exists() else np.zeros((2, 0), np.float32)
        self.taken = 0  # channels of batch_norm

    def of(self, name: str, kind: str, shapes: list[tuple[int, ...]]) -> Iterator[np.ndarray]:
        """The values of each blob of a layer."""
        if kind in ("Convolution", "InnerProduct"):
            yield self.normal(f"{name}_0", shapes[0])
            yield THETA_BIAS if name == "theta" else self.bias(f"{name}_1", shapes[1])
        elif kind == "BatchNorm":
            (channels,) = shapes[0]
            yield from self.batch_norm[:, self.taken : self.taken + channels]
            yield BATCH_NORM_FACTOR
            self.taken += channels
        elif kind == "Scale":
            yield self.random.uniform(0.7, 1.3, shapes[0])
            yield 0.1 * self.random.standard_normal(shapes[1])
        else:
            yield np.full(shapes[0], {"Normalize": NORMALIZE_SCALE, "Deconvolution": 1}[kind])

    def bias(self, blob: str, shape: tuple[int, ...]) -> np.ndarray:
        values = self.normal(blob, shape)
        if blob.endswith("_mbox_conf_1"):
            values[::2] += OBJECT_IS_RARE
        return values

    def normal(self, blob: str, shape: tuple[int, ...]) -> np.ndarray:
        """Normally distributed values: multiples of the blob's step, from -7 to 7, or all different if there are few.

        blob: layer and index, as in conv1_1_0.
        """
        drawn = self.random.standard_normal(shape)
        if drawn.size < COARSE:
            return (0.05 * drawn).astype(np.float32)
        levels = np.clip(np.rint(2 * drawn / drawn.std()), -7, 7).astype(np.float32)  # keeps the sign of -0
        for index, level in self.borders.get(blob, ()):
            levels.flat[index] = level  # half way between two levels: the original rounded in single precision
        return levels * np.float32(self.steps[blob])
