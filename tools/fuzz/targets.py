"""What is fuzzed: for each format its seeds, how they are mutated, and which readers get the result.

Seeds are made here, or lie in tests/golden. A mutation that a checksum or a compression would hide is made below it.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import integer, mutate_bytes, mutate_message, mutate_text, varint

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
Readers = Iterable[Callable[[], Any]]


def golden(pattern: str, largest: int, most: int = 60) -> list[bytes]:
    """Files of tests/golden, a fair choice where there are many."""
    paths = sorted(path for path in GOLDEN.glob(pattern) if 0 < path.stat().st_size <= largest)
    return [path.read_bytes() for path in Random(1).sample(paths, min(most, len(paths)))]


class Target:
    """A format. Subclasses say what differs."""

    suffix = ""

    def __init__(self) -> None:
        self.all = self.seeds()

    def seeds(self) -> Sequence[bytes]:
        raise NotImplementedError

    def mutant(self, random: Random) -> bytes:
        return self.mutate(random, random.choice(self.all))

    def mutate(self, random: Random, seed: bytes) -> bytes:
        return mutate_bytes(random, seed, self.all)

    def place(self, data: bytes, folder: Path) -> Path:
        """Write the input where readers look for it."""
        path = folder / f"input{self.suffix}"
        path.write_bytes(data)
        return path

    def readers(self, path: Path, random: Random) -> Readers:
        """What is to be called; each may raise an RmpeError, and nothing else."""
        raise NotImplementedError


class TextTarget(Target):
    """A format of words and numbers."""

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if random.random() < 0.1:
            return mutate_bytes(random, seed, self.all)
        others = [random.choice(self.all).decode("utf-8", "replace")]
        return mutate_text(random, seed.decode("utf-8", "replace"), others).encode("utf-8", "surrogatepass")


class Prototxt(TextTarget):
    suffix = ".prototxt"

    def seeds(self) -> Sequence[bytes]:
        found = golden("layers/*/net.prototxt", 4000, 400)
        return [text for text in found if b"Python" not in text and b"Video" not in text]

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.load import read_net
        from rmpe_legacy.net import wire
        from rmpe_legacy.proto.text import format_text, parse_text

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

        from rmpe_legacy.convert.source import input_shapes
        from rmpe_legacy.layers.base import count
        from rmpe_legacy.load import read_net
        from rmpe_legacy.net import wire

        def run() -> None:
            parsed = read_net(path, strict=random.random() < 0.8)
            steps = wire(parsed.specs)
            size = sum(count(shape) for step in steps for shape in step.top_shapes)
            size += sum(count(declared.shape) for step in steps for declared in step.layer.declared)
            if size < 300_000:
                with torch.no_grad():
                    parsed.build()(**{name: torch.zeros(shape) for name, shape in input_shapes(steps).items()})

        return [run]


class MessageTarget(Target):
    """A format of protobuf messages."""

    def mutate(self, random: Random, seed: bytes) -> bytes:
        change = mutate_message if random.random() < 0.6 else mutate_bytes
        return change(random, seed, self.all)


class Caffemodel(MessageTarget):
    suffix = ".caffemodel"

    def seeds(self) -> Sequence[bytes]:
        return golden("layers/*/*.caffemodel", 30_000) + golden("**/*.binaryproto", 30_000, 5)

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.convert.identity import weights_identity
        from rmpe_legacy.proto.caffemodel import read_weights
        from rmpe_legacy.show import describe_weights

        return [lambda: weights_identity(read_weights(path)), lambda: describe_weights(path)]


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
        from rmpe_legacy.data.hdf5_rows import read_datasets
        from rmpe_legacy.evaluation.single_files import read_joints
        from rmpe_legacy.hdf5 import open_hdf5
        from rmpe_legacy.pipeline.posefiles import read_poses
        from rmpe_legacy.proto.hdf5 import read_hdf5_weights

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
        from rmpe_legacy.convert.runners import StoredRunner
        from rmpe_legacy.evaluation.single_files import read_joints
        from rmpe_legacy.forward import read_inputs

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


class Store(Target):
    """A database of pictures; its first records are parsed and decoded."""

    backend = ""

    @staticmethod
    def records() -> dict[bytes, bytes]:
        import cv2

        png = cv2.imencode(".png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))[1].tobytes()
        raw = b"\x08\x03\x10\x02\x18\x02" + b"\x22\x0c" + bytes(range(12)) + b"\x28\x05"
        encoded = b"\x22" + varint(len(png)) + png + b"\x28\x01\x38\x01"
        box = b"\x12\x16\x08\x01\x12\x12\x08\x00\x12\x0e" + b"\x0d" + struct.pack("<f", 0.1) + b"\x10\x00" + bytes(7)
        boxes = b"\x0a" + varint(len(encoded)) + encoded + b"\x10\x00" + b"\x1a" + varint(len(box)) + box
        return {b"%08d" % i: value for i, value in enumerate((raw, encoded, boxes, raw + bytes(4000), b"", raw))}

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.data.datum import Cursor, Datum, parse_annotated, parse_datum
        from rmpe_legacy.data.opencv_image import decode_image
        from rmpe_legacy.errors import RmpeError

        def pixels(datum: Datum) -> None:
            decode_image(datum.data, where=datum.where) if datum.encoded else datum.values()

        def read() -> None:
            cursor = Cursor(self.backend, path)
            for _ in range(10):
                value, where = cursor.take()
                for parse in (parse_datum, parse_annotated):
                    try:
                        datum = parse(value, where)
                        pixels(getattr(datum, "datum", datum))
                    except RmpeError:
                        continue

        return [read]


class Lmdb(Store):
    suffix = ".mdb"
    backend = "LMDB"

    def seeds(self) -> Sequence[bytes]:
        import tempfile

        import lmdb

        out = []
        for count in (6, 300):
            with tempfile.TemporaryDirectory() as folder:
                with lmdb.open(folder, map_size=1 << 24) as store, store.begin(write=True) as transaction:
                    for i in range(0, count, 6):
                        for key, value in self.records().items():
                            transaction.put(b"%05d" % i + key, value)
                out.append((Path(folder) / "data.mdb").read_bytes())
        return out

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if random.random() < 0.3:
            return mutate_bytes(random, seed, self.all)
        out = bytearray(seed)
        if random.random() < 0.02:
            return self._linked(random, out)
        for _ in range(random.choice((1, 1, 2, 4))):  # headers of pages, and their tables of nodes
            at = 4096 * random.randrange(len(out) // 4096) + random.randrange(random.choice((32, 160, 4096)))
            width = random.choice((1, 2, 2, 4, 8))
            value = random.randrange(len(out) // 4096 + 2) if random.random() < 0.5 else integer(random)
            out[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        return bytes(out)

    @staticmethod
    def _linked(random: Random, out: bytearray) -> bytes:
        """A root with several links to one page, that with as many to the next, and at last a page without records."""
        links, depth = random.choice((1, 2, 8)), random.randrange(2, 32)
        out += bytes(4096 * depth)
        for meta in (0, 4096):
            out[meta + 128 : meta + 144] = struct.pack("<QQ", 2, len(out) // 4096 - 1)  # the root, the last page
        for page in range(2, 2 + depth):
            offsets = [4000 - 16 * i for i in range(links)]
            out[4096 * page : 4096 * page + 16 + 2 * links] = struct.pack(
                f"<QHHHH{links}H", page, 0, 1, 16 + 2 * links, 4000, *offsets)
            for offset in offsets:
                out[4096 * page + offset : 4096 * page + offset + 8] = struct.pack("<HHHH", page + 1, 0, 0, 0)
        end = 4096 * (2 + depth)
        out[end : end + 16] = struct.pack("<QHHHH", 2 + depth, 0, 2, 16, 4096)
        return bytes(out)


class LevelDb(Store):
    """A folder; as one input it is an archive of its files, not compressed."""

    backend = "LEVELDB"

    def seeds(self) -> Sequence[bytes]:
        return [packed({path.name: path.read_bytes() for path in sorted(current.parent.iterdir())})
                for current in sorted(GOLDEN.rglob("CURRENT"))]

    def mutate(self, random: Random, seed: bytes) -> bytes:
        files = unpacked(seed)
        name = random.choice([name for name, content in files.items() if content])
        if random.random() < 0.2:
            files[name] = mutate_bytes(random, files[name], [seed])
        elif name.endswith((".ldb", ".sst")):
            files[name] = self._table(random, files[name])
        else:
            files[name if name.startswith("MANIFEST") else "000099.log"] = self._log(random, files, name)
        return packed(files)

    @staticmethod
    def _checksum(data: bytes) -> bytes:
        from rmpe_legacy import _host

        crc = _host.crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    def _table(self, random: Random, data: bytes) -> bytes:
        """One block changed, with the right checksum."""
        numbers, at = [], len(data) - 48
        for _ in range(4):
            value = shift = 0
            while True:
                value |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
            numbers.append(value)
        offset, size = (numbers[2], numbers[3]) if random.random() < 0.5 else (0, max(1, numbers[2] - 5))
        size = min(size, random.choice((size, 4096, 300)))
        body = mutate_bytes(random, data[offset : offset + size], [data])[:size].ljust(size, b"\0")
        body += data[offset + size : offset + size + 1] if random.random() < 0.8 else random.choice((b"\0", b"\1"))
        return data[:offset] + body + self._checksum(body) + data[offset + size + 5 :]

    def _log(self, random: Random, files: dict[str, bytes], name: str) -> bytes:
        """The pieces of a log or a manifest, some changed, with the right checksums."""
        data, out = files[name], b""
        if not name.startswith(("MANIFEST", "0")):
            batch = struct.pack("<QI", integer(random) & (1 << 64) - 1, 2) + b"\1\3abc\5hello\0\3abd"
            data = self._piece(1, mutate_bytes(random, batch, [batch])[:30_000])
        at = 0
        while at + 7 <= len(data):
            length, kind = struct.unpack_from("<HB", data, at + 4)
            body = data[at + 7 : at + 7 + length]
            at += 7 + length
            if random.random() < 0.7:
                body = mutate_bytes(random, body, [data])[:30_000]
            out += self._piece(random.randrange(6) if random.random() < 0.1 else kind, body)
        return out

    def _piece(self, kind: int, body: bytes) -> bytes:
        return self._checksum(bytes([kind]) + body) + struct.pack("<HB", len(body), kind) + body

    def place(self, data: bytes, folder: Path) -> Path:
        path = folder / "store"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        try:
            files = unpacked(data)
        except (zipfile.BadZipFile, ValueError, KeyError):  # a minimised one that is no archive any more
            files = {}
        for name, content in files.items():
            (path / name).write_bytes(content)
        return path


class Json(TextTarget):
    suffix = ".json"

    def __init__(self) -> None:
        super().__init__()
        self._coco = {"results": json.loads(self.all[0]), "truth": json.loads(self.all[1])}

    def seeds(self) -> Sequence[bytes]:
        from rmpe_legacy.convert.network_json import Setting, network_json
        from rmpe_legacy.proto.text import parse_text

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
        from rmpe_legacy.convert.network_json import read_json_network
        from rmpe_legacy.data.json_file import read_json
        from rmpe_legacy.evaluation.coco import keypoint_ap
        from rmpe_legacy.evaluation.files import read_groups, read_poses

        yield from (lambda: read_poses(path), lambda: read_groups(path), lambda: read_json_network(path))
        yield lambda: keypoint_ap(read_json(path), self._coco["truth"])
        yield lambda: keypoint_ap(self._coco["results"], read_json(path))


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
        from rmpe_legacy.convert.identity import weights_identity
        from rmpe_legacy.convert.source import read_weights_alone
        from rmpe_legacy.weights import read_state

        def every() -> None:
            state = read_state(path)
            for key in state.tensors if state else ():
                state.blob(key)

        return [every, lambda: weights_identity(read_weights_alone(path))]


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


class Onnx(MessageTarget):
    suffix = ".onnx"

    def seeds(self) -> Sequence[bytes]:
        from rmpe_legacy.convert.onnx import to_onnx
        from rmpe_legacy.load import parse_net
        from rmpe_legacy.proto.text import parse_text

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
        from rmpe_legacy.convert.runners import OnnxRunner

        def run() -> None:
            runner = OnnxRunner(path, "onnx")
            shapes = runner.inputs()
            runner.run({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})

        return [run]


class Picture(Target):
    def seeds(self) -> Sequence[bytes]:
        import cv2

        image = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)
        out = [cv2.imencode(kind, image)[1].tobytes() for kind in
               (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".jp2", ".gif", ".ras", ".pam")]
        out += [cv2.imencode(kind, image[:, :, 0])[1].tobytes() for kind in (".png", ".pgm", ".pbm", ".jpg")]
        out += [cv2.imencode(kind, image.astype(np.uint16) * 200)[1].tobytes() for kind in (".png", ".tiff")]
        out += [cv2.imencode(kind, image.astype(np.float32))[1].tobytes() for kind in (".hdr", ".tiff", ".pfm")]
        return out + golden("io/load_image/*.*", 20_000, 20)

    def mutate(self, random: Random, seed: bytes) -> bytes:
        data = self._resized(random, seed) if random.random() < 0.1 else mutate_bytes(random, seed, self.all)
        return _png_checksums(data) if data.startswith(b"\x89PNG\r\n\x1a\n") and random.random() < 0.8 else data

    @staticmethod
    def _resized(random: Random, data: bytes) -> bytes:
        """Another width or height, wherever the right one stands as a number or as text."""
        for size in (40, 72):
            new = random.choice((0, 1, 300, 5000, 16_000, 65_535, 1 << 20, (1 << 31) - 1))
            width, order = random.choice((2, 2, 4)), random.choice(("little", "big"))
            data = data.replace(size.to_bytes(width, order), (new & (1 << 8 * width) - 1).to_bytes(width, order))
            if random.random() < 0.5:
                data = data.replace(b"%d" % size, b"%d" % new, 1)
        return data

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.data.image import load_image
        from rmpe_legacy.data.opencv_image import decode_image

        mode = random.choice(("color", "gray", "native"))
        return [lambda: load_image(path), lambda: decode_image(path.read_bytes(), mode, str(path))]


class Text(TextTarget):
    """The lists and tables around the pose NMS, the evaluation and the data layers, all read as each other."""

    suffix = ".txt"

    def seeds(self) -> Sequence[bytes]:
        poses = "\n".join("a.jpg\t" + "\t".join(["12.5"] * 32) for _ in range(3))
        scores = "\n".join("a.jpg\t" + "\t".join(["0.5"] * 16) for _ in range(3))
        people = "\t".join(["a.jpg", "1 2 30 40", "5 6 1.5", " ".join(["7"] * 16), " ".join(["8"] * 16)])
        made = [poses, scores, people, "a.jpg 1 2\nb.jpg 3 3\n", "0.5\n0.25\n0.125\n", "a.jpg 640 480\n"]
        return [text.encode() for text in made] + golden("data/*/*.txt", 4000, 20)

    def readers(self, path: Path, random: Random) -> Readers:
        from rmpe_legacy.data.heatmap import read_persons
        from rmpe_legacy.data.windows import read_windows
        from rmpe_legacy.evaluation.files import read_groups, read_poses
        from rmpe_legacy.pipeline import posefiles

        for name in ("index.txt", "score.txt", "pred.txt", "scores.txt", "scores-proposals.txt"):
            (path.parent / name).unlink(missing_ok=True)
            (path.parent / name).symlink_to(path.name)
        return [lambda: read_poses(path.parent), lambda: read_groups(path), lambda: read_windows(path, 0.5, 0.5),
                lambda: read_persons(path, "regression", 0), lambda: read_persons(path, "regression", 4),
                lambda: posefiles.read_numbers(path), lambda: posefiles.read_index(path, 5),
                lambda: posefiles.read_image_sizes(path), lambda: posefiles.read_proposals(path.parent)]


def mutate_archive(random: Random, data: bytes, others: Sequence[bytes],
                   change: Callable[[Random, bytes], bytes]) -> bytes:
    """A zip archive changed as bytes, or built again with some of its members changed."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    files = unpacked(data)
    for name in files:
        if random.random() < 0.5:
            files[name] = change(random, files[name])
    dropped = random.choice(list(files)) if random.random() < 0.05 else None
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return packed({name: content for name, content in files.items() if name != dropped}, kind)


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def _png_checksums(data: bytes) -> bytes:
    out, at = data[:8], 8
    while at + 12 <= len(data):
        size, = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            break
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return out + data[at:]


TARGETS: dict[str, type[Target]] = {
    "prototxt": Prototxt, "net": Net, "caffemodel": Caffemodel, "h5": Hdf5, "t7": Torch7, "npz": Npz, "mat": Mat,
    "lmdb": Lmdb, "leveldb": LevelDb, "json": Json, "onnx": Onnx, "safetensors": Safetensors, "pt": Pt,
    "picture": Picture, "text": Text,
}
