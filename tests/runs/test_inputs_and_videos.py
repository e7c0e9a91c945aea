"""What the commands on images take and give: folders, patterns, cameras, boxes of other detectors, annotated videos."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_estimators import draw_people, write_estimator

from rmpe_legacy.caffe.data.video import Frames
from rmpe_legacy.cli import main
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.pose.results import Proposals
from rmpe_legacy.runs.boxes import read_boxes
from rmpe_legacy.runs.commands import digest_of
from rmpe_legacy.runs.inputs import UnreadableImage, file_digest, find_images
from rmpe_legacy.runs.result_files import write_proposals


@pytest.fixture
def tree(tmp_path) -> Path:
    """a.jpg, b/a.jpg, b/c.png, .hidden/d.png"""
    image = np.full((40, 60, 3), 90, np.uint8)
    for name in ("a.jpg", "b/a.jpg", "b/c.png", ".hidden/d.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return tmp_path / "tree"


def names(*inputs, **options) -> list[str]:
    return [source.name for source in find_images(inputs, **options)]


class TestInputs:
    def test_subfolders_with_recursive(self, tree):
        assert names(tree) == ["a.jpg"]
        assert names(tree, recursive=True) == ["a.jpg", "b_a.jpg", "c.png"]

    def test_patterns(self, tree):
        assert names(str(tree / "*.jpg")) == ["a.jpg"]
        assert names(str(tree / "b" / "*")) == ["a.jpg", "c.png"]
        with pytest.raises(FileError, match="matches no file"):
            find_images([str(tree / "*.bmp")])

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
    def test_what_may_have_no_end_is_not_read(self, tree):
        os.mkfifo(tree / "b" / "pipe.jpg")
        (tree / "b" / "zero.mp4").symlink_to("/dev/zero")
        unread = [image for image in find_images([tree / "b"]) if isinstance(image, UnreadableImage)]
        assert [image.name for image in unread] == ["pipe.jpg", "zero.mp4"]
        assert file_digest("/dev/zero") == file_digest(tree / "b" / "pipe.jpg") == ""
        with pytest.raises(FileError, match="is a device or a pipe; give a file"):
            digest_of(tree / "b" / "pipe.jpg")
        assert all(image.reason.endswith("is a device or a pipe; give a file") for image in unread)

    def test_a_file_whose_name_looks_like_a_pattern(self, tree):
        odd = tree / "photo[1].jpg"
        odd.write_bytes((tree / "a.jpg").read_bytes())
        assert names(str(odd)) == ["photo[1].jpg"]

    def test_a_video_without_frames(self, tmp_path):
        cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64)).release()
        [source] = find_images([tmp_path / "a.avi"])
        with pytest.raises(FileError, match=r"a\.avi: the video has no frames$"):
            source.load()

    @pytest.mark.parametrize("url", ["https://example.org/a.jpg", "rtsp://camera", "HTTP://x"])
    def test_urls_are_refused(self, url):
        with pytest.raises(RmpeError, match="is a URL, and nothing is downloaded; download it and give the file"):
            find_images([url])

    def test_a_camera_gives_frames_until_it_ends(self, monkeypatch):
        taken = []

        class Capture:
            def isOpened(self):  # noqa: N802 - OpenCV's name
                return True

            def get(self, key):
                return -1.0

            def read(self):
                taken.append(1)
                return len(taken) < 3, np.full((4, 5, 3), (10, 20, 30), np.uint8)

            def release(self):
                pass

        monkeypatch.setattr(cv2, "VideoCapture", lambda source: Capture() if source == 0 else None)
        sources = find_images(["0"], camera_frames=3)
        assert [source.name for source in sources] == [f"camera0_{i:06d}.jpg" for i in (1, 2, 3)]
        np.testing.assert_allclose(sources[0].load()[0, 0], np.array([30, 20, 10]) / 255, rtol=1e-6)
        sources[1].load()
        with pytest.raises(FileError):
            sources[2].load()
        assert sources[0].digest() != find_images(["0"])[0].digest()

    def test_no_camera(self, rmpe, monkeypatch, tmp_path):
        class Closed:
            def isOpened(self):  # noqa: N802 - OpenCV's name
                return False

        monkeypatch.setattr(cv2, "VideoCapture", lambda source: Closed())
        sentence = "7: there is no such camera, or it is in use; give another camera's number, or files"
        assert rmpe("demo", "7", "--output", tmp_path / "out") == (1, "", f"rmpe: {sentence}\n")
        assert not (tmp_path / "out" / "poses.json").exists()

    def test_same_names_of_two_folders_are_refused_without_recursive(self, tree):
        with pytest.raises(RmpeError, match=r"more than one image would be called a\.jpg"):
            find_images([tree, tree / "b"])


class TestBoxes:
    NAMES = ("000000000139.jpg", "b.jpg")

    def write(self, folder: Path, content) -> Path:
        path = folder / "boxes.json"
        path.write_text(json.dumps(content))
        return path

    def test_coco_detections(self, tmp_path):
        path = self.write(tmp_path, [
            {"image_id": 139, "category_id": 1, "bbox": [10, 20, 30.5, 40], "score": 0.9},
            {"image_id": 139, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.9},
            {"image_id": 139, "bbox": [1, 2, 3, 4], "score": 0.2}])
        boxes = read_boxes(path, ["000000000139.jpg", "000000000285.jpg"])
        np.testing.assert_array_equal(boxes["000000000139.jpg"].boxes_xyxy, [[10, 20, 40.5, 60], [1, 2, 4, 6]])
        assert len(boxes["000000000285.jpg"]) == 0
        assert len(read_boxes(path, ["000000000139.jpg"], 0.5)["000000000139.jpg"]) == 1

    def test_images_without_a_number_do_not_confuse_those_with_one(self, tmp_path):
        path = self.write(tmp_path, [{"image_id": 139, "bbox": [1, 2, 3, 4], "score": 1}])
        assert len(read_boxes(path, ["b.jpg", "000000000139.jpg"])["000000000139.jpg"]) == 1

    def test_image_ids_may_be_names_or_come_with_a_list_of_images(self, tmp_path):
        entry = {"image_id": "b.jpg", "bbox": [1, 2, 3, 4], "score": 1}
        assert len(read_boxes(self.write(tmp_path, [entry]), self.NAMES)["b.jpg"]) == 1
        listed = {"images": [{"id": 5, "file_name": "b.jpg"}], "annotations": [{**entry, "image_id": 5}]}
        assert len(read_boxes(self.write(tmp_path, listed), self.NAMES)["b.jpg"]) == 1

    def test_our_own_detections(self, tmp_path):
        """What `rmpe detect` writes, detections.json, is taken as it is."""
        listed = {"info": {}, "images": [{"id": 1, "file_name": "b.jpg", "width": 9, "height": 9}], "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "categories": []}
        np.testing.assert_array_equal(read_boxes(self.write(tmp_path, listed), self.NAMES)["b.jpg"].boxes_xyxy,
                                      [[1, 2, 4, 6]])

    def test_a_proposals_folder(self, tmp_path):
        proposals = Proposals(("b.jpg",), np.array([[0, 1]]), np.array([[1, 2, 30, 40]]), np.array([0.7]))
        write_proposals(tmp_path / "boxes", proposals)
        np.testing.assert_array_equal(read_boxes(tmp_path / "boxes", self.NAMES)["b.jpg"].boxes_xyxy, [[1, 2, 30, 40]])

    @pytest.mark.parametrize(("content", "message"), [
        ({"a": 1}, "not a list of detections"), ([3], "detection 1 is not an object"),
        ([{"bbox": [1, 2, 3, 4], "score": 1}], "detection 1: has no image_id"),
        ([{"image_id": 139, "bbox": [1, 2, 3], "score": 1}], "needs a bbox of four numbers and a score"),
        ([{"image_id": 139, "bbox": [1, 2, 3, "x"], "score": 1}], "needs a bbox of four numbers"),
        ([{"image_id": 139, "bbox": [1, 2, -3, 4], "score": 1}], "its bbox has the size -3 x 4"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 1}], "has boxes for none of the 2 images; it names '7'")])
    def test_mistakes(self, tmp_path, content, message):
        with pytest.raises(RmpeError, match=message):
            read_boxes(self.write(tmp_path, content), self.NAMES)

    def test_a_detector_and_boxes_are_one_too_many(self, tmp_path, capsys):
        given = ["--boxes", "x", "--detector", "a", "b"]
        assert main(["demo", str(tmp_path), *given, "--output", str(tmp_path / "o")]) == 2
        assert "give a detector (--detector) or its boxes (--boxes), not both" in capsys.readouterr().err


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Three frames, five a second, beside boxes for them."""
    folder = tmp_path_factory.mktemp("clip")
    draw_people(folder, 17, images=3)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    assert writer.isOpened()
    for path in sorted(folder.glob("*.png")):
        writer.write(cv2.imread(str(path)))
    writer.release()
    boxes = [{"image_id": f"clip_{i:06d}.jpg", "bbox": [30, 60, 90, 130], "score": 1} for i in (1, 2, 3)]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder / "clip.mp4"


