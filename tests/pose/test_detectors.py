"""Detectors of other kinds than the authors': Faster R-CNN, R-FCN, YOLO, and SSD with several classes."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import region_detector, yolo_detector
from paths import TESTS
from small_networks import DETECTOR, write_network, write_pose

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.paper.describe_network import describe_detector
from rmpe_legacy.pose.crop import pixel_boxes
from rmpe_legacy.pose.detect import Detector, load_detector
from rmpe_legacy.pose.detector_options import DetectorOptions
from rmpe_legacy.pose.detector_output import SSD_IMAGE
from rmpe_legacy.pose.pipeline import load_pipeline
from rmpe_legacy.synthetic.world import draw_picture

GOLDEN = sorted((TESTS / "golden" / "detectors").glob("*.npz"))


def write(folder: Path, text: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text(text)
    return path


def detector_of(folder: Path, text: str, **options) -> Detector:
    return Detector(load_net(write(folder, text)), DetectorOptions(**options))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_picture(3, 1).image / np.float32(255)


class TestRegions:
    """Against py-R-FCN's own Python code."""

    @pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
    def case(self, request) -> dict[str, np.ndarray]:
        with np.load(request.param) as stored:
            return dict(stored)

    @pytest.fixture
    def detector(self, case, tmp_path) -> Detector:
        classes, moves = case["cls_prob"].shape[1], case["bbox_pred"].shape[1]
        return detector_of(tmp_path, region_detector(classes, moves), person_class=1, size=tuple(case["limits"]))

    def test_there_are_cases(self):
        assert len(GOLDEN) == 5

    def test_an_image_becomes_the_published_input(self, case, detector):
        image = np.divide(case["image_bgr"][:, :, ::-1], np.float32(255), dtype=np.float32)
        inputs = detector.output.inputs(image, detector.image)
        assert list(inputs) == ["data", "im_info"]
        assert inputs["data"].shape == tuple(case["data_shape"])
        assert inputs["data"].dtype == np.float32
        np.testing.assert_array_equal(inputs["im_info"], case["im_info"])
        data = inputs["data"] if case["data"].ndim == 4 else inputs["data"].reshape(-1)[::997]
        np.testing.assert_array_equal(data, case["data"])

    @pytest.mark.parametrize("threshold", [0.09, 0.3])
    def test_blobs_become_the_published_boxes(self, case, detector, threshold):
        height, width = case["image_bgr"].shape[:2]
        found = 0
        for label in detector.output.labels:
            boxes, scores = detector.output.people(case, case, (width, height), label, threshold)
            expected = case[f"found_{label}_{threshold}"]
            np.testing.assert_array_equal(boxes, expected[:, :4] + np.array([0, 0, 1, 1], np.float32))
            np.testing.assert_array_equal(scores, expected[:, 4])
            found += len(expected)
        assert found


def test_edges_of_regions_and_equal_scores(tmp_path):
    """A box of the whole image ends behind it; of two equal ones that do not overlap the later one comes first."""
    output = detector_of(tmp_path, region_detector(2, 8)).output
    blobs = {"rois": np.array([[0, 0, 0, 19, 9], [0, 40, 0, 59, 9]], np.float32),
             "cls_prob": np.array([[0.25, 0.75], [0.25, 0.75]], np.float32), "bbox_pred": np.zeros((2, 8), np.float32)}
    boxes, scores = output.people(blobs, {"im_info": np.array([[20, 120, 2]], np.float32)}, (30, 5), 1, 0.5)
    # x, of regions halved and one pixel wider, as published: 20 to 30.5, cut at the last pixel, 29; and 0 to 10.5
    assert boxes.tolist() == [[20, 0, 30, 5], [0, 0, 11.5, 5]]
    assert scores.tolist() == [0.75, 0.75]


def test_an_image_of_a_few_rows_keeps_one(tmp_path):
    detector = detector_of(tmp_path, region_detector(2, 8))
    inputs = detector.output.inputs(np.full((1, 4000, 3), 0.5, np.float32), detector.image)
    assert inputs["data"].shape == (1, 3, 1, 1000)
    assert inputs["im_info"].tolist() == [[1, 1000, 0.25]]


