"""Pose NMS against what the authors' scripts gave, and against a slow reading of the published formula."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from difference import Golden
from paths import GOLDEN
from shared import shared

from rmpe_legacy import RmpeError
from rmpe_legacy.pose.nms import VARIANTS, NmsParameters, pose_nms
from rmpe_legacy.runs.result_files import read_poses, read_proposals


def crowd(seed: int, people: int = 3, poses: int = 9, spread: float = 6.0) -> tuple[np.ndarray, ...]:
    """Poses of a few people who stand close, with their boxes: joints, scores, boxes."""
    random = np.random.default_rng(seed)
    base = random.uniform(0, 120, (people, 1, 2)) + random.uniform(0, 90, (people, 16, 2))
    joints = np.round(base[random.integers(0, people, poses)] + random.normal(0, spread, (poses, 16, 2)))
    low = joints.min(axis=1) - random.integers(0, 9, (poses, 2))
    boxes = np.concatenate([low, joints.max(axis=1)], axis=1).astype(int)
    return joints, random.uniform(0.01, 1.2, (poses, 16)), boxes


def slow_nms(joints, scores, boxes, variant, p=NmsParameters()):  # noqa: B008
    """The published formula, one number at a time: a list of (pick, group, joints, scores)."""
    left, persons = list(range(len(joints))), []

    def distance(i, k, j):
        return math.hypot(*(joints[i][j] - joints[k][j]))

    def likeness(i, k, ref):
        total = 0
        for j in range(16):
            d = distance(i, k, j) / ref
            total += p.mu * math.exp(-d / p.delta2)
            if d <= 1:
                total += math.tanh(scores[i][j] / p.delta1) * math.tanh(scores[k][j] / p.delta1)
        return total

    while left:
        k = max(left, key=lambda i: sum(scores[i]))
        ref = p.alpha * max(boxes[k][2] - boxes[k][0], boxes[k][3] - boxes[k][1])
        group = [i for i in left if likeness(i, k, ref) > p.gamma] if ref else []
        group = group or [k]
        left = [i for i in left if i not in group]
        place, height = np.zeros((16, 2)), np.zeros(16)
        for j in range(16):
            near = [i for i in group if distance(i, k, j) <= ref]
            total = sum(scores[i][j] for i in near)
            place[j] = sum(scores[i][j] / total * joints[i][j] for i in near)
            height[j] = max(scores[i][j] for i in near)
        counted = list(range(16))
        if height[0] < 0.1:
            del counted[0]
        if height[5] < 0.1:
            del counted[5]  # after the line above, that is joint 6
        if variant == "batch" or np.mean(height[counted]) >= 0.2:
            persons.append((k, group, place, height))
    return persons


class TestPublishedRuns:
    """Results of the unmodified scripts under Python 2.7, numpy 1.11."""

    def run(self, variant):
        case = Golden.read(GOLDEN / "nms" / "synthetic.npz", "the published script")
        ranges = np.stack([case["first"], case["last"]], axis=1)
        return case, pose_nms(case["preds"], case["scores"], case["box_xyxy"], variant, ranges=ranges).persons

    def test_batch(self):
        case, persons = self.run("batch")
        np.testing.assert_array_equal(case["image"][persons.images], case["batch_image"])
        case.check("batch_pose", persons.joints_px)
        np.testing.assert_allclose(persons.scores, case["batch_score"], rtol=1e-11,
                                   err_msg=f"batch_score of {case.source}: actual is ours, desired the script's")
        case.check("batch_proposal_score", case["proposal_scores"][persons.picks])

    def test_demo(self):
        case, persons = self.run("demo")
        case.check("demo_count", np.diff(persons.image_ends, prepend=0))
        case.check("demo_pose", persons.joints_xy, 1e-9)
        case.check("demo_score", persons.scores)

    @pytest.mark.parametrize("name", ["demo__small", "demo__round_halves"])
    def test_demo_in_single_precision(self, name):
        """demo.py's own scores are float32, so their mean, tanh and weights are too."""
        folder = GOLDEN / "io" / name
        case = Golden.read(folder / "case.npz", "demo.py")
        for i in range(len(json.loads((folder / "case.json").read_text())["images"])):
            found = pose_nms(*(case[f"img{i}_nms_in_{what}"] for what in ("preds", "scores", "bboxes")), "demo")
            assert case[f"img{i}_nms_in_scores"].dtype == np.float32
            case.check(f"img{i}_nms_out_preds", found.persons.joints_xy, 1e-9)
            case.check(f"img{i}_nms_out_scores", found.persons.scores)


