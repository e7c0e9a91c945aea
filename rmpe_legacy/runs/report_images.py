"""Small images for the report: each crop as it passes through the pose network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from rmpe_legacy.pose.estimate import CropTrace

IMAGE_WIDTH, CROP_WIDTH, CELL = 720, 160, 72  # maximum width in pixels of the image, a crop, a heatmap
MAX_CROPS = 12  # per image
COLUMNS = 4  # of heatmaps
_QUALITY, _GRID = 80, 110


@dataclass(frozen=True, eq=False)
class CropPanel:
    """One crop: JPEG files, and its joints relative to the crop's sides (0 to 1)."""

    crop: bytes
    straightened: bytes  # the crop after the STN; empty if the network has none
    heatmaps: bytes  # one per joint over the crop, four per row
    points: np.ndarray  # (J, 2) float32
    theta: tuple[float, ...]  # six numbers; empty if the network has no STN
    aspect: float = 1.0  # height / width


@dataclass(frozen=True, eq=False)
class Panels:
    """The images of the report for one input image; boxes and poses are drawn over them."""

    image: bytes  # JPEG, reduced
    crops: tuple[CropPanel, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the panels as uint8 and float arrays by name, for a checkpoint."""
        width, joints = (len(self.crops[0].theta), len(self.crops[0].points)) if self.crops else (0, 0)
        files = [self.image, *(file for c in self.crops for file in (c.crop, c.straightened, c.heatmaps))]
        return {"files": np.frombuffer(b"".join(files), np.uint8), "ends": np.cumsum([len(file) for file in files]),
                "points": np.array([c.points for c in self.crops], np.float32).reshape(len(self.crops), joints, 2),
                "aspect": np.array([c.aspect for c in self.crops]),
                "theta": np.array([c.theta for c in self.crops], np.float32).reshape(-1, width) if width
                else np.empty((len(self.crops), 0), np.float32)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Panels:
        """Rebuild the panels from the result of ``arrays``."""
        data = arrays["files"].tobytes()
        files: list[Any]
        image, *files = [data[a:b] for a, b in pairwise([0, *arrays["ends"].tolist()])]
        rows = zip(arrays["points"], arrays["theta"], arrays["aspect"].tolist(), strict=True)
        crops = tuple(CropPanel(crop, straightened, maps, points, tuple(theta.tolist()), aspect)
                      for crop, straightened, maps, (points, theta, aspect)
                      in zip(files[::3], files[1::3], files[2::3], rows, strict=True))
        return cls(image, crops)


def panels(image: np.ndarray, traces: Sequence[CropTrace]) -> Panels:
    """Return the panels of an image, (H, W, 3) float RGB from 0 to 1, and of its first crops."""
    return Panels(_jpeg(_reduced(to_bytes(image), IMAGE_WIDTH)), tuple(map(_crop_panel, traces[:MAX_CROPS])))


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Convert floats from 0 to 1 to uint8, any shape. OpenCV is four times as fast; it takes absolute values."""
    if image.dtype == np.float32 and image.ndim == 3 and image.shape[2] == 3 and image.min(initial=0) >= 0:
        return cv2.convertScaleAbs(image, alpha=255)
    values = np.clip(image, 0, 1)
    values *= 255
    return np.rint(values, out=values).astype(np.uint8)


def _crop_panel(trace: CropTrace) -> CropPanel:
    crop = _reduced(to_bytes(trace.crop.transpose(1, 2, 0)), CROP_WIDTH)
    straightened = b"" if trace.straightened is None else _jpeg(
        _reduced(to_bytes(trace.straightened.transpose(1, 2, 0)), CROP_WIDTH))
    h, w = trace.heatmaps.shape[1:]
    theta = () if trace.theta is None else tuple(trace.theta.tolist())
    return CropPanel(_jpeg(crop), straightened, _jpeg(_mosaic(crop, trace.heatmaps)),
                     ((trace.points + 0.5) / (w, h)).astype(np.float32), theta,
                     trace.crop.shape[1] / trace.crop.shape[2])


def _mosaic(crop: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Draw every heatmap over the darkened crop, four per row; the maximum over all of them is white."""
    ground = cv2.cvtColor(cv2.resize(crop, (CELL, CELL), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    strength = np.clip(heatmaps, 0, None) / max(float(heatmaps.max()), 1e-6)
    cells = []
    for values in strength:
        values = cv2.resize(values.astype(np.float32), (CELL, CELL), interpolation=cv2.INTER_LINEAR)[..., None]
        glow = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        weight = np.minimum(1, 2 * values)
        cell = np.rint(glow * weight + 0.6 * ground[..., None] * (1 - weight)).astype(np.uint8)
        cell[-1] = cell[:, -1] = _GRID
        cells.append(cell)
    cells += [np.zeros_like(cells[0])] * (-len(cells) % COLUMNS)
    rows = len(cells) // COLUMNS
    grid = np.stack(cells).reshape(rows, COLUMNS, CELL, CELL, 3)
    return np.ascontiguousarray(grid.transpose(0, 2, 1, 3, 4).reshape(rows * CELL, COLUMNS * CELL, 3))


def _reduced(image: np.ndarray, width: int) -> np.ndarray:
    """Shrink an image to at most this width and twice this height."""
    h, w = image.shape[:2]
    scale = min(1, width / w, 2 * width / h)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    return image if size == (w, h) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(rgb: np.ndarray) -> bytes:
    return jpeg(rgb, _QUALITY)


def jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 RGB image as JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
