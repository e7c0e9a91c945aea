"""Reads predictions and ground truth in the formats of public tools. Every file is checked.

Multi-person: ``read_poses`` and ``read_groups``. Single person: ``read_joints`` and ``read_people``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.reading import first_bytes

from .groups import Groups, Poses
from .json_files import groups_of_json, poses_of_json, with_names
from .matfile import is_mat
from .single_files import read_joints, read_people
from .text_files import groups_of_text, poses_of_text
from .toolkit_files import groups_of_mat, poses_of_mat

__all__ = ["read_groups", "read_joints", "read_json", "read_people", "read_poses"]


def read_poses(path: str | PathLike, image_ids: Mapping[object, str] | None = None) -> Poses:
    """Read predicted multi-person poses.

    Formats: the official toolkit's struct pred (.mat); the authors' pred.txt with scores.txt and index.txt beside it,
    or their folder; results in COCO's JSON style with MPII's 16 joints.

    Args:
        path: The file or folder.
        image_ids: File names by id, for JSON results that refer to images by id.

    Raises:
        FileError: The file cannot be read, or has none of these formats.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / "pred.txt"
    start = first_bytes(path)
    if is_mat(start):
        return poses_of_mat(path)
    if _is_json(start):
        return poses_of_json(path, image_ids or {})
    if path.suffix == ".txt":
        return poses_of_text(path)
    raise FileError(f"{path}: neither a .mat with pred, nor JSON results, nor a pred.txt")


def read_groups(path: str | PathLike, groups: str | PathLike | None = None, split: str = "train") -> Groups:
    """Read the annotated people, in groups.

    Formats: the official toolkit's annolist (.mat); MPII's RELEASE (.mat); the authors' annotation lists (.txt); JSON
    in COCO's style with MPII's 16 joints.

    Args:
        path: The annotations.
        groups: groups_v12.mat, which RELEASE needs, or MPI_MP_*_annotations.json with the image names of an annolist's
            groups.
        split: The part of RELEASE, "train" or "test".

    Raises:
        FileError: The file cannot be read, or has none of these formats.
    """
    path = Path(path)
    groups = None if groups is None else Path(groups)
    division = groups if groups is not None and is_mat(first_bytes(groups)) else None
    start = first_bytes(path)
    if is_mat(start):
        found = groups_of_mat(path, division, split)
    elif _is_json(start):
        found = groups_of_json(path)
    elif path.suffix == ".txt":
        found = groups_of_text(path)
    else:
        raise FileError(f"{path}: neither a .mat with annolist or RELEASE, nor JSON, nor an annotation list (.txt)")
    return found if groups is None or division else with_names(found, path, groups)


def _is_json(start: bytes) -> bool:
    return start.lstrip()[:1] in (b"[", b"{")