class TestAuthorsData:
    def test_batch_picks_groups_and_poses(self):
        case = Golden.read(shared("expected", "nms_subset.npz"), "the published script")
        offsets = case["proposal_offsets"]
        persons = pose_nms(case["preds"], case["scores"].astype(float), case["det_box"],
                           ranges=np.stack([offsets[:-1], offsets[1:]], axis=1)).persons
        case.check("exp_batch_count", np.diff(persons.image_ends, prepend=0))
        case.check("exp_batch_pick", persons.picks)
        case.check("exp_batch_cluster_size", np.diff(persons.member_ends, prepend=0))
        case.check("exp_batch_cluster", persons.members)
        case.check("exp_batch_pose", persons.joints_xy, 1e-9)
        case.check("exp_batch_score", persons.scores)

    @pytest.mark.parametrize(("boxes", "prefix"), [("expanded_box", "exp_demo"), ("det_box", "exp_demo_raw")])
    def test_demo_with_grown_and_with_raw_boxes(self, boxes, prefix):
        case = Golden.read(shared("expected", "nms_subset.npz"), "the published script")
        offsets = case["proposal_offsets"]
        found = pose_nms(case["preds"], case["scores"].astype(float), case[boxes], "demo",
                         ranges=np.stack([offsets[:-1], offsets[1:]], axis=1))
        case.check(f"{prefix}_count", np.diff(found.persons.image_ends, prepend=0))
        case.check(f"{prefix}_pose", found.persons.joints_xy, 1e-9)
        assert sorted([*found.persons.members, *found.dropped.members]) == list(range(len(case["preds"])))

    def test_one_image_at_a_time_gives_the_same(self):
        proposals = read_proposals(shared("authors"))
        poses = read_poses(shared("authors", "testres.h5"))
        given = poses.joints_xy, poses.scores, proposals.boxes_xyxy
        together = pose_nms(*given, ranges=proposals.ranges).persons
        for (first, end), people in zip(proposals.ranges, together.by_image(), strict=True):
            alone = pose_nms(*(array[first:end] for array in given)).persons
            np.testing.assert_array_equal(alone.picks + first, together.picks[people])
            np.testing.assert_array_equal(alone.joints_xy, together.joints_xy[people])


@pytest.mark.parametrize("variant", VARIANTS)
class TestAgainstTheFormula:
    @pytest.mark.parametrize("seed", range(40))
    def test_random_crowds(self, variant, seed):
        joints, scores, boxes = crowd(seed, people=1 + seed % 4, poses=1 + seed % 11, spread=1 + seed % 7)
        if seed % 3 == 0:
            scores *= 0.25  # so that the demo drops some
        if seed % 5 == 0:
            scores[:, [0, 5]] *= 0.1  # ankles below .1
        persons = pose_nms(joints, scores, boxes, variant).persons
        want = slow_nms(joints, scores, boxes, variant)
        assert persons.picks.tolist() == [pick for pick, *_ in want]
        assert [persons.merged(k).tolist() for k in range(len(persons))] == [group for _, group, *_ in want]
        for k, (_, _, place, height) in enumerate(want):
            np.testing.assert_allclose(persons.joints_xy[k], place, rtol=1e-12)
            np.testing.assert_array_equal(persons.scores[k], height)

    def test_order_of_the_images_does_not_matter(self, variant):
        joints, scores, boxes = (np.concatenate(arrays) for arrays in zip(*(crowd(s, 2, 7) for s in range(5)),
                                                                         strict=True))
        ranges = np.arange(0, 35, 7)[:, None] + [0, 7]
        order = [3, 0, 4, 1, 2]
        straight = pose_nms(joints, scores, boxes, variant, ranges=ranges).persons
        mixed = pose_nms(joints, scores, boxes, variant, ranges=ranges[order]).persons
        slices, mixed_slices = list(straight.by_image()), list(mixed.by_image())
        for place, image in enumerate(order):
            np.testing.assert_array_equal(mixed.joints_xy[mixed_slices[place]], straight.joints_xy[slices[image]])

    def test_every_proposal_ends_in_one_group(self, variant):
        given = crowd(7, people=4, poses=23)
        found = pose_nms(*given, variant)
        assert sorted([*found.persons.members, *found.dropped.members]) == list(range(23))
        assert all(pick in found.persons.merged(k) for k, pick in enumerate(found.persons.picks))

    def test_a_pose_alone_stays_as_it_is(self, variant):
        joints, scores, boxes = crowd(3, poses=1)
        persons = pose_nms(joints, scores, boxes, variant).persons
        np.testing.assert_array_equal(persons.joints_xy, joints)
        np.testing.assert_array_equal(persons.scores, scores)

    def test_nothing_in_nothing_out(self, variant):
        """Differs: the demo as published stops with an IndexError where nobody is found."""
        assert len(pose_nms([], [], [], variant).persons) == 0
        found = pose_nms(*crowd(1, poses=4), variant, ranges=[[0, 0], [0, 4], [4, 4]]).persons
        assert found.image_ends.tolist() == [0, len(found), len(found)]


