"""demo.py from an image to poses, but for its networks: each step's input is ours, each result that of the original.

The demo's networks were replaced by fixed outputs when it was run (tests/golden/io/demo__*).
"""

import json

import numpy as np
import pytest
from difference import Golden
from paths import TESTS
from shared import shared

from rmpe_legacy.caffe.data.image import detector_input, load_image, pose_input
from rmpe_legacy.errors import NetError
from rmpe_legacy.pose.crop import crop_box, grow_boxes, pixel_boxes, uncrop
from rmpe_legacy.pose.decode import read_detections, read_joints
from rmpe_legacy.pose.nms import pose_nms

GOLDEN = TESTS / "golden" / "io"
CASES = sorted(path.name for path in GOLDEN.glob("demo__*"))


@pytest.mark.parametrize("name", CASES)
def test_from_picture_to_poses(name: str):
    meta = json.loads((GOLDEN / name / "case.json").read_text())
    case = Golden.read(GOLDEN / name / "case.npz", "demo.py")
    for i, file in enumerate(meta["images"]):
        image = load_image(GOLDEN / name / file)
        h, w = image.shape[:2]
        if f"img{i}_shown" in case:  # the demo stopped before drawing where it found nobody
            case.check(f"img{i}_shown", image)
        given = detector_input(image, *meta["det_shape"][2:])
        case.check(f"img{i}_det_input", given, 255 * 6e-8)

        boxes_norm, _ = read_detections(case[f"img{i}_detections"][None, None], meta["configThred"])
        boxes = grow_boxes(pixel_boxes(boxes_norm, (w, h)), (w, h))
        case.check(f"img{i}_nms_in_bboxes", boxes, shape=(-1, 4))

        joints, scores = np.empty((len(boxes), 16, 2)), np.empty((len(boxes), 16), np.float32)
        for k, box in enumerate(boxes):
            person = f"img{i}_person{k}"
            case.check(f"{person}_box", box)
            crop = crop_box(image, box)
            case.check(f"{person}_crop", crop)
            given = pose_input(crop, *meta["pose_shape"][2:])
            case.check(f"{person}_pose_input", given, 6e-8)
            points, scores[k] = read_joints(case[f"{person}_prediction_heatmap"])
            joints[k] = uncrop(points[0], box)
            case.check(f"{person}_joints", joints[k])
        case.check(f"img{i}_nms_in_preds", joints, shape=(-1, 16, 2))
        case.check(f"img{i}_nms_in_scores", scores, shape=(-1, 16))

        persons = pose_nms(joints, scores, boxes, "demo").persons  # Differs: nobody is nobody; the demo stops there
        assert ("error" in meta) == (len(boxes) == 0)
        if "error" not in meta:
            case.check(f"img{i}_nms_out_preds", persons.joints_xy, 1e-9)
            case.check(f"img{i}_nms_out_scores", persons.scores)
        else:
            assert len(persons) == 0


def test_the_cases_hold_people_and_pictures_without():
    assert CASES == ["demo__authentic_sizes", "demo__no_person", "demo__none_found", "demo__round_halves",
                     "demo__small"]


class TestReadout:
    ROWS = np.array([[0, 1, 0.3, 0.1, 0.2, 0.3, 0.4], [0, 2, 0.9, 0, 0, 1, 1], [1, 1, 0.8, 0.5, 0.5, 0.7, 0.9],
                     [0, 1, 0.29, 0, 0, 1, 1], [0, 1, 0.7, -0.1, 0, 1.2, 1]], np.float32)[None, None]

    def test_a_score_of_the_threshold_in_single_precision_passes(self):
        boxes, scores = read_detections(self.ROWS)
        np.testing.assert_array_equal(scores, np.array([0.3, 0.7], np.float32))
        np.testing.assert_array_equal(boxes, self.ROWS[0, 0, [0, 4], 3:])

    def test_each_picture_of_a_batch_has_its_own(self):
        boxes, scores = read_detections(self.ROWS, item=1)
        assert scores.tolist() == [np.float32(0.8)]
        assert boxes.shape == (1, 4)
        assert read_detections(self.ROWS, item=2)[0].shape == (0, 4)

    def test_what_is_no_detection_and_no_joint_is_refused(self):
        with pytest.raises(NetError, match=r"shape \(3, 48\) does not hold detections, which are rows of 7 values"):
            read_detections(np.zeros((3, 48)))
        with pytest.raises(NetError, match=r"shape \(3, 7\) does not hold joints, which are 48 values per crop"):
            read_joints(np.zeros((3, 7)))


class TestWholeNetworks:
    """The inputs that the real Caffe was given, on the image of the notebook."""

    def test_detector(self, whole_network):
        want = whole_network("ssd").arrays["data"]
        image = load_image(shared("images", "skiing.jpg"))
        self.compare(detector_input(image, 500, 500), want)

    def test_pose(self, whole_network):
        want = whole_network("pose").arrays["data"]
        image = load_image(shared("images", "skiing.jpg"))
        self.compare(pose_input(crop_box(image, (128, 48, 640, 456)), 256, 256), want)

    @staticmethod
    def compare(got: np.ndarray, want: np.ndarray):
        assert np.abs(got[None].astype(np.float64) - want).max() <= 1e-7 * (want.max() - want.min())
