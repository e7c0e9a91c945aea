"""PGPG: published boxes by hand-computed numbers, the paper's mixtures by what they were made from, files, figure."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shared import shared

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.pose.joints import COCO17, MPII16, JointSet
from rmpe_legacy.training.boxes import JitteredBoxes, PublishedBoxes, TrueBoxes, grow_published
from rmpe_legacy.training.people import Person, align_by_torso
from rmpe_legacy.training.pgpg import (
    AtomicPose,
    Mixture,
    Pairs,
    PoseGuidedBoxes,
    fit_pgpg,
    pair_boxes,
    read_pgpg,
    write_pgpg,
)
from rmpe_legacy.training.pgpg_figure import draw_pgpg

NOBODY = np.full((16, 2), np.nan)


class Script:
    """Random numbers that were written down before; a normal one is mean + z * std."""

    def __init__(self, uniform=(), z=()):
        self.uniform, self.z = list(uniform), list(z)

    def random(self) -> float:
        return self.uniform.pop(0)

    def normal(self, mean: float, std: float) -> float:
        return mean + self.z.pop(0) * std


def person(box, joints=NOBODY, **more) -> Person:
    return Person("a.jpg", np.array(box, np.float64), joints, **more)


class TestPublishedBoxes:
    """pose.lua:57-119, computed by hand for a box of 40 x 100 at (100, 60): grown, it is (94, 45) to (146, 175)."""

    sampler = PublishedBoxes(np.array([0.1, -0.2, 0.05, 0.3]), np.array([0.5, 0.1, 0.25, 0.2]))
    narrow = person([100, 60, 140, 160])

    def test_a_gaussian_box_adds_to_the_grown_corners_in_parts_of_the_true_sides(self):
        box = self.sampler.sample(Script([0.7], [1, -1, 2, 0.5]), self.narrow, (400, 300))
        # 94 + (.1 + .5) * 40, 45 + (-.2 - .1) * 100, 146 + (.05 + .5) * 40, 175 + (.3 + .1) * 100
        np.testing.assert_allclose(box.crop, [118, 15, 168, 215])
        np.testing.assert_allclose(box.centered, [94, 45, 146, 175])
        np.testing.assert_allclose(box.centered_within, [94, 45, 146, 175])

    def test_a_gaussian_box_is_cut_at_the_picture_and_keeps_five_pixels(self):
        box = self.sampler.sample(Script([0.1], [-10, -10, -10, -10]), self.narrow, (400, 300))
        # xmin 94 - 4.9 * 40 < 0; xmax 146 - 2.45 * 40 = 48; ymax 175 - 1.7 * 100 = 5 = ymin + 5
        np.testing.assert_allclose(box.crop, [0, 0, 48, 5])
        box = self.sampler.sample(Script([0.1], [0, 0, 9, 9]), self.narrow, (150, 180))
        np.testing.assert_allclose(box.crop, [98, 25, 150, 180])

    def test_a_patch_of_a_narrow_person_is_placed_from_the_grown_corner(self):
        box = self.sampler.sample(Script([0.8, 0.25, 0.5]), self.narrow, (400, 300))
        # 32 x 80 of the true box: x 94 + .25 * 8, y 45 + .5 * 20, and a pixel more on the far sides
        np.testing.assert_allclose(box.crop, [96, 55, 129, 136])
        np.testing.assert_array_equal(box.centered, box.crop)  # "disable" the parallel SPPE
        np.testing.assert_allclose(box.centered_within, [94, 45, 146, 175])

    def test_a_patch_of_a_wide_person(self):
        box = self.sampler.sample(Script([0.9, 0.5, 1.0]), person([50, 100, 150, 140]), (400, 300))
        # 90 x 36: x 35 + .5 * 10, y 94 + 4
        np.testing.assert_allclose(box.crop, [40, 98, 131, 135])

    def test_a_patch_above_seven_tenths_alone(self):
        assert self.sampler.sample(Script([0.7000001, 0, 0]), self.narrow, (400, 300)).crop[0] == 94

    def test_a_person_with_numbers_of_its_own_uses_them(self):
        own = replace(self.narrow, offset_mean=np.full(4, 0.5), offset_std=np.zeros(4))
        np.testing.assert_allclose(self.sampler.sample(Script([0], [3, 3, 3, 3]), own, (400, 300)).crop,
                                   [114, 95, 166, 225])

    def test_growth_is_cut_at_the_picture(self):
        np.testing.assert_allclose(grow_published(np.array([2.0, 60, 42, 160]), (45, 170)), [0, 45, 45, 170])


class TestOtherBoxes:
    def test_true_boxes_are_grown_as_detections_are(self):
        box = TrueBoxes("demo").sample(np.random.default_rng(0), person([100, 60, 140, 160]), (400, 300))
        np.testing.assert_array_equal(box.crop, [94, 50, 146, 170])
        np.testing.assert_array_equal(box.centered, box.crop)

    def test_jitter_is_uniform_within_its_limit(self):
        rng, own = np.random.default_rng(0), person([1000, 1000, 1100, 1200])
        boxes = np.array([JitteredBoxes(0.2, "demo").sample(rng, own, (9000, 9000)).crop for _ in range(2000)])
        # undo the growth of 30 % and 20 %: the edges' own displacements, in parts of 100 and 200 pixels
        low = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * ([0.3, 0.2] / np.array([2.6, 2.4]))
        moved = (low - 1000) / (100, 200)
        assert np.abs(moved).max() < 0.2 + 0.02
        np.testing.assert_allclose(moved.std(axis=0), 0.2 / np.sqrt(3), atol=0.01)

    @pytest.mark.parametrize("sampler", [JitteredBoxes(0.9, "demo"), TrueBoxes("demo")])
    def test_every_box_lies_in_the_picture(self, sampler):
        rng = np.random.default_rng(1)
        for _ in range(300):
            crop = sampler.sample(rng, person([2, 3, 60, 90]), (64, 100)).crop
            assert (crop >= 0).all()
            assert (crop[2:] <= (64, 100)).all()
            assert (crop[2:] > crop[:2]).all()


class TestPairs:
    def test_each_detection_and_person_is_used_once_and_the_best_first(self):
        true = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]])
        detected = np.array([[1, 0, 11, 10], [0, 0, 10, 9], [21, 0, 31, 10], [50, 50, 55, 60]])
        # the second detection fits the first person better; half of the third person is not more than half
        assert pair_boxes(detected, true).tolist() == [[1, 0], [2, 1]]

    @pytest.mark.parametrize("count", [(0, 3), (3, 0), (0, 0)])
    def test_none_where_there_is_nothing(self, count):
        assert pair_boxes(np.ones((count[0], 4)), np.ones((count[1], 4))).shape == (0, 2)

    def test_offsets_of_the_authors_detector_are_those_measured_before(self):
        pairs = real_pairs()
        np.testing.assert_allclose(pairs.offsets.mean(axis=0), (-.0110, .0081, .0405, -.0029), atol=6e-5)
        np.testing.assert_allclose(pairs.offsets.std(axis=0), (.1168, .0474, .1278, .0902), atol=6e-5)


def real_pairs() -> Pairs:
    """3071 boxes of the authors' detector with the people they belong to."""
    with np.load(shared("expected") / "pgpg_real_offsets.npz") as file:
        joints = np.stack([file["x"], file["y"]], axis=2).astype(np.float64)
        joints[(joints == 0).all(axis=2)] = np.nan
        return Pairs(file["det"].astype(np.float64), file["gt"].astype(np.float64), joints)