class TestQuirks:
    """What the published scripts do in corners that their own data does not reach."""

    def test_equal_means_the_first_is_picked(self):
        joints, scores, boxes = crowd(5, people=1, poses=3, spread=0)
        scores[:] = scores[0]
        persons = pose_nms(joints, scores, boxes).persons
        assert persons.picks.tolist() == [0]
        assert persons.members.tolist() == [0, 1, 2]

    def test_a_box_without_size_merges_with_nobody(self):
        """0 / 0 is not above gamma, so that two identical poses stay two people."""
        joints, scores, boxes = crowd(5, people=1, poses=2, spread=0)
        boxes[:] = 40
        found = pose_nms(joints, scores, boxes).persons
        assert [found.merged(k).tolist() for k in range(2)] == [[pick] for pick in found.picks]

    def test_left_ankle_below_a_tenth_alone_is_left_out_of_the_mean(self):
        joints, scores, boxes = crowd(2, poses=1)
        scores[:] = 0.21
        scores[0, 5] = 0.05
        assert len(pose_nms(joints, scores, boxes, "demo").persons) == 1  # with it the mean would be .2
        scores[0, 6] = 0.05
        assert len(pose_nms(joints, scores, boxes, "demo").persons) == 0

    def test_both_ankles_below_a_tenth_leave_out_the_pelvis_instead(self):
        joints, scores, boxes = crowd(2, poses=1)
        scores[:] = 0.21
        scores[0, [0, 5]] = 0.0999
        scores[0, 6] = 0.0  # not counted, as joint 6 stands in place 5 once joint 0 is gone
        assert len(pose_nms(joints, scores, boxes, "demo").persons) == 1
        scores[0, 5] = 0.0  # counted
        assert len(pose_nms(joints, scores, boxes, "demo").persons) == 0

    def test_demo_drops_by_the_merged_scores_batch_keeps_everybody(self):
        joints, scores, boxes = crowd(4, people=1, poses=2, spread=0)
        scores[0], scores[1] = 0.19, 0.21
        assert len(pose_nms(joints[:1], scores[:1], boxes[:1], "demo").persons) == 0
        assert len(pose_nms(joints[:1], scores[:1], boxes[:1], "demo").dropped) == 1
        assert len(pose_nms(joints[:1], scores[:1], boxes[:1], "batch").persons) == 1
        assert len(pose_nms(joints, scores, boxes, "demo").persons) == 1

    def test_batch_drops_persons_of_negative_score(self):
        joints, scores, boxes = crowd(4, poses=1)
        assert len(pose_nms(joints, -scores, boxes, "batch").dropped) == 1

    def test_joint_of_score_0_is_nan_in_the_demo_and_the_plain_mean_in_batch(self):
        """Differs: batch_nms.py stops at int(nan)."""
        joints, scores, boxes = crowd(6, people=1, poses=3, spread=0.5)
        scores[:, 9] = 0
        demo, batch = (pose_nms(joints, scores, boxes, variant).persons for variant in ("demo", "batch"))
        assert demo.members.tolist() == batch.members.tolist() == [0, 1, 2]
        assert np.isnan(demo.joints_xy[0, 9]).all()
        np.testing.assert_allclose(batch.joints_xy[0, 9], joints[:, 9].mean(axis=0), rtol=1e-15)
        assert demo.scores[0, 9] == batch.scores[0, 9] == 0
        np.testing.assert_array_equal(np.delete(demo.joints_xy, 9, axis=1), np.delete(batch.joints_xy, 9, axis=1))

    def test_gamma_above_a_pose_s_likeness_to_itself_merges_nobody(self):
        """The fallback: nobody is like the pick, so it goes alone."""
        joints, scores, boxes = crowd(6, people=1, poses=3, spread=0)
        found = pose_nms(joints, scores, boxes, parameters=NmsParameters(gamma=49.3)).persons
        assert [found.merged(k).tolist() for k in range(len(found))] == [[pick] for pick in found.picks]
        assert len(found) == 3

    def test_gamma_between_lets_a_pick_come_twice(self):
        """A pick of low scores is less like itself than like a sure pose at the same place, and stays."""
        joints, scores, boxes = crowd(6, people=1, poses=2, spread=0)
        scores[0], scores[1] = 0.003, 0.006  # tanh .291 and .537
        scores[0, 0] = 1.0  # makes pose 0 the pick
        parameters = NmsParameters(gamma=35.8)  # itself 35.6, the other 36.6
        found = pose_nms(joints, scores, boxes, parameters=parameters).persons
        assert found.picks.tolist() == [0, 0]
        assert [found.merged(k).tolist() for k in range(2)] == [[1], [0]]

    def test_pick_without_match_in_its_own_group_is_a_sentence(self):
        """Differs: the published scripts stop in numpy's reshape."""
        joints, scores, boxes = crowd(6, people=1, poses=2, spread=0)
        scores[0], scores[1] = 0.0055, 1.0  # tanh .5 and 1
        scores[0, 0] = 20.0
        joints[1, 0] += 500  # no match there; the pick's likeness to itself is 38.0, to the other 38.7
        with pytest.raises(RmpeError, match=r"joint 0 of a picked pose matches no pose .* gamma below 16 mu"):
            pose_nms(joints, scores, boxes, parameters=NmsParameters(gamma=38.4))