@pytest.mark.parametrize(("pooling", "moves"), [("ROIPooling", 12), ("PSROIPooling", 8), ("PSROIPooling", 12)])
class TestWholeRegionDetector:
    def test_boxes_come_from_the_blobs_of_the_network(self, tmp_path, image, pooling, moves):
        files = write_network(tmp_path, "net", region_detector(3, moves, pooling), 5)
        detector = load_detector(*files, options=DetectorOptions(person_class=2, size=(96, 160)))
        assert detector.output.kind == {"ROIPooling": "Faster R-CNN", "PSROIPooling": "R-FCN"}[pooling]
        found = detector(image, 0.2)
        assert len(found) > 1
        height, width = image.shape[:2]
        net = load_net(*files, keep_blobs=True)
        inputs = detector.output.inputs(image, detector.image)
        with torch.no_grad():
            net({name: torch.from_numpy(value) for name, value in inputs.items()})
        kept = {name: net.blobs[name].numpy() for name in ("rois", "cls_prob", "bbox_pred")}
        boxes, scores = detector.output.people(kept, inputs, (width, height), 2, 0.2)
        np.testing.assert_array_equal(found.boxes_xyxy, pixel_boxes(boxes, (1, 1)))
        np.testing.assert_array_equal(found.scores, scores)
        assert found.boxes_xyxy.min() >= 0
        assert (found.boxes_xyxy.max(axis=0)[2:] <= (width, height)).all()

    def test_another_size_of_image_after_the_first(self, tmp_path, image, pooling, moves):
        files = write_network(tmp_path, "net", region_detector(3, moves, pooling), 5)
        options = DetectorOptions(person_class=2, size=(96, 160))
        used, fresh = (load_detector(*files, options=options) for _ in range(2))
        used(image)
        part = image[:100, :90]
        np.testing.assert_array_equal(used(part, 0.2).boxes_xyxy, fresh(part, 0.2).boxes_xyxy)


def test_regions_in_place_of_a_network_that_keeps_its_blobs_take_no_hooks_along(tmp_path, image):
    detector = load_detector(*write_network(tmp_path, "net", region_detector(2, 8), 5),
                             options=DetectorOptions(size=(96, 160)))
    detector(image)
    assert not any(module._forward_hooks for module in detector.net.modules())


# --- YOLO -------------------------------------------------------------------------------------------------------


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("version", [2, 3])
def test_yolo_finds_the_box_that_its_weights_say(tmp_path, version):
    """All cells say: a box at (0.25, 0.75) of the cell, twice and four times the anchor; the second class of three."""
    prototxt = write(tmp_path, yolo_detector(version, 3))
    bias = np.array([logit(0.25), logit(0.75), math.log(2), math.log(4), logit(0.9), -20, 3, -20], np.float32)
    kernel = np.zeros((8, 3, 16, 16), np.float32)
    kernel[4, 2, 0, 0] = -100  # whoever is red is no object
    weights = tmp_path / "net.caffemodel"
    blobs = tuple(StoredBlob(b.shape, b.reshape(-1)) for b in (kernel, bias))
    write_caffemodel(weights, [TrainedLayer("maps", "", blobs)], name="yolo")
    detector = load_detector(prototxt, weights, options=DetectorOptions(
        person_class=2, mean=(0.0,), channel_order="BGR", raw_scale=1.0))
    image = np.zeros((64, 128, 3), np.float32)
    image[:, :, 0] = 1
    image[32:, 64:, 0] = 0  # all but the cell at the lower right are red: it alone, of 2 x 2, has an object
    found = detector(image, 0.3)
    # v2: 2 * 0.5 / 2 and 4 * 0.25 / 2 of the image; v3: 2 * 16 / 32 and 4 * 8 / 32
    width, height = {2: (0.5 * 128, 0.5 * 64), 3: (128, 64)}[version]
    x, y = (1 + 0.25) / 2 * 128, (1 + 0.75) / 2 * 64
    corners = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    np.testing.assert_array_equal(found.boxes_xyxy, pixel_boxes(corners, (1, 1)))
    softmax = 1 / (1 + 2 * math.exp(-23))
    sure = {2: softmax, 3: 1 / (1 + math.exp(-3))}[version]
    np.testing.assert_allclose(found.scores, [0.9 * sure], rtol=1e-5)
    others = load_detector(prototxt, weights, options=DetectorOptions(person_class=1, mean=(0.0,)))
    assert len(others(image, 0.3)) == 0


