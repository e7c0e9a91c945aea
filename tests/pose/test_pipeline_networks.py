"""Detector and pose network: what they take, what they refuse, and that a batch changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import unpacked
from PIL import Image
from small_networks import DETECTOR, DETECTOR_HW, MAP_HW, POSE, POSE_HW, write_detector, write_network, write_pose

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.data.image import detector_input, load_image, pose_input
from rmpe_legacy.errors import FileError
from rmpe_legacy.paper.describe_network import describe_detector, describe_pose_network
from rmpe_legacy.pose.crop import can_crop, crop_box, read_heatmaps, uncrop
from rmpe_legacy.pose.detect import Detector, load_detector
from rmpe_legacy.pose.estimate import CaffePoseNetwork, estimate_poses, load_pose_network
from rmpe_legacy.pose.pipeline import Pipeline, load_pipeline
from rmpe_legacy.pose.published import get_recipe
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.synthetic.world import draw_picture

TORCH7 = unpacked("torch7/models")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    write_detector(folder)
    write_pose(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder) -> Detector:
    return load_detector(folder / "detector.prototxt", folder / "detector.caffemodel")


@pytest.fixture(scope="module")
def pose(folder) -> CaffePoseNetwork:
    return load_pose_network(folder / "pose.prototxt", folder / "pose.caffemodel", de_transform="paper")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_picture(3, 1).image / np.float32(255)


BOXES = np.array([[10, 20, 90, 200], [100, 5, 190, 160], [200, 100, 320, 240], [0, 0, 320, 240], [30, 40, 31, 90]])


class TestDetector:
    def test_input_has_the_size_of_the_prototxt(self, detector, image):
        assert detector.size == "{} x {}".format(*DETECTOR_HW)
        data = torch.from_numpy(detector_input(image, *DETECTOR_HW))[None]
        (blobs, _), alone = detector.blobs(image), detector.net(data=data)
        np.testing.assert_array_equal(blobs["detection_out"], alone["detection_out"].numpy())

    def test_a_higher_threshold_keeps_the_first(self, detector, image):
        many, few = detector(image, 0.3), detector(image, 0.6)
        assert 0 < len(few) < len(many)
        np.testing.assert_array_equal(many.boxes_xyxy[: len(few)], few.boxes_xyxy)
        assert few.scores.min() > 0.6
        assert many.boxes_xyxy.dtype == np.int64

    def test_nobody_is_an_empty_result(self, detector, image):
        found = detector(image, 0.999999)
        assert found.boxes_xyxy.shape == (0, 4)
        assert len(found) == 0

    @pytest.mark.parametrize(("prototxt", "words"), [
        (POSE, r"outputs no boxes in a supported form: its outputs are prediction_heatmap \(PredictionHeatmap\); "
                "supported"),
        (DETECTOR.replace('name: "data" type: "Input"', 'name: "data" type: "DummyData"').replace(
            "input_param { shape { dim: 1 dim: 3 dim: 40 dim: 56 } }",
            "dummy_data_param { shape { dim: 1 dim: 3 dim: 40 dim: 56 } }"),
         "has the inputs none; expected a single image input"),
        (DETECTOR.replace("dim: 1 dim: 3 dim: 40",
         "dim: 1 dim: 2 dim: 40"), "'data' is 1 x 2 x 40 x 56; expected N x 3 x"),
        (DETECTOR + 'layer { name: "s" type: "Silence" bottom: "detection_out" }', "are not an output of the network"),
    ])
    def test_refuses_other_networks(self, tmp_path, prototxt, words):
        (tmp_path / "net.prototxt").write_text(prototxt)
        with pytest.raises(RmpeError, match=words):
            Detector(load_net(tmp_path / "net.prototxt", de_transform="paper"))

    def test_weights_that_lack_layers_are_not_a_trained_detector(self, folder, tmp_path):
        _, start = write_network(tmp_path, "start", DETECTOR.split('layer { name: "loc"')[0], 5)
        with pytest.warns(UserWarning, match="nothing for"), pytest.raises(RmpeError, match=(
                r"start.caffemodel: has no weights for 2 of the 3 layers of .*detector.prototxt that have parameters "
                r"\(loc, conf\); these weights belong to another network, or are the pre-training initialisation")):
            load_detector(folder / "detector.prototxt", start)


class TestPose:
    def test_a_batch_gives_what_one_by_one_gives(self, pose, image):
        for geometry in ("demo", "torch7"):
            boxes = BOXES if geometry == "demo" else np.maximum(BOXES, 1)
            single = estimate_poses(pose, image, boxes, geometry, batch=1)
            for batch in (2, 3, 16):
                together = estimate_poses(pose, image, boxes, geometry, batch)
                np.testing.assert_array_equal(single.joints_xy, together.joints_xy)
                np.testing.assert_allclose(single.scores, together.scores, rtol=0, atol=1e-5)
            order = [3, 0, 4, 2, 1]
            moved = estimate_poses(pose, image, boxes[order], geometry)
            np.testing.assert_array_equal(single.joints_xy[order], moved.joints_xy)

    def test_steps_by_hand(self, pose, image):
        crop = pose_input(crop_box(image, BOXES[1]), *POSE_HW)
        pose.module.keep_blobs = True
        with torch.no_grad():
            blob = pose.module(data=torch.from_numpy(crop)[None])["prediction_heatmap"].numpy().reshape(16, 3)
        maps = pose.module.blobs["heatmap_back"].numpy()
        pose.module.keep_blobs = False
        poses = estimate_poses(pose, image, BOXES[1:2])
        np.testing.assert_array_equal(poses.scores[0], blob[:, 2])
        np.testing.assert_array_equal(poses.joints_xy[0], uncrop(blob[:, :2], BOXES[1], MAP_HW[1]))
        assert poses.scores.dtype == np.float32
        np.testing.assert_array_equal(read_heatmaps(maps)[0][0], blob[:, :2])

    def test_no_boxes_no_poses(self, pose, image):
        poses = estimate_poses(pose, image, np.empty((0, 4), np.int64))
        assert poses.joints_xy.shape == (0, 16, 2)
        assert poses.scores.shape == (0, 16)

    def test_a_look_sees_every_crop_once_and_changes_nothing(self, pose, image):
        traces = []
        seen = estimate_poses(pose, image, BOXES, batch=2, on_crop=traces.append)
        np.testing.assert_array_equal(seen.joints_xy, estimate_poses(pose, image, BOXES, batch=2).joints_xy)
        assert len(traces) == len(BOXES)
        for box, one in zip(BOXES, traces, strict=True):
            np.testing.assert_array_equal(one.crop, pose_input(crop_box(image, box), *POSE_HW))
            assert one.straightened.shape == (3, *POSE_HW)
            assert one.heatmaps.shape == (16, *MAP_HW)
            assert one.theta.shape == (6,)
            assert not np.array_equal(one.crop, one.straightened)
            peaks = one.heatmaps[np.arange(16), one.points[:, 1].astype(int), one.points[:, 0].astype(int)]
            np.testing.assert_array_equal(peaks, one.heatmaps.max(axis=(1, 2)))

    def test_identity_switches_the_transformers_off(self, folder, image):
        off = load_pose_network(folder / "pose.prototxt", folder / "pose.caffemodel", de_transform="paper",
                                stn="identity")
        traces = []
        estimate_poses(off, image, BOXES, on_crop=traces.append)
        for one in traces:
            np.testing.assert_array_equal(one.theta, [1, 0, 0, 0, 1, 0])
            np.testing.assert_allclose(one.straightened, one.crop, atol=1e-6)

    def test_without_prediction_heatmap_the_last_output_of_16_maps_is_read(self, folder, pose, image, tmp_path):
        shorter = tmp_path / "pose.prototxt"
        shorter.write_text(POSE.split('layer { name: "prediction_heatmap"')[0])
        maps = load_pose_network(shorter, folder / "pose.caffemodel", de_transform="paper")
        np.testing.assert_array_equal(estimate_poses(maps, image, BOXES).joints_xy,
                                      estimate_poses(pose, image, BOXES).joints_xy)

    def test_refusals(self, folder, detector, pose, image):
        with pytest.raises(RmpeError, match="neither a PredictionHeatmap layer nor an output of N x 16"):
            CaffePoseNetwork(detector.net)
        with pytest.raises(RmpeError, match="batch 0 is less than 1"):
            estimate_poses(pose, image, BOXES, batch=0)
        with pytest.raises(RmpeError, match="stn 'off' is not one of 'trained', 'identity'"):
            load_pose_network(folder / "pose.prototxt", folder / "pose.caffemodel", de_transform="paper", stn="off")


class TestTorch7:
    """Networks that the real Torch7 wrote: what its main.lua would read of them."""

    @pytest.mark.parametrize(("name", "outputs", "stack"), [("rmpe.t7", 4, 1), ("hourglass.cuda.t7", 2, 1)])
    def test_reads_the_last_stack_of_the_sppe(self, name, outputs, stack):
        network = load_pose_network(TORCH7 / name, size=64)
        stem = name.split(".")[0]
        crops = np.fromfile(TORCH7 / f"{stem}.in1.f32", np.float32).reshape(2, 3, 64, 64)
        want = np.fromfile(TORCH7 / f"{stem}.out1_{stack + 1}.f32", np.float32).reshape(2, 16, 16, 16)
        got = network(crops).heatmaps.numpy()
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
        assert len(list(TORCH7.glob(f"{stem}.out1_*.f32"))) == outputs

    def test_whole_pipeline_by_the_rules_of_torch7(self, detector, image):
        network = load_pose_network(TORCH7 / "rmpe.t7", size=64)
        result = Pipeline(detector, network, get_recipe("torch7", 0.6))(image, keep_crops=True)
        assert len(result.poses) == len(result.traces) > 1
        assert result.traces[0].straightened.shape == (3, 64, 64)
        assert (result.poses.scores >= 0).all()  # hm[hm:lt(0)] = 0
        single = Pipeline(detector, network, get_recipe("torch7", 0.6), batch=1)(image)
        np.testing.assert_array_equal(result.poses.joints_xy, single.poses.joints_xy)

    def test_copies_for_threads_share_the_weights_and_do_not_mix_up_their_crops(self, detector, image):
        pipeline = Pipeline(detector, load_pose_network(TORCH7 / "rmpe.t7", size=64), get_recipe("torch7", 0.6))
        copies = [pipeline.for_another_thread() for _ in range(3)]
        for copy in copies:
            assert copy.pose.module is not pipeline.pose.module
            assert [*map(id, copy.pose.module.parameters())] == [*map(id, pipeline.pose.module.parameters())]
        images = [np.roll(image, 40 * i, axis=1) for i in range(3)]
        alone = [pipeline(each, keep_crops=True) for each in images]
        with ThreadPoolExecutor(3) as pool:
            for _ in range(3):
                together = pool.map(lambda copy, each: copy(each, keep_crops=True), copies, images)
                for one, other in zip(alone, together, strict=True):
                    np.testing.assert_array_equal(one.poses.joints_xy, other.poses.joints_xy)
                    for a, b in zip(one.traces, other.traces, strict=True):
                        np.testing.assert_array_equal(a.theta, b.theta)

    def test_stn_off(self, image):
        traces = []
        estimate_poses(load_pose_network(TORCH7 / "rmpe.t7", size=64, stn="identity"), image, BOXES[:2], "torch7",
                       on_crop=traces.append)
        np.testing.assert_allclose(traces[0].straightened, traces[0].crop, atol=2e-5)


class TestIdentity:
    def test_of_the_small_ones(self, detector, pose):
        assert str(describe_detector(detector)) == "SSD detector, 40 x 56, 2 classes, 140 default boxes"
        assert str(describe_pose_network(pose)) == (
            "small_pose: STN, 2-stack hourglass, SDTN, 24 x 24, heatmaps 12 x 12; the STN is trained")

    def test_an_stn_as_it_begins(self, folder):
        net = load_net(folder / "pose.prototxt", folder / "pose.caffemodel", de_transform="paper")
        with torch.no_grad():
            net.params["theta"][0].zero_()
        stage = describe_pose_network(CaffePoseNetwork(net)).stage
        assert stage == "the STN is untrained: the same theta for every crop"

    @pytest.mark.parametrize(("name", "words"), [
        ("rmpe.t7", "2 stacks) and SDTN, and the parallel SPPE (2 stacks), 64 x 64; as saved by the last training"),
        ("hourglass.cuda.t7", "stacked hourglass (SPPE alone), 2 stacks, 64 x 64; SPPE alone: after the first"),
    ])
    def test_of_torch7(self, name, words):
        assert words in str(describe_pose_network(load_pose_network(TORCH7 / name, size=64)))


class TestPipeline:
    def test_pictures_of_any_shape(self, detector, pose):
        rng = np.random.default_rng(0)
        pipeline = Pipeline(detector, pose, get_recipe("demo", 0.1))
        for h, w in ((1, 1), (1, 7), (9, 1), (2, 3), (300, 5), (40, 56)):
            for value in (np.zeros((h, w, 3), np.float32), rng.random((h, w, 3)).astype(np.float32)):
                found = pipeline(value)
                assert found.size_wh == (w, h)
                assert np.isfinite(found.poses.joints_xy).all()
                assert can_crop(found.grown(pipeline.recipe), (w, h)).all()
                assert len(found.proposals) == len(found.poses.scores)
                for name in ("torch7", "testres", "demo-test"):
                    Pipeline(detector, pose, get_recipe(name))(value)

    def test_a_person_at_the_border_and_one_beyond(self, pose, image):
        boxes = np.array([[-30, -20, 60, 140], [280, 100, 400, 300], [350, 10, 400, 200], [-90, 10, -40, 200],
                          [50, 60, 50, 60]])
        given = Detections(boxes, np.full(5, 0.9, np.float32))
        result = Pipeline(None, pose)(image, given)
        assert result.beyond == 3
        np.testing.assert_array_equal(result.proposals.boxes_xyxy, boxes[:2])
        np.testing.assert_array_equal(result.grown(get_recipe("demo")), [[0, 0, 73, 156], [262, 80, 320, 240]])

    def test_load_pipeline_and_nobody(self, folder, image):
        pipeline = load_pipeline((folder / "detector.prototxt", folder / "detector.caffemodel"),
                                 (folder / "pose.prototxt", folder / "pose.caffemodel"), threshold=0.99999,
                                 de_transform="paper")
        result = pipeline(image)
        assert len(result.nms.persons) == len(result.poses) == 0

    def test_an_image_is_a_path_a_pil_image_or_an_array(self, detector, pose, tmp_path):
        pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
        path = tmp_path / "photo.png"
        Image.fromarray(pixels).save(path)
        pipeline = Pipeline(detector, pose)
        right = pipeline(load_image(path))
        tensor = torch.from_numpy(pixels)
        given = [str(path), path, Image.open(path), Image.fromarray(pixels).convert("RGBA"), pixels, tensor,
                 tensor.permute(2, 0, 1), tensor.permute(2, 0, 1) / 255]
        for image in given:
            result = pipeline(image)
            np.testing.assert_array_equal(result.proposals.boxes_xyxy, right.proposals.boxes_xyxy)
            np.testing.assert_array_equal(result.poses.joints_xy, right.poses.joints_xy)
        results = pipeline(given)
        assert [result.size_wh for result in results] == [(120, 90)] * 8
        batch = pipeline(torch.stack([tensor.permute(2, 0, 1)] * 2))
        assert [result.size_wh for result in batch] == [(120, 90)] * 2
        np.testing.assert_array_equal(detector(str(path)).boxes_xyxy, right.proposals.boxes_xyxy)

    @pytest.mark.parametrize(("image", "words"), [
        (None, "'NoneType' object is not an image; give a path, a PIL image, or an array"),
        (torch.zeros(2, 9, 9), "a tensor of shape (2, 9, 9) is not an image; give (3, height, width)"),
        (torch.full((3, 9, 9), 255.0), "the image's values run to 255"),
        ([np.zeros((9, 9, 3), np.float32), 3], "'int' object is not an image"),
        (np.zeros((9, 9, 3), np.int16), "an array of int16 values and shape (9, 9, 3) is not what load_image returns"),
        (np.zeros((9, 9)), "and shape (9, 9) is not"),
        (np.zeros((3, 9, 9)), "and shape (3, 9, 9) is not"),
        (np.zeros((0, 9, 3)), "and shape (0, 9, 3) is not"),
        (np.full((9, 9, 3), 255.0), "the image's values run to 255; they must lie between 0 and 1"),
        (np.full((9, 9, 3), np.nan), "the image's values run to nan; they must lie between 0 and 1"),
        ("no.jpg", "no.jpg: No such file or directory"),
        (__file__, "not a readable image"),
        (Image.new("RGB", (9, 9)).tobytes(), "'bytes' object is not an image"),
    ])
    def test_what_is_no_image(self, detector, pose, image, words):
        with pytest.raises(RmpeError) as caught:
            Pipeline(detector, pose)(image)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_pil_image_whose_file_is_truncated(self, detector, pose, tmp_path):
        Image.new("RGB", (90, 90), "red").save(tmp_path / "whole.png")
        (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:120])
        with Image.open(tmp_path / "cut.png") as image, pytest.raises(FileError, match=r"cut\.png: cannot be read"):
            Pipeline(detector, pose)(image)

    def test_boxes_that_a_pipeline_needs(self, detector, pose, image):
        with pytest.raises(RmpeError, match="has no detector; give it boxes: pipeline"):
            Pipeline(None, pose)(image)
        with pytest.raises(RmpeError, match=r"proposals must be Detections, with boxes \(P, 4\) and .*, not 'ndarray'"):
            Pipeline(None, pose)(image, np.zeros((1, 4)))
        with pytest.raises(RmpeError, match="proposals belong to one image, but 2 images are given"):
            Pipeline(None, pose)([image, image], detector(image))

    @pytest.mark.parametrize(("detector", "pose"), [
        ("deploy.prototxt", ("a.prototxt", "b.caffemodel")), (("a.prototxt",), ("b.t7",)), (("a", "b"), ()),
        (("a", "b"), ("c", "d", "e")),
    ])
    def test_files_of_two_networks(self, detector, pose):
        with pytest.raises(RmpeError, match="is a prototxt and a caffemodel"):
            load_pipeline(detector, pose)

    @pytest.mark.parametrize(("published", "threshold", "words"), [
        ("demo", 1.0, "the threshold is 1; it must be at least 0 and less than 1"),
        ("caffe", None, "published 'caffe' is not one of 'demo'"),
    ])
    def test_mistakes(self, published, threshold, words):
        with pytest.raises(RmpeError, match=words):
            get_recipe(published, threshold)

    def test_warns_of_a_torch7_network_in_training_mode(self):
        with pytest.warns(UserWarning, match="in training mode and will be run in evaluation mode"):
            load_pose_network(TORCH7 / "uncleared_train.t7", size=64)
