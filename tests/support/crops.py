"""Images that the authors' Lua cropped, and read joints of, in the real Torch7 (tests/golden/torch7/crop.tar.xz)."""

import json

import numpy as np
from difference import Golden
from packed import unpacked


def torch7_crops() -> list[tuple[dict, Golden]]:
    """Of each of the 24 cases its boxes, "box" as detected and "int" as grown and cut, and its arrays."""
    folder = unpacked("torch7/crop")

    def arrays(case: dict) -> dict[str, np.ndarray]:
        return {name: np.fromfile(folder / entry["file"], np.float32).reshape(entry["shape"])
                for name, entry in case.items() if isinstance(entry, dict)}

    cases = json.loads((folder / "crop.json").read_text())["cases"]
    return [(case, Golden(arrays(case), f"crop.tar.xz, {case['image']['file']}", "Torch7")) for case in cases]
