"""The drawn world: the same everywhere, and what it says about its people is what it drew."""

import numpy as np
import pytest

from rmpe_legacy.synthetic import figures
from rmpe_legacy.synthetic import world as synthetic
from rmpe_legacy.synthetic.background import FINE, NOBODY
from rmpe_legacy.synthetic.figures import EYE, HEAD_TOP, L_HIP, NECK, PELVIS, R_HIP, THORAX
from rmpe_legacy.synthetic.world import OCCLUDED, OUTSIDE, VISIBLE, draw_picture, draw_pictures

SEED = 42


@pytest.fixture(scope="module")
def pictures():
    return list(draw_pictures(SEED, 60))


def people_alone(index: int):
    """Each person of a crowd by itself: as the module has it, and who is seen where, at twice the size."""
    rng = np.random.default_rng(index)
    crowd = synthetic._place(rng, 160, 120)
    ground = np.full((FINE * 120, FINE * 160, 4), NOBODY, np.uint8)
    for p in range(len(crowd.scales)):
        one = crowd.select(np.arange(len(crowd.scales)) == p)
        yield one, one.paint(ground, [])[..., 3]


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def test_a_picture_depends_on_its_seed_and_index_alone(pictures):
    assert same(draw_picture(SEED, 7), pictures[7])
    assert same(next(draw_pictures(SEED, 1, first=9)), pictures[9])
    assert not same(draw_picture(SEED + 1, 7), pictures[7])
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)


def test_shapes_and_types(pictures):
    for picture in pictures:
        p = len(picture)
        shapes = [(240, 320, 3), (p, 4), (p, 16, 2), (p, 16), (p, 4), (p,)]
        kinds = [np.uint8, np.float64, np.float64, np.uint8, np.float64, np.float64]
        arrays = [getattr(picture, name) for name in picture.__dataclass_fields__]
        assert [(a.shape, a.dtype) for a in arrays] == list(zip(shapes, map(np.dtype, kinds), strict=True))


def test_other_sizes():
    picture = draw_picture(SEED, 3, width=200, height=310)
    assert picture.image.shape == (310, 200, 3)
    assert (picture.boxes_xyxy <= (200, 310, 200, 310)).all()


def test_there_are_people_of_all_kinds(pictures):
    counts = [len(picture) for picture in pictures]
    assert max(counts) >= 4
    assert 2 <= np.mean(counts) <= 4
    boxes = np.concatenate([picture.boxes_xyxy for picture in pictures])
    heights, widths = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    assert heights.max() > 2.5 * heights.min()
    assert 0.05 < (widths > heights).mean() < 0.5
    for border, side in enumerate((0, 0, 320, 240)):
        assert (boxes[:, border] == side).any(), "no person is cut by this border"
    visible = np.concatenate([picture.visible for picture in pictures])
    assert ((visible == VISIBLE).sum(axis=1) >= synthetic.LEAST_SEEN).all()
    assert (visible == OCCLUDED).any(axis=0).all()
    assert (visible == OUTSIDE).any()


def test_joints_are_inside_the_box_or_outside_the_picture(pictures):
    for picture in pictures:
        in_picture = ((picture.joints_xy >= 0) & (picture.joints_xy < (320, 240))).all(axis=2)
        np.testing.assert_array_equal(in_picture, picture.visible != OUTSIDE)
        # a pixel more each way: the head's top is an edge
        low, high = picture.boxes_xyxy[:, None, :2] - 1, picture.boxes_xyxy[:, None, 2:] + 1
        in_box = ((picture.joints_xy >= low) & (picture.joints_xy <= high)).all(axis=2)
        assert in_box[in_picture].all()


def test_the_box_is_what_was_drawn():
    people = [one for index in range(12) for one in people_alone(index)]
    for one, who in people:
        rows, columns = np.nonzero(who != NOBODY)
        drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / FINE
        np.testing.assert_allclose(drawn, one.boxes()[0], atol=1)
    assert len(people) > 20


def test_joints_lie_on_their_parts():
    shares = [(one.look(who) == VISIBLE).mean() for index in range(12) for one, who in people_alone(index)]
    assert np.mean(shares) > 0.8  # the rest is outside, or behind the person's own body


def test_who_is_nearer_hides_and_nobody_else_does(pictures):
    rng = np.random.default_rng(4)
    for _ in range(10):
        crowd = synthetic._place(rng, 160, 120)
        ground = np.full((FINE * 120, FINE * 160, 4), NOBODY, np.uint8)
        together = crowd.look(crowd.paint(ground, [])[..., 3])
        alone = np.concatenate([one.look(one.paint(ground, [])[..., 3]) for one in
                                (crowd.select(np.arange(len(together)) == p) for p in range(len(together)))])
        assert (together <= alone).all()
        np.testing.assert_array_equal(together[-1], alone[-1])
        wall = [(np.array([[-99, -99], [9999, -99], [9999, 9999], [-99, 9999]], np.int32), (0, 0, 0, NOBODY))]
        assert (crowd.look(crowd.paint(ground, wall)[..., 3]) != VISIBLE).all()


def test_heads_are_those_of_mpii(pictures):
    short = 0
    for picture in pictures:
        boxes, joints = picture.head_boxes_xyxy, picture.joints_xy
        diagonal = np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T)
        np.testing.assert_allclose(picture.head_sizes, 0.6 * diagonal)
        length = np.hypot(*(joints[:, HEAD_TOP] - joints[:, NECK]).T)
        foreshortened = picture.head_sizes > 0.75 * length + 1e-9
        np.testing.assert_allclose(picture.head_sizes[~foreshortened], 0.75 * length[~foreshortened])
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        np.testing.assert_allclose(middle, (joints[:, NECK] + joints[:, HEAD_TOP]) / 2)
        short += foreshortened.sum()
    assert short < 0.15 * sum(map(len, pictures))


def test_right_and_left_are_not_mixed_up():
    people = figures.draw_figures(np.random.default_rng(0), 500)
    left = people.joints[:, L_HIP] - people.joints[:, R_HIP]
    up = people.joints[:, THORAX] - people.joints[:, PELVIS]
    eyes = people.ends[:, people.materials[0] == EYE, 0].mean(axis=1)
    head = (people.joints[:, NECK] + people.joints[:, HEAD_TOP]) / 2
    # x right, y down, z nearer is a left-handed space
    assert (np.einsum("pi,pi->p", np.cross(left, up), eyes - head) < 0).mean() > 0.95  # but for heads turned far


def test_limbs_keep_their_lengths():
    people = figures.draw_figures(np.random.default_rng(0), 50)
    bones = [(0, 1, figures.SHIN), (1, 2, figures.THIGH), (3, 4, figures.THIGH), (4, 5, figures.SHIN),
             (10, 11, figures.FOREARM), (11, 12, figures.UPPER_ARM), (14, 13, figures.UPPER_ARM),
             (15, 14, figures.FOREARM), (6, 7, figures.TORSO), (7, 8, figures.NECK_LENGTH),
             (8, 9, figures.HEAD_LENGTH)]
    for a, b, length in bones:
        np.testing.assert_allclose(np.linalg.norm(people.joints[:, a] - people.joints[:, b], axis=1), length)
