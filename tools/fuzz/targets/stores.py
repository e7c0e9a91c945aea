"""Databases of images: LMDB and LevelDB."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from mutate import integer, mutate_bytes, varint

from .archives import packed, unpacked
from .base import GOLDEN, Readers, Target


class Store(Target):
    """A database of images; its first records are parsed and decoded."""

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
        from rmpe_legacy.caffe.data.datum import Cursor, Datum, parse_annotated, parse_datum
        from rmpe_legacy.caffe.data.opencv_image import decode_image
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
