"""rmpe evaluate: what it prints, what it writes, and that a mistake is one sentence and exit code 1."""

import json
import os
import stat

import cv2
import numpy as np
import pytest
from shared import shared

from rmpe_legacy.cli import main
from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.evaluation.evaluate import evaluate, measure


@pytest.fixture
def rmpe(capsys):
    def run(*argv) -> tuple[int, str, str]:
        code = main(["evaluate", *(str(a) for a in argv)])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def world(tmp_path):
    """Truth and poses of two images as JSON: all joints right in one, nothing found in the other."""
    keypoints = np.column_stack([np.arange(16) * 7, np.arange(16) * 5 + 3, np.full(16, 2)]).reshape(-1).tolist()
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    people = [{"image_id": i, "keypoints": keypoints, "head_size": 10} for i in (1, 2)]
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "annotations": people}))
    (tmp_path / "ours.json").write_text(json.dumps({"images": images, "annotations": people[:1]}))
    return tmp_path


def is_picture(path) -> bool:
    return cv2.imread(str(path)).shape == (900, 1200, 3)


class TestMpii:
    def test_table_json_and_curves(self, rmpe, world):
        code, out, err = rmpe("mpii", world / "ours.json", world / "truth.json", "--output", world / "out")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "      &Head & Shoulder & Elbow & Wrist & Hip & Knee  & Ankle & Total\\\\",
            "ours& 100.0  & 100.0  & 100.0  & 100.0  & 100.0  & 100.0 & 100.0 & 100.0 \\\\",
            "2 groups, 2 people, 1 poses, 1 groups without poses",
            "the 1 people of groups without poses do not count as missed, as in the official toolkit",
            "", f"written to {world / 'out'}: mpii.json, mpii_precision_recall.png"]
        numbers = json.loads((world / "out" / "mpii.json").read_text())
        assert (numbers["mAP"], numbers["AP"]["lwri"], numbers["annotated"]["lwri"]) == (100, 100, 1)
        assert numbers["counts"] == {"groups": 2, "people": 2, "poses": 1, "groups without poses": 1}
        assert is_picture(world / "out" / "mpii_precision_recall.png")

    def test_ppn_files(self, rmpe):
        code, out, _ = rmpe("mpii", shared("mpii_multi", "pred_keypoints_mpii_multi.mat"),
                            shared("mpii_multi", "mpi_val_groundtruth.mat"), "--name", "PPN",
                            "--groups", shared("mpii_multi", "MPI_MP_VAL_annotations.json"))
        assert code == 0
        assert out.splitlines()[1:] == [
            "PPN& 93.8  & 90.6  & 81.1  & 73.7  & 76.3  & 72.8 & 66.9 & 79.3 \\\\",
            "350 groups, 902 people, 911 poses, 0 groups without poses"]

    def test_the_test_list_is_not_the_truth(self, rmpe):
        code, out, err = rmpe("mpii", shared("expected", "batch_full"),
                              shared("mpii_multi", "MPI_MP_TEST_annotations.json"))
        assert (code, out) == (1, "")
        assert err.startswith("rmpe: ")
        assert "lists groups of people, but not their joints" in err

    def test_ap_that_does_not_exist_is_null(self, world):
        path = world / "truth.json"
        content = json.loads(path.read_text())
        for person in content["annotations"]:
            person["keypoints"][0:3] = [0, 0, 0]  # nobody's right ankle
        path.write_text(json.dumps(content))
        text = evaluate("mpii", world / "ours.json", path, world / "out")
        assert text.splitlines()[1].endswith("& NaN & NaN \\\\")
        numbers = json.loads((world / "out" / "mpii.json").read_text())
        assert (numbers["AP"]["rank"], numbers["mAP"], numbers["AP"]["lank"]) == (None, None, 100)


    def test_no_pictures_at_all(self, rmpe, tmp_path):
        (tmp_path / "none.json").write_text('{"images": [], "annotations": []}')
        code, out, _ = rmpe("mpii", tmp_path / "none.json", tmp_path / "none.json", "--output", tmp_path / "out")
        assert code == 0
        assert "0 groups, 0 people, 0 poses" in out
        assert is_picture(tmp_path / "out" / "mpii_precision_recall.png")