def standing(arms: float) -> np.ndarray:
    """A pose (16, 2), torso from (0, -40) to (0, 0); arms: how far the hands are out."""
    pose = np.zeros((16, 2))
    pose[:6] = [(-10, 80), (-10, 40), (-10, 0), (10, 0), (10, 40), (10, 80)]
    pose[6:10] = [(0, 0), (0, -40), (0, -45), (0, -65)]
    pose[10:] = [(-arms, -40), (-arms / 2, -40), (-12, -38), (12, -38), (arms / 2, -40), (arms, -40)]
    return pose


def two_kinds(count: int = 400) -> Pairs:
    """People with their arms down, whose boxes are all right, and with arms out, whose boxes are cut."""
    rng = np.random.default_rng(5)
    out = np.arange(count) % 2 == 1
    poses = np.stack([standing(80 if o else 14) for o in out]) + rng.normal(0, 1, (count, 16, 2))
    poses = poses * rng.uniform(0.5, 2, (count, 1, 1)) + 300
    true = np.concatenate([poses.min(axis=1), poses.max(axis=1)], axis=1)
    mean = np.where(out[:, None], (0.3, 0, -0.3, 0), 0)
    offsets = mean + rng.normal(0, 1, (count, 4)) * (0.02, 0.04, 0.06, 0.08)
    return Pairs(true + offsets * np.tile(true[:, 2:] - true[:, :2], 2), true, poses)


