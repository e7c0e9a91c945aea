"""Other people's pose estimators: an ONNX network through demo, pose, nms, formats and COCO's evaluation."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_estimators import HEIGHT, WIDTH, coco_truth, draw_people, write_estimator
from paths import TESTS

from rmpe_legacy.cli import main
from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.evaluation.coco import keypoint_ap
from rmpe_legacy.formats.onnx import OnnxRunner
from rmpe_legacy.pose.estimate import estimate_poses, load_pose_network
from rmpe_legacy.pose.joints import COCO17, HALPE26, MPII16, JointSet
from rmpe_legacy.pose.onnx_network import InputOptions, OnnxPoseNetwork
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import get_recipe
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.pose.top_down import crop_top_down, decode_heatmaps, input_frame, uncrop_top_down


def write_node(path: Path, operator: str, type: int, shape: list, **attributes) -> Path:
    """A network of one node, with a batch of one crop of 8 x 8."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_tensor_value_info("y", type, shape)
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "net", [given], [made])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> tuple[Path, dict, Path]:
    """Images, the truth, and an estimator of 17 joints with heatmaps."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    truth = draw_people(folder / "images", 17)
    (folder / "truth.json").write_text(json.dumps(coco_truth(truth)))
    return folder, truth, write_estimator(folder / "net.onnx", 17)


@pytest.fixture(scope="module")
def demo(coco, tmp_path_factory) -> Path:
    """rmpe demo with that estimator and the boxes."""
    folder, _, net = coco
    output = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", str(folder / "images"), "--boxes", str(folder / "images" / "boxes.json"), "--pose", str(net),
                 "--joints", "coco17", "--output", str(output), "--report", str(output) + ".html", "--format",
                 "coco-results", "alphapose", "openpose"]) == 0
    return output


class TestGeometry:
    def test_the_frame_has_the_inputs_aspect_around_the_box(self):
        """The box of 40 x 40 becomes 50 x 66.7 for an input of 3 : 4 with padding 1.25."""
        np.testing.assert_allclose(input_frame([10, 20, 50, 60], 256, 192, 1.25), [30, 40, 50, 200 / 3])
        np.testing.assert_allclose(input_frame([0, 0, 10, 100], 100, 100, 1.0), [5, 50, 100, 100])

    def test_the_way_back_undoes_the_crop(self):
        """A dot of the image, found in the crop's own pixels, is where it was."""
        image = np.zeros((200, 300, 3), np.float32)
        image[70, 120] = 1
        box = np.array([100, 40, 160, 120])
        crop = crop_top_down(image, box, 256, 192)
        row, column = np.unravel_index(cv2.GaussianBlur(crop[:, :, 0], (9, 9), 2).argmax(), crop.shape[:2])
        back = uncrop_top_down(np.array([[[column, row]]]), box[None], (256, 192), (256, 192))
        np.testing.assert_allclose(back[0, 0], [120, 70], atol=0.5)

    def test_outside_the_image_the_crop_is_black(self):
        crop = crop_top_down(np.ones((50, 50, 3), np.float32), [30, 30, 50, 50], 64, 64)
        assert crop[20, 20, 0] == 1
        assert crop[-2, -2, 0] == 0

    def test_a_maximum_moves_a_quarter_towards_its_higher_neighbour(self):
        maps = np.zeros((1, 3, 7, 9), np.float32)
        maps[0, 0, 3, 4], maps[0, 0, 3, 5], maps[0, 0, 2, 4] = 1, 0.5, 0.4
        maps[0, 1, 3, 1], maps[0, 1, 3, 2] = 1, 0.5  # at the border: stays
        points, scores = decode_heatmaps(maps)
        np.testing.assert_array_equal(points[0], [[4.25, 2.75], [1, 3], [0, 0]])
        np.testing.assert_array_equal(scores[0], [1, 1, 0])


