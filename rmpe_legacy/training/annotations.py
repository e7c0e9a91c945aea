"""People to train on, from the annotation files that the authors, MPII and COCO publish.

``read_annotations`` takes any of four forms:

- an annotation list of the authors (.txt): image, box, perhaps position and scale, 16 x and 16 y;
- annot.h5 as train/src/util/dataset/mpii-box.lua of multi-human-pose@094e29b reads it: imgname, part, bndbox, and
  perhaps mu and std, the PGPG of each person;
- person_keypoints_*.json of COCO, or JSON in its style with MPII's 16 joints: bbox and keypoints of each person;
- any other ground truth that ``rmpe evaluate mpii`` reads. It has no boxes; the extent of the annotated joints is
  taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.evaluation.files import read_groups
from rmpe_legacy.pose.joints import MPII16
from rmpe_legacy.readers.hdf5 import Dataset, open_hdf5
from rmpe_legacy.readers.json_file import finite_numbers, read_json
from rmpe_legacy.reading import cannot_open, first_bytes

from .people import JOINT_SETS, Person

_J = len(MPII16)


def read_annotations(path: str | PathLike, groups: str | PathLike | None = None, split: str = "train") -> list[Person]:
    """Read the people of an annotation file that have at least one joint and a box with an area.

    Args:
        path: The annotation file.
        groups: As for ``evaluation.read_groups``, for MPII's own .mat files.
        split: As for ``evaluation.read_groups``.

    Raises:
        FileError, EvaluationError: The file has none of the four supported forms, or contains no such person.
    """
    path = Path(path)
    start = first_bytes(path)
    if start.startswith(b"\x89HDF"):
        people = list(_people_of_h5(path))
    elif start.lstrip()[:1] == b"{" and groups is None:
        people = list(_people_of_json(path))
    elif path.suffix == ".txt":
        people = list(_people_of_text(path))
    else:
        people = list(_people_of_groups(path, groups, split))
    usable = [person for person in people if _is_usable(person)]
    if not usable:
        raise FileError(f"{path}: no annotated person has both a joint and a box")
    if len({len(person.joints_xy) for person in usable}) > 1:
        raise FileError(f"{path}: has people with MPII's joints and others with COCO's; give a file for each")
    return usable


def _is_usable(person: Person) -> bool:
    return bool((~np.isnan(person.joints_xy)).all(axis=1).any() and (person.box_xyxy[2:] > person.box_xyxy[:2]).all())


def _without_missing(joints_xy: np.ndarray) -> np.ndarray:
    """Joints at 0, 0 or below are not annotated: (J, 2) -> (J, 2) with NaN there."""
    joints_xy = joints_xy.astype(np.float64)
    joints_xy[(joints_xy <= 0).all(axis=-1)] = np.nan
    return joints_xy


def _people_of_text(path: Path) -> Iterator[Person]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise cannot_open(path, error) from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not a text file") from None
    for number, line in enumerate(lines, 1):
        fields = line.rstrip().split("\t")
        if fields == [""]:
            continue
        try:
            box = np.array(fields[1].split(), np.float64)
            joints = np.stack([np.array(text.split(), np.float64) for text in fields[-2:]], axis=1)
        except (ValueError, IndexError):
            box = joints = np.empty(0)
        if len(fields) not in (4, 5) or box.shape != (4,) or joints.shape != (_J, 2):
            raise FileError(f"{path}:{number}: expected an image, a box, optionally position and scale, {_J} x and "
                            f"{_J} y, separated by tabs")
        if not (np.isfinite(box).all() and np.isfinite(joints).all()):
            raise FileError(f"{path}:{number}: a number that is not finite")
        yield Person(fields[0], box, _without_missing(joints))


def _people_of_h5(path: Path) -> Iterator[Person]:
    root = open_hdf5(path)
    found: dict[str, np.ndarray] = {}
    for name in ("imgname", "part", "bndbox", "mu", "std"):
        dataset = root.get(name)
        if isinstance(dataset, Dataset):
            found[name] = dataset.read()
        elif name in ("imgname", "part", "bndbox"):
            raise FileError(f"{path}: has no array {name}; expected imgname, part and bndbox, as the authors' "
                            "mpii-box.lua reads them")
    people = len(found["part"])
    shapes = {"part": (people, _J, 2), "bndbox": (people, 4), "mu": (people, 4), "std": (people, 4)}
    for name, shape in shapes.items():
        if name in found and (found[name].size != np.prod(shape) or found[name].dtype.kind not in "fiu"):
            raise FileError(f"{path}: {name} is {found[name].shape}; expected {' x '.join(map(str, shape))} numbers")
        if name in found and not np.isfinite(found[name]).all():
            raise FileError(f"{path}: {name} has a number that is not finite")
    arrays = {name: found[name].reshape(shape).astype(np.float64) for name, shape in shapes.items() if name in found}
    names = _image_names(path, found["imgname"], people)
    for i in range(people):
        mean, std = (arrays[key][i] if key in arrays else None for key in ("mu", "std"))
        yield Person(names[i], arrays["bndbox"][i], _without_missing(arrays["part"][i]), mean, std)


def _image_names(path: Path, codes: np.ndarray, people: int) -> list[str]:
    """File names as annot.h5 stores them: a row of character codes each, filled up with zeros."""
    if codes.ndim != 2 or len(codes) != people or codes.dtype.kind not in "fiu":
        raise FileError(f"{path}: imgname is {codes.shape}; expected a row of character codes for each of {people} "
                        "people")
    if ((codes < 0) | (codes > 255)).any():
        raise FileError(f"{path}: imgname has a number that is not a character code")
    return [bytes(row.astype(np.uint8)).partition(b"\0")[0].decode("utf-8", "replace") for row in codes]


def _people_of_json(path: Path) -> Iterator[Person]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise FileError(f"{path}: has no images and annotations; a person_keypoints_*.json of COCO has them")
    names = {}
    for i, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            raise FileError(f"{path}: image {i} has no id")
        names[image["id"]] = str(image.get("file_name", image["id"]))
    for i, entry in enumerate(content["annotations"], 1):
        where = f"{path}: annotation {i}"
        if not isinstance(entry, dict):
            raise FileError(f"{where} is not an object")
        if entry.get("iscrowd") or not entry.get("num_keypoints", 1):
            continue
        yield _person_of_json(where, entry, names)


def _person_of_json(where: str, entry: Mapping[str, Any], names: Mapping[Any, str]) -> Person:
    key = entry.get("image_id")
    if not isinstance(key, int | str) or key not in names:
        raise FileError(f"{where}: image_id {key!r} is not among the images")
    box, keypoints = (_numbers(where, name, entry.get(name)) for name in ("bbox", "keypoints"))
    if box.shape != (4,):
        raise FileError(f"{where}: bbox has {box.size} numbers; expected x, y, width and height")
    if keypoints.size not in [3 * count for count in JOINT_SETS]:
        raise FileError(f"{where}: keypoints has {keypoints.size} numbers; expected x, y and visibility of MPII's 16 "
                        "joints or COCO's 17")
    joints = keypoints.reshape(-1, 3)
    xy = np.where(joints[:, 2:] > 0, joints[:, :2], np.nan)
    return Person(names[key], np.concatenate([box[:2], box[:2] + box[2:]]), xy)


def _numbers(where: str, what: str, value: Any) -> np.ndarray:
    numbers = finite_numbers(value)
    if numbers is None:
        raise FileError(f"{where}: {what} is not a list of finite numbers")
    return numbers


def _people_of_groups(path: Path, groups: str | PathLike | None, split: str) -> Iterator[Person]:
    found = read_groups(path, groups, split)
    if not all(found.images):
        raise FileError(f"{path}: does not name its images; give the file that does with --groups")
    for image, people in zip(found.images, found.joints, strict=True):
        for joints in people:
            known = joints[~np.isnan(joints).any(axis=1)]
            if len(known):
                yield Person(image, np.concatenate([known.min(axis=0), known.max(axis=0)]), joints)
