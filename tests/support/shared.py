"""Other people's data, which may not be distributed with this project: the folder that RMPE_SHARED names."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

KINDS = {  # folder of data/ -> what it holds
    "authors": "the authors' proposals, poses and lists",
    "coco_kpt": "COCO samples",
    "expected": "what the original programs gave on such data",
    "images": "photographs",
    "mpii_multi": "MPII multi-person annotations",
    "mpii_single": "MPII single-person annotations",
    "mtcnn": "MTCNN's networks",
    "torch7": "Torch7 files",
}
NEEDED = "other people's data: "


def shared(kind: str, *parts: str) -> Path:
    """A path in the folder of one of KINDS; skips the test where RMPE_SHARED is not set."""
    if not os.environ.get("RMPE_SHARED"):
        pytest.skip(NEEDED + KINDS[kind])
    return Path(os.environ["RMPE_SHARED"], "data", kind, *parts)


def is_missing_data(reason: str) -> bool:
    """Whether a test was skipped for this reason by shared()."""
    return reason.startswith(NEEDED)


def missing_data(skipped: Mapping[str, int]) -> str:
    """The line about all tests that shared() skipped; reason -> how many."""
    kinds = ", ".join(f"{reason.removeprefix(NEEDED)} ({count})" for reason, count in sorted(skipped.items()))
    return (f"{sum(skipped.values())} skipped: they need other people's data, which may not be distributed: {kinds}. "
            "Set RMPE_SHARED to a folder that has it under data/.")
