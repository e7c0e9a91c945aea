"""``rmpe detect`` and ``rmpe demo`` with detectors of other kinds."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectors import region_detector
from small_networks import write_detector, write_network, write_pose

from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.pose.detector_options import DetectorOptions
from rmpe_legacy.runs.result_files import read_proposals
from rmpe_legacy.synthetic.world import draw_picture

OPTIONS = ("--person-class", 2, "--detector-size", "96,160", "--threshold", 0.2)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> tuple[Path, Path]:
    return write_network(tmp_path_factory.mktemp("detector"), "net", region_detector(3, 12), 5)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "people.png"
    cv2.imwrite(str(path), draw_picture(3, 1).image[:, :, ::-1])
    return path


def test_detect_writes_the_boxes_of_a_faster_rcnn(rmpe, tmp_path, detector, picture):
    code, out, err = rmpe("detect", picture, "--detector", *detector, *OPTIONS, "--output", tmp_path / "out")
    assert code == 0
    assert ("detector: Faster R-CNN, person is class 2 of 2; images are BGR from 0 to 255, minus 102.98, 115.947, "
            "122.772, shorter side 96, longer at most 160") in err
    expected = load_detector(*detector, options=DetectorOptions(2, size=(96, 160)))(
        draw_picture(3, 1).image / np.float32(255), 0.2)
    written = read_proposals(tmp_path / "out")
    assert len(expected) > 1
    np.testing.assert_array_equal(written.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_allclose(written.scores, expected.scores, atol=1e-6)
    assert f"1 image, {len(expected)} detections" in out


def test_a_label_map_and_demo(rmpe, tmp_path, detector, picture):
    labels = tmp_path / "labels.prototxt"
    labels.write_text('item { name: "dog" label: 1 }\nitem { name: "person" label: 2 }\n')
    pose = write_pose(tmp_path)
    code, _, err = rmpe("demo", picture, "--detector", *detector, "--label-map", labels, "--detector-size", "96,160",
                        "--pose", *pose, "--de-transform", "paper", "--output", tmp_path / "out")
    assert (code, "person is class 2 of 2" in err) == (0, True)
    assert json.loads((tmp_path / "out" / "poses.json").read_text())["info"]["person_class"] == 2


def test_other_options_need_another_output_folder(rmpe, tmp_path, detector, picture):
    command = ("detect", picture, "--detector", *detector, *OPTIONS, "--output", tmp_path / "out")
    assert rmpe(*command)[0] == 0
    assert rmpe(*command)[0] == 0
    code, _, err = rmpe(*command, "--detector-mean", 0)
    assert code == 1
    assert "holds results of another run: detector_input was BGR from 0 to 255, minus 102.98, 115.947, 122.772" in err
    assert "person_class was 2, is now 1" in rmpe(*command, "--person-class", 1)[2]


def test_the_settings_of_the_authors_detector_are_as_before(rmpe, tmp_path, picture):
    assert rmpe("detect", picture, "--detector", *write_detector(tmp_path), "--output", tmp_path / "out")[0] == 0
    stored = json.loads((tmp_path / "out" / ".parts" / "run.json").read_text())
    assert stored.keys() == {"program", "published", "threshold", "detector"}


@pytest.mark.parametrize(("options", "words"), [
    ((), "the detector regions has 2 classes besides the background, and nothing in it tells which one is person; give "
         "--person-class N"),
    (("--person-class", 1, "--label-map", "x"), "not both"),
    (("--person-class", 7), "has no class 7"),
    (("--label-map", "absent.prototxt"), "absent.prototxt: No such file"),
])
def test_mistakes(rmpe, tmp_path, detector, picture, options, words):
    code, _, err = rmpe("detect", picture, "--detector", *detector, *options, "--output", tmp_path / "out")
    assert (code, words in err) == (1, True)
    assert not (tmp_path / "out").exists()