class TestDemo:
    def test_finds_every_joint_where_it_was_drawn(self, coco, demo):
        content = json.loads((demo / "poses.json").read_text())
        assert content["categories"][0]["keypoints"] == list(COCO17.joints)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        assert len(content["annotations"]) == 8  # the moved boxes are merged
        for person in content["annotations"]:
            joints = np.reshape(person["keypoints"], (17, 3))[:, :2]
            errors = [np.abs(joints - each).max() for each in coco[1][names[person["image_id"]]]]
            assert min(errors) < 3  # a cell of a heatmap is 5.4 pixels
            assert sorted(person["proposals"])[1] - sorted(person["proposals"])[0] == 1

    def test_coco_judges_the_results(self, coco, demo, capsys):
        results = demo / "coco_results.coco17.json"
        table = keypoint_ap(json.loads(results.read_text()), coco_truth(coco[1])).table
        assert table["AP"] > 0.7
        assert table["AR"] > 0.7
        assert main(["evaluate", "coco", str(results), str(coco[0] / "truth.json")]) == 0
        assert "Average Precision" in capsys.readouterr().out

    def test_reproduce_coco_runs_the_networks(self, coco, tmp_path, capsys):
        folder, _, net = coco
        assert main(["reproduce", "coco", "--images", str(folder / "images"), "--boxes",
                     str(folder / "images" / "boxes.json"), "--pose", str(net), "--ground-truth",
                     str(folder / "truth.json"), "--output", str(tmp_path / "out")]) == 0
        out = capsys.readouterr().out
        table = keypoint_ap(json.loads((tmp_path / "out" / "coco_results.coco17.json").read_text()),
                            coco_truth(coco[1])).table
        assert f"{100 * table['AP']:.1f}" in out
        assert "coco_results.coco17.json on truth.json, not on test-dev" in out
        assert main(["reproduce", "coco", "--images", str(folder / "images")]) == 2
        assert "--images needs a pose network (--pose) and the annotations" in capsys.readouterr().err

    def test_other_formats_have_17_joints(self, demo):
        assert len(json.loads((demo / "alphapose-results.json").read_text())[0]["keypoints"]) == 51
        pose = json.loads((demo / "openpose" / "000000000101_keypoints.json").read_text())["people"][0]
        assert len(pose["pose_keypoints_2d"]) == 75

    def test_images_and_report_show_the_skeletons(self, demo, coco):
        drawn = cv2.imread(str(demo / "pictures" / "000000000101.png.jpg"))
        plain = cv2.imread(str(coco[0] / "images" / "000000000101.png"))
        assert (np.abs(drawn.astype(int) - plain).max(axis=2) > 60).sum() > 300
        page = Path(str(demo) + ".html").read_text()
        assert "left eye, right eye" in page
        assert "17 heatmaps of detection 1" in page

    def test_pose_and_nms_one_after_the_other_give_the_same_persons(self, coco, demo, tmp_path):
        folder, _, net = coco
        assert main(["pose", "--boxes", str(folder / "images" / "boxes.json"), "--images", str(folder / "images"),
                     "--pose", str(net), "--output", str(tmp_path / "poses"), "--format", "alphapose"]) == 0
        assert len(json.loads((tmp_path / "poses" / "alphapose-results.json").read_text())) == 16  # a person per box
        assert main(["nms", "--proposals", str(tmp_path / "poses"), "--poses", str(tmp_path / "poses" / "testres.h5"),
                     "--variant", "alphapose", "--joints", "coco17", "--output", str(tmp_path / "nms"), "--format",
                     "coco-results"]) == 0
        ours, theirs = (json.loads((place / "coco_results.coco17.json").read_text())
                        for place in (tmp_path / "nms", demo))
        assert len(ours) == len(theirs) == 8
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a["keypoints"], b["keypoints"], atol=1e-4)
            assert a["image_id"] == b["image_id"]

    def test_halpe_joints_with_simcc(self, tmp_path):
        truth = draw_people(tmp_path, 26, images=2)
        for bins in (1, 2):
            net = write_estimator(tmp_path / "simcc.onnx", 26, "simcc", bins=bins)
            output = tmp_path / f"out{bins}"
            assert main(["demo", str(tmp_path), "--boxes", str(tmp_path / "boxes.json"), "--pose", str(net), "--joints",
                         "halpe26", "--output", str(output), "--format", "openpose", "--report",
                         str(tmp_path / "page.html")]) == 0
            content = json.loads((output / "poses.json").read_text())
            assert content["categories"][0]["keypoints"] == list(HALPE26.joints)
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for person in content["annotations"]:
                joints = np.reshape(person["keypoints"], (26, 3))[:, :2]
                assert min(np.abs(joints - each).max() for each in truth[names[person["image_id"]]]) < 3

    def test_a_fixed_batch_is_filled_up(self, coco, tmp_path):
        image = np.full((240, 320, 3), 0.5, np.float32)
        boxes = np.array([[10, 10, 90, 90], [20, 30, 80, 200], [0, 0, 50, 50]])
        free = estimate_poses(OnnxPoseNetwork(coco[2]), image, boxes, "alphapose")
        fixed = write_estimator(tmp_path / "fixed.onnx", 17, batch=2)
        network = OnnxPoseNetwork(fixed)
        assert network.fixed_batch == 2
        np.testing.assert_array_equal(estimate_poses(network, image, boxes, "alphapose").joints_xy, free.joints_xy)


