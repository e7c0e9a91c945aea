"""Boxes, crops and the way back against the published programs: Python 2's and Lua's integers."""

import json

import numpy as np
import pytest
from crops import torch7_crops
from difference import Golden
from paths import GOLDEN
from shared import shared

from rmpe_legacy import RmpeError
from rmpe_legacy.pose.crop import (
    crop_box,
    grow_boxes,
    person_transform,
    pixel_boxes,
    read_heatmaps,
    scale_torch7,
    to_heatmap,
    transform,
    uncrop,
)
from rmpe_legacy.pose.nms import pose_nms


def case(*parts: str) -> tuple[dict, Golden]:
    folder = GOLDEN.joinpath(*parts)
    return json.loads((folder / "case.json").read_text()), Golden.read(folder / "case.npz", "the published script")


class TestAuthorsStoredResults:
    """testres.h5: boxes grown by .3 and .2, cropped and un-cropped by the Torch7 program."""

    def test_all_coordinates(self):
        z = Golden.read(shared("expected", "testres_geometry.npz"), "the authors' program")
        points = np.stack([z["hm_x"], z["hm_row"] + 0.5], axis=-1).astype(np.float32)
        pixels = uncrop(points, z["expanded_box"][:, None], published="torch7")
        assert pixels.size == 333_472
        z.check("pred_xy", pixels)

    def test_boxes(self):
        z = Golden.read(shared("expected", "testres_geometry.npz"), "the authors' program")
        sizes = np.stack([z["img_w"], z["img_h"]], axis=-1)
        z.check("expanded_box", grow_boxes(z["det_box"], sizes, "testres"))
        # 1.3 - 1 is more than .3 by 4e-17: demo.py gives other edges in 22 of 10,421 boxes
        assert (grow_boxes(z["det_box"], sizes, "demo") != z["expanded_box"]).sum() == 22


class TestWorkedExamples:
    """Worked by hand from the sources, checked against both programs."""

    BOXES = np.array([[100, 50, 160, 250], [100, 50, 161, 250], [100, 50, 160, 251], [100, 50, 161, 251],
                      [0, 0, 60, 200]])

    def test_uncrop_torch7(self):
        want = [[130, 148], [131, 148], [130, 148], [130, 148], [30, 98]]
        assert uncrop([32, 31.5], self.BOXES, published="torch7").tolist() == want

    @pytest.mark.parametrize("published", ["demo", "demo-int"])
    def test_uncrop_python_2(self, published):
        want = [[126, 146], [126, 146], [127, 147], [127, 147], [26, 96]]
        assert uncrop([31, 31], self.BOXES, published=published).tolist() == want

    @pytest.mark.parametrize(("row", "old", "new"), [
        (0, (100, 159), (70, 129)), (1, (100, 160), (70, 130)), (2, (100, 159), (71, 130)),
        (3, (100, 160), (70, 130)), (4, (1, 59), (71, 129)),
    ])
    def test_columns_that_torch7_crops(self, row, old, new):
        """Columns counted from 1, both ends included."""
        image = np.broadcast_to(np.arange(1.0, 321)[None, :, None], (260, 320, 3))
        middle = crop_box(image, self.BOXES[row], "torch7")[100, :, 0]
        filled = np.flatnonzero(middle)
        assert (filled[0] + 1, filled[-1] + 1) == new
        np.testing.assert_array_equal(middle[filled], np.arange(old[0], old[1] + 1))

    def test_rows_at_the_upper_border_in_torch7(self):
        image = np.ones((260, 320, 1))
        assert np.flatnonzero(crop_box(image, self.BOXES[4], "torch7")[:, 100, 0]).tolist() == list(range(1, 200))

    @pytest.mark.parametrize(("row", "left", "right"), [
        (0, 70, 70), (1, 69, 70), (2, 70, 71), (3, 70, 70), (4, 70, 70),
    ])
    def test_columns_that_the_demo_pads(self, row, left, right):
        image = np.broadcast_to(np.arange(1.0, 321)[None, :, None], (260, 320, 3))
        square = crop_box(image, self.BOXES[row], "demo")
        filled = np.flatnonzero(square[100, :, 0])
        assert (filled[0], square.shape[1] - 1 - filled[-1]) == (left, right)
        assert square[100, filled[0], 0] == self.BOXES[row][0] + 1  # one pixel right of Torch7's

    def test_rows_of_the_authors_data(self):
        assert grow_boxes([105, 11, 761, 720], [1280, 720], "testres").tolist() == [6, 0, 859, 720]
        assert uncrop([29, 8.5], [6, 0, 859, 720], published="torch7").tolist() == [392, 47]
        assert grow_boxes([759, 45, 900, 466], [1280, 720], "demo").tolist() == [737, 2, 921, 508]
        assert uncrop([29, 11.5], [737, 2, 921, 508], published="torch7").tolist() == [805, 92]

    def test_torch7_cuts_towards_zero_and_floors_only_the_margin(self):
        assert uncrop([1, 0.5], [0, 0, 61, 200], published="torch7").tolist() == [-65, 1]  # 3.125 - 69
        assert uncrop([1, 0.5], [0, 0, 61, 200], published="torch7-train").tolist() == [-65, 2]  # 3.125 - 69.5, + 1

    def test_to_heatmap_is_the_way_there(self):
        assert to_heatmap([[130, 150], [100, 50]], [100, 50, 161, 250]).tolist() == [[31, 32], [22, 0]]


