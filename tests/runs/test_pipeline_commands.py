"""``rmpe detect``, ``pose`` and ``demo``: files in, files out, resumed, interrupted, some images bad."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from small_networks import network_options, write_detector

from rmpe_legacy.cli import main
from rmpe_legacy.evaluation.files import read_poses as read_judged
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.results import JOINTS
from rmpe_legacy.runs.result_files import read_poses, read_proposals
from rmpe_legacy.synthetic.world import draw_picture


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> list[str]:
    """The options that name the networks."""
    return network_options(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Five images of the kinds there are."""
    folder = tmp_path_factory.mktemp("pictures")
    image = draw_picture(3, 0).image[:, :, ::-1]
    cv2.imwrite(str(folder / "a colour.jpg"), image)
    cv2.imwrite(str(folder / "b_grey.png"), image[:90, :130, 1])
    cv2.imwrite(str(folder / "c_alpha.png"), np.dstack([image, image[:, :, :1]])[50:, 90:])
    cv2.imwrite(str(folder / "d_one.png"), image[:1, :1])
    cv2.imwrite(str(folder / "e_black.bmp"), np.zeros((60, 75, 3), np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


CORNERS = ("xmin", "ymin", "xmax", "ymax")
NAMES = ["a colour.jpg", "b_grey.png", "c_alpha.png", "d_one.png", "e_black.bmp"]


@pytest.fixture
def rmpe(capfd):
    def run(*argv) -> tuple[int, str, str]:
        code = main([str(a) for a in argv])
        return (code, *capfd.readouterr())

    return run


def strict(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every result file by its place, without the parts from which a run goes on."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and ".parts" not in path.parts}


@pytest.fixture(scope="module")
def demo_output(networks, pictures, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", str(pictures), *networks, "--output", str(output)]) == 0
    return output


class TestDemo:
    def test_json_names_joints_and_lists_every_picture(self, demo_output):
        content = strict(demo_output / "poses.json")
        assert [image["file_name"] for image in content["images"]] == NAMES
        assert [(image["width"], image["height"]) for image in content["images"]] == [
            (320, 240), (130, 90), (230, 190), (1, 1), (75, 60)]
        assert content["categories"][0]["keypoints"] == list(JOINTS)
        assert all(1 <= joint <= 16 for limb in content["categories"][0]["skeleton"] for joint in limb)
        people = content["annotations"]
        assert len(people) > 5
        assert [person["id"] for person in people] == list(range(1, len(people) + 1))
        for person in people:
            assert len(person["keypoints"]) == 48
            joints = np.reshape(person["keypoints"], (16, 3))
            # on black, some scores are 0, and joints nowhere
            assert person["num_keypoints"] == joints.any(axis=1).sum()
            assert person["score"] == pytest.approx(joints[:, 2].mean())
            assert person["score"] >= 0.2
        assert content["skipped"] == []
        assert content["info"]["published"] == "demo"
        assert "sha256" in content["info"]["pose"][1]

    def test_json_is_what_the_evaluation_takes(self, demo_output):
        read = read_judged(demo_output / "poses.json")
        assert read.images == tuple(NAMES)
        assert sum(map(len, read.joints)) == len(strict(demo_output / "poses.json")["annotations"])
        text = read_judged(demo_output / "nms")
        assert text.images == read.images
        for ours, theirs in zip(read.joints, text.joints, strict=True):
            np.testing.assert_allclose(ours[..., :2], theirs[..., :2], rtol=1e-11)
            np.testing.assert_allclose(np.nan_to_num(ours[..., 2]), theirs[..., 2], rtol=1e-11)

    def test_authors_files_belong_together(self, demo_output):
        proposals = read_proposals(demo_output / "proposals")
        poses = read_poses(demo_output / "proposals" / "testres.h5")
        assert proposals.images == tuple(NAMES)
        assert len(proposals) == len(poses) == proposals.ranges[-1, 1]
        with h5py.File(demo_output / "proposals" / "test-bbox.h5") as file:
            assert {(name, file[name].dtype.kind) for name in file} == {(name, "i") for name in CORNERS}
        index = (demo_output / "nms" / "index.txt").read_text().splitlines()
        assert [line.rsplit(maxsplit=2)[0] for line in index] == NAMES

    def test_pictures_are_drawn_on(self, demo_output, pictures):
        drawn = sorted(path.name for path in (demo_output / "pictures").iterdir())
        assert drawn == ["a colour.jpg", "b_grey.png.jpg", "c_alpha.png.jpg", "d_one.png.jpg", "e_black.bmp.jpg"]
        before, after = cv2.imread(str(pictures / NAMES[0])), cv2.imread(str(demo_output / "pictures" / NAMES[0]))
        assert before.shape == after.shape
        changed = (np.abs(before.astype(int) - after) > 60).any(axis=2)
        assert 50 < changed.sum() < changed.size

    def test_without_pictures_everything_else_is_the_same(self, rmpe, networks, pictures, tmp_path, demo_output):
        command = ["demo", pictures, *networks, "--output", tmp_path / "out"]
        code, out, _ = rmpe(*command, "--no-pictures")
        assert code == 0
        assert out.rstrip().endswith(": poses.json, proposals/, nms/")
        drawn = {name for name in files_of(demo_output) if name.startswith("pictures/")}
        assert len(drawn) == 5
        assert files_of(tmp_path / "out") == {name: content for name, content in files_of(demo_output).items()
                                              if name not in drawn}
        assert rmpe(*command)[0] == 0  # draws them now
        assert files_of(tmp_path / "out") == files_of(demo_output)

    def test_nothing_temporary_is_left(self, demo_output):
        assert not [path for path in demo_output.rglob(".*") if path.is_file()]

    def test_nobody_at_all(self, rmpe, networks, pictures, tmp_path):
        code, out, err = rmpe("demo", pictures, *networks, "--threshold", "0.99999", "--output", tmp_path / "out")
        assert (code, err) == (0, "")
        assert out.startswith("5 images, 0 detections, 0 persons; written to ")
        content = strict(tmp_path / "out" / "poses.json")
        assert len(content["images"]) == 5
        assert content["annotations"] == []
        assert (tmp_path / "out" / "nms" / "pred.txt").read_text() == ""
        assert len(read_proposals(tmp_path / "out" / "proposals")) == 0
        assert read_poses(tmp_path / "out" / "proposals" / "testres.h5").joints_xy.shape == (0, 16, 2)

    def test_bad_pictures_are_skipped_and_said_to_be(self, rmpe, networks, pictures, tmp_path):
        jpeg = (pictures / NAMES[0]).read_bytes()
        (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
        (tmp_path / "empty.png").write_bytes(b"")
        (tmp_path / "page.jpg").write_text("<html>not found</html>")
        (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
        (tmp_path / "two\nlines.jpg").write_bytes(jpeg)
        (tmp_path / "zgood.jpg").write_bytes(jpeg)
        code, out, err = rmpe("demo", tmp_path, *networks, "--output", tmp_path / "out")
        assert code == 3
        assert "1 image (5 skipped), " in out
        assert [line.split(": ")[1] for line in err.splitlines() if line.startswith("rmpe:")] == ["skipped"] * 5
        assert r"two\nlines.jpg': its name contains a line break, which index.txt cannot hold; rename it" in err
        assert "empty.png: the file is empty; an image is expected" in err
        content = strict(tmp_path / "out" / "poses.json")
        assert [image["file_name"] for image in content["images"]] == ["zgood.jpg"]
        assert [entry["file_name"] for entry in content["skipped"]] == ["cut.jpg", "empty.png", "link.jpg",
                                                                             "page.jpg", "two\nlines.jpg"]
        assert len(content["annotations"]) > 0


class TestSteps:
    """detect, pose and nms one after the other are what demo does at once."""

    @pytest.mark.parametrize("published", ["demo-test", "torch7", "testres"])
    def test_three_commands_or_one(self, rmpe, networks, pictures, tmp_path, published):
        recipe = ["--published", published, "--threshold", "0.4"]
        code, _, err = rmpe("demo", pictures, *networks, *recipe, "--output", tmp_path / "all")
        assert (code, err) == (0, "")
        code, out, _ = rmpe("detect", pictures, *networks[:3], *recipe, "--output", tmp_path / "boxes")
        assert code == 0
        assert "index.txt, score.txt, test-bbox.h5" in out
        code, out, _ = rmpe("pose", "--proposals", tmp_path / "boxes", "--images", pictures, *networks[3:], *recipe,
                            "--output", tmp_path / "poses")
        assert code == 0
        assert "testres.h5" in out
        variant = ["--proposals", tmp_path / "poses", "--poses", tmp_path / "poses" / "testres.h5"]
        assert rmpe("nms", *variant, "--output", tmp_path / "nms")[0] == 0
        poses = files_of(tmp_path / "poses")
        assert poses == files_of(tmp_path / "all" / "proposals")
        assert files_of(tmp_path / "nms") == files_of(tmp_path / "all" / "nms")
        assert len(poses["score.txt"].splitlines()) > 5

    def test_detections_as_json(self, rmpe, networks, pictures, tmp_path):
        assert rmpe("detect", pictures, *networks[:3], "--output", tmp_path)[0] == 0
        content, proposals = strict(tmp_path / "detections.json"), read_proposals(tmp_path)
        assert [image["file_name"] for image in content["images"]] == NAMES
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in content["annotations"])]
        np.testing.assert_array_equal(boxes, proposals.boxes_xyxy)
        assert sorted(path.suffix for path in (tmp_path / "pictures").iterdir()) == [".jpg"] * 5

    def test_pose_skips_a_picture_that_is_not_there(self, rmpe, networks, pictures, tmp_path):
        rmpe("detect", pictures, *networks[:3], "--output", tmp_path / "boxes")
        some = tmp_path / "some"
        some.mkdir()
        (some / NAMES[1]).write_bytes((pictures / NAMES[1]).read_bytes())
        code, _, err = rmpe("pose", "--proposals", tmp_path / "boxes", "--images", some, *networks[3:], "--output",
                            tmp_path / "poses")
        assert code == 3
        assert err.count("No such file") == 4
        left = read_proposals(tmp_path / "poses")
        assert left.images == (NAMES[1],)
        assert len(left) == len(read_poses(tmp_path / "poses" / "testres.h5")) > 0


class TestResume:
    def test_what_is_finished_is_not_computed_again(self, rmpe, networks, pictures, tmp_path, monkeypatch):
        command = ["demo", pictures, *networks, "--output", tmp_path / "out"]
        first = rmpe(*command)
        files = files_of(tmp_path / "out")
        monkeypatch.setattr(Pipeline, "estimate", None)
        assert rmpe(*command) == first
        assert files_of(tmp_path / "out") == files

    def test_after_an_interruption_the_files_are_the_same(self, rmpe, networks, pictures, tmp_path, demo_output,
                                                          monkeypatch):
        command = ["demo", pictures, *networks, "--output", tmp_path / "out"]
        find, calls = Pipeline.estimate, []

        def interrupted(self, image, *rest, **named):
            calls.append(image.shape)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return find(self, image, *rest, **named)

        monkeypatch.setattr(Pipeline, "estimate", interrupted)
        code, _, err = rmpe(*command)
        assert code == 130
        assert err == "rmpe: interrupted; run the same command again to resume\n"
        assert rmpe(*command)[0] == 0
        assert len(calls) == 6  # the third twice, the others once
        assert files_of(tmp_path / "out") == files_of(demo_output)

    def test_a_changed_picture_a_damaged_part_and_a_lost_drawing_are_computed_again(
            self, rmpe, networks, pictures, tmp_path, monkeypatch):
        own = tmp_path / "pictures"
        own.mkdir()
        for name in NAMES:
            (own / name).write_bytes((pictures / name).read_bytes())
        command = ["demo", own, *networks, "--output", tmp_path / "out"]
        rmpe(*command)
        find, calls = Pipeline.estimate, []
        monkeypatch.setattr(Pipeline, "estimate", lambda *a, **named: calls.append(a[1].shape) or find(*a, **named))
        (own / NAMES[1]).write_bytes((own / NAMES[2]).read_bytes())
        (tmp_path / "out" / "pictures" / "e_black.bmp.jpg").unlink()
        assert rmpe(*command)[0] == 0
        assert calls == [(190, 230, 3), (60, 75, 3)]
        damaged = max((tmp_path / "out" / ".parts").glob("*.safetensors"), key=lambda path: path.stat().st_size)
        damaged.write_bytes(damaged.read_bytes()[:-100])
        assert rmpe(*command)[0] == 0
        assert len(calls) == 3

    def test_another_configuration_is_noticed(self, rmpe, networks, pictures, tmp_path):
        command = ["demo", pictures / NAMES[1], *networks, "--output", tmp_path / "out"]
        assert rmpe(*command)[0] == 0
        code, out, err = rmpe(*command, "--threshold", "0.5", "--published", "torch7")
        assert (code, out) == (1, "")
        assert ("holds results of another run: published was demo, is now torch7; threshold was 0.3, is now 0.5. "
                "Choose another output folder, or remove this one to start again") in err
        weights = Path(networks[2])
        other = write_detector(tmp_path / "other", seed=9)
        code, _, err = rmpe("demo", pictures / NAMES[1], "--detector", *other, *networks[3:], "--output",
                            tmp_path / "out")
        assert code == 1
        assert "detector was ['detector.prototxt sha256 " in err
        assert weights.name in err
        assert rmpe(*command, "--batch", "1")[0] == 0  # which changes nothing
        for path in (tmp_path / "out" / ".parts").glob("*.safetensors"):
            path.unlink()  # as after a run that failed at its first image
        assert rmpe(*command, "--threshold", "0.5")[0] == 0
        assert "threshold was 0.5, is now 0.3" in rmpe(*command)[2]

    def test_more_pictures_later(self, rmpe, networks, pictures, tmp_path):
        some = [pictures / name for name in NAMES[:2]]
        assert rmpe("demo", *some, *networks, "--output", tmp_path)[0] == 0
        assert rmpe("demo", pictures, *networks, "--output", tmp_path)[0] == 0
        assert len(strict(tmp_path / "poses.json")["images"]) == 5


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(4):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8) + np.arange(64, dtype=np.uint8)[:, None])
    writer.release()
    return path


def without_last_frames(avi: bytes) -> bytes:
    """The first two of four frames; "00dc" begins each, and stands once in the head."""
    return b"00dc".join(avi.split(b"00dc")[:4])


class TestVideo:
    def test_every_frame_is_a_picture(self, rmpe, networks, video, tmp_path):
        assert rmpe("demo", video, *networks, "--output", tmp_path)[0] == 0
        images = strict(tmp_path / "poses.json")["images"]
        assert [image["file_name"] for image in images] == [f"clip_00000{i}.jpg" for i in (1, 2, 3, 4)]
        assert {(image["width"], image["height"]) for image in images} == {(64, 48)}
        values = [cv2.imread(str(tmp_path / "pictures" / image["file_name"])).mean() for image in images]
        assert values == sorted(values)

    def test_a_lost_frame_is_read_again(self, rmpe, networks, video, tmp_path):
        rmpe("demo", video, *networks, "--output", tmp_path)
        files = files_of(tmp_path)
        for name in ("clip_000002.jpg", "clip_000001.jpg"):
            (tmp_path / "pictures" / name).unlink()
        assert rmpe("demo", video, *networks, "--output", tmp_path)[0] == 0
        assert files_of(tmp_path) == files

    def test_videos_and_pictures_of_a_folder(self, rmpe, networks, pictures, video, tmp_path):
        for file in (video, pictures / NAMES[1]):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        assert rmpe("demo", tmp_path, *networks, "--output", tmp_path / "out")[0] == 0
        names = [image["file_name"] for image in strict(tmp_path / "out" / "poses.json")["images"]]
        assert names == [NAMES[1], *(f"clip_00000{i}.jpg" for i in (1, 2, 3, 4))]

    def test_a_gif_that_moves_is_one(self, rmpe, networks, pictures, tmp_path):
        moving, still = cv2.Animation(), cv2.imread(str(pictures / NAMES[1]))
        moving.frames, moving.durations = [still, still[::-1].copy(), still], np.array([100] * 3, np.int32)
        cv2.imwriteanimation(str(tmp_path / "moves.gif"), moving)
        cv2.imwrite(str(tmp_path / "still.gif"), still)
        (tmp_path / "zbad.gif").write_bytes(b"GIF89a, and no more")
        assert rmpe("demo", tmp_path, *networks, "--output", tmp_path / "out")[0] == 3
        content = strict(tmp_path / "out" / "poses.json")
        names = [f"moves_00000{i}.jpg" for i in (1, 2, 3)]
        assert [image["file_name"] for image in content["images"]] == [*names, "still.gif"]
        assert [entry["file_name"] for entry in content["skipped"]] == ["zbad.gif"]

    def test_an_animation_without_end(self, rmpe, networks, tmp_path):
        """A few bytes for each frame, and four megapixels to decode."""
        frame = b"!\xf9\4\4\x0a\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
        data = b"GIF89a" + struct.pack("<HH", 2000, 2000) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * 3000 + b";"
        (tmp_path / "a.gif").write_bytes(data)
        code, _, err = rmpe("demo", tmp_path / "a.gif", *networks, "--output", tmp_path / "out")
        assert code == 3
        assert f"a.gif: claims to be 3000 times 2000 x 2000 pixels, which its {len(data)} bytes cannot hold" in err

    def test_one_that_is_none_is_skipped_as_a_bad_picture(self, rmpe, networks, pictures, tmp_path):
        (tmp_path / "no.mp4").write_bytes(b"nothing of the kind")
        code, out, err = rmpe("demo", tmp_path / "no.mp4", pictures / NAMES[1], *networks, "--output", tmp_path / "out")
        assert code == 3
        assert "1 image (1 skipped)" in out
        assert f"rmpe: skipped: {tmp_path / 'no.mp4'}: not a video" in err

    def test_what_is_missing_of_a_truncated_one_is_reported(self, rmpe, networks, video, tmp_path):
        (tmp_path / "cut.avi").write_bytes(without_last_frames(video.read_bytes()))
        code, out, err = rmpe("demo", tmp_path / "cut.avi", *networks, "--output", tmp_path / "out")
        assert code == 3
        assert "2 images (1 skipped)" in out
        assert "cut.avi: only 2 of 4 frames can be decoded; the video is truncated or damaged" in err
        content = strict(tmp_path / "out" / "poses.json")
        assert [entry["file_name"] for entry in content["skipped"]] == ["cut_000003.jpg"]


class TestMistakes:
    @pytest.mark.parametrize(("inputs", "options", "exit_code", "words"), [
        ("nowhere.jpg", "", 1, "nowhere.jpg: no such file or folder"),
        ("{empty}", "", 1, "empty: contains no images"),
        ("{a} {copy}", "", 1, "more than one image would be called a.jpg in the results"),
        ("{a}", "--threads 0", 2, "threads 0 is not from 1 to "),
        ("{a}", "--threads 100000", 2, "threads 100000 is not from 1 to "),
        ("{a}", "--workers 0", 2, "workers 0 is not from 1 to "),
        ("{a}", "--threshold nan", 2, "the threshold is nan; it must be at least 0 and less than 1"),
        ("{a}", "--batch 0", 2, "batch 0 is less than 1"),
        ("{a}", "--device nonsense", 2, "device 'nonsense' cannot be used"),
        ("{a}", "--threshold 7", 2, "the threshold is 7; it must be at least 0 and less than 1"),
        ("{a}", "--report {empty}", 1, "empty: is a folder; give the name of a page in it"),
        ("{a}", "--pose a b c", 2, "--pose takes a prototxt and a caffemodel, or one .t7 or .onnx file, not 3"),
        ("{a}", "--pose x.caffemodel", 2, "a Caffe network is two files"),
        ("{a}", "--pose x.t7", 1, "x.t7: No such file"),
        ("{a}", "--detector x.prototxt y", 1, "x.prototxt: No such file"),
    ])
    def test_are_one_sentence(self, rmpe, networks, pictures, tmp_path, inputs, options, exit_code, words):
        for place in (tmp_path, tmp_path / "copy", tmp_path / "empty"):
            place.mkdir(exist_ok=True)
        for place in (tmp_path, tmp_path / "copy"):
            (place / "a.jpg").write_bytes((pictures / NAMES[0]).read_bytes())
        places = {"a": tmp_path / "a.jpg", "copy": tmp_path / "copy" / "a.jpg", "empty": tmp_path / "empty"}
        inputs, options = (text.format(**places).split() for text in (inputs, options))
        code, out, err = rmpe("demo", *inputs, *networks, "--output", tmp_path / "out", *options)
        assert (code, out) == (exit_code, "")
        assert err.startswith("rmpe: ")
        assert words in err
        assert "Traceback" not in err

    def test_pose_does_not_write_over_its_proposals(self, rmpe, networks, pictures, demo_output):
        boxes = demo_output / "proposals"
        code, _, err = rmpe("pose", "--proposals", boxes, "--images", pictures, *networks[3:], "--output", boxes)
        assert code == 1
        assert "would replace the proposals" in err

    def test_a_damaged_memory_of_a_run(self, rmpe, networks, pictures, tmp_path):
        (tmp_path / ".parts").mkdir()
        (tmp_path / ".parts" / "run.json").write_text("{")
        code, _, err = rmpe("demo", pictures, *networks, "--output", tmp_path)
        assert code == 1
        assert "run.json: is damaged; remove the folder" in err


@pytest.mark.parametrize("command", ["demo", "detect", "pose"])
def test_images_processed_at_once_have_the_results_of_one_after_the_other(command, rmpe, networks, tmp_path):
    """In threads that share the weights; in one thread each, so that the bits are the same too."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(8):
        picture = draw_picture(5, i).image[: 240 - 16 * (i % 3), :, ::-1]
        cv2.imwrite(str(images / f"{i}.png"), picture)
    given = (images, *networks)
    if command == "detect":
        given = (images, *networks[:3])
    elif command == "pose":
        boxes = tmp_path / "boxes"
        assert rmpe("detect", images, *networks[:3], "--output", boxes)[0] == 0
        given = ("--proposals", boxes, "--images", images, *networks[3:])
    before = torch.get_num_threads()
    try:
        for workers in (1, 3):
            run = rmpe(command, *given, "--output", tmp_path / str(workers), "--threads", workers, "--workers", workers)
            assert run[0] == 0, run
    finally:
        torch.set_num_threads(before)
    if command == "demo":
        assert b'"keypoints"' in (tmp_path / "1" / "poses.json").read_bytes()
    one, three = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file() and ".parts" not in path.parts)
                  for name in "13")
    assert [path.relative_to(tmp_path / "1") for path in one] == [path.relative_to(tmp_path / "3") for path in three]
    for a, b in zip(one, three, strict=True):
        if a.suffix != ".h5":  # contains the time at which it was written
            assert a.read_bytes() == b.read_bytes(), a.name


def test_as_a_program(networks, pictures, tmp_path):
    done = subprocess.run([sys.executable, "-m", "rmpe_legacy", "demo", pictures / NAMES[0], pictures / "notes.txt",
                           *networks, "--output", tmp_path / "out", "--report", tmp_path / "page.html"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout.startswith("1 image (1 skipped), ")
    assert done.stderr == (f"rmpe: skipped: {pictures / 'notes.txt'}: not a readable image; the file is "
                           "truncated, damaged or of another kind\n")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
