"""Measures the demo's models on drawn pictures that no training saw: MPII AP from picture to persons.

    python tools/eval_demo.py [--models FOLDER] [--pictures N] [--world SEED]

Four rows: the detector's boxes as they are, and disturbed (moved along each axis by up to 25 % of their side, made
larger or smaller by up to 25 %); each with the STN, and with the STN and the SDTN switched to the identity. The steps
are the demo's: boxes of 0.09 or more as in the paper, grown by 1.3 x 1.2, cropped, posed, put back, pose NMS.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm
from train_demo import CROP_SIZE, DETECTOR_SIZE, IDENTITY, MAP_SIZE, PROTOTXT, shifted_and_scaled

from rmpe_legacy import Net, load_net
from rmpe_legacy.data.image import detector_input, pose_input
from rmpe_legacy.data.synthetic import OUTSIDE, Picture, draw_pictures
from rmpe_legacy.evaluation.joints import EVALUATED_IDS
from rmpe_legacy.evaluation.mpii import multi_person_ap
from rmpe_legacy.pipeline.geometry import crop_box, grow_boxes, pixel_boxes, uncrop
from rmpe_legacy.pipeline.nms import pose_nms

MODELS = Path(__file__).parents[1] / "rmpe_legacy" / "models"
THRESHOLD = 0.09  # of a detection, as in the paper
WORLD = 1_000_003  # the seed of the pictures; training draws from worlds of small numbers
MOST_DISTURBED = 0.25


@dataclass(frozen=True)
class Models:
    detector: Net
    pose: Net

    @classmethod
    def load(cls, folder: Path) -> Models:
        return cls(load_net(PROTOTXT / "ssd_deploy.prototxt", folder / "demo_detector.caffemodel"),
                   load_net(PROTOTXT / "pose_deploy.prototxt", folder / "demo_pose.caffemodel", de_transform="paper"))

    def without_stn(self) -> Models:
        """The same with theta, which both transformers share, held at the identity."""
        pose = load_net(PROTOTXT / "pose_deploy.prototxt", de_transform="paper")
        pose.load_state_dict(self.pose.state_dict())
        with torch.no_grad():
            pose.params["theta"][0].zero_()
            pose.params["theta"][1].copy_(torch.tensor(IDENTITY))
        return Models(self.detector, pose)

    def detect(self, image: np.ndarray) -> np.ndarray:
        """(D, 4) int64: boxes of at least THRESHOLD in pixels. image: (H, W, 3) from 0 to 1."""
        height, width = image.shape[:2]
        data = torch.from_numpy(detector_input(image, DETECTOR_SIZE, DETECTOR_SIZE))[None]
        rows = self.detector(data=data)["detection_out"].view(-1, 7).numpy()
        return pixel_boxes(rows[(rows[:, 1] == 1) & (rows[:, 2] >= THRESHOLD), 3:], (width, height))

    def poses(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints (D, 16, 2) in pixels of the picture, and scores (D, 16). boxes: grown (D, 4)."""
        if not len(boxes):
            return np.zeros((0, 16, 2)), np.zeros((0, 16), np.float32)
        crops = [pose_input(crop_box(image, box), CROP_SIZE, CROP_SIZE) for box in boxes]
        data = torch.from_numpy(np.stack(crops))
        found = self.pose(data=data)["prediction_heatmap"].view(len(boxes), 16, 3).numpy()
        return uncrop(found[..., :2], boxes[:, None], MAP_SIZE).astype(np.float64), found[..., 2]


def persons(models: Models, image: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(K, 16, 3): x, y, score of each person's joints."""
    height, width = image.shape[:2]
    grown = grow_boxes(detected, (width, height))
    whole = (grown[:, 2:] - grown[:, :2] >= 2).all(axis=1)
    joints, scores = models.poses(image, grown[whole])
    found = pose_nms(joints, scores, detected[whole]).persons
    return np.concatenate([found.joints_xy, found.scores[..., None]], axis=2)


def truth(picture: Picture) -> np.ndarray:
    """(P, 14, 2): the joints that are in the picture; NaN for the others."""
    joints = np.where((picture.visible != OUTSIDE)[..., None], picture.joints_xy, np.nan)
    return joints[:, EVALUATED_IDS]


def disturbed(boxes: np.ndarray, size_wh: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    moved = [shifted_and_scaled(rng, box, MOST_DISTURBED) for box in boxes.astype(np.float64)]
    return np.clip(np.array(moved).reshape(-1, 4), 0, np.tile(size_wh, 2)).astype(np.int64)


def measure(models: Models, pictures: list[Picture]) -> Iterator[tuple[str, dict[str, float]]]:
    """The rows: what was done, and the columns of MPII's table."""
    images = [picture.image / np.float32(255) for picture in pictures]
    boxes = [models.detect(image) for image in tqdm(images, "detect")]
    rng = np.random.default_rng(0)
    moved = [disturbed(b, image.shape[1::-1], rng) for b, image in zip(boxes, images, strict=True)]
    for how, given in (("detected", boxes), ("disturbed", moved)):
        for stn, used in (("with STN", models), ("identity", models.without_stn())):
            found = [persons(used, image, b)[:, EVALUATED_IDS]
                     for image, b in zip(tqdm(images, f"{how}, {stn}"), given, strict=True)]
            result = multi_person_ap(found, [truth(p) for p in pictures], [p.head_sizes for p in pictures])
            yield f"{how} boxes, {stn}", result.table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--world", type=int, default=WORLD)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with torch.no_grad():
        rows = list(measure(Models.load(args.models), list(draw_pictures(args.world, args.pictures))))
    print(f"{'MPII AP':<28}" + "".join(f"{column:>10}" for column in rows[0][1]))
    for name, table in rows:
        print(f"{name:<28}" + "".join(f"{value:>10.1f}" for value in table.values()))


if __name__ == "__main__":
    main()
