"""The joints of the evaluation protocols, by the short names in their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

MPII = ("rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thrx", "neck", "head",
        "rwri", "relb", "rsho", "lsho", "lelb", "lwri")  # by MPII's id, 0 to 15

# The joints that the official toolkits evaluate, in their order: without pelvis and thorax, neck and head last.
EVALUATED_IDS = (0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9)
EVALUATED = tuple(MPII[i] for i in EVALUATED_IDS)

# Each column of the printed tables is the mean of two joints.
COLUMNS = {
    "Head": ("neck", "head"),
    "Shoulder": ("rsho", "lsho"),
    "Elbow": ("relb", "lelb"),
    "Wrist": ("rwri", "lwri"),
    "Hip": ("rhip", "lhip"),
    "Knee": ("rkne", "lkne"),
    "Ankle": ("rank", "lank"),
}

COCO = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle")


def column_means(values: Iterable[float], names: Sequence[str]) -> dict[str, float]:
    """Return the seven columns of the printed tables from one value per joint, in the order of ``names``."""
    by_name: Mapping[str, float] = dict(zip(names, values, strict=True))
    return {column: float(by_name[a] + by_name[b]) / 2 for column, (a, b) in COLUMNS.items()}