class TestDemo:
    @pytest.mark.parametrize(("result", "published", "points"), [
        ("out_int", "demo-int", lambda a: a["pts_int"]), ("out_float", "demo", lambda a: a["pts_float"]),
        ("out_demo", "demo", lambda a: a["pts_int"].astype(np.float32)), ("out_demo", "demo", lambda a: a["pts_int"]),
        ("out_demo_frac", "demo", lambda a: a["pts_float"].astype(np.float32)),
    ])
    def test_transform_box_invert(self, result, published, points):
        _, a = case("io", "transformBoxInvert")
        a.check(result, uncrop(points(a), a["boxes"], published=published))

    def test_transform_box_invert_at_other_resolutions(self):
        _, a = case("io", "transformBoxInvert")
        count = len(a["res_list"])
        points = np.minimum(a["pts_int"][:count], a["res_list"][:, None] - 1).astype(np.float32)
        a.check("out_res", uncrop(points, a["boxes"][:count], a["res_list"]))

    def test_crop_box(self):
        meta, a = case("io", "cropBox")
        refused = 0
        for i, entry in enumerate(meta["boxes"]):
            if "error" in entry:
                refused += 1
                with pytest.raises(RmpeError, match=r"is not inside the image of 31x23"):
                    crop_box(a["image"], entry["box"])
            else:
                a.check(f"crop{i}", crop_box(a["image"], entry["box"]))
        assert refused == 4
        square = crop_box(a["image_u8"], meta["u8_box"])
        assert square.dtype == np.float32
        a.check("crop_u8", square)

    @pytest.mark.parametrize("name", ["demo__small", "demo__round_halves"])
    def test_from_detections_to_joints(self, name):
        """The unmodified demo.py: boxes, crops, joints, and poses after NMS."""
        meta, a = case("io", name)
        for i in range(len(meta["images"])):
            found, height, width = a[f"img{i}_detections"], *a[f"img{i}_shown"].shape[:2]
            kept = found[(found[:, 2].astype(float) > meta["configThred"]) & (found[:, 1] == 1)]
            grown = grow_boxes(pixel_boxes(kept[:, 3:], [width, height]), [width, height], "demo")
            a.check(f"img{i}_nms_in_bboxes", grown)
            joints = []
            for k, box in enumerate(grown):
                a.check(f"img{i}_person{k}_crop", crop_box(a[f"img{i}_shown"], box))
                blob = a[f"img{i}_person{k}_prediction_heatmap"].reshape(16, 3)
                joints.append(uncrop(blob[:, :2], box))
                a.check(f"img{i}_person{k}_joints", joints[k])
            persons = pose_nms(joints, a[f"img{i}_nms_in_scores"], grown, "demo").persons
            a.check(f"img{i}_nms_out_preds", persons.joints_xy, 1e-9)

    @pytest.mark.parametrize("name", ["size64", "square", "ties", "negative", "zeros", "constant"])
    def test_heat_maps_as_the_layer_reads_them(self, name):
        a = Golden.read(GOLDEN / "layers" / f"PredictionHeatmap__{name}" / "case.npz")
        (maps,) = (value for key, value in a.items() if key.startswith("in_"))
        (joints,) = (key for key, value in a.items() if key.startswith("blob_") and value.shape != maps.shape)
        points, scores = read_heatmaps(maps, "demo")
        a.check(joints, np.concatenate([points, scores[..., None]], axis=-1).ravel(), shape=(-1,))


