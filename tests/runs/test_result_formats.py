"""Result formats of other tools, each read by the tool it is for, or by its documented layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from shared import shared

from rmpe_legacy.errors import EvaluationError, FileError, RmpeError
from rmpe_legacy.evaluation.coco import keypoint_ap
from rmpe_legacy.evaluation.files import read_poses
from rmpe_legacy.pose.formats import FORMATS, check_formats, write_formats
from rmpe_legacy.pose.formats.coco_results import image_ids
from rmpe_legacy.pose.joints import COCO17, HALPE26, JOINT_SETS, MPII16, JointSet, read_joint_set
from rmpe_legacy.pose.people import People


def make_people(image: str, count: int, joints: JointSet = MPII16, seed: int = 0) -> People:
    random = np.random.default_rng(seed)
    keypoints = np.concatenate([random.uniform(0, 200, (count, len(joints), 2)),
                                random.uniform(0.1, 1, (count, len(joints), 1))], axis=2)
    low = keypoints[:, :, :2].min(axis=1)
    boxes = np.concatenate([low, low + random.uniform(10, 50, (count, 2))], axis=1)
    return People(image, keypoints, random.uniform(0, 1, count), boxes, random.uniform(0, 1, count), joints, (300, 200))


def lost(people: People, person: int, joint: int) -> People:
    """The same with a joint that has no place."""
    people.keypoints[person, joint, :2] = np.nan
    return people


def load(path: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


class TestCoco:
    def test_pycocotools_gives_results_the_ap_that_they_had_before(self, tmp_path):
        """COCO's sample predictions, read into people and written again, keep their AP."""
        truth = json.loads(shared("coco_kpt", "example_coco_val.json").read_text())
        given = json.loads(shared("coco_kpt", "example_coco_preds.json").read_text())
        people = []
        for image in truth["images"]:
            mine = [each for each in given if each["image_id"] == image["id"]]
            keypoints = np.array([each["keypoints"] for each in mine], np.float64).reshape(len(mine), 17, 3)
            scores = np.array([each["score"] for each in mine])
            name = f"{image['id']:012d}.jpg"
            people.append(People(name, keypoints, scores, np.zeros((len(mine), 4)), scores, COCO17))
        assert write_formats(tmp_path, ["coco-results"], people) == ["coco_results.coco17.json"]
        written = load(tmp_path / "coco_results.coco17.json")
        assert len(written) == len(given)
        plain = [{key: each[key] for key in ("image_id", "category_id", "keypoints", "score")} for each in given]
        ours, theirs = keypoint_ap(written, truth).table, keypoint_ap(plain, truth).table
        assert ours == theirs
        assert ours["AP"] > 0.3

    def test_load_res_takes_the_file_itself(self, tmp_path):
        from pycocotools.coco import COCO

        write_formats(tmp_path, ["coco-results"], [make_people("7.jpg", 2, COCO17), make_people("9.jpg", 0, COCO17)])
        truth = COCO()
        truth.dataset = {"images": [{"id": 7}, {"id": 9}], "annotations": [],
                         "categories": [{"id": 1, "name": "person"}]}
        truth.createIndex()
        found = truth.loadRes(str(tmp_path / "coco_results.coco17.json"))
        assert len(found.getAnnIds(imgIds=[7])) == 2

    def test_mpii_joints_are_named_and_refused_as_coco_ap(self, tmp_path):
        write_formats(tmp_path, ["coco-results"], [make_people("a.jpg", 2)])
        written = load(tmp_path / "coco_results.mpii16.json")
        assert {each["joints"] for each in written} == {"mpii16"}
        with pytest.raises(EvaluationError, match="MPII's"):
            keypoint_ap(written, {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]})
        read = read_poses(tmp_path / "coco_results.mpii16.json")  # but the MPII evaluation reads it
        assert read.images == ("a.jpg",)

    def test_a_joint_without_a_place_is_three_zeros(self, tmp_path):
        write_formats(tmp_path, ["coco-results"], [lost(make_people("a.jpg", 1), 0, 3)])
        keypoints = load(tmp_path / "coco_results.mpii16.json")[0]["keypoints"]
        assert keypoints[9:12] == [0, 0, 0]
        assert keypoints[12] > 0

    @pytest.mark.parametrize(("names", "ids"), [
        (["000000000139.jpg", "000000000285.jpg"], [139, 285]), (["COCO_val2014_000000000042.jpg"], [42]),
        (["a.jpg", "b.jpg"], [1, 2]), (["7.jpg", "7.png"], [1, 2]), (["12.jpg", "b.jpg"], [1, 2])])
    def test_image_ids(self, names, ids):
        assert image_ids(names) == ids


