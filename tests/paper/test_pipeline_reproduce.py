"""``rmpe reproduce``: the tables, what is measured for them, and the same files from one process as from two."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from shared import shared
from small_networks import network_options

from rmpe_legacy.cli import main
from rmpe_legacy.evaluation.evaluate import measure
from rmpe_legacy.paper.average_precision import ap_of_poses
from rmpe_legacy.paper.comparison import Measurement, compare
from rmpe_legacy.paper.describe_network import describe_pose_network
from rmpe_legacy.paper.reproduce_demo import DISTURBED, DrawnImage, disturbed, truth_of
from rmpe_legacy.paper.tables import TABLE_3
from rmpe_legacy.pose.estimate import PoseNetwork
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.published import RECIPES
from rmpe_legacy.pose.results import Detections, Poses
from rmpe_legacy.runs.checkpoint import ImageResult
from rmpe_legacy.runs.outputs import collect
from rmpe_legacy.synthetic.world import OUTSIDE, draw_picture

NUMBER = re.compile(r"[+-]?\d+\.\d")


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> list[str]:
    return network_options(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def mpii(tmp_path_factory) -> Path:
    """Three drawn images, and their people as the authors listed MPII's; a fourth is listed, but not there."""
    folder = tmp_path_factory.mktemp("mpii")
    (folder / "images").mkdir()
    lines = []
    for index in range(4):
        picture, name = draw_picture(5, index), f"{index:03d}.png"
        if index < 3:
            cv2.imwrite(str(folder / "images" / name), picture.image[:, :, ::-1])
        joints = np.where((picture.visible != OUTSIDE)[..., None], np.rint(picture.joints_xy), 0).astype(int)
        for box, xy in zip(np.rint(picture.boxes_xyxy).astype(int), joints, strict=True):
            lines.append("\t".join([name, *(" ".join(map(str, row)) for row in (box, xy[:, 0], xy[:, 1]))]))
    (folder / "valid.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def rmpe(capfd):
    def run(*argv) -> tuple[int, str, str]:
        code = main([str(a) for a in argv])
        return (code, *capfd.readouterr())

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def numbers_after(text: str, method: str, what: str) -> list[float]:
    """The numbers of a line of the table."""
    lines = text[text.index(f"\n{method} ") :].splitlines()[1:5]
    return [float(number) for number in NUMBER.findall(next(line for line in lines if line.strip().startswith(what)))]


class TestMpii:
    @pytest.fixture(scope="class")
    @classmethod
    def command(cls, networks, mpii, tmp_path_factory) -> list:
        return ["reproduce", "mpii", "--images", mpii / "images", *networks, "--ground-truth", mpii / "valid.txt",
                "--output", tmp_path_factory.mktemp("mpii_run") / "out"]

    @pytest.fixture(scope="class")
    @classmethod
    def text(cls, command) -> str:
        done = subprocess.run([sys.executable, "-m", "rmpe_legacy", *command], capture_output=True, text=True,
                              check=True)
        return done.stdout

    def test_rows_are_what_evaluate_says_of_the_files(self, text, command, mpii):
        listed = [line for line in (mpii / "valid.txt").read_text().splitlines() if not line.startswith("003")]
        (mpii / "three.txt").write_text("\n".join(listed))
        for row, folder in (("full", "full"), ("oracle boxes", "oracle_boxes")):
            want = measure("mpii", command[-1] / folder / "nms", mpii / "three.txt").numbers
            got = numbers_after(text, row, "measured")
            paper = next(each for each in TABLE_3.rows if each.method == row).values
            assert got == [round(value, 1) for value in want["table"].values()]
            differences = numbers_after(text, row, "difference")
            exact = np.subtract(list(want["table"].values()), paper)
            np.testing.assert_allclose(differences, exact, rtol=0, atol=0.0501)  # rounded to a tenth
        assert max(numbers_after(text, "oracle boxes", "measured")) > 0

    def test_every_other_row_has_its_reason(self, text):
        assert "\nfull                               paper        90.7     89.7  84.1  75.4" in text
        assert numbers_after(text, "without pose NMS", "measured")
        assert "give it as --pose with --row 'without PGPG'" in text
        assert text.count("not measured: another group's method") == 3
        assert text.count("not measured: MPII withholds the joints of its test images") == 5
        assert "on 3 images of valid.txt, not on the authors' 1300" in text

    def test_files_are_identified(self, text):
        assert "detector: SSD detector, 40 x 56, 2 classes, " in text
        assert "pose network: small_pose: STN, 2-stack hourglass, SDTN, 24 x 24, heatmaps 12 x 12; the STN is" in text
        assert "3 images (1 missing from the folder), " in text

    def test_numbers_of_the_text(self, text):
        section = text[text.index("\nResults in the running text") :]
        assert re.search(r"pose NMS on the validation images: paper 1\.8 seconds; measured \S+ seconds on 3 images",
                         section)
        (total,) = numbers_after(text, "full", "measured")[-1:]
        assert f"training should reach: paper 80 mAP or more; measured {total}\n" in section
        assert "Faster R-CNN detector: paper 81.4 mAP; not measured: its weights were not published" in section

    def test_again_is_the_same_and_rows_of_other_networks_join(self, rmpe, text, command, monkeypatch):
        code, out, err = rmpe(*command)
        assert (code, err) == (0, "")
        assert re.sub(r"measured \S+ seconds", "", out) == re.sub(r"measured \S+ seconds", "", text)
        code, out, _ = rmpe(*command, "--row", "without PGPG")
        assert code == 0
        assert numbers_after(out, "without PGPG", "measured") == numbers_after(out, "full", "measured")
        known = json.loads((command[-1] / "measured.json").read_text())
        assert list(known["rows"]) == ["full", "without PGPG", "without pose NMS", "oracle boxes"]

    def test_rows_of_another_truth_do_not_join(self, rmpe, text, command, mpii, tmp_path):
        (tmp_path / "other.txt").write_text((mpii / "valid.txt").read_text().splitlines()[0] + "\n")
        other = [tmp_path / "other.txt" if result == mpii / "valid.txt" else result for result in command]
        code, _, err = rmpe(*other, "--row", "without PGPG")
        assert code == 1
        assert "holds rows evaluated on valid.txt" in err

    def test_boxes_of_another_detector(self, rmpe, networks, mpii, command, text, tmp_path):
        boxes = command[-1] / "full" / "proposals"
        code, out, _ = rmpe("reproduce", "mpii", "--images", mpii / "images", *networks[3:], "--proposals", boxes,
                            "--ground-truth", mpii / "valid.txt", "--output", tmp_path, "--report", tmp_path / "p.html")
        assert code == 0
        assert numbers_after(out, "full", "measured") == numbers_after(text, "full", "measured")
        assert (tmp_path / "full" / "nms" / "pred.txt").read_bytes() == (
            command[-1] / "full" / "nms" / "pred.txt").read_bytes()
        assert "boxes given" in (tmp_path / "p.html").read_text()

    def test_without_a_truth_there_are_poses_and_reasons(self, rmpe, networks, mpii, tmp_path):
        code, out, _ = rmpe("reproduce", "mpii", "--images", mpii / "images", *networks, "--output", tmp_path)
        assert code == 0
        assert out.count("not measured: needs the ground truth (--ground-truth)") == 2
        assert (tmp_path / "full" / "nms" / "pred.txt").stat().st_size > 0
        assert not (tmp_path / "measured.json").exists()

    def test_a_folder_may_hold_what_is_no_readable_image(self, rmpe, networks, mpii, tmp_path):
        (tmp_path / "images").mkdir()
        shutil.copy(mpii / "images" / "000.png", tmp_path / "images")
        (tmp_path / "images" / "clip.avi").write_bytes(b"not a video")
        code, out, err = rmpe("reproduce", "mpii", "--images", tmp_path / "images", *networks, "--output",
                              tmp_path / "out")
        assert code == 3
        assert "clip.avi" in err
        assert "1 image (1 skipped)" in out

    @pytest.mark.parametrize(("options", "words"), [
        ("--row nonsense", "row 'nonsense' is not one of 'full', "),
        ("--images {mpii}/nowhere", "nowhere: not a folder"),
        ("--images {empty}", "has none of the 4 images, such as 000.png"),
        ("--proposals {mpii}", "give a detector or its boxes (--proposals), not both"),
        ("--ground-truth {mpii}/images/000.png", "neither a .mat with annolist or RELEASE"),
        ("--published nonsense2", "invalid choice"),
        ("--report {mpii}", "is a folder; give the name of a page in it"),
    ])
    def test_mistakes(self, networks, mpii, tmp_path, capfd, options, words):
        (tmp_path / "empty").mkdir()
        options = options.format(mpii=mpii, empty=tmp_path / "empty").split()
        argv = ["reproduce", "mpii", "--images", str(mpii / "images"), *networks, "--ground-truth",
                str(mpii / "valid.txt"), "--output", str(tmp_path / "out"), *options]
        try:
            code = main(argv)
        except SystemExit as error:
            code = error.code
        assert code in (1, 2)
        assert words in capfd.readouterr().err


class TestCoco:
    def test_says_why_nobody_can_measure_it(self, rmpe):
        code, out, _ = rmpe("reproduce", "coco")
        assert code == 0
        assert "RMPE                               paper        61.8  83.7  69.8  58.6  67.6" in out
        assert out.count("not measured: COCO withholds the annotations of test-dev") == 3
        assert "no result of theirs is a COCO AP" in out

    def test_results_of_17_joints_stand_beside_the_paper(self, rmpe):
        results, truth = (shared("coco_kpt", f"fce_{what}_dataset.json") for what in ("dt", "gt"))
        code, out, _ = rmpe("reproduce", "coco", "--predictions", results, "--ground-truth", truth)
        assert code == 0
        assert numbers_after(out, "RMPE", "measured")[0] == 50.5
        assert "not on test-dev" in out

    def test_half_of_what_it_takes(self, rmpe, tmp_path):
        code, _, err = rmpe("reproduce", "coco", "--predictions", tmp_path / "x.json")
        assert code == 1
        assert "give both" in err


class TestDemo:
    def test_table_page_and_pictures(self, rmpe, networks, tmp_path):
        command = ["reproduce", "demo", *networks, "--pictures", "3", "--output", tmp_path]
        code, out, err = rmpe(*command)
        assert (code, err) == (0, "")
        rows = [line[:34].strip() for line in out.splitlines() if "boxes" in line[:16]]
        assert rows == ["detected boxes", "detected boxes, without pose NMS", "detected boxes, STN off",
                        "disturbed boxes", "disturbed boxes, STN off", "true boxes"]
        assert (tmp_path / "table.txt").read_text() in out + "\n"
        assert len(list((tmp_path / "detected_boxes" / "pictures").iterdir())) == 3
        assert "MPII multi-person AP against the known joints" in (tmp_path / "report.html").read_text()
        boxes = {folder: (tmp_path / folder / "proposals" / "test-bbox.h5").read_bytes() for folder in
                 ("detected_boxes", "detected_boxes_STN_off", "disturbed_boxes", "disturbed_boxes_STN_off")}
        assert boxes["detected_boxes"] == boxes["detected_boxes_STN_off"] != boxes["disturbed_boxes"]
        assert boxes["disturbed_boxes"] == boxes["disturbed_boxes_STN_off"]
        assert rmpe(*command) == (code, out, err)

    def test_true_poses_are_perfect(self):
        drawn = [DrawnImage(7, index) for index in range(5)]
        results = [_result_of(each, truth) for each, truth in zip(drawn, truth_of(drawn).joints, strict=True)]
        assert ap_of_poses(collect(results, RECIPES["demo-test"]), truth_of(drawn)).table["Total"] == 100
        results = [_result_of(each, each.drawing.joints_xy + 60) for each in drawn]
        assert ap_of_poses(collect(results, RECIPES["demo-test"]), truth_of(drawn)).table["Total"] < 20

    def test_boxes_are_disturbed_by_no_more_than_a_quarter(self):
        given = Detections(np.tile([[200, 300, 280, 400]], (500, 1)), np.linspace(0, 1, 500, dtype=np.float32))
        moved = disturbed({"a": given}, {"a": (900, 800)}, 3)["a"]
        low, high = moved.boxes_xyxy[:, :2], moved.boxes_xyxy[:, 2:]
        shift, size = (low + high) / 2 - (240, 350), (high - low) / (80, 100)
        assert np.abs(shift).max(axis=0) == pytest.approx([DISTURBED * 80, DISTURBED * 100], abs=1.5)
        assert [size.min(), size.max()] == pytest.approx([1 - DISTURBED, 1 + DISTURBED], abs=0.02)
        np.testing.assert_array_equal(moved.scores, given.scores)
        again = disturbed({"a": given}, {"a": (900, 800)}, 3)["a"]
        np.testing.assert_array_equal(moved.boxes_xyxy, again.boxes_xyxy)

    @pytest.mark.parametrize(("option", "value"), [("--images", "0"), ("--world", "-1")])
    def test_numbers_out_of_range(self, rmpe, tmp_path, option, value):
        code, out, err = rmpe("reproduce", "demo", option, value, "--output", tmp_path / "out")
        assert (code, out) == (1, "")
        assert err.startswith(f"rmpe: {option.strip('-')} {value} is less than ")

    def test_models_that_are_not_there(self, rmpe, tmp_path, monkeypatch):
        monkeypatch.setattr("rmpe_legacy.pose.demo_models.FOLDER", tmp_path)
        code, _, err = rmpe("reproduce", "demo", "--output", tmp_path / "out")
        assert code == 1
        assert "the demo models are missing from this installation; give --detector PROTOTXT CAFFEMODEL" in err


def _result_of(each: DrawnImage, joints_xy: np.ndarray) -> ImageResult:
    drawing = each.drawing
    boxes = Detections(np.rint(drawing.boxes_xyxy).astype(np.int64), np.ones(len(drawing), np.float32))
    poses = Poses(joints_xy, np.ones(joints_xy.shape[:2], np.float32))
    return ImageResult(each.name, PoseResult((320, 240), boxes, poses))


def test_a_pose_network_of_others_is_described_by_its_name_and_size():
    network = PoseNetwork(None, "net.onnx", "trained")
    network.height, network.width = 256, 192
    assert str(describe_pose_network(network)) == "net.onnx, 256 x 192"


def test_a_row_without_a_number_is_a_dash():
    table = replace(TABLE_3, rows=TABLE_3.rows[:1])
    text = compare(table, {"full": Measurement({"Head": 91.0})}, lambda row: "")
    assert numbers_after(text, "full", "measured") == [91.0]
    assert numbers_after(text, "full", "difference") == [0.3]
    assert text.count("  -") == 14


@pytest.mark.parametrize("kind", ["demo", "mpii"])
def test_two_processes_give_the_same_files_as_one(kind, networks, mpii, tmp_path):
    """Every byte: results, images, the page, the parts from which a run goes on; and the same words.

    All run in one thread, as torch.distributed.run sets it: with AVX2, torch's sums depend on the number of threads.
    """
    given = ["--pictures", "3"] if kind == "demo" else [
        "--images", mpii / "images", "--ground-truth", mpii / "valid.txt", "--report", "{}/page.html"]
    outs = {}
    for name, program in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        options = [str(option).format(tmp_path / name) for option in given]
        done = subprocess.run([sys.executable, *program, "-m", "rmpe_legacy", "reproduce", kind, *networks, *options,
                               "--output", tmp_path / name], capture_output=True, text=True, check=False,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        said = re.sub(r"(?m)^.*(Gloo|peer ranks).*\n", "", done.stdout)  # torch 2.10 says so, in two voices
        outs[name] = re.sub(r"measured \S+ seconds", "", said.replace(str(tmp_path / name), ""))
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one == two
    assert len(one) > 20
    assert outs["one"] == outs["two"]
