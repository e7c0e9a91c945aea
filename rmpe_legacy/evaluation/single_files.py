"""Single-person files, one image per person, as written by the hourglass family of tools."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.hdf5 import Dataset, open_hdf5
from rmpe_legacy.readers.npy import MAGIC, read_npy
from rmpe_legacy.reading import first_bytes

from .joints import MPII
from .matfile import is_mat, read_mat
from .mpii import HEAD_BIAS

_J = len(MPII)


def read_joints(path: str | PathLike) -> np.ndarray:
    """Read predicted joints of N people, (N, 16, 2) in pixels: the array preds of an .h5 or .mat, or a .npy.

    An array of shape (2, 16, N), Matlab's order, is transposed.

    Raises:
        FileError: The file cannot be read, or contains no such array.
    """
    path = Path(path)
    start = first_bytes(path)
    values: np.ndarray | None
    if start.startswith(MAGIC):
        values = read_npy(path)
    elif is_mat(start):
        values = read_mat(path).get("preds")
    elif start.startswith(b"\x89HDF"):
        values = _h5(path, ("preds",))["preds"]
    else:
        raise FileError(f"{path}: neither .h5 nor .mat with preds, nor .npy")
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise FileError(f"{path}: has no array of numbers named preds")
    if values.ndim == 3 and values.shape[:2] == (2, _J) and values.shape[1:] != (_J, 2):
        values = values.transpose(2, 1, 0)
    if values.ndim != 3 or values.shape[1:] != (_J, 2):
        raise FileError(f"{path}: preds are {values.shape}; expected (people, {_J}, 2)")
    return values.astype(np.float64)


def read_people(path: str | PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read joints (N, 16, 2), NaN if not annotated, and head sizes (N,) in pixels.

    Formats: the hourglass's annot/valid.h5 (part, normalize; 0, 0 is not annotated), and Tompson's
    detections_our_format.mat, which HRNet calls gt_valid.mat (pos_gt_src, jnt_missing, headboxes_src).
    """
    path = Path(path)
    start = first_bytes(path)
    if start.startswith(b"\x89HDF"):
        found = _h5(path, ("part", "normalize"))
        joints, heads = found["part"].astype(np.float64), found["normalize"].astype(np.float64)
        missing = (joints == 0).all(axis=-1)
    elif is_mat(start):
        found = read_mat(path)
        for name, needed in (("pos_gt_src", 3), ("jnt_missing", 2), ("headboxes_src", 3)):
            if not isinstance(found.get(name), np.ndarray) or found[name].ndim != needed:
                raise FileError(f"{path}: has no array {name} of {needed} axes")
        joints, missing = found["pos_gt_src"].transpose(2, 0, 1).copy(), found["jnt_missing"].T > 0
        boxes = found["headboxes_src"]
        if boxes.shape[:2] != (2, 2) or missing.shape != joints.shape[:2]:
            raise FileError(f"{path}: pos_gt_src {joints.shape}, jnt_missing {missing.shape} and headboxes_src "
                            f"{boxes.shape} do not belong together")
        heads = HEAD_BIAS * np.sqrt(((boxes[1] - boxes[0]) ** 2).sum(axis=0))
    else:
        raise FileError(f"{path}: neither an .h5 with part and normalize, nor a .mat with pos_gt_src")
    if joints.ndim != 3 or joints.shape[1:] != (_J, 2) or heads.shape != joints.shape[:1]:
        raise FileError(f"{path}: joints {joints.shape} and head sizes {heads.shape}; expected (people, {_J}, 2) and "
                        "(people,)")
    joints[missing] = np.nan
    return joints, heads


def _h5(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read datasets of an HDF5 file."""
    root, out = open_hdf5(path), {}
    for name in names:
        dataset = root.get(name)
        if not isinstance(dataset, Dataset):
            raise FileError(f"{path}: has no array {name}")
        out[name] = dataset.read()
    return out