class TestVideo:
    def test_a_video_in_gives_an_annotated_video_out(self, clip, tmp_path, capsys):
        net = write_estimator(tmp_path / "net.onnx", 17)
        assert main(["demo", str(clip), "--boxes", str(clip.with_name("boxes.json")), "--pose", str(net), "--output",
                     str(tmp_path / "out")]) == 0
        assert "pictures/, videos/, poses.json" in capsys.readouterr().out
        annotated = Frames(str(tmp_path / "out" / "videos" / "clip.mp4"))
        assert (annotated.total, annotated.fps) == (3, 5)
        for index in (1, 2, 3):
            frame = annotated.take().astype(int)
            drawn = cv2.imread(str(tmp_path / "out" / "pictures" / f"clip_{index:06d}.jpg"))
            assert frame.shape == drawn.shape == (240, 320, 3)
            assert np.abs(frame - drawn).mean() < 6  # both are compressed

    def test_images_alone_give_no_video(self, clip, tmp_path):
        draw_people(tmp_path, 17, images=1)
        net = write_estimator(tmp_path / "net.onnx", 17)
        assert main(["demo", str(tmp_path), "--boxes", str(tmp_path / "boxes.json"), "--pose", str(net), "--output",
                     str(tmp_path / "out")]) == 0
        assert not (tmp_path / "out" / "videos").exists()


def test_the_demo_networks_say_that_they_know_drawn_people_only(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 127, np.uint8))
    assert main(["demo", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--report",
                 str(tmp_path / "page.html")]) == 0
    words = "trained on synthetic people, so their results on photographs are wrong"
    assert words in capsys.readouterr().err
    assert words in (tmp_path / "page.html").read_text()
    assert words in json.loads((tmp_path / "out" / "poses.json").read_text())["info"]["note"]
