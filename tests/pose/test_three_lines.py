"""Three lines of Python: load_pipeline(), an image, and what the result offers."""

import base64
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from onnx_estimators import draw_people, write_estimator

from rmpe_legacy import load_pipeline
from rmpe_legacy.caffe.data.opencv_image import decode_picture
from rmpe_legacy.errors import FileError, InputError, RmpeError
from rmpe_legacy.pose.joints import COCO17
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.results import Detections, Poses
from rmpe_legacy.synthetic.world import draw_picture


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A drawn image with people, uint8 RGB."""
    return draw_picture(3, 0).image


@pytest.fixture(scope="module")
def people(image) -> PoseResult:
    with pytest.warns(UserWarning, match="trained on synthetic people, so their results on photographs are wrong"):
        pipeline = load_pipeline()
    return pipeline(image)


def test_the_three_lines_from_another_folder(image, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    code = ("from rmpe_legacy import load_pipeline\npeople = load_pipeline()('photo.png')\npeople.plot('out.png')\n"
            "print(people)")
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         check=True)
    assert run.stdout.startswith(f"PoseResult({image.shape[1]} x {image.shape[0]} pixels, ")
    assert run.stdout.endswith(", mpii16)\n")
    assert cv2.imread(str(tmp_path / "out.png")).shape == image.shape


class TestResult:
    def test_arrays_are_those_of_the_pose_nms(self, people):
        persons = people.nms.persons
        assert len(persons) > 0
        np.testing.assert_array_equal(people.keypoints[..., :2], persons.joints_xy)
        np.testing.assert_array_equal(people.keypoints[..., 2], persons.scores)
        np.testing.assert_allclose(people.scores, persons.scores.mean(axis=1))
        np.testing.assert_array_equal(people.boxes, people.proposals.boxes_xyxy[persons.picks])

    def test_to_coco_and_to_alphapose_are_json(self, people):
        coco, alpha = people.to_coco(image_id=7), people.to_alphapose()
        assert json.loads(json.dumps(coco)) == coco
        assert [each["image_id"] for each in coco] == [7] * len(people.scores)
        assert len(coco[0]["keypoints"]) == 48
        assert json.loads(json.dumps(alpha)) == alpha
        assert alpha[0]["image_id"] == "image"

    def test_plot_draws_skeletons_on_the_image(self, people, image, tmp_path):
        drawn = people.plot(tmp_path / "a.png")
        assert drawn.dtype == np.uint8
        assert drawn.shape == image.shape
        changed = (drawn != image).any(axis=2)
        assert 0.001 < changed.mean() < 0.5
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], drawn)
        with pytest.raises(RmpeError, match=r"an image can be written only as \.png or \.jpg"):
            people.plot(tmp_path / "a.txt")
        with pytest.raises(FileError, match="there is no folder"):
            people.plot(tmp_path / "nowhere" / "a.png")

    def test_a_notebook_shows_the_drawing(self, people, image):
        html = people._repr_html_()
        data = html.partition("base64,")[2].partition('"')[0]
        shown = decode_picture(base64.b64decode(data), cv2.IMREAD_COLOR, "repr")
        assert shown.shape == image.shape
        assert f"{len(people.scores)} person" in html

    def test_without_image_or_nms_there_is_a_sentence(self):
        poses = Poses(np.empty((0, 16, 2)), np.empty((0, 16)))
        bare = PoseResult((9, 9), Detections(np.empty((0, 4)), np.empty(0)), poses)
        with pytest.raises(InputError, match="has no image to draw on, because it was read from a file"):
            bare.plot()
        with pytest.raises(InputError, match="has no persons: the pose NMS was not run"):
            _ = bare.keypoints
        assert bare._repr_html_() == "<pre>PoseResult(9 x 9 pixels, 0 detections, poses not merged, mpii16)</pre>"

    def test_names_of_files_are_escaped(self, people, tmp_path, image):
        path = tmp_path / "<b>.png"
        cv2.imwrite(str(path), image[..., ::-1])
        with pytest.warns(UserWarning, match="synthetic people"):
            assert "&lt;b&gt;.png" in load_pipeline()(path)._repr_html_()


def test_an_onnx_network_with_boxes(tmp_path):
    truth = draw_people(tmp_path, 17, images=1)
    with pytest.warns(UserWarning, match="synthetic people"):  # the detector is the package's
        pipeline = load_pipeline(pose=write_estimator(tmp_path / "net.onnx", 17), joints="coco17")
    assert (pipeline.recipe.name, pipeline.pose.joints) == ("alphapose", COCO17)
    name, joints = next(iter(truth.items()))
    corner = joints[0].min(axis=0)
    box = np.array([[*(corner - 10), corner[0] + 80, corner[1] + 120]])
    found = pipeline(tmp_path / name, Detections(box, np.array([0.9], np.float32)))
    assert found.keypoints.shape == (1, 17, 3)
    assert np.abs(found.keypoints[0, :, :2] - joints[0]).max() < 3
    assert found.scores[0] > 2  # AlphaPose's: mean + 1.25 x maximum + the box's
    assert found.to_coco()[0]["joints"] == "coco17"


@pytest.mark.parametrize("device", ["cdua", "cuda:x", "cuda:97"])
def test_a_device_that_is_not_there_is_a_sentence(device):
    with pytest.raises(RmpeError, match=f"device '{device}' cannot be used: .*; --device cpu always works"):
        load_pipeline(device=device)
