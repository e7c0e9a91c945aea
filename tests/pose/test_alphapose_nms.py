"""AlphaPose's pose NMS: what its own function gave, and what it does where that one is silent."""

from dataclasses import replace

import numpy as np
import pytest
from paths import TESTS

from rmpe_legacy.errors import PoseFileError
from rmpe_legacy.pose.alphapose_nms import ALPHAPOSE, alphapose_nms

GOLDEN = TESTS / "golden" / "nms" / "alphapose_body17.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """60 synthetic images of 17 joints, and what pose_nms_body of AlphaPose@00e180e gave (torch 2.13, float32)."""
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def test_the_same_persons_as_alphapose(golden):
    persons = 0
    for i, (first, end) in enumerate(zip(golden["first"], golden["last"], strict=True)):
        mine = slice(first, end)
        result = alphapose_nms(golden["preds"][mine], golden["scores"][mine], golden["boxes"][mine],
                               replace(ALPHAPOSE, min_area=float(golden["areas"][i])))
        theirs = slice(golden["r_first"][i], golden["r_last"][i])
        np.testing.assert_array_equal(result.persons.picks, golden["r_picks"][theirs])
        np.testing.assert_allclose(result.persons.joints_xy, golden["r_preds"][theirs], rtol=0, atol=1e-4)
        np.testing.assert_allclose(result.persons.scores, golden["r_scores"][theirs], rtol=0, atol=1e-6)
        assert len(result.persons) + len(result.dropped) <= end - first
        persons += len(result.persons)
    assert persons == len(golden["r_picks"]) == 294


def test_ranges_keep_images_apart(golden):
    ranges = np.stack([golden["first"], golden["last"]], axis=1)
    together = alphapose_nms(golden["preds"], golden["scores"], golden["boxes"], ranges=ranges)
    for people, (first, end) in zip(together.persons.by_image(), ranges.tolist(), strict=True):
        alone = alphapose_nms(*(golden[key][first:end] for key in ("preds", "scores", "boxes"))).persons
        np.testing.assert_array_equal(together.persons.picks[people], alone.picks + first)
        np.testing.assert_array_equal(together.persons.joints_xy[people], alone.joints_xy)


def test_each_proposal_belongs_to_one_person_at_most(golden):
    ranges = np.stack([golden["first"], golden["last"]], axis=1)
    result = alphapose_nms(golden["preds"], golden["scores"], golden["boxes"], ranges=ranges)
    assert sorted([*result.persons.members, *result.dropped.members]) == list(range(len(golden["boxes"])))


def pose(x: float, score: float, joints: int = 5) -> tuple[np.ndarray, np.ndarray]:
    return np.full((joints, 2), x) + 20.0 * np.arange(joints)[:, None], np.full(joints, score)


def test_five_joints_that_coincide_are_one_person_and_four_are_not():
    for joints, persons in ((5, 1), (4, 2)):
        places, scores = zip(pose(10, 0.9, joints), pose(12, 0.8, joints), strict=True)
        result = alphapose_nms(places, scores, [[0, 0, 100, 100]] * 2)
        assert len(result.persons) == persons


def test_a_merged_joint_is_the_mean_weighted_by_scores():
    places, scores = zip(pose(10, 0.9), pose(13, 0.6), strict=True)
    merged = alphapose_nms(places, scores, [[0, 0, 100, 100]] * 2).persons
    np.testing.assert_allclose(merged.joints_xy[0, 0], (10 * 0.9 + 13 * 0.6) / 1.5, rtol=1e-6)
    np.testing.assert_allclose(merged.scores[0], (0.9**2 + 0.6**2) / 1.5, rtol=1e-6)
    assert merged.merged(0).tolist() == [0, 1]


def test_persons_without_a_sure_joint_are_dropped():
    place, score = pose(10, 0.29)
    result = alphapose_nms([place], [score], [[0, 0, 100, 100]])
    assert (len(result.persons), len(result.dropped)) == (0, 1)
    score[3] = 0.31
    assert len(alphapose_nms([place], [score], [[0, 0, 100, 100]]).persons) == 1


def test_a_box_without_size_is_a_person_of_its_own():
    place, score = pose(10, 0.9, 3)
    result = alphapose_nms([place, place], [score, score], [[5, 5, 5, 5]] * 2)
    assert [result.persons.merged(k).tolist() for k in range(2)] == [[0], [1]]


def test_no_poses_no_persons():
    assert len(alphapose_nms(np.empty((0, 17, 2)), np.empty((0, 17)), np.empty((0, 4))).persons) == 0


def test_arrays_that_do_not_belong_together():
    with pytest.raises(PoseFileError, match=r"scores have shape \(1, 3\); 1 boxes need \(1, 5\)"):
        alphapose_nms(np.zeros((1, 5, 2)), np.zeros((1, 3)), np.zeros((1, 4)))
