"""The models in the package, by ``rmpe reproduce demo``, on images that they have not seen."""

import numpy as np
import pytest

from rmpe_legacy import load_net
from rmpe_legacy.cli import main
from rmpe_legacy.pose.demo_models import FOLDER, demo_model
from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.synthetic.world import draw_pictures

PICTURES, WORLD = 30, 77


@pytest.fixture(scope="module")
def mean_ap(tmp_path_factory) -> dict[str, float]:
    """Row of the table -> MPII AP over all joints."""
    folder = tmp_path_factory.mktemp("demo")
    assert main(["reproduce", "demo", "--pictures", str(PICTURES), "--world", str(WORLD), "--output", str(folder)]) == 0
    lines = (folder / "table.txt").read_text().split("per cent:\n")[1].splitlines()
    assert lines[0].split()[-1] == "Total"
    return {line[:34].strip(): float(line.split()[-1]) for line in lines[1:]}


def test_they_are_small():
    sizes = [path.stat().st_size for path in FOLDER.glob("*.caffemodel")]
    assert len(sizes) == 2
    assert sum(sizes) < 6e6


@pytest.mark.parametrize("name", ["detector", "pose"])
def test_weights_and_prototxt_fit(name: str):
    net = load_net(*demo_model(name), de_transform="paper")  # a warning fails the test
    assert not list(net.left_out)


def test_they_find_most_people_and_their_joints(mean_ap):
    assert mean_ap["detected boxes"] > 75  # 300 images give a mean, 30 lie around it


def test_the_stn_mends_disturbed_boxes(mean_ap):
    assert mean_ap["disturbed boxes"] > mean_ap["disturbed boxes, STN off"]


def test_the_detector_puts_a_box_on_most_people():
    detector, hit = load_detector(*demo_model("detector")), []
    for picture in draw_pictures(WORLD, PICTURES):
        found = detector(picture.image / np.float32(255), 0.09).boxes_xyxy.astype(float)
        low = np.maximum(found[:, None, :2], picture.boxes_xyxy[:, :2])
        high = np.minimum(found[:, None, 2:], picture.boxes_xyxy[:, 2:])
        common = (high - low).clip(0).prod(axis=2)
        areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (found, picture.boxes_xyxy)]
        iou = common / (areas[0][:, None] + areas[1] - common)
        hit += (iou > 0.5).any(axis=0).tolist()
    assert np.mean(hit) > 0.85