class TestTorch7:
    def test_crop_read_out_and_way_back(self):
        """The authors' Lua in the real Torch7, 24 images."""
        cases = torch7_crops()
        assert len(cases) == 24
        for about, a in cases:
            image = a["image"].transpose(1, 2, 0)
            box = grow_boxes(about["box"], image.shape[1::-1], "torch7")
            assert box.tolist() == about["int"]
            got = scale_torch7(crop_box(image, box, "torch7"), *a["crop"].shape[1:])
            a.check("crop", got.transpose(2, 0, 1), 3e-7)
            points, scores = read_heatmaps(a["heatmap"], "torch7")
            a.check("preds_hm", points[None])
            a.check("scores", scores[None, :, None])
            a.check("preds_img", uncrop(points, box, a["heatmap"].shape[-1], "torch7")[None])

    def test_heat_maps_below_zero_count_as_zero_and_ties_go_to_the_upper_row(self):
        maps = np.full((2, 5, 5), -1, np.float32)
        maps[1, [1, 3], [4, 0]] = 2  # column 0 is the demo's choice
        points, scores = read_heatmaps(maps, "torch7")
        assert points.tolist() == [[1, 0.5], [5, 1.5]]
        assert scores.tolist() == [0, 2]
        assert read_heatmaps(maps, "demo")[0].tolist() == [[0, 0], [0, 3]]

    def test_scale_keeps_corners_when_enlarging_and_the_mean_when_shrinking(self):
        image = np.random.default_rng(0).random((6, 9, 3))
        large = scale_torch7(image, 11, 17)
        np.testing.assert_allclose(large[::2, ::2], image, atol=1e-6)  # every second pixel is an old one
        np.testing.assert_allclose(large[1, 0], image[:2, 0].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(scale_torch7(image, 2, 3),
                                   image.reshape(2, 3, 3, 3, 3).mean(axis=(1, 3)), atol=1e-6)
        np.testing.assert_array_equal(scale_torch7(image, 6, 9), image)
        assert scale_torch7(image[:1, :1], 4, 5).tolist() == np.broadcast_to(image[0, 0], (4, 5, 3)).tolist()

    def test_transform_there_and_back(self):
        """A person of scale 1.25 is 250 pixels high: a cell of 64 is 3.90625 pixels."""
        there = transform([[300, 200], [175, 75], [424, 324]], [300, 200], 1.25, 0, 64)
        assert there.tolist() == [[32, 32], [0, 0], [63, 63]]
        assert transform([[32, 32], [0, 0]], [300, 200], 1.25, 0, 64, invert=True).tolist() == [[300, 200], [175, 75]]
        assert transform([301, 201], [300, 200], 1.25, 0, 64, published="torch7-train").tolist() == [33, 33]

    def test_transform_turns_around_the_middle(self):
        matrix = person_transform([300, 200], 1.25, 90, 64)
        np.testing.assert_allclose(matrix @ [300, 200, 1], [32, 32, 1], atol=1e-9)
        np.testing.assert_allclose(matrix @ [425, 200, 1], [32, 0, 1], atol=1e-9)  # right of it goes above it


class TestPixelBoxes:
    def test_halves_go_away_from_zero(self):
        boxes = pixel_boxes(np.float32([0.5, 0.25, -0.5, 0.75]), [3, 10])
        assert boxes.tolist() == [2, 3, -2, 8]  # 1.5, 2.5, -1.5, 7.5; Python 3 rounds 2.5 to 2

    def test_single_precision_is_multiplied_in_double(self):
        value = np.float32(0.1)  # 0.100000001490116
        assert pixel_boxes([value] * 4, [99999985, 99999985]).tolist() == [9999999] * 4

    def test_the_notebook_starts_at_1(self):
        assert pixel_boxes([-0.1, 0.0, 0.5, 0.0], [100, 80], "notebook").tolist() == [1, 1, 50, 0]


class TestGrowth:
    def test_by_name(self):
        box, size = [100, 100, 200, 300], [1000, 1000]
        assert grow_boxes(box, size, "demo").tolist() == [85, 80, 215, 320]
        assert grow_boxes(box, size, "testres").tolist() == [85, 80, 215, 320]
        assert grow_boxes(box, size, "torch7").tolist() == [85, 70, 215, 330]
        assert grow_boxes(box, size, "paper").tolist() == [85, 70, 215, 330]

    def test_stays_in_the_picture_and_is_vectorised(self):
        boxes = np.array([[[2, 3, 50, 60]], [[5, 9, 118, 78]]])
        assert grow_boxes(boxes, [[120, 80]]).tolist() == [[[0, 0, 57, 65]], [[0, 2, 120, 80]]]


class TestMistakes:
    @pytest.mark.parametrize("call", [
        lambda: grow_boxes([0, 0, 1, 1], [5, 5], "caffe"), lambda: uncrop([1, 1], [0, 0, 1, 1], published="caffe"),
        lambda: crop_box(np.zeros((4, 5, 3)), [0, 0, 2, 3], "caffe"), lambda: read_heatmaps(np.zeros((4, 4)), "caffe"),
        lambda: pixel_boxes([0, 0, 1, 1], [5, 5], "caffe"), lambda: transform([1, 1], [2, 2], 1, 0, 64, False, "caffe"),
    ])
    def test_unknown_program(self, call):
        with pytest.raises(RmpeError, match="published 'caffe' is not one of '"):
            call()

    @pytest.mark.parametrize("box", [[7, 1, 9, 3], [1, 1, 1, 3], [3, 1, 2, 9], [-4, 0, 0, 3]])
    def test_torch7_box_outside(self, box):
        with pytest.raises(RmpeError, match=r"is not inside the image of 5x4"):
            crop_box(np.zeros((4, 5, 3)), box, "torch7")

    def test_heat_maps_that_are_not_square(self):
        with pytest.raises(RmpeError, match="heatmaps are 4x5"):
            read_heatmaps(np.zeros((2, 4, 5)))
