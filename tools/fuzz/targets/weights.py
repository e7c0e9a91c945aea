"""Files of weights: caffemodel, HDF5, Torch7, safetensors, state dicts."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import integer, mutate_bytes, mutate_text

from .archives import mutate_archive
from .base import MessageTarget, Readers, Target, golden


class Caffemodel(MessageTarget):
    suffix = ".caffemodel"

    def seeds(self) -> Sequence[bytes]:
        return golden("layers/*/*.caffemodel", 30_000) + golden("**/*.binaryproto", 30_000, 5)

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.describe import describe_weights
        from rmpe_legacy.caffe.proto.caffemodel import read_weights
        from rmpe_legacy.compare.content_hash import weights_hash

        return [lambda: weights_hash(read_weights(path)), lambda: describe_weights(path)]


class Hdf5(Target):
    suffix = ".h5"

    def seeds(self) -> Sequence[bytes]:
        return golden("**/*.h5", 60_000) + [self._made(**form) for form in (
            {}, {"libver": ("v108", "v108")}, {"userblock_size": 512})]

    @staticmethod
    def _made(**form: Any) -> bytes:
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w", **form) as file:
            file["data"] = np.zeros((6, 4), np.float32)
            file.create_dataset("label", data=np.arange(6.0), chunks=(4,), compression="gzip", shuffle=True,
                                fletcher32=True)
            file["preds"], file["scores"] = np.ones((2, 16, 2)), np.ones((2, 16, 1))
            for i in range(12):
                file[f"layers/conv{i}/0"] = np.full(3, i, ">f4")
        return buffer.getvalue()

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.data.hdf5_rows import read_datasets
        from rmpe_legacy.caffe.proto.hdf5 import read_hdf5_weights
        from rmpe_legacy.evaluation.single_files import read_joints
        from rmpe_legacy.readers.hdf5 import open_hdf5
        from rmpe_legacy.runs.result_files import read_poses

        def every() -> None:
            group = open_hdf5(path).get("layers")
            for name in group if hasattr(group, "get") else ():
                group.get(name)

        return [lambda: read_hdf5_weights(path), lambda: read_datasets(path, ["data", "label"]),
                lambda: read_poses(path), lambda: read_joints(path), every]


class Torch7(Target):
    suffix = ".t7"

    def seeds(self) -> Sequence[bytes]:
        return golden("torch7/**/*.t7", 20_000, 150)

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if seed[:1] in b"012345678" and random.random() < 0.5:
            return mutate_text(random, seed.decode("latin-1"), ["1 2"]).encode("latin-1", "replace")
        return mutate_bytes(random, seed, self.all)

    def readers(self, path: Path, random: Random) -> Readers:
        import torch

        from rmpe_legacy.torch7.describe import describe_torch7
        from rmpe_legacy.torch7.load import load_torch7
        from rmpe_legacy.torch7.to_caffe import torch7_to_caffe

        yield lambda: describe_torch7(path)
        chance = random.random()
        if chance < 0.4:
            yield lambda: load_torch7(path, evaluate=True)(torch.zeros(1, 3, 16, 16))
        elif chance < 0.6:
            yield lambda: torch7_to_caffe(path, (3, 16, 16))


class Safetensors(Target):
    suffix = ".safetensors"

    def seeds(self) -> Sequence[bytes]:
        from safetensors.numpy import save

        tensors = {"conv1.weight": np.ones((2, 3, 3, 3), np.float32), "bn.mean": np.ones(4, np.float16)}
        layers = [["conv1", "Convolution", ["conv1.weight"]], ["bn", "BatchNorm", ["bn.mean"]]]
        return [save(tensors, {"format": "pt", "rmpe_legacy.layers": json.dumps(layers)}), save(tensors)]

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if random.random() < 0.3:
            return mutate_bytes(random, seed, self.all)
        size = int.from_bytes(seed[:8], "little")
        header = mutate_text(random, seed[8 : 8 + size].decode(), ['{"x":{"dtype":"F32","shape":[1]}}']).encode(
            "utf-8", "surrogatepass")
        claimed = len(header) if random.random() < 0.9 else integer(random) & ((1 << 64) - 1)
        return claimed.to_bytes(8, "little") + header + seed[8 + size :]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.weights import read_state
        from rmpe_legacy.compare.content_hash import weights_hash
        from rmpe_legacy.formats.read import read_weights_alone

        def every() -> None:
            state = read_state(path)
            for key in state.tensors if state else ():
                state.blob(key)

        return [every, lambda: weights_hash(read_weights_alone(path))]


class Pt(Safetensors):
    """What torch.save writes, today's archive and the form before it."""

    suffix = ".pt"

    def seeds(self) -> Sequence[bytes]:
        import torch

        state = {"conv1.weight": torch.ones(2, 3, 3, 3), "conv1.bias": torch.ones(2), "bn.mean": torch.ones(4).half(),
                 "b": torch.ones(3, dtype=torch.bfloat16)}
        out = []
        for zipped in (True, False):
            for content in (state, torch.nn.Linear(2, 3).state_dict()):
                buffer = io.BytesIO()
                torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
                out.append(buffer.getvalue())
        return out

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if seed.startswith(b"PK"):
            return mutate_archive(random, seed, self.all, lambda r, data: mutate_bytes(r, data, self.all))
        return mutate_bytes(random, seed, self.all)