class TestFit:
    def test_finds_the_kinds_of_pose_and_the_offsets_of_each(self):
        model = fit_pgpg(two_kinds(), atomic_poses=2, parts=3, seed=1)
        assert [each.count for each in model.atomic_poses] == [200, 200]
        by_reach = sorted(model.atomic_poses, key=lambda each: np.ptp(each.pose[:, 0]))
        for atom, mean in zip(by_reach, [(0, 0, 0, 0), (0.3, 0, -0.3, 0)], strict=True):
            assert len(atom.offsets.weights) == 1, "the criterion must not take more Gaussians than were drawn"
            np.testing.assert_allclose(atom.offsets.means[0], mean, atol=0.02)
            np.testing.assert_allclose(np.sqrt(np.diag(atom.offsets.covariances[0])), (.02, .04, .06, .08), rtol=0.2)
        np.testing.assert_allclose(model.mean, (0.15, 0, -0.15, 0), atol=0.01)

    def test_samples_follow_the_pose(self):
        model, rng = fit_pgpg(two_kinds(), atomic_poses=2, seed=1).grown_as("demo"), np.random.default_rng(2)
        for arms, cut in ((14, 0), (80, 0.3)):
            pose = standing(arms) * 2 + 500
            box = np.concatenate([pose.min(axis=0), pose.max(axis=0)])
            crops = np.array([model.sample(rng, person(box, pose), (1000, 1000)).crop for _ in range(300)])
            widths = (crops[:, 2] - crops[:, 0]) / 1.3 / (box[2] - box[0])
            assert abs(widths.mean() - (1 - 2 * cut)) < 0.03

    def test_the_same_seed_gives_the_same_boxes(self):
        model = fit_pgpg(two_kinds(), atomic_poses=2)
        own = person([300, 300, 400, 500], standing(80) + 350)
        first, again = (model.sample(np.random.default_rng(7), own, (900, 900)).crop for _ in range(2))
        np.testing.assert_array_equal(first, again)

    def test_two_humps_need_two_gaussians(self):
        pairs = two_kinds(1000)
        shift = np.where(np.arange(1000) % 4 < 2, -0.2, 0.2)[:, None] * np.tile(
            pairs.true_xyxy[:, 2:] - pairs.true_xyxy[:, :2], 2)
        model = fit_pgpg(replace(pairs, detected_xyxy=pairs.detected_xyxy + shift), atomic_poses=2, seed=1)
        assert [len(each.offsets.weights) for each in model.atomic_poses] == [2, 2]

    def test_real_detections(self):
        model = fit_pgpg(real_pairs(), atomic_poses=8)
        assert model.pairs > 2800  # of 3071; the others show no torso, or from its end
        samples = np.concatenate([
            np.array([atom.offsets.sample(rng) for _ in range(atom.count)])
            for atom, rng in zip(model.atomic_poses, map(np.random.default_rng, range(8)), strict=True)])
        np.testing.assert_allclose(samples.mean(axis=0), model.mean, atol=0.01)
        np.testing.assert_allclose(samples.std(axis=0), model.std, rtol=0.1)

    def test_people_without_a_torso_take_no_part(self):
        pairs = two_kinds()
        pairs.joints_xy[:100, 6] = np.nan
        assert fit_pgpg(pairs, atomic_poses=2).pairs == 300

    def test_a_missing_joint_is_filled_in(self):
        pairs = two_kinds()
        pairs.joints_xy[::3, 0] = np.nan
        model = fit_pgpg(pairs, atomic_poses=2, seed=1)
        assert sorted(each.count for each in model.atomic_poses) == [200, 200]

    def test_too_few_pairs(self):
        with pytest.raises(RmpeError, match="15 pairs of a detection and a person with a torso are too few for 2"):
            fit_pgpg(two_kinds(15), atomic_poses=2)

    def test_a_joint_that_nobody_has(self):
        pairs = two_kinds()
        pairs.joints_xy[:, 0] = np.nan
        with pytest.raises(RmpeError, match="nobody has an annotated right_ankle"):
            fit_pgpg(pairs, atomic_poses=2)

    @pytest.mark.parametrize("wrong", [{"atomic_poses": 0}, {"parts": 0}])
    def test_numbers_below_one(self, wrong):
        with pytest.raises(RmpeError, match="both must be 1 or more"):
            fit_pgpg(two_kinds(), **wrong)


class TestAlignment:
    def test_torsos_have_length_one_and_their_lower_end_at_zero(self):
        aligned = align_by_torso(np.stack([standing(20), standing(20) * 3 + 7]))
        np.testing.assert_allclose(aligned[0], standing(20) / 40)
        np.testing.assert_allclose(aligned[1], aligned[0], atol=1e-12)

    def test_cocos_torso_goes_from_mid_shoulders_to_mid_hips(self):
        pose = np.arange(34, dtype=np.float64).reshape(1, 17, 2)
        pose[0, [5, 6, 11, 12]] = [(0, 0), (20, 0), (4, 30), (16, 30)]
        aligned = align_by_torso(pose)[0]
        np.testing.assert_allclose(aligned[[5, 12]], [(-10 / 30, -1), (6 / 30, 0)])

    def test_a_torso_seen_from_its_end_is_none(self):
        pose = standing(20)
        pose[7] = pose[6] + (0, -3)
        assert np.isnan(align_by_torso(pose[None])).all()