class TestPckh:
    def test_all_protocols_or_one(self, rmpe, tmp_path):
        files = shared("mpii_single", "valid-ours.h5"), shared("mpii_single", "valid.h5")
        code, out, _ = rmpe("pckh", *files, "--output", tmp_path)
        assert code == 0
        assert "valid-ours& 96.7  & 94.7  & 88.5  & 83.4  & 87.5  & 83.1 & 79.1 & 88.9 & 88.0 \\\\" in out
        assert "95.87  94.68     88.53  83.38   87.48   83.09   79.07   87.56" in out
        assert "Wrist\t\nvalid-ours\t0.83382255840645" in out
        numbers = json.loads((tmp_path / "pckh.json").read_text())
        assert list(numbers["protocols"]) == ["official", "tompson", "demo"]
        assert numbers["protocols"]["demo"]["PCKh"]["pelv"] == pytest.approx(92.0778318276581)
        assert all(is_picture(tmp_path / f"pckh_{p}.png") for p in numbers["protocols"])
        _, out, _ = rmpe("pckh", *files, "--protocol", "demo")
        assert out.startswith("PCKh@0.5, protocol demo\nHead\t\n")


class TestCoco:
    def test_table_json_and_curves(self, rmpe, tmp_path):
        files = (shared("coco_kpt", f"fce_{part}_dataset.json") for part in ("dt", "gt"))
        code, out, _ = rmpe("coco", *files, "--output", tmp_path)
        assert code == 0
        assert " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 0.505" in out
        assert json.loads((tmp_path / "coco.json").read_text())["AP"] == 0.5048844884488449
        assert is_picture(tmp_path / "coco_precision_recall.png")

    def test_mpii_poses_are_refused_with_the_reason(self, rmpe, world):
        results = json.loads((world / "ours.json").read_text())["annotations"]
        (world / "r.json").write_text(json.dumps([r | {"category_id": 1, "score": 1} for r in results]))
        (world / "t.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}))
        code, out, err = rmpe("coco", world / "r.json", world / "t.json")
        assert (code, out) == (1, "")
        assert "are not among MPII's 16 joints" in err


class TestMistakes:
    def test_a_missing_file(self, rmpe, world):
        code, out, err = rmpe("mpii", world / "none.mat", world / "truth.json")
        assert (code, out, err) == (1, "", f"rmpe: {world / 'none.mat'}: No such file or directory\n")

    def test_an_output_that_is_a_file(self, rmpe, world):
        code, _, err = rmpe("mpii", world / "ours.json", world / "truth.json", "--output", world / "ours.json")
        assert (code, err) == (1, f"rmpe: {world / 'ours.json'}: is a file; give the name of a folder\n")

    def test_no_kind(self, rmpe):
        with pytest.raises(SystemExit):
            rmpe()

    def test_an_unknown_kind_or_protocol(self, world):
        with pytest.raises(EvaluationError, match="evaluation 'mpi' is not one of mpii, pckh, coco"):
            measure("mpi", world / "ours.json", world / "truth.json")


class TestWriting:
    def test_files_have_the_usual_permissions(self, world):
        evaluate("mpii", world / "ours.json", world / "truth.json", world / "out")
        old = os.umask(0)
        os.umask(old)
        assert stat.S_IMODE((world / "out" / "mpii.json").stat().st_mode) == 0o666 & ~old

    def test_a_failure_leaves_what_was_there(self, world, monkeypatch):
        out = world / "out"
        out.mkdir()
        (out / "mpii.json").write_text("before")
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(Exception, match="cannot be written: No space left on device"):
            evaluate("mpii", world / "ours.json", world / "truth.json", out)
        assert [path.name for path in out.iterdir()] == ["mpii.json"]
        assert (out / "mpii.json").read_text() == "before"

    def test_the_same_files_each_time(self, world):
        for folder in ("one", "two"):
            evaluate("mpii", world / "ours.json", world / "truth.json", world / folder)
        for path in (world / "one").iterdir():
            assert path.read_bytes() == (world / "two" / path.name).read_bytes()

    def test_a_name_with_signs_of_mathematics(self, world):
        text = evaluate("mpii", world / "ours.json", world / "truth.json", world / "out", name=r"$\bad$")
        assert text.splitlines()[1].startswith(r"$\bad$& 100.0")