class TestInput:
    def test_mean_std_order_and_scale(self):
        """BGR from 0 to 255 minus Caffe's mean: what demo.py does for the detector."""
        crops = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
        got = InputOptions((104, 117, 123), (2,), "BGR", 255).apply(crops)
        want = (crops[:, ::-1] * 255 - np.array([104, 117, 123]).reshape(3, 1, 1)) / 2
        np.testing.assert_allclose(got, want, rtol=1e-5)
        np.testing.assert_array_equal(InputOptions().apply(crops), crops)

    @pytest.mark.parametrize(("options", "message"), [
        ({"mean": (1, 2)}, "mean 1,2: give one finite number"), ({"std": (0,)}, "give numbers above 0"),
        ({"order": "GBR"}, "channel order 'GBR' is not one of RGB, BGR"),
        ({"padding": 0}, "box padding 0 is not above"),
        ({"std": (float("nan"),)}, "std nan"), ({"raw_scale": -1}, "raw scale -1 is not above 0")])
    def test_what_cannot_be_meant(self, options, message):
        with pytest.raises(RmpeError, match=message):
            InputOptions(**options)

    def test_options_reach_the_network_from_the_command_line(self, coco, tmp_path):
        """An estimator that expects BGR from 0 to 255 finds the joints only if it is given that."""
        folder, truth, net = coco
        model = onnx.load(net)
        weights = next(each for each in model.graph.initializer if each.name == "weights")
        values = onnx.numpy_helper.to_array(weights)
        weights.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[:, ::-1] / 255), "weights"))
        onnx.save(model, tmp_path / "bgr.onnx")
        arguments = ["demo", str(folder / "images"), "--boxes", str(folder / "images" / "boxes.json"), "--pose",
                     str(tmp_path / "bgr.onnx")]
        bgr = ["--channel-order", "BGR", "--raw-scale", "255"]
        assert main([*arguments, "--output", str(tmp_path / "right"), *bgr]) == 0
        assert main([*arguments, "--output", str(tmp_path / "wrong")]) == 0
        right, wrong = (json.loads((tmp_path / name / "poses.json").read_text()) for name in ("right", "wrong"))
        first = np.reshape(right["annotations"][0]["keypoints"], (17, 3))[:, :2]
        assert min(np.abs(first - each).max() for each in truth["000000000101.png"]) < 3
        assert right["annotations"] != wrong["annotations"]


