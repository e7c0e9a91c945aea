"""Times the image path beside what else resizes images, alternating, in one run.

    python tools/bench_image.py [--rounds N]

Only "numpy" and, where it is installed, skimage with the options named below compute the same result; OpenCV's is
another at the borders. All of it runs in one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from rmpe_legacy.caffe.data.image import detector_input, load_image, pose_input, resize_image

try:
    from skimage.transform import resize as skimage_resize
except ImportError:
    skimage_resize = None


def numpy_resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same arithmetic in plain numpy, for a smaller size, where nothing lies outside the image."""
    low, span = image.min(), image.max() - image.min()
    normalised = (image - low) / span
    (y, part_y), (x, part_x) = (_positions(old, new) for old, new in zip(image.shape[:2], size, strict=True))
    part_y, part_x = part_y[:, None, None], part_x[:, None]
    upper, lower = (rows[:, x] * (1 - part_x) + rows[:, x + 1] * part_x for rows in (normalised[y], normalised[y + 1]))
    return ((upper * (1 - part_y) + lower * part_y) * span + low).astype(np.float32)


def _positions(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    at = old / new * (np.arange(new) + 0.5) - 0.5
    first = np.floor(at).astype(int)
    return first, at - first


def skimage_like_012(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    low, span = image.min(), image.max() - image.min()
    normalised = (image - low) / span
    return (skimage_resize(normalised, size, order=1, mode="constant", anti_aliasing=False) * span + low).astype("f4")


def tasks(file: Path) -> dict[str, dict[str, Callable[[], object]]]:
    """Name of a task -> who does it -> how."""
    picture = load_image(file)
    crop = np.ascontiguousarray(picture[100:500, 200:600])
    out = {}
    for name, image, size in (("1280x720 to 500x500", picture, (500, 500)), ("400x400 to 256x256", crop, (256, 256))):
        ways = {"resize_image": resize_image, "numpy": numpy_resize}
        if skimage_resize is not None:
            ways["skimage"] = skimage_like_012
        for who, way in ways.items():
            assert np.allclose(way(image, size), resize_image(image, size), rtol=0, atol=1e-6), who
        ways["cv2.resize"] = lambda image, size: cv2.resize(image, size[::-1])
        out[name] = {who: lambda way=way, image=image, size=size: way(image, size) for who, way in ways.items()}
    out["to an input"] = {"detector_input": lambda: detector_input(picture, 500, 500),
                          "pose_input": lambda: pose_input(crop, 256, 256)}
    out["read a 1280x720 JPEG"] = {"load_image": lambda: load_image(file), "cv2.imread": lambda: cv2.imread(str(file))}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.jpg"
        smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8), (9, 9), 2)
        cv2.imwrite(str(file), cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX))
        print(f"{rounds} alternating rounds, ms; numpy {np.__version__}, OpenCV {cv2.__version__}")
        for task, ways in tasks(file).items():
            spent = {who: [] for who in ways}
            for _ in range(rounds):
                for who, way in ways.items():
                    start = time.perf_counter()
                    way()
                    spent[who].append((time.perf_counter() - start) * 1000)
            print(f"{task:<24}{'median':>10}{'best':>10}")
            for who, times in spent.items():
                print(f"  {who:<22}{statistics.median(times):>10.2f}{min(times):>10.2f}")


if __name__ == "__main__":
    main()