# --- which class is person --------------------------------------------------------------------------------------

VOC = "".join(f'item {{ name: "{name}" label: {label} display_name: "{name}" }}\n'
              for label, name in enumerate(["none_of_the_above", "bicycle", "person"]))
COCO = ('item { name: "none_of_the_above" label: 0 display_name: "background" }\n'
        'item { name: "1" label: 1 display_name: "person" }\nitem { name: "2" label: 2 display_name: "bicycle" }\n')
SSD3 = DETECTOR.replace("num_output: 8 kernel_size: 3", "num_output: 12 kernel_size: 3").replace(
    "dim: -1 dim: 2", "dim: -1 dim: 3").replace("num_classes: 2", "num_classes: 3")


class TestPersonClass:
    @pytest.mark.parametrize(("text", "label"), [(VOC, 2), (COCO, 1)])
    def test_a_label_map_says_it(self, tmp_path, text, label):
        (tmp_path / "labels.prototxt").write_text(text)
        assert detector_of(tmp_path, SSD3, label_map=tmp_path / "labels.prototxt").label == label

    def test_an_only_class_is_person(self, tmp_path):
        assert detector_of(tmp_path, DETECTOR).label == 1
        assert detector_of(tmp_path, region_detector(2, 8)).label == 1
        assert detector_of(tmp_path, yolo_detector(3, 1)).label == 1

    def test_of_ssd_with_several_classes_only_persons_are_found(self, tmp_path, image):
        files = write_network(tmp_path, "ssd", SSD3, 3)
        found = [load_detector(*files, options=DetectorOptions(person_class=label))(image, 0.05) for label in (1, 2)]
        rows = load_net(*files)(data=torch.from_numpy(Detector(load_net(*files), DetectorOptions(
            person_class=1)).output.inputs(image, SSD_IMAGE)["data"]))["detection_out"].reshape(-1, 7)
        for label, people in enumerate(found, 1):
            mine = rows[(rows[:, 1] == label) & (rows[:, 2].double() > 0.05)]
            np.testing.assert_array_equal(people.scores, mine[:, 2])
        assert min(map(len, found)) > 0

    @pytest.mark.parametrize(("text", "options", "words"), [
        (SSD3, {}, r"the detector small_detector has 2 classes besides the background, and nothing in it tells "
                   r"which one is person; give --person-class N \(as its label map numbers them\), or --label-map "
                   r"FILE"),
        (region_detector(21, 84), {}, r"has 20 classes .* \(15 in PASCAL VOC's order\)"),
        (yolo_detector(3, 80), {}, r"has 80 classes .* \(1 in COCO's order\)"),
        (SSD3, {"person_class": 3}, "has no class 3; its classes are 1 to 2"),
        (SSD3, {"person_class": 0}, "has no class 0; its classes are 1 to 2"),
        (region_detector(2, 8), {"person_class": 15}, "has no class 15; its only class is 1: give another --person"),
        (yolo_detector(2, 2), {"person_class": 3}, "has no class 3; its classes are 1 to 2"),
    ])
    def test_it_must_be_told(self, tmp_path, text, options, words):
        with pytest.raises(RmpeError, match=words):
            detector_of(tmp_path, text, **options)

    @pytest.mark.parametrize(("labels", "words"), [
        (VOC.replace("person", "pedestrian"), "names no class 'person', among none_of_the_above, bicycle, "
                                              "pedestrian; give the class's number: --person-class N"),
        (VOC.replace("bicycle", "person"), "names several classes 'person', among none_of_the_above, person, person; "),
        (VOC.replace("label: 2", "label: 7"), "person has the label 7, but the detector small_detector has the labels "
                                              "1 to 2"),
        ("item { nmae: 1 }", "labels.prototxt"),
        ("", "names no class 'person', and no other class; give the class's number: --person-class N"),
    ])
    def test_label_maps_that_do_not(self, tmp_path, labels, words):
        (tmp_path / "labels.prototxt").write_text(labels)
        with pytest.raises(RmpeError, match=words):
            detector_of(tmp_path, SSD3, label_map=tmp_path / "labels.prototxt")





# --- what cannot be a detector ----------------------------------------------------------------------------------