class TestMistakes:
    def test_joints_that_do_not_match(self, coco):
        network = OnnxPoseNetwork(coco[2], HALPE26)
        with pytest.raises(NetError, match=r"returned heatmaps 1 x 17 x 32 x 24; expected 1 x 26 x height x width"):
            network(np.zeros((1, 3, HEIGHT, WIDTH), np.float32))

    def test_the_published_nms_takes_16_joints_only(self, coco):
        with pytest.raises(RmpeError, match="pose NMS of demo is published for MPII's 16; use --published alphapose"):
            Pipeline(None, OnnxPoseNetwork(coco[2]), get_recipe("demo"))

    def test_sixteen_joints_may_follow_the_paper(self, tmp_path):
        """A network of MPII's joints may be used with the published crops and pose NMS; they read square maps only."""
        network = OnnxPoseNetwork(write_estimator(tmp_path / "net.onnx", 16), MPII16)
        pipeline = Pipeline(None, network, get_recipe("demo"))
        image = np.full((240, 320, 3), 0.5, np.float32)
        with pytest.raises(RmpeError, match="square"):
            pipeline(image, Detections(np.array([[10, 10, 90, 200]]), np.array([0.9], np.float32)))

    def test_files_that_are_no_network(self, tmp_path):
        (tmp_path / "net.onnx").write_bytes(b"nothing")
        with pytest.raises(FileError, match="not a readable ONNX file"):
            load_pose_network(tmp_path / "net.onnx")
        with pytest.raises(FileError, match="No such file"):
            load_pose_network(tmp_path / "lost.onnx")

    def test_an_input_without_a_size(self, tmp_path, coco):
        model = onnx.load(coco[2])
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
        onnx.save(model, tmp_path / "net.onnx")
        with pytest.raises(NetError, match="without a fixed height and width; export it with a fixed size"):
            load_pose_network(tmp_path / "net.onnx")

    @pytest.mark.parametrize("sizes", [(1, 1 << 20), (1 << 31, 1)], ids=["height", "batch"])
    def test_an_input_too_large_for_the_memory(self, tmp_path, coco, sizes):
        model = onnx.load(coco[2])
        batch, _, height, _ = model.graph.input[0].type.tensor_type.shape.dim
        batch.dim_value, height.dim_value = sizes
        onnx.save(model, tmp_path / "net.onnx")
        with pytest.raises((FileError, NetError), match=r"larger than 1 GB|not a readable ONNX file"):
            load_pose_network(tmp_path / "net.onnx")

    def test_a_single_number_as_output(self, tmp_path):
        """Neither heatmaps nor vectors, and without a batch that could be cut."""
        network = OnnxPoseNetwork(write_node(tmp_path / "net.onnx", "ReduceSum", TensorProto.FLOAT, [], keepdims=0))
        with pytest.raises(NetError, match="for 2 crops it returned y 2; expected 2 x 17 x height x width"):
            network(np.zeros((2, 3, 8, 8), np.float32))

    def test_an_output_whose_shape_depends_on_the_values(self, tmp_path):
        network = OnnxPoseNetwork(write_node(tmp_path / "net.onnx", "NonZero", TensorProto.INT64, [4, None]))
        crops = np.stack([np.zeros((3, 8, 8)), np.ones((3, 8, 8))]).astype(np.float32)
        with pytest.raises(NetError, match="its outputs differ in shape from batch to batch"):
            network(crops)

    @pytest.mark.parametrize("read", [OnnxPoseNetwork, lambda path: OnnxRunner(path, "net")], ids=["pose", "verify"])
    def test_nothing_is_printed_of_a_name_that_is_not_utf8(self, read, capfd):
        """onnxruntime prints to standard output when it loads a model a second time."""
        with pytest.raises(FileError, match="not a readable ONNX file"):
            read(TESTS / "hostile" / "name-that-is-not-utf8.onnx")
        assert capfd.readouterr() == ("", "")

    def test_joint_sets_are_for_onnx(self, tmp_path, capsys):
        cv2.imwrite(str(tmp_path / "image.png"), np.zeros((8, 8, 3), np.uint8))
        assert main(["demo", str(tmp_path), "--joints", "coco17", "--output", str(tmp_path / "out")]) == 1
        assert "joint sets other than mpii16 are for ONNX networks; leave out --joints" in capsys.readouterr().err
        assert main(["nms", "--proposals", "x", "--poses", "y", "--output", "z", "--joints", "coco17"]) == 1
        assert "'batch' is published for MPII's 16 joints, not for coco17; use --variant alphapose" in (
            capsys.readouterr().err)

    def test_formats_are_checked_before_the_work(self, coco, tmp_path, capsys):
        assert main(["demo", str(coco[0] / "images"), "--boxes", str(coco[0] / "images" / "boxes.json"), "--pose",
                     str(coco[2]), "--output", str(tmp_path / "out"), "--format", "mpii"]) == 1
        assert "format mpii holds MPII's 16 joints, not the 17 of coco17" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_another_joint_set_is_another_run(self, coco, tmp_path):
        joints = JointSet("other", tuple(f"j{i}" for i in range(17)))
        assert OnnxPoseNetwork(coco[2], joints).joints.name == "other"
