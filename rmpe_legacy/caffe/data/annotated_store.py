"""Writing stores of AnnotatedDatum records, as SSD's convert_annoset makes them.

Sources: ReadRichImageToAnnotatedDatum, ReadJSONToAnnotatedDatum (util/io.cpp) and tools/convert_annoset.cpp of
RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import encode
from rmpe_legacy.files import all_or_none, as_os_errors
from rmpe_legacy.optional import optional

F = np.float32
_ROOM = 1 << 26  # bytes of a store besides its records
_AT_ONCE = 1000  # records of one transaction


@dataclass(frozen=True)
class LabelledBox:
    """One object: its class, and its box in pixels."""

    label: int
    xyxy: tuple[float, float, float, float]
    difficult: bool = False


def annotated_record(encoded_image: bytes, size_hw: tuple[int, int], boxes: Sequence[LabelledBox]) -> bytes:
    """Return a serialised AnnotatedDatum: the encoded image, and its boxes by class, as fractions of the image's size.
    """
    schema = load_schema()
    height, width = size_hw
    groups: dict[int, list[Message]] = {}
    for box in boxes:
        members = groups.setdefault(box.label, [])
        edges = [float(F(edge) / F(size)) for edge, size in zip(box.xyxy, (width, height) * 2, strict=True)]
        bbox = Message(schema["NormalizedBBox"], {
            **dict(zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)), "difficult": box.difficult})
        members.append(Message(schema["Annotation"], {"instance_id": len(members), "bbox": bbox}))
    return encode(Message(schema["AnnotatedDatum"], {
        "datum": Message(schema["Datum"], {"data": encoded_image, "label": -1, "encoded": True}),
        "type": "BBOX",
        "annotation_group": [Message(schema["AnnotationGroup"], {"group_label": label, "annotation": members})
                             for label, members in groups.items()]}))


def record_key(number: int, name: str) -> bytes:
    """Return the key of the image at position `number` of the list."""
    return f"{number:08d}_{name}".encode("utf-8", "surrogateescape")


def write_lmdb(path: str | PathLike, records: Iterable[tuple[bytes, bytes]], total_bytes: int) -> int:
    """Write a store's data file; it appears whole or not at all.

    Args:
        path: The data.mdb to write.
        records: (key, value) in ascending order of the keys.
        total_bytes: At least the size of all records together.

    Returns:
        The number of records.

    Raises:
        RmpeError: The lmdb package is not installed, the disk is full, or iterating `records` raised it.
    """
    lmdb = optional("lmdb", "writing an LMDB")
    count = 0
    room = 2 * total_bytes + _ROOM  # a record takes whole pages, and a page of 4096 bytes holds few keys
    with all_or_none(path) as [place], as_os_errors(lmdb.Error), \
            lmdb.open(str(place), subdir=False, lock=False, map_size=room) as store:
        transaction = store.begin(write=True)
        for key, value in records:
            transaction.put(key, value, append=True)
            count += 1
            if count % _AT_ONCE == 0:
                transaction.commit()
                transaction = store.begin(write=True)
        transaction.commit()
    return count