# flipRef in train/src/util/dataset/{mpii-box,coco}.lua of multi-human-pose@094e29b; joints are counted from 1.
MPII_PAIRS = {(1, 6), (2, 5), (3, 4), (11, 16), (12, 15), (13, 14)}
COCO_PAIRS = {(2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15), (16, 17)}


@pytest.mark.parametrize(("joints", "pairs"), [(MPII16, MPII_PAIRS), (COCO17, COCO_PAIRS)], ids=["mpii", "coco"])
def test_a_flip_exchanges_the_published_pairs(joints: JointSet, pairs: set):
    exchanged = {(k + 1, other + 1) for k, other in enumerate(joints.mirrored) if k < other}
    assert exchanged == pairs
    assert all(joints.mirrored[other] == k for k, other in enumerate(joints.mirrored))


def test_a_joint_without_a_counterpart_stays():
    assert JointSet("odd", ("nose", "left_eye", "right_hand", "left_hand")).mirrored == (0, 1, 3, 2)


class TestFile:
    @pytest.fixture
    def model(self) -> PoseGuidedBoxes:
        return PoseGuidedBoxes((AtomicPose(standing(30) / 40, 12, Mixture(
            np.array([0.25, 0.75]), np.arange(8.0).reshape(2, 4) / 100, np.stack([np.eye(4) * 1e-2, np.eye(4) / 9]))),),
            np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, 0.6, 0.7, 0.8]))

    def test_comes_back_as_it_was_written(self, model, tmp_path: Path):
        write_pgpg(tmp_path / "m.json", model)
        back = read_pgpg(tmp_path / "m.json")
        np.testing.assert_array_equal(back.mean, model.mean)
        np.testing.assert_array_equal(back.std, model.std)
        (ours,), (theirs,) = model.atomic_poses, back.atomic_poses
        assert theirs.count == 12
        np.testing.assert_array_equal(theirs.pose, ours.pose)
        for name in ("weights", "means", "covariances"):
            np.testing.assert_array_equal(getattr(theirs.offsets, name), getattr(ours.offsets, name))

    @pytest.mark.parametrize(("change", "says"), [
        ({"format": "x"}, "not a PGPG model"),
        ({"version": 2}, "version 2 of a PGPG model"),
        ({"joints": 15}, "joints is 15; expected 16 or 17"),
        ({"std": [1, 1, 1, -1]}, "std has a number below 0"),
        ({"mean": [1, 2]}, "mean is not 4 finite numbers"),
        ({"atomic_poses": []}, "at least one object"),
        ({"weights": [0.5, 0.6]}, "atomic pose 1: weights are not shares"),
        ({"covariances": [[[0.0] * 4] * 4] * 2}, "atomic pose 1: a covariance is not positive definite"),
        ({"means": "many"}, "atomic pose 1: means is not 2 x 4 finite numbers"),
        ({"count": 0}, "atomic pose 1: count is 0"),
    ])
    def test_says_what_is_wrong(self, model, tmp_path: Path, change, says):
        path = tmp_path / "m.json"
        write_pgpg(path, model)
        content = json.loads(path.read_text())
        for key, value in change.items():
            (content if key in content else content["atomic_poses"][0])[key] = value
        path.write_text(json.dumps(content))
        with pytest.raises(FileError, match=says):
            read_pgpg(path)

    def test_other_joints_than_the_persons(self, model):
        with pytest.raises(RmpeError, match="poses of 16 joints, but this person has 17"):
            model.sample(np.random.default_rng(0), person([0, 0, 9, 9], np.zeros((17, 2))), (20, 20))

    def test_a_person_without_a_torso_gets_each_atomic_pose_by_its_count(self, model):
        atom = model.atomic_poses[0]
        several = replace(model, atomic_poses=(replace(atom, count=3), replace(atom, count=1)))
        rng = np.random.default_rng(0)
        picked = [several.atomic_pose_of(NOBODY, rng) for _ in range(2000)]
        assert abs(np.mean(picked) - 0.25) < 0.03

    @pytest.mark.slow
    def test_is_drawn_as_a_picture(self, model):
        import cv2

        one, more = (cv2.imdecode(np.frombuffer(draw_pgpg(m), np.uint8), cv2.IMREAD_COLOR) for m in (
            model, replace(model, atomic_poses=model.atomic_poses * 5)))
        assert (one != 255).any()
        assert more.shape[0] > one.shape[0], "the fifth atomic pose begins a second row"
        assert draw_pgpg(model, seed=1) == draw_pgpg(model, seed=1) != draw_pgpg(model, seed=2)

    def test_cocos_joints_are_drawn_too(self, model):
        atom = replace(model.atomic_poses[0], pose=np.random.default_rng(0).normal(size=(17, 2)))
        assert draw_pgpg(replace(model, atomic_poses=(atom,))).startswith(b"\x89PNG")
