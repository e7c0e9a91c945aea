"""The small networks that come with the package. They find drawn people (data/synthetic.py), not photographed ones."""

from __future__ import annotations

from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.prototxts import find

FOLDER = Path(__file__).parents[1] / "models"
NETWORK = {"detector": "demo/ssd_deploy", "pose": "demo/pose_deploy"}
DE_TRANSFORM = "paper"  # what the pose network was trained with


def shipped(name: str) -> tuple[Path, Path]:
    """The prototxt and caffemodel of "detector" or "pose"."""
    weights = FOLDER / f"demo_{name}.caffemodel"
    if not weights.is_file():
        raise FileError(f"{weights}: no such file; this installation lacks the demo's models, give --{name} PROTOTXT "
                        "CAFFEMODEL")
    return find(NETWORK[name]), weights
