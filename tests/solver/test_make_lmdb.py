"""rmpe make-lmdb, and the detector trained from what it writes."""

import json
import logging
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from harness import GOLDEN
from paths import ROOT
from shared import shared

from rmpe_legacy import Solver, load_net
from rmpe_legacy.caffe.data.lmdb_reader import LmdbReader
from rmpe_legacy.cli import main
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.runs.make_lmdb import AnnotatedImage, coco_images, listed_images, make_lmdb, mpii_images
from rmpe_legacy.runs.result_files import read_proposals

CONVERTED = GOLDEN / "data" / "AnnotatedData__convert_annoset"  # made by the fork's convert_annoset
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def coco_of_voc(folder: Path, file: Path) -> Path:
    """The golden's VOC annotations as a COCO file; difficult becomes iscrowd."""
    images, annotations = [], []
    for i, line in enumerate((folder / "list.txt").read_text().splitlines()):
        image, xml = line.split()
        images.append({"id": i, "file_name": image})
        for item in ET.parse(folder / "src" / xml).getroot().iter("object"):
            xmin, ymin, xmax, ymax = (int(item.find("bndbox").find(edge).text) for edge in (
                "xmin", "ymin", "xmax", "ymax"))
            annotations.append({
                "image_id": i, "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                "category_id": {"person": 1, "dog": 18}[item.find("name").text],
                "iscrowd": int(item.find("difficult").text)})
    file.write_text(json.dumps({"categories": CATEGORIES, "images": images, "annotations": annotations}))
    return file


@pytest.fixture
def coco(tmp_path) -> Path:
    return coco_of_voc(CONVERTED, tmp_path / "coco.json")


class TestAgainstConvertAnnoset:
    def test_records_have_the_same_bytes(self, coco, tmp_path):
        code = main(["make-lmdb", "--coco", str(coco), "--images", str(CONVERTED / "src"), "--encode-type", "png",
                     "--label-map", str(CONVERTED / "labelmap.prototxt"), str(tmp_path / "db")])
        assert code == 0
        want = [(key, bytes(value)) for key, value in LmdbReader(CONVERTED / "db")]
        assert [(key, bytes(value)) for key, value in LmdbReader(tmp_path / "db")] == want
        assert len(want) == 3

    def test_label_maps_may_name_ids(self, coco):
        by_id = [image.boxes for image in coco_images(coco, {"1": 1, "18": 2})]
        assert by_id == [image.boxes for image in coco_images(coco, {"person": 1, "dog": 2})]

    def test_persons_only_by_default(self, coco):
        assert {box.label for image in coco_images(coco) for box in image.boxes} == {1}