class TestAlphaPose:
    def test_entries_are_as_documented(self, tmp_path):
        """docs/output.md and write_json of alphapose/utils/pPose_nms.py at c60106d."""
        people = [make_people("a.jpg", 2, COCO17), make_people("b.jpg", 1, COCO17, 1)]
        assert write_formats(tmp_path, ["alphapose"], people) == ["alphapose-results.json"]
        written = load(tmp_path / "alphapose-results.json")
        assert [each["image_id"] for each in written] == ["a.jpg", "a.jpg", "b.jpg"]
        one, person = people[1], written[2]
        assert person.keys() == {"image_id", "category_id", "keypoints", "score", "box", "idx"}
        assert (person["category_id"], person["idx"]) == (1, 0)
        np.testing.assert_allclose(np.reshape(person["keypoints"], (17, 3)), one.keypoints[0])
        scores = one.keypoints[0, :, 2]
        assert person["score"] == pytest.approx(scores.mean() + one.box_scores[0] + 1.25 * scores.max())
        xmin, ymin, xmax, ymax = one.boxes_xyxy[0]
        assert person["box"] == pytest.approx([xmin, ymin, xmax - xmin, ymax - ymin])

    def test_its_validation_gets_the_box_score_back(self, tmp_path):
        """AlphaPose reads the detection's score from a person's: score - mean - 1.25 x maximum."""
        people = make_people("a.jpg", 3)
        write_formats(tmp_path, ["alphapose"], [people])
        for person, box_score in zip(load(tmp_path / "alphapose-results.json"), people.box_scores, strict=True):
            scores = np.array(person["keypoints"], np.float32).reshape(-1, 3)[:, 2]
            assert person["score"] - scores.mean() - 1.25 * scores.max() == pytest.approx(box_score, abs=1e-6)

    def test_nobody_found(self, tmp_path):
        write_formats(tmp_path, ["alphapose", "coco-results"], [make_people("a.jpg", 0)])
        assert load(tmp_path / "alphapose-results.json") == []
        assert load(tmp_path / "coco_results.mpii16.json") == []


class TestOpenPose:
    def test_coco_becomes_body_25(self, tmp_path):
        """The order of POSE_BODY_25_BODY_PARTS; neck and hip are the middles of two joints, feet are not known."""
        people = make_people("a.jpg", 1, COCO17)
        assert write_formats(tmp_path, ["openpose"], [people]) == ["openpose/"]
        content = load(tmp_path / "openpose" / "a_keypoints.json")
        assert (content["version"], len(content["people"])) == (1.3, 1)
        person = content["people"][0]
        assert person["person_id"] == [-1]
        assert person["face_keypoints_2d"] == person["hand_left_keypoints_2d"] == person["pose_keypoints_3d"] == []
        pose = np.reshape(person["pose_keypoints_2d"], (25, 3))
        coco = people.keypoints[0]
        places = {0: 0, 2: 6, 3: 8, 4: 10, 5: 5, 6: 7, 7: 9, 9: 12, 10: 14, 11: 16, 12: 11, 13: 13, 14: 15, 15: 2,
                  16: 1, 17: 4, 18: 3}
        for body, joint in places.items():
            np.testing.assert_allclose(pose[body], coco[joint])
        np.testing.assert_allclose(pose[1, :2], (coco[5, :2] + coco[6, :2]) / 2)
        np.testing.assert_allclose(pose[8, :2], (coco[11, :2] + coco[12, :2]) / 2)
        assert not pose[19:].any()

    def test_mpii_becomes_the_15_joints_of_its_mpi_model(self, tmp_path):
        people = make_people("a.jpg", 1)
        write_formats(tmp_path, ["openpose"], [people])
        person = load(tmp_path / "openpose" / "a_keypoints.json")["people"][0]
        pose = np.reshape(person["pose_keypoints_2d"], (15, 3))
        mpii = people.keypoints[0]
        np.testing.assert_allclose(pose[:14], mpii[[9, 8, 12, 11, 10, 13, 14, 15, 2, 1, 0, 3, 4, 5]])
        np.testing.assert_allclose(pose[14, :2], (mpii[6, :2] + mpii[7, :2]) / 2)

    def test_halpe_has_neck_hip_and_feet_of_its_own(self, tmp_path):
        people = make_people("a.jpg", 1, HALPE26)
        write_formats(tmp_path, ["openpose"], [people])
        person = load(tmp_path / "openpose" / "a_keypoints.json")["people"][0]
        pose = np.reshape(person["pose_keypoints_2d"], (25, 3))
        np.testing.assert_allclose(pose[[1, 8, 19, 20, 21, 22, 23, 24]],
                                   people.keypoints[0, [18, 19, 20, 22, 24, 21, 23, 25]])

    def test_a_lost_joint_takes_its_middle_along(self, tmp_path):
        write_formats(tmp_path, ["openpose"], [lost(make_people("a.jpg", 1, COCO17), 0, 5)])
        person = load(tmp_path / "openpose" / "a_keypoints.json")["people"][0]
        pose = np.reshape(person["pose_keypoints_2d"], (25, 3))
        assert not pose[5].any()
        assert not pose[1].any()

    def test_a_file_for_each_image(self, tmp_path):
        write_formats(tmp_path, ["openpose"], [make_people(name, 0) for name in ("a.jpg", "b.jpg", "b.png")])
        assert sorted(path.name for path in (tmp_path / "openpose").iterdir()) == [
            "a_keypoints.json", "b.jpg_keypoints.json", "b.png_keypoints.json"]


