"""The small demo networks of the package. They find synthetic people (``rmpe_legacy.synthetic``), not real ones."""

from __future__ import annotations

from pathlib import Path

from rmpe_legacy.errors import FileError

FOLDER = Path(__file__).parents[1] / "models"
DE_TRANSFORM = "paper"  # the mode the pose network was trained with


def demo_model(name: str) -> tuple[Path, Path]:
    """Return the prototxt and caffemodel of "detector" or "pose". Raises FileError if they are not installed."""
    paths = FOLDER / f"demo_{name}.prototxt", FOLDER / f"demo_{name}.caffemodel"
    for path in paths:
        if not path.is_file():
            raise FileError(f"{path}: no such file; the demo models are missing from this installation, give "
                            f"--{name} PROTOTXT CAFFEMODEL")
    return paths
