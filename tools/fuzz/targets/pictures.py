"""Images, as OpenCV writes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from mutate import mutate_bytes

from .base import Readers, Target, golden


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
        from rmpe_legacy.caffe.data.image import load_image
        from rmpe_legacy.caffe.data.opencv_image import decode_image

        mode = random.choice(("color", "gray", "native"))
        return [lambda: load_image(path), lambda: decode_image(path.read_bytes(), mode, str(path))]


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
