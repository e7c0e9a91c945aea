"""Arrays and tables: numpy, Matlab, and text."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import integer, mutate_bytes, mutate_text

from .archives import mutate_archive
from .base import Readers, Target, TextTarget, golden


class Npz(Target):
    suffix = ".npz"

    def seeds(self) -> Sequence[bytes]:
        arrays = {"data": np.zeros((1, 3, 4, 4), np.float32), "x": np.arange(3), "s": np.array(["a"])}
        out = []
        for save, given in ((np.savez_compressed, arrays), (np.savez, arrays), (np.save, arrays["data"]),
                            (np.save, np.asfortranarray(np.ones((2, 16, 2), ">f8")))):
            buffer = io.BytesIO()
            save(buffer, **given) if isinstance(given, dict) else save(buffer, given)
            out.append(buffer.getvalue())
        return out

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if seed.startswith(b"PK"):
            return mutate_archive(random, seed, self.all, self._array)
        return self._array(random, seed)

    def _array(self, random: Random, data: bytes) -> bytes:
        if random.random() < 0.5:
            return mutate_bytes(random, data, self.all)
        size = struct.unpack_from("<H", data, 8)[0]
        header = mutate_text(random, data[10 : 10 + size].decode("latin-1"), ["(1,2)"]).encode("latin-1", "replace")
        return data[:8] + struct.pack("<H", min(len(header), 65535)) + header + data[10 + size :]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.inputs import read_inputs
        from rmpe_legacy.evaluation.single_files import read_joints
        from rmpe_legacy.formats.npz import StoredRunner

        shapes = {"data": (1, 3, 4, 4)}
        return [lambda: StoredRunner(path, "stored"), lambda: read_inputs([f"data={path}"], shapes, list(shapes)),
                lambda: read_joints(path)]


class Mat(Target):
    suffix = ".mat"

    def seeds(self) -> Sequence[bytes]:
        def structs(count: int, **fields: Any) -> np.ndarray:
            out = np.empty((1, count), dtype=[(name, object) for name in fields])
            for name, value in fields.items():
                for i in range(count):
                    out[0, i][name] = value
            return out

        point = structs(3, x=10.0, y=20.0, id=5.0, score=0.5)
        person = structs(2, annopoints=structs(1, point=point), scale=1.0, objpos=structs(1, x=5.0, y=6.0), x1=1.0,
                         y1=2.0, x2=30.0, y2=40.0)
        pictures = structs(2, annorect=person, image=structs(1, name="a.jpg"))
        groups = np.empty((1, 2), object)
        groups[0, 0], groups[0, 1] = np.array([[1.0, 2.0]]), np.zeros((0, 0))
        variables = [
            {"pred": structs(2, annorect=person)}, {"annolist": pictures},
            {"RELEASE": structs(1, annolist=pictures, img_train=np.ones((1, 2)), single_person=groups)},
            {"preds": np.zeros((2, 16, 2)), "a": np.arange(6, dtype=np.uint8).reshape(2, 3),
             "t": np.array(["ab", "cd"])},
            {"pos_gt_src": np.ones((16, 2, 3)), "jnt_missing": np.zeros((16, 3)), "headboxes_src": np.ones((2, 2, 3))},
        ]
        return [self._saved(each) for each in variables]

    @staticmethod
    def _saved(variables: dict[str, Any]) -> bytes:
        import scipy.io

        buffer = io.BytesIO()
        scipy.io.savemat(buffer, variables)
        return buffer.getvalue()

    def mutate(self, random: Random, seed: bytes) -> bytes:
        out = bytearray(seed)
        if random.random() < 0.1:
            out = self._dimensions(random, out)
        elif random.random() < 0.7:  # the format is words of four bytes
            for _ in range(random.choice((1, 1, 2, 4))):
                at = 128 + 4 * random.randrange(max(1, (len(out) - 128) // 4))
                value = random.choice((integer(random), random.randrange(20), random.randrange(200), 0x20001, 0x40005))
                out[at : at + 4] = struct.pack("<I", value & 0xFFFFFFFF)
        else:
            out = bytearray(mutate_bytes(random, seed, self.all))
        if random.random() < 0.25:
            packed = zlib.compress(bytes(out[128:]), 1)
            out = out[:128] + struct.pack("<II", 15, len(packed)) + packed
        return bytes(out)

    @staticmethod
    def _dimensions(random: Random, out: bytearray) -> bytearray:
        """The first variable with other dimensions, as many as may be: they stand behind its flags."""
        count = random.choice((2, 3, 32, 33, 600, 20_000))
        sizes = [random.choice((0, 1, 2, (1 << 31) - 1, random.randrange(9))) for _ in range(count)]
        element = struct.pack("<II", 5, 4 * count) + struct.pack(f"<{count}i", *sizes) + bytes(4 * (count % 2))
        size = struct.unpack_from("<I", out, 132)[0] + len(element) - 16
        return out[:132] + struct.pack("<I", size) + out[136:152] + element + out[168:]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.evaluation import files

        return [lambda: files.read_poses(path), lambda: files.read_groups(path), lambda: files.read_groups(path, path),
                lambda: files.read_joints(path), lambda: files.read_people(path)]


class Text(TextTarget):
    """The lists and tables around the pose NMS, the evaluation and the data layers, all read as each other."""

    suffix = ".txt"

    def seeds(self) -> Sequence[bytes]:
        poses = "\n".join("a.jpg\t" + "\t".join(["12.5"] * 32) for _ in range(3))
        scores = "\n".join("a.jpg\t" + "\t".join(["0.5"] * 16) for _ in range(3))
        people = "\t".join(["a.jpg", "1 2 30 40", "5 6 1.5", " ".join(["7"] * 16), " ".join(["8"] * 16)])
        made = [poses, scores, people, "a.jpg 1 2\nb.jpg 3 3\n", "0.5\n0.25\n0.125\n", "a.jpg 640 480\n"]
        return [text.encode() for text in made] + golden("data/*/*.txt", 4000, 20)

    def place(self, data: bytes, folder: Path) -> Path:
        path = super().place(data, folder)
        for name in ("index.txt", "score.txt", "pred.txt", "scores.txt", "scores-proposals.txt"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(path.name)
        return path

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.caffe.data.heatmap import read_persons
        from rmpe_legacy.caffe.data.windows import read_windows
        from rmpe_legacy.evaluation.files import read_groups, read_poses
        from rmpe_legacy.runs import result_files as posefiles

        return [lambda: read_poses(path.parent), lambda: read_groups(path), lambda: read_windows(path, 0.5, 0.5),
                lambda: read_persons(path, "regression", 0), lambda: read_persons(path, "regression", 4),
                lambda: posefiles.read_numbers(path), lambda: posefiles.read_index(path, 5),
                lambda: posefiles.read_image_sizes(path), lambda: posefiles.read_proposals(path.parent)]
