"""From an image to persons, against what the authors' programs gave: their networks' outputs stand in for networks."""

import json

import numpy as np
import pytest
import torch
from crops import torch7_crops
from difference import Golden
from paths import TESTS

from rmpe_legacy import load_net
from rmpe_legacy.caffe.data.image import load_image
from rmpe_legacy.pose.crop import can_crop, grow_boxes
from rmpe_legacy.pose.decode import read_detections
from rmpe_legacy.pose.demo_models import demo_model
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.pose.estimate import PoseNetwork, PoseOutput, estimate_poses, network_input
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import RECIPES, get_recipe

GOLDEN = TESTS / "golden" / "io"


class StoredDetector(Detector):
    """Gives the blob that the published demo's detector gave."""

    def __init__(self, blob: np.ndarray):
        super().__init__(load_net(demo_model("detector")[0]))
        self.stored = blob

    def blobs(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return {"detection_out": self.stored}, {}


class StoredPose(PoseNetwork):
    """Gives the blobs or heat maps that the published program's network gave, one crop after the other."""

    def __init__(self, size: int, heatmaps: np.ndarray, predictions: np.ndarray | None = None):
        super().__init__(torch.nn.Identity(), "stored", "trained")
        self.height = self.width = size
        self.heatmaps, self.predictions, self.taken, self.crops = heatmaps, predictions, 0, []

    def _run(self, crops: torch.Tensor) -> PoseOutput:
        rows = slice(self.taken, self.taken + len(crops))
        self.taken += len(crops)
        self.crops += list(crops.numpy())
        prediction = None if self.predictions is None else torch.from_numpy(self.predictions[rows])
        return PoseOutput(torch.from_numpy(self.heatmaps[rows]), prediction)


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("name", ["demo__authentic_sizes", "demo__no_person", "demo__none_found", "demo__round_halves",
                                  "demo__small"])
def test_pipeline_gives_what_demo_py_gave(name: str, batch: int):
    meta = json.loads((GOLDEN / name / "case.json").read_text())
    case = Golden.read(GOLDEN / name / "case.npz", "demo.py")
    for i, file in enumerate(meta["images"]):
        people = len(case[f"img{i}_nms_in_bboxes"])
        blobs = [case[f"img{i}_person{k}_prediction_heatmap"].reshape(1, 48) for k in range(people)]
        pose = StoredPose(meta["pose_shape"][2], np.zeros((people, 16, 64, 64), np.float32),
                          np.concatenate([np.zeros((0, 48), np.float32), *blobs]))
        detector = StoredDetector(case[f"img{i}_detections"][None, None])
        pipeline = Pipeline(detector, pose, get_recipe("demo", meta["configThred"]), batch)
        result = pipeline(load_image(GOLDEN / name / file))

        assert result.beyond == 0
        case.check(f"img{i}_nms_in_bboxes", result.grown(RECIPES["demo"]), shape=(-1, 4))
        case.check(f"img{i}_nms_in_preds", result.poses.joints_xy, shape=(-1, 16, 2))
        case.check(f"img{i}_nms_in_scores", result.poses.scores, shape=(-1, 16))
        for k in range(people):
            case.check(f"img{i}_person{k}_pose_input", pose.crops[k], 6e-8)
        if "error" in meta:  # Differs: where nobody is found, demo.py stops with an IndexError
            assert len(result.nms.persons) == 0
        else:
            case.check(f"img{i}_nms_out_preds", result.nms.persons.joints_xy, 1e-9)
            case.check(f"img{i}_nms_out_scores", result.nms.persons.scores)


def test_crop_and_way_back_are_those_of_main_lua():
    cases = torch7_crops()
    assert len(cases) == 24
    for about, case in cases:
        image = case["image"].transpose(1, 2, 0)
        size_wh = image.shape[1], image.shape[0]
        box = grow_boxes([about["box"]], size_wh, "torch7")
        assert box.tolist() == [about["int"]]
        assert can_crop(box, size_wh, "torch7").all()
        pose = StoredPose(case["crop"].shape[1], case["heatmap"][None])
        poses = estimate_poses(pose, image, box, "torch7")
        case.check("crop", pose.crops[0], 2e-6)
        case.check("preds_img", poses.joints_xy)
        case.check("scores", poses.scores[..., None])


class TestNotebook:
    """The authors' run over the test set rounds as the demo, then keeps boxes off the left and upper border."""

    def test_boxes_of_the_detector_in_pixels(self, whole_network):
        detected = whole_network("ssd").arrays["detection_out"]  # what the real Caffe gave for an image of this size
        image = np.zeros((480, 854, 3), np.float32)
        detector = StoredDetector(detected)
        for rounding, least in (("demo", None), ("notebook", 1)):
            found = detector(image, 0.09, rounding)
            rows = [row for row in detected[0, 0].astype(float) if row[1] == 1 and row[2] > 0.09]
            assert len(rows) == len(found) > 60
            want = [[int(value * size + (0.5 if value >= 0 else -0.5)) for value, size in
                     zip(row[3:], (854, 480, 854, 480), strict=True)] for row in rows]
            if least:
                want = [[max(1, xmin), max(1, ymin), *rest] for xmin, ymin, *rest in want]
            assert found.boxes_xyxy.tolist() == want
            assert found.scores.tolist() == [row[2] for row in rows]


def test_thresholds_are_the_demos_and_the_papers():
    assert {name: (r.threshold, r.growth, r.nms) for name, r in RECIPES.items()} == {
        "demo": (0.3, "demo", "demo"), "demo-test": (0.09, "demo", "batch"), "torch7": (0.09, "torch7", "batch"),
        "testres": (0.09, "testres", "batch"), "alphapose": (0.1, "alphapose", "alphapose")}


def test_nothing_hangs_on_the_interpreters_division():
    """The same image by "demo" and "torch7": the crop is one pixel apart, as one counts from 0, the other from 1."""
    image = np.zeros((9, 14, 3), np.float32)
    image[3, 6] = 1
    boxes = np.array([4, 1, 9, 7])
    places = [np.argwhere(network_input(image, boxes, 6, 6, geometry)[0] > 0.5) for geometry in ("demo", "torch7")]
    assert places[0].tolist() == [[2, 2]]
    assert places[1].tolist() == [[3, 3]]


def test_a_score_of_the_threshold_is_a_person_as_in_the_demo():
    row = np.array([[0, 1, np.float32(0.3), 0.1, 0.1, 0.6, 0.9]], np.float32)
    assert len(read_detections(row, RECIPES["demo"].threshold)[0]) == 1
