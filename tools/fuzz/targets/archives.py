"""Zip archives that are mutated below their checksums and their compression."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from random import Random

from mutate import mutate_bytes


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
