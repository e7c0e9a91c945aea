"""The small demo networks of the package. They find synthetic people (``rmpe_legacy.synthetic``), not real ones."""

from __future__ import annotations

from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.prototxts import find

FOLDER = Path(__file__).parents[1] / "models"
NETWORK = {"detector": "demo/ssd_deploy", "pose": "demo/pose_deploy"}
DE_TRANSFORM = "paper"  # the mode the pose network was trained with
DEMO_NOTE = ("the networks in this package were trained on synthetic people, so their results on photographs are "
             "wrong; for photographs, give the authors' weights (rmpe models lists where to get them) or use other "
             "networks: rmpe demo --boxes FILE --pose NET.onnx")


def demo_model(name: str) -> tuple[Path, Path]:
    """Return the prototxt and caffemodel of "detector" or "pose".

    Raises:
        FileError: They are not installed.
    """
    weights = FOLDER / f"demo_{name}.caffemodel"
    if not weights.is_file():
        raise FileError(f"{weights}: no such file; the demo models are missing from this installation; give --{name} "
                        "PROTOTXT CAFFEMODEL")
    return find(NETWORK[name]), weights
