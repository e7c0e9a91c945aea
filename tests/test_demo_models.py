"""The models in the package, on pictures that they have not seen."""

import numpy as np
import pytest
import torch
from demo_tools import tool

from rmpe_legacy.data.synthetic import OUTSIDE, draw_pictures
from rmpe_legacy.evaluation.mpii import multi_person_ap

eval_demo = tool("eval_demo")
WORLD = 77


@pytest.fixture(scope="module")
def models():
    with torch.no_grad():
        yield eval_demo.Models.load(eval_demo.MODELS)  # a warning fails the test


@pytest.fixture(scope="module")
def pictures():
    return [picture for picture in draw_pictures(WORLD, 12) if len(picture)][:10]


def test_they_are_small():
    sizes = [path.stat().st_size for path in eval_demo.MODELS.glob("*.caffemodel")]
    assert len(sizes) == 2
    assert sum(sizes) < 6e6


def test_nothing_is_left_out(models):
    assert not list(models.detector.left_out)
    assert not list(models.pose.left_out)


def test_they_find_most_people_and_their_joints(models, pictures):
    found = []
    for picture in pictures:
        image = picture.image / np.float32(255)
        found.append(eval_demo.persons(models, image, models.detect(image))[:, eval_demo.EVALUATED_IDS])
    heads = [picture.head_sizes for picture in pictures]
    assert multi_person_ap(found, [eval_demo.truth(picture) for picture in pictures], heads).mean > 60


def test_the_detector_puts_a_box_on_most_people(models, pictures):
    hit = []
    for picture in pictures:
        boxes = models.detect(picture.image / np.float32(255)).astype(float)
        low = np.maximum(boxes[:, None, :2], picture.boxes_xyxy[:, :2])
        high = np.minimum(boxes[:, None, 2:], picture.boxes_xyxy[:, 2:])
        common = (high - low).clip(0).prod(axis=2)
        areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, picture.boxes_xyxy)]
        iou = common / (areas[0][:, None] + areas[1] - common)
        hit += (iou > 0.5).any(axis=0).tolist()
    assert np.mean(hit) > 0.75


def test_the_stn_finds_the_person_again_in_a_disturbed_box(models, pictures):
    """Its theta differs by box, so that what the hourglass sees does not."""
    picture = max(pictures, key=lambda p: (p.visible != OUTSIDE).all(axis=1).sum())
    box = picture.boxes_xyxy[(picture.visible != OUTSIDE).all(axis=1)][0]
    width, height = box[2:] - box[:2]
    near, far = (box + np.array(move) * (width, height, width, height)
                 for move in ([0, 0, 0, 0], [-0.3, -0.3, 0.3, 0.3]))
    image = picture.image / np.float32(255)
    models.pose.keep_blobs = True
    sides = []
    for grown in (near, far):
        grown = np.clip(grown, 0, (320, 240, 320, 240)).astype(int)
        models.poses(image, grown[None])
        theta = models.pose.blobs["theta"][0].numpy()
        sides.append((theta[0] + theta[4]) / 2 * (grown[2:] - grown[:2]).max())
    models.pose.keep_blobs = False
    assert abs(sides[1] / sides[0] - 1) < 0.2