WHOLE = region_detector(3, 12)


class TestRefusals:
    @pytest.mark.parametrize(("text", "words"), [
        (re.sub(r'layer { name: "proposal".*?}\n', 'layer { name: "rois" type: "Input" top: "rois" input_param '
                '{ shape { dim: 5 dim: 5 } } }\n', WHOLE, flags=re.S),
         "takes its regions as input 'rois' and proposes none itself, like Fast R-CNN"),
        (WHOLE.replace('name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob"',
                       'name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "probability"'),
         "has regions but no output cls_prob; its outputs are bbox_pred, probability"),
        (region_detector(3, 9), "bbox_pred, 1 x 9, does not fit cls_prob, 1 x 3; it needs 4 values per class"),
        (WHOLE.split('layer { name: "pool"')[0],
         r"outputs no boxes in a supported form: its outputs are rois \(Python\); supported are DetectionOutput "
         r"\(SSD\)"),
        (WHOLE.replace('layer { name: "scaled"', 'layer { name: "more" type: "Input" top: "more" input_param '
         '{ shape { dim: 1 dim: 2 } } }\nlayer { name: "scaled"'),
         "has the inputs data 1 x 3 x 64 x 96, im_info 1 x 3, more 1 x 2; expected an image"),
    ])
    def test_networks(self, tmp_path, text, words):
        with pytest.raises(RmpeError, match=words):
            detector_of(tmp_path, text, person_class=1)

    @pytest.mark.parametrize(("options", "words"), [
        ({"person_class": 1, "label_map": "x"}, "not both"),
        ({"mean": (1.0, 2.0)}, "detector mean 1.0,2.0: give one finite number, or one per channel"),
        ({"mean": (math.nan,)}, "give one finite number"),
        ({"scale": 0.0}, "detector scale 0 is not above 0"),
        ({"raw_scale": math.inf}, "detector raw scale inf is not above 0"),
        ({"channel_order": "GRB"}, "'GRB' is not RGB or BGR"),
        ({"size": (0, 5)}, "give two numbers from 1 to 16384"),
    ])
    def test_options(self, options, words):
        with pytest.raises(RmpeError, match=words):
            DetectorOptions(**options)


def test_options_change_the_input(tmp_path, image):
    usual = detector_of(tmp_path, DETECTOR)
    mobilenet = detector_of(tmp_path, DETECTOR, mean=(127.5,), scale=0.007843)
    at_size = detector_of(tmp_path, DETECTOR, size=(48, 64))
    data = [each.output.inputs(image, each.image)["data"] for each in (usual, mobilenet, at_size)]
    mean = np.array([104, 117, 123], np.float32)[:, None, None]
    np.testing.assert_allclose(data[1][0], (data[0][0] + mean - 127.5) * 0.007843, atol=1e-4)
    assert data[2].shape == (1, 3, 48, 64)
    assert usual.settings == {}
    assert mobilenet.settings == {"person_class": 1, "detector_input":
                                  "BGR from 0 to 255, minus 127.5, times 0.007843, 40 x 56"}


def test_descriptions(tmp_path):
    assert str(describe_detector(detector_of(tmp_path, region_detector(3, 12), person_class=2))) == (
        "Faster R-CNN detector, shorter side 600, longer at most 1000, 3 classes; class 2 is person")
    assert str(describe_detector(detector_of(tmp_path, yolo_detector(3, 1)))) == "YOLO v3 detector, 32 x 32, 2 classes"
    assert str(detector_of(tmp_path, yolo_detector(2, 4), person_class=3)) == (
        "YOLO v2, person is class 3 of 4; images are BGR from 0 to 1, minus 0.5, 32 x 32")


def test_load_pipeline_takes_the_options(tmp_path, image):
    files = write_network(tmp_path, "net", region_detector(3, 12), 5)
    options = DetectorOptions(person_class=2, size=(96, 160))
    pipeline = load_pipeline(files, write_pose(tmp_path), threshold=0.2, de_transform="paper", detector_options=options)
    expected = load_detector(*files, options=options)(image, 0.2)
    proposals = pipeline(image).proposals
    assert len(proposals) == len(expected) > 1
    np.testing.assert_array_equal(proposals.boxes_xyxy, expected.boxes_xyxy)
