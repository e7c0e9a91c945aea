"""What is fuzzed: for each format its seeds, how they are mutated, and which readers get the result.

Seeds are made here, or lie in tests/golden. A mutation that a checksum or a compression would hide is made below it.
"""

from .arrays import Mat, Npz, Text
from .base import Target
from .networks import Json, Net, Onnx, Prototxt
from .pictures import Picture
from .stores import LevelDb, Lmdb
from .weights import Caffemodel, Hdf5, Pt, Safetensors, Torch7

__all__ = ["TARGETS", "Target"]

TARGETS: dict[str, type[Target]] = {
    "prototxt": Prototxt, "net": Net, "caffemodel": Caffemodel, "h5": Hdf5, "t7": Torch7, "npz": Npz, "mat": Mat,
    "lmdb": Lmdb, "leveldb": LevelDb, "json": Json, "onnx": Onnx, "safetensors": Safetensors, "pt": Pt,
    "picture": Picture, "text": Text,
}
