"""The small networks that come with the package. They find drawn people (data/synthetic.py), not photographed ones."""

from __future__ import annotations

from pathlib import Path

from rmpe_legacy.errors import FileError

FOLDER = Path(__file__).parents[1] / "models"
DE_TRANSFORM = "paper"  # what the pose network was trained with


def shipped(name: str) -> tuple[Path, Path]:
    """The prototxt and caffemodel of "detector" or "pose"."""
    paths = FOLDER / f"demo_{name}.prototxt", FOLDER / f"demo_{name}.caffemodel"
    for path in paths:
        if not path.is_file():
            raise FileError(f"{path}: no such file; this installation lacks the demo's models, give --{name} PROTOTXT "
                            "CAFFEMODEL")
    return paths
