"""The real networks' shapes with synthetic weights: what Caffe gave on an image, and whole runs over six more."""

import json

import numpy as np
import pytest
from shared import shared
from small_networks import write_pose
from whole_networks import fed_to_transformers

from rmpe_legacy.caffe.data.image import load_image
from rmpe_legacy.cli import main
from rmpe_legacy.paper.describe_network import describe_detector, describe_pose_network
from rmpe_legacy.pose.detect import Detector, load_detector
from rmpe_legacy.pose.estimate import PoseNetwork, estimate_poses, load_pose_network
from rmpe_legacy.runs.result_files import read_proposals

ONE_BOX = np.array([[128, 48, 640, 456]])  # what Caffe's pose network was given of the image
SURE = 0.985  # so that few of the hundred or more boxes of random weights are left


@pytest.fixture(scope="module")
def detector(whole_network) -> Detector:
    return load_detector(*whole_network("ssd").files)


@pytest.fixture(scope="module")
def pose(whole_network) -> PoseNetwork:
    return load_pose_network(*whole_network("pose").files, de_transform="published-identity")


@pytest.fixture(scope="module")
def skiing() -> np.ndarray:
    return load_image(shared("images", "skiing.jpg"))


def test_detects_what_caffe_detected(detector, whole_network, skiing):
    golden = whole_network("ssd").arrays
    data, want = golden["data"], golden["detection_out"][0, 0].astype(np.float64)
    given = []
    handle = detector.net.register_forward_pre_hook(lambda net, args: given.append(args[0]["data"].numpy()))
    found = detector(skiing, 0.3)
    handle.remove()
    assert np.abs(given[0] - data).max() <= 1e-4 * np.ptp(data)
    want = want[(want[:, 1] == 1) & (want[:, 2] > 0.3)]
    assert len(found) == len(want) > 60
    np.testing.assert_allclose(found.scores, want[:, 2], rtol=0, atol=1e-4)
    exact = want[:, 3:] * (854, 480, 854, 480)
    assert np.abs(found.boxes_xyxy - exact).max() <= 0.51  # rounded; a box is 1e-4 of its value off at most
    assert "SSD detector on VGG16, 500 x 500, 2 classes, 20073 default boxes" in str(describe_detector(detector))


@pytest.mark.parametrize(("mode", "blob"), [("published-identity", "fma_prediction_heatmap"),
                                            ("published-ignored", "ignored_prediction_heatmap")])
def test_joints_are_those_that_caffe_gave(whole_network, pose, skiing, mode, blob):
    golden = whole_network("pose")
    network = pose if mode == "published-identity" else load_pose_network(*golden.files, de_transform=mode)
    blobs, traces = golden.arrays, []
    with fed_to_transformers(network.module, blobs["theta"]):  # its last bits depend on the processor
        poses = estimate_poses(network, skiing, ONE_BOX, on_crop=traces.append)
    assert np.abs(traces[0].crop - blobs["data"][0]).max() <= 1e-4 * np.ptp(blobs["data"])
    assert np.abs(traces[0].straightened - blobs["fma_img"][0]).max() <= 1e-4 * np.ptp(blobs["data"])
    want = blobs[blob].reshape(16, 3).astype(np.float64)
    pad = (512 - 408) // 2
    np.testing.assert_array_equal(poses.joints_xy[0], np.trunc(want[:, :2] * 512 / 64 - (0, pad) + (128, 48)))
    np.testing.assert_allclose(poses.scores[0], want[:, 2], rtol=0, atol=1e-4 * want[:, 2].max())
    identity = str(describe_pose_network(network))
    assert "STN, 2-stack hourglass, SDTN, 256 x 256, heatmaps 64 x 64; the STN is trained" in identity


def test_a_batch_gives_what_one_by_one_gives(whole_network, pose):
    picture = np.ascontiguousarray(whole_network("pose").arrays["data"][0].transpose(1, 2, 0))
    # in each, the best place of a joint is 1.5e-3 of the range or more ahead of the next one
    boxes = np.array([[30, 10, 170, 120], [10, 23, 130, 107], [100, 27, 170, 110]])
    single, together = (estimate_poses(pose, picture, boxes, batch=batch) for batch in (1, 3))
    np.testing.assert_array_equal(single.joints_xy, together.joints_xy)
    np.testing.assert_allclose(single.scores, together.scores, rtol=0, atol=2e-4)  # theta's sums are rounded otherwise


def test_six_pictures_of_mpii_from_end_to_end(whole_network, tmp_path, capfd):
    images = shared("images")
    names = sorted(path.name for path in images.glob("0*.jpg"))
    assert len(names) == 6
    detector, pose = (map(str, files) for files in (whole_network("ssd").files, write_pose(tmp_path)))
    command = ["demo", *(str(images / name) for name in names), "--detector", *detector, "--pose", *pose,
               "--de-transform", "paper", "--threshold", str(SURE), "--output", str(tmp_path / "out"),
               "--report", str(tmp_path / "page.html"), "--quiet"]
    assert main(command) == 0
    assert capfd.readouterr().err == ""
    content = json.loads((tmp_path / "out" / "poses.json").read_text())
    sizes = {(image["width"], image["height"]) for image in content["images"]}
    assert sizes == {(1280, 720), (1920, 1080)}
    proposals = read_proposals(tmp_path / "out" / "proposals")
    assert proposals.images == tuple(names)
    assert 3 <= len(proposals) < 100
    assert proposals.scores.min() > SURE
    page = (tmp_path / "page.html").read_text()
    assert all(f">{name}</h2>" in page for name in names)
    assert len(page) < 5e6