class TestMakeLmdb:
    def test_png_becomes_jpeg_and_grey_becomes_colour(self, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 9), 77, np.uint8))
        (tmp_path / "boxes.txt").write_text("a.png 1 2 5 6\n")
        make_lmdb(listed_images(tmp_path / "boxes.txt"), tmp_path, tmp_path / "db")
        [(key, value)] = LmdbReader(tmp_path / "db")
        assert key == b"00000000_a.png"
        assert b"\xff\xd8\xff" in bytes(value)[:20]
        Path(tmp_path / "net.prototxt").write_text(f"""layer {{ name: "data" type: "AnnotatedData" top: "data"
            top: "label" data_param {{ source: "{tmp_path / 'db'}" batch_size: 1 backend: LMDB }} }}""")
        blobs = load_net(tmp_path / "net.prototxt")()
        assert blobs["data"].shape == (1, 3, 8, 9)
        assert blobs["label"].flatten().tolist() == pytest.approx([0, 1, 0, 1 / 9, 2 / 8, 5 / 9, 6 / 8, 0])

    def test_an_image_that_cannot_be_read_is_left_out_and_said(self, coco, tmp_path, capsys, caplog):
        for path in (CONVERTED / "src").glob("*.png"):
            (tmp_path / path.name).write_bytes(path.read_bytes() if path.name != "im1.png" else b"no image")
        with caplog.at_level(logging.WARNING):
            code = main(["make-lmdb", "--coco", str(coco), "--images", str(tmp_path), str(tmp_path / "db")])
        out, err = capsys.readouterr()
        assert code == 3
        assert "2 images with 3 boxes written to" in out
        assert re.search(r"left out im1.png: .*im1.png", err)
        assert [key for key, _ in LmdbReader(tmp_path / "db")] == [b"00000000_im0.png", b"00000002_im2.png"]

    def test_images_without_boxes_are_left_out(self, coco, tmp_path, capsys):
        content = json.loads(coco.read_text())
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]
        coco.write_text(json.dumps(content))
        assert main(["make-lmdb", "--coco", str(coco), "--images", str(CONVERTED / "src"), str(tmp_path / "db")]) == 0
        assert "1 image without boxes left out" in capsys.readouterr().out
        assert len(LmdbReader(tmp_path / "db")) == 2

    def test_shuffled_by_seed(self, coco, tmp_path):
        images = coco_images(coco)
        orders = []
        for name, seed in (("a", None), ("b", 1), ("c", 1)):
            make_lmdb(images, CONVERTED / "src", tmp_path / name, shuffle=seed)
            orders.append([key for key, _ in LmdbReader(tmp_path / name)])
        assert orders[1] == orders[2] != orders[0]

    def test_a_store_is_never_replaced(self, coco, tmp_path):
        images = coco_images(coco)
        make_lmdb(images, CONVERTED / "src", tmp_path / "db")
        with pytest.raises(RmpeError, match="already contains an LMDB"):
            make_lmdb(images, CONVERTED / "src", tmp_path / "db")

    def test_nothing_is_left_of_a_store_that_cannot_be_made(self, coco, tmp_path):
        with pytest.raises(RmpeError, match="none of the 3 images can be read"):
            make_lmdb(coco_images(coco), tmp_path, tmp_path / "db")
        assert list((tmp_path / "db").iterdir()) == []
        with pytest.raises(RmpeError, match="none of the images has a box with a known label"):
            make_lmdb([AnnotatedImage("a.jpg", ())], tmp_path, tmp_path / "db")

    def test_lmdb_is_missing(self, coco, tmp_path, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "lmdb", None)
        with pytest.raises(RmpeError, match="writing an LMDB needs lmdb; pip install"):
            make_lmdb(coco_images(coco), CONVERTED / "src", tmp_path / "db")

    @pytest.mark.parametrize(("text", "words"), [
        ("a.jpg 1 2 3", r"boxes.txt:1: 'a.jpg 1 2 3' is not a file name"), ("\na.jpg 1 2 3 x", r"boxes.txt:2: "),
        ("../a.jpg 1 2 3 4", "is not a file name below the folder"), ("/a.jpg 1 2 3 4", "is not a file name below"),
        ("a.jpg 1 2 nan 4", "is not a file name")])
    def test_a_list_that_is_none(self, tmp_path, text, words):
        (tmp_path / "boxes.txt").write_text(text)
        with pytest.raises(RmpeError, match=words):
            listed_images(tmp_path / "boxes.txt")

    @pytest.mark.parametrize("change", [
        {"images": None}, {"categories": []},
        {"annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}]},
        {"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3]}]},
        {"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 1e999, 4]}]},
        {"annotations": [{"image_id": 0, "category_id": 1, "bbox": [3e38, 2, 3e38, 4]}]},
        {"images": [{"id": 0, "file_name": "../../x.jpg"}]}])
    @pytest.mark.filterwarnings("error")
    def test_annotations_that_are_none(self, tmp_path, change):
        content = {"images": [{"id": 0, "file_name": "a.jpg"}], "categories": CATEGORIES, "annotations": []} | change
        (tmp_path / "coco.json").write_text(json.dumps(content).replace("Infinity", "1e999"))
        if change == {"categories": []}:  # unusual, but says nothing wrong
            assert coco_images(tmp_path / "coco.json") == [AnnotatedImage("a.jpg", ())]
            return
        with pytest.raises(RmpeError, match="not COCO annotations with images"):
            coco_images(tmp_path / "coco.json")

    def test_a_list_is_none(self, tmp_path):
        (tmp_path / "coco.json").write_text("[]")
        with pytest.raises(RmpeError, match=r"not COCO annotations .*: expected an object"):
            coco_images(tmp_path / "coco.json")


def test_mpii_boxes_are_those_of_the_authors_list():
    """train.txt has a box beside each person's joints; ours is made of the joints alone."""
    path = shared("authors", "train.txt")
    stated: dict[str, list[np.ndarray]] = {}
    for line in path.read_text().splitlines():
        name, *numbers = line.split()
        stated.setdefault(name, []).append(np.array(numbers[:4], float))
    images = mpii_images(path)
    assert [image.name for image in images] == list(stated)
    gaps = np.concatenate([np.abs(np.array([box.xyxy for box in image.boxes]) - np.array(stated[image.name]))
                           for image in images if len(image.boxes) == len(stated[image.name])])
    assert len(gaps) > 20_000
    assert np.median(gaps, axis=0).max() <= 0.5  # pixels: rounding
    assert (gaps.max(axis=1) <= 1).mean() > 0.7  # the others have joints outside the image, which the list leaves out


class TestDetector:
    """The SSD 500 x 500 person detector, trained on photographs from an LMDB."""

    @pytest.fixture
    def solver_file(self, tmp_path, monkeypatch) -> Path:
        names = ["084651953.jpg", "090932040.jpg", "036778313.jpg"]
        found = read_proposals(shared("authors"))
        boxes = {name: found.boxes_xyxy[begin:end] for name, (begin, end) in zip(
            found.images, found.ranges.tolist(), strict=True)}
        lines = [" ".join([name, *map(str, box)]) for name in names for box in boxes[name].tolist()]
        (tmp_path / "boxes.txt").write_text("\n".join(lines))
        monkeypatch.chdir(tmp_path)
        assert main(["make-lmdb", "--boxes", "boxes.txt", "--images", str(shared("images")), "train_lmdb"]) == 0
        for name in ("train", "solver"):
            text = (ROOT / "prototxt" / "ssd500" / f"{name}.prototxt").read_text()
            for old, new in (("examples/MPII_COCO14/MPII_COCO14_train_lmdb", "train_lmdb"), ("batch_size: 8",
                             "batch_size: 1"), ("prototxt/ssd500/", ""), ("max_iter: 60000", "max_iter: 2"),
                             ("iter_size: 4", "iter_size: 1"), ("display: 10", "display: 1"),
                             ("snapshot: 10000", "snapshot: 1 random_seed: 3")):
                text = text.replace(old, new)
            if name == "solver":
                text = re.sub(r"test_\w+: \S+\n|eval_type: .*\n|ap_version: .*\n", "", text)
            (tmp_path / f"{name}.prototxt").write_text(text)
        return tmp_path / "solver.prototxt"

    def test_a_few_iterations_run_and_resume_with_the_same_bits(self, solver_file, caplog):
        solver = Solver(solver_file)
        with caplog.at_level(logging.INFO):
            solver.solve()
        losses = [float(found) for found in re.findall(r"Iteration \d, loss = (\S+)", caplog.text)]
        assert len(losses) >= 2
        assert np.isfinite(losses).all()
        label = solver.net.last_inputs["label"]
        assert label.shape[3] == 8
        frozen = solver.net.params["conv1_1"][0]
        assert not frozen.requires_grad
        again = Solver(solver_file)
        again.restore("VGG_MPII_COCO14_SSD_500x500_iter_1.solverstate")
        again.solve()
        for mine, other in zip(solver.parameters, again.parameters, strict=True):
            assert torch.equal(mine.value, other.value), str(mine)