class TestMpii:
    def test_the_toolkits_reader_reads_pred(self, tmp_path):
        people = [make_people("a.jpg", 2), make_people("b.jpg", 0), lost(make_people("c.jpg", 1, seed=2), 0, 4)]
        assert write_formats(tmp_path, ["mpii"], people) == ["pred_keypoints_mpii_multi.mat"]
        read = read_poses(tmp_path / "pred_keypoints_mpii_multi.mat")
        assert read.images == ("a.jpg", "b.jpg", "c.jpg")
        for ours, theirs in zip(people, read.joints, strict=True):
            want = np.where(ours.found[..., None], ours.keypoints, np.nan)
            np.testing.assert_array_equal(theirs, want)

    def test_matlab_sees_the_documented_structs(self, tmp_path):
        write_formats(tmp_path, ["mpii"], [make_people("a.jpg", 2)])
        pred = scipy.io.loadmat(tmp_path / "pred_keypoints_mpii_multi.mat", squeeze_me=True,
                                struct_as_record=False)["pred"]
        assert pred.image.name == "a.jpg"
        assert [point.id for point in pred.annorect[1].annopoints.point] == list(range(16))

    def test_other_joints_are_refused_before_the_work(self):
        with pytest.raises(RmpeError, match="format mpii holds MPII's 16 joints, not the 17 of coco17"):
            check_formats(["mpii"], COCO17)


def test_several_at_once(tmp_path):
    assert write_formats(tmp_path, FORMATS, [make_people("a.jpg", 1)]) == [
        "coco_results.mpii16.json", "alphapose-results.json", "openpose/", "pred_keypoints_mpii_multi.mat"]


def test_an_unknown_format():
    with pytest.raises(RmpeError, match="format 'cmu' is not one of ours, coco-results, alphapose, openpose, mpii"):
        check_formats(["cmu"], MPII16)


class TestJointSets:
    def test_known_sets_are_whole(self):
        for joints in JOINT_SETS.values():
            assert len(set(joints.joints)) == len(joints) == int(joints.name[-2:])
            assert all(0 <= joint < len(joints) for limb in joints.limbs for joint in limb)

    def test_a_set_from_a_file(self, tmp_path):
        path = tmp_path / "hand.json"
        path.write_text('{"keypoints": ["wrist", "left_thumb"], "skeleton": [[1, 2]]}')
        assert read_joint_set(path) == JointSet("hand", ("wrist", "left_thumb"), ((0, 1),))

    @pytest.mark.parametrize(("text", "message"), [
        ("[]", "a list of names, keypoints"), ('{"keypoints": []}', "a list of 1 to 1024 names"),
        ('{"keypoints": ["a", 3]}', "a list of 1 to 1024 names"), ('{"keypoints": ["a", "a"]}', "are called 'a'"),
        ('{"keypoints": ["a"], "skeleton": [[1, 2]]}', "counted from 1 to 1"),
        ('{"keypoints": ["a"], "skeleton": {}}', "pairs of joints"), ('{"keypoints": ["a"], "name": 3}', "its name"),
        ('{"keypoints": ["a"], "name": "coco17"}', "name of its own"), ("{", "not a readable JSON")])
    def test_what_is_wrong_with_a_file(self, tmp_path, text, message):
        path = tmp_path / "set.json"
        path.write_text(text)
        with pytest.raises(FileError, match=message):
            read_joint_set(path)

    def test_an_unknown_name(self):
        with pytest.raises(RmpeError, match="'coco_17' is neither mpii16, coco17, halpe26 nor a JSON file; did"):
            read_joint_set("coco_17")
