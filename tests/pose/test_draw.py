"""Skeletons and boxes: the limbs and colours that the unmodified demo.py drew."""

import json

import numpy as np
import pytest
from paths import TESTS

from rmpe_legacy import RmpeError
from rmpe_legacy.errors import InputError
from rmpe_legacy.pose.draw import LEFT, LIMBS, MIDDLE, RIGHT, draw_boxes, draw_poses

GOLDEN = TESTS / "golden" / "io"
COLORS = {"r": RIGHT, "b": LEFT, "m": MIDDLE}


@pytest.mark.parametrize("name", ["demo__small", "demo__round_halves"])
def test_limbs_and_colours_are_those_that_the_demo_drew(name):
    meta, a = json.loads((GOLDEN / name / "case.json").read_text()), np.load(GOLDEN / name / "case.npz")
    images = range(len(meta["images"]))
    joints = np.concatenate([a[f"img{i}_nms_out_preds"] for i in images])
    scores = np.concatenate([a[f"img{i}_nms_out_scores"] for i in images])
    ours = [([x, u], [y, v], color) for place, height in zip(joints, scores, strict=True) for j, k, color in LIMBS
            if height[j] >= 0.1 and height[k] >= 0.1 for (x, y), (u, v) in [(place[j], place[k])]]
    theirs = [(x, y, COLORS[color]) for _, x, y, color, _ in meta["plots"]]
    assert len(ours) == len(theirs)
    for (x, y, color), (their_x, their_y, their_color) in zip(ours, theirs, strict=True):
        assert color == their_color
        np.testing.assert_allclose([x, y], [their_x, their_y], atol=1e-3)


@pytest.fixture
def picture():
    return np.full((120, 160, 3), 90, np.uint8)


@pytest.fixture
def pose():
    """Joints far apart on a grid: no limb runs through another joint's surroundings."""
    joints = np.stack([20 + 38.0 * (np.arange(16) % 4), 15 + 28.0 * (np.arange(16) // 4)], axis=-1)
    return joints[None], np.ones((1, 16))


def test_a_limb_is_drawn_between_its_joints(picture, pose):
    drawn = draw_poses(picture, *pose, radius=0)
    middle = pose[0][0, [0, 1]].mean(axis=0).astype(int)
    assert tuple(drawn[middle[1], middle[0]]) == RIGHT
    assert tuple(draw_poses(picture, *pose, order="BGR", radius=0)[middle[1], middle[0]]) == RIGHT[::-1]
    assert (picture == 90).all()


def test_joints_are_circles_of_their_side(picture, pose):
    drawn = draw_poses(picture, *pose, radius=4)
    for joint, color in ((0, RIGHT), (5, LEFT), (9, MIDDLE), (15, LEFT)):
        x, y = pose[0][0, joint].astype(int)
        assert tuple(drawn[y, x]) == color
        assert tuple(drawn[y + 3, x]) == color


def test_what_is_not_sure_is_not_drawn(picture, pose):
    joints, scores = pose
    scores[:] = 0.0999
    np.testing.assert_array_equal(draw_poses(picture, joints, scores), picture)
    scores[:] = 0.1
    joints[:] = np.nan  # a joint of score 0 in every merged pose has no place in the demo
    np.testing.assert_array_equal(draw_poses(picture, joints, scores), picture)


def test_joints_far_outside_do_no_harm(picture, pose):
    joints, scores = pose
    joints[0, 0] = -1e30, 1e30
    assert draw_poses(picture, joints, scores).shape == picture.shape


def test_nobody_and_no_box_leave_the_picture(picture):
    np.testing.assert_array_equal(draw_poses(picture, np.empty((0, 16, 2)), np.empty((0, 16))), picture)
    np.testing.assert_array_equal(draw_boxes(picture, np.empty((0, 4)), np.empty(0)), picture)


def test_a_box_has_its_corners_inside(picture):
    drawn = draw_boxes(picture, [[10, 20, 61, 101]], [0.87], order="BGR", color=(250, 10, 20), thickness=1)
    for x, y in ((10, 20), (60, 20), (10, 100), (60, 100)):
        assert tuple(drawn[y, x]) == (20, 10, 250)
    assert (drawn[:, 61:] == 90).all()
    assert (drawn[21:40, 11:60] != 90).any()  # the score


def test_scores_of_boxes_with_one_corner_stand_side_by_side(picture):
    boxes = [[10, 20, 150, 110]] * 4
    assert _ink(draw_boxes(picture, boxes, [0.87] * 4)) == 4 * _ink(draw_boxes(picture, boxes[:1], [0.87])) > 80


def _ink(drawn: np.ndarray) -> int:
    """Black pixels: of the letters, in no box and not in the picture."""
    return np.count_nonzero((drawn == 0).all(axis=2))


@pytest.mark.parametrize("corner", [(-30, -40), (150, 0), (0, 112), (155, 117)])
def test_a_score_is_never_cut_at_the_edge(picture, corner):
    x, y = corner
    whole = _ink(draw_boxes(picture, [[40, 40, 90, 90]], [0.87]))
    assert _ink(draw_boxes(picture, [[x, y, x + 300, y + 300]], [0.87])) == whole > 20


def test_a_tiny_image_has_boxes_without_scores():
    drawn = draw_boxes(np.zeros((12, 12, 3), np.uint8), [[0, 0, 12, 12]], [0.5], thickness=1)
    assert not drawn[1:-1, 1:-1].any()
    assert drawn[0, 0, 1] == 200


def test_one_score_for_each_box(picture):
    with pytest.raises(InputError, match="2 boxes and 1 scores do not match"):
        draw_boxes(picture, [[0, 0, 9, 9]] * 2, [0.5])


def test_pictures_of_other_kinds_are_refused(picture, pose):
    with pytest.raises(RmpeError, match=r"must be \(height, width, 3\) uint8, not \(120, 160\) uint8"):
        draw_poses(picture[:, :, 0], *pose)
    with pytest.raises(RmpeError, match="float64"):
        draw_boxes(picture / 255, [])
    with pytest.raises(RmpeError, match="order 'rgb'"):
        draw_boxes(picture, [], order="rgb")


def test_a_view_may_be_drawn_on(picture, pose):
    want = draw_poses(picture, *pose)
    wide = np.repeat(picture, 2, axis=1)
    np.testing.assert_array_equal(draw_poses(wide[:, ::2], *pose), want)