class TestMistakes:
    @pytest.mark.parametrize(("change", "message"), [
        (lambda j, s, b: (j[:, :15], s, b), r"joints have shape \(9, 15, 2\); 9 boxes need \(9, 16, 2\)"),
        (lambda j, s, b: (j, s[:8], b), r"scores have shape \(8, 16\); 9 boxes need \(9, 16\)"),
        (lambda j, s, b: (j, s, b[:, :3]), r"boxes have shape \(9, 3\); 9 boxes need \(9, 4\)"),
        (lambda j, s, b: (np.where(np.arange(9)[:, None, None] == 4, np.nan, j), s, b),
         "joints of proposal 5 contain NaN or infinity"),
        (lambda j, s, b: (j, s * np.inf, b), "scores of proposal 1 contain NaN or infinity"),
        (lambda j, s, b: (j, s, b[:, [2, 3, 0, 1]]), "box 1 has its corners swapped"),
    ])
    def test_arrays_that_do_not_fit(self, change, message):
        with pytest.raises(RmpeError, match=message):
            pose_nms(*change(*crowd(0)))

    @pytest.mark.parametrize("ranges", [[[0, 10]], [[-1, 3]], [[5, 4]]])
    def test_ranges_out_of_the_proposals(self, ranges):
        with pytest.raises(RmpeError, match=r"of image 1 is not within the 9 proposals"):
            pose_nms(*crowd(0), ranges=ranges)

    def test_unknown_variant(self):
        with pytest.raises(RmpeError, match="variant 'soft' is not one of 'batch', 'demo'"):
            pose_nms(*crowd(0), variant="soft")

    @pytest.mark.parametrize(("values", "message"), [
        ({"delta1": 0}, "delta1 is 0; give a number above 0"), ({"gamma": np.nan}, "gamma is nan"),
        ({"alpha": -0.1}, "alpha is -0.1"),
    ])
    def test_parameters(self, values, message):
        with pytest.raises(RmpeError, match=message):
            NmsParameters(**values)


def test_inputs_are_left_alone_and_may_be_views():
    joints, scores, boxes = crowd(8)
    wide = np.repeat(joints, 2, axis=1)
    before = wide.copy()
    viewed = pose_nms(wide[:, ::2], np.asfortranarray(scores)[:, :, None], boxes.astype(np.uint16)).persons
    np.testing.assert_array_equal(wide, before)
    np.testing.assert_array_equal(viewed.joints_xy, pose_nms(joints, scores, boxes.astype(np.uint16)).persons.joints_xy)


def test_far_and_near_poses_under_other_parameters():
    """Poses that are told apart by their squared distances alone are those that the formula tells apart."""
    random = np.random.default_rng(11)
    for seed in range(60):
        joints, scores, boxes = crowd(seed, people=4, poses=12, spread=10 ** random.uniform(0, 1.7))
        mu = random.uniform(0.1, 4)
        given = NmsParameters(mu=mu, delta2=random.uniform(0.2, 6), gamma=random.uniform(0.2, 0.95) * 16 * mu)
        want = slow_nms(joints, scores, boxes, "batch", given)
        persons = pose_nms(joints, scores, boxes, "batch", given).persons
        assert persons.picks.tolist() == [pick for pick, *_ in want]
        assert [persons.merged(k).tolist() for k in range(len(persons))] == [group for _, group, *_ in want]


CROWD = """
import signal
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell starts without it
from rmpe_legacy.pose.nms import pose_nms
joints = np.random.default_rng(0).uniform(0, 1000, (60_000, 16, 2))
boxes = np.tile([0, 0, 500, 500], (60_000, 1))
print("begun", flush=True)
pose_nms(joints, np.ones((60_000, 16)), boxes, "batch")
"""


def test_it_can_be_interrupted():
    """60,000 poses that are all different take half a minute; Ctrl-C stops it at once, however busy the machine is."""
    child = subprocess.Popen([sys.executable, "-c", CROWD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    time.sleep(0.5)
    before = cpu_seconds(child.pid)
    child.send_signal(signal.SIGINT)
    used = before
    while child.poll() is None:
        used = max(used, cpu_seconds(child.pid))
        time.sleep(0.05)
    _, err = child.communicate()
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert used - before < 5


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
