"""COCO keypoint AP: other people's expected numbers, made-up cases, and results that it must refuse."""

import json

import numpy as np
import pytest
from shared import shared

from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.evaluation.coco import keypoint_ap
from rmpe_legacy.evaluation.joints import COCO, MPII

pytest.importorskip("pycocotools")


def truth(count=3):
    """Images 10, 11, ... with one person each, well apart; all 17 joints annotated."""
    people = [{"id": i + 1, "image_id": 10 + i, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "area": 10000.0,
               "bbox": [0, 0, 100, 100], "keypoints": keypoints(i, 2)} for i in range(count)]
    return {"images": [{"id": 10 + i} for i in range(count)], "annotations": people,
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO)}]}


def keypoints(seed, third, joints=17):
    xy = np.random.default_rng(seed).uniform(5, 95, (joints, 2)).round()
    return np.column_stack([xy, np.full(joints, third)]).reshape(-1).tolist()


def results(count=3, **more):
    return [{"image_id": 10 + i, "category_id": 1, "keypoints": keypoints(i, 0.9), "score": 0.5 + 0.1 * i} | more
            for i in range(count)]


class TestNumbers:
    def test_faster_coco_evals_sample(self):
        path = shared("coco_kpt", "fce_dt_dataset.json")
        result = keypoint_ap(*(json.loads(p.read_text()) for p in (path, path.with_name("fce_gt_dataset.json"))))
        assert result.table["AP"] == 0.5048844884488449
        assert (result.table["AP50"], result.table["AP75"]) == (0.7227722772277227, 0.6336633663366337)
        assert (result.table["APm"], result.table["APl"]) == (0.46633663366336636, 0.7504950495049505)
        assert result.table["AR"] == pytest.approx(0.51818, abs=5e-6)
        assert result.printed().splitlines()[0].endswith("maxDets= 20 ] = 0.505")

    def test_xtcocos_sample(self):
        path = shared("coco_kpt", "example_coco_preds.json")
        result = keypoint_ap(*(json.loads(p.read_text()) for p in (path, path.with_name("example_coco_val.json"))))
        want = {"AP": 0.86089, "AP50": 0.993145, "AP75": 0.910891, "APm": 0.775578, "APl": 0.937252}
        assert {k: result.table[k] for k in want} == pytest.approx(want, abs=5e-6)

    def test_the_truth_itself_reaches_1(self, capsys):
        result = keypoint_ap(results(), truth())
        assert {k: v for k, v in result.table.items() if v != -1} == pytest.approx(dict.fromkeys(
            ("AP", "AP50", "AP75", "APl", "AR", "AR50", "AR75", "ARl"), 1))
        assert (result.table["APm"], result.table["ARm"]) == (-1, -1)  # nobody of medium size
        assert result.precision.shape == (10, 101)
        assert capsys.readouterr() == ("", "")  # pycocotools talks; the table is for the caller to print

    def test_one_of_three_found(self):
        result = keypoint_ap(results(1), truth())
        assert result.table["AP"] == pytest.approx(34 / 101)  # recall 0 to 0.33, of 101 points
        assert result.table["AR"] == pytest.approx(1 / 3)

    def test_nothing_found(self):
        result = keypoint_ap([], truth())
        assert (result.table["AP"], result.table["AR"]) == (0, 0)

    def test_what_is_given_is_left_as_it_was(self):
        given, people = results(bbox=[0, 0, 100, 100]), truth()
        before = json.dumps([given, people])
        keypoint_ap(given, people)
        assert json.dumps([given, people]) == before


class TestRefusals:
    def test_mpii_joints(self):
        with pytest.raises(EvaluationError, match=r"16 joints per person: MPII's\. COCO AP evaluates 17 joints"):
            keypoint_ap(results(keypoints=keypoints(0, 0.9, 16)), truth())

    def test_a_file_that_names_mpii_joints(self):
        content = {"categories": [{"keypoints": list(MPII)}], "images": [], "annotations": []}
        with pytest.raises(EvaluationError, match="Use `rmpe evaluate mpii` for these poses"):
            keypoint_ap(content, truth())

    def test_mpii_joints_in_cocos_places(self):
        mapped = results()
        for result in mapped:
            result["keypoints"][:15] = [0, 0, 0] * 5
        with pytest.raises(EvaluationError, match="nose, eyes and ears are 0 in every result"):
            keypoint_ap(mapped, truth())
        mapped[1]["keypoints"][0] = 3  # somebody's nose
        assert keypoint_ap(mapped, truth()).table["AP"] < 1

    def test_truth_of_mpii_joints(self):
        people = truth()
        people["annotations"][1]["keypoints"] = [1] * 48
        with pytest.raises(EvaluationError, match="annotation 2 of the ground truth has 48 keypoint values"):
            keypoint_ap(results(), people)


def changed(part, index, **more):
    content = truth()
    content[part][index] |= more
    return content


def without(key):
    content = truth()
    del content["annotations"][0][key]
    return content


class TestMistakes:
    @pytest.mark.parametrize(("given", "sentence"), [
        (results(image_id=99), "result 1 is for image 99, which is not in the ground truth"),
        (results(image_id=[1]), r"result 1: image_id is \[1\]; expected a number or a name"),
        (results(keypoints=[1] * 30), "result 1 has 30 keypoint values; expected 51"),
        (results(keypoints=[None] * 51), "result 1: keypoints are not a list of finite numbers"),
        (results(keypoints=[float("nan")] * 51), "result 1: keypoints are not a list of finite numbers"),
        (results(keypoints=5), "result 1: keypoints are not a list of finite numbers"),
        (results(score="high"), "result 1: score are not a list of finite numbers"),
        (results(1) + results(bbox=[1, 2, 3, 4]), "result 2: bbox must be four numbers, in all results or in none"),
        (results(bbox=[1, 2]), "result 1: bbox must be four numbers"),
        ([{"image_id": 10}], "result 1 has no 'category_id'"),
        ([1, 2], "results are not a list of objects"),
        ("text", "results are not a list of objects"),
        ({"a": 1}, "not COCO results; expected a list"),
        ({"categories": 5}, "categories are not a list of objects"),
    ])
    def test_in_results(self, given, sentence):
        with pytest.raises(EvaluationError, match=sentence):
            keypoint_ap(given, truth())

    @pytest.mark.parametrize(("given", "sentence"), [
        ([], "has no images, annotations and categories"),
        ({"images": [], "annotations": [], "categories": 1}, "categories of the ground truth are not a list"),
        (changed("annotations", 2, image_id=5), "annotation 3 of the ground truth is for image 5, which"),
        (changed("annotations", 2, bbox=[1]), "annotation 3 of the ground truth: bbox has 1 numbers"),
        (changed("annotations", 2, area="big"), "annotation 3 of the ground truth: num_keypoints, area, iscrowd are"),
        (without("area"), "annotation 1 of the ground truth has no 'area'"),
        (without("num_keypoints"), "annotation 1 of the ground truth has no 'num_keypoints'"),
        (truth() | {"images": [{}]}, "image 1 of the ground truth has no 'id'"),
        (truth() | {"categories": [{}]}, "category 1 of the ground truth has no 'id'"),
    ])
    def test_in_the_truth(self, given, sentence):
        with pytest.raises(EvaluationError, match=sentence):
            keypoint_ap(results(), given)

    def test_results_of_a_category_that_nobody_has(self):
        assert keypoint_ap(results(category_id=7), truth()).table["AP"] == 0
