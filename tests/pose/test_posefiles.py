"""rmpe nms from files to files: the authors' run again, number formats, and what is wrong with files."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from shared import shared

from rmpe_legacy import RmpeError, _host, files
from rmpe_legacy.errors import PoseFileError
from rmpe_legacy.pose.results import Proposals
from rmpe_legacy.runs.nms_files import run_nms
from rmpe_legacy.runs.result_files import RESULTS, read_numbers, read_proposals, write_proposals

RANGES = {"a.jpg": (1, 2), "b.jpg": (3, 2), "two words.jpg": (3, 7)}  # b has nobody


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Seven boxes in three images: folder proposals/ and file poses.h5."""
    random = np.random.default_rng(3)
    joints = random.integers(20, 400, (7, 16, 2)).astype(float)
    proposals = tmp_path / "proposals"
    proposals.mkdir()
    with h5py.File(tmp_path / "poses.h5", "w") as file:
        file["preds"], file["scores"] = joints, random.uniform(0.01, 1.5, (7, 16, 1))
    with h5py.File(proposals / "test-bbox.h5", "w") as file:
        low, high = joints.min(axis=1).astype(int), joints.max(axis=1).astype(int)
        for i, axis in enumerate("xy"):
            file[f"{axis}min"], file[f"{axis}max"] = low[:, i], high[:, i]
    (proposals / "score.txt").write_text("".join(f"{value}\n" for value in random.uniform(0.1, 1, 7)))
    (proposals / "index.txt").write_text("".join(f"{name} {a} {b}\n" for name, (a, b) in RANGES.items()))
    return tmp_path


def run(world: Path, **options):
    return run_nms(world / "proposals", world / "poses.h5", world / "out", **options)


def rewrite(path: Path, name: str, change) -> None:
    """Replace one array of an HDF5 file; None takes it out."""
    with h5py.File(path, "a") as file:
        values = file[name][()]
        del file[name]
        if (changed := change(values)) is not None:
            file[name] = changed


def keep_first(world: Path, count: int) -> None:
    """Leave the first boxes and poses in the world's HDF5 files."""
    for name in ("xmin", "ymin", "xmax", "ymax"):
        rewrite(world / "proposals" / "test-bbox.h5", name, lambda v: v[:count])
    for name in ("preds", "scores"):
        rewrite(world / "poses.h5", name, lambda v: v[:count])


class TestAuthorsRun:
    def test_writes_the_authors_files_to_the_byte(self, tmp_path):
        """24 merged coordinates lie within 1e-6 of a whole number; in our order of sums none of them falls over."""
        summary = run_nms(shared("authors"), shared("authors", "testres.h5"), tmp_path / "new" / "out")
        assert (summary.images, summary.proposals, summary.persons, summary.dropped) == (1491, 10421, 8523, 0)
        for name in RESULTS:
            want = shared("expected", "batch_full", name).read_bytes()
            assert (tmp_path / "new" / "out" / name).read_bytes() == want, f"{name} differs"
        assert sorted(os.listdir(tmp_path / "new" / "out")) == sorted(RESULTS)

    def test_imports_no_torch_and_no_opencv(self, world):
        code = ("import sys; from rmpe_legacy.runs.nms_files import run_nms; run_nms(*sys.argv[1:]);"
                "sys.exit(', '.join({'torch', 'cv2', 'scipy', 'google'} & set(sys.modules)) or 0)")
        done = subprocess.run([sys.executable, "-c", code, world / "proposals", world / "poses.h5", world / "out"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_demo_grows_the_boxes_where_the_pictures_sizes_are_given(self, tmp_path):
        geometry = np.load(shared("expected", "testres_geometry.npz"))
        sizes = tmp_path / "sizes.txt"
        rows = zip(geometry["image"], geometry["img_w"], geometry["img_h"], strict=True)
        sizes.write_text("".join(f"{name} {w} {h}\n" for name, w, h in dict.fromkeys(rows)))
        subset = np.load(shared("expected", "nms_subset.npz"))
        for options, key in (({}, "exp_demo_raw_count"), ({"image_sizes": sizes}, "exp_demo_count")):
            run_nms(shared("authors"), shared("authors", "testres.h5"), tmp_path / "out", "demo",
                    **options)
            lines = [line.split() for line in (tmp_path / "out" / "index.txt").read_text().splitlines()]
            counts = {name: int(last) - int(first) + 1 for name, first, last in lines}
            assert [counts[name] for name in subset["image_names"]] == subset[key].tolist()


class TestResults:
    def test_index_of_a_picture_without_pose(self, world):
        run(world)
        lines = (world / "out" / "index.txt").read_text().splitlines()
        assert [line.rsplit(maxsplit=2)[0] for line in lines] == list(RANGES)
        assert lines[1] == "b.jpg 3 2"

    def test_rows_belong_together(self, world):
        summary = run(world)
        rows = {name: (world / "out" / name).read_text().splitlines() for name in RESULTS}
        assert len(rows["pred.txt"]) == len(rows["scores.txt"]) == len(rows["scores-proposals.txt"]) == summary.persons
        proposals = read_proposals(world / "proposals")
        assert {f"{score:.12g}" for score in proposals.scores} >= set(rows["scores-proposals.txt"])
        assert all(len(row.split("\t")) == 33 for row in rows["pred.txt"])
        assert all(len(row.split("\t")) == 17 for row in rows["scores.txt"])
        assert all(value.lstrip("-").isdigit() for row in rows["pred.txt"] for value in row.split("\t")[1:])
        assert rows["pred.txt"][-1].startswith("two words.jpg\t")

    def test_demo_keeps_fractions(self, world):
        run(world, variant="demo")
        rows = (world / "out" / "pred.txt").read_text().splitlines()
        assert rows
        assert all("." in value for row in rows for value in row.split("\t")[1:])

    def test_negative_coordinates_are_cut_towards_zero(self, world):
        rewrite(world / "poses.h5", "preds", lambda p: np.where(np.arange(7)[:, None, None] == 0, -2.7, p))
        run(world)
        rows = (world / "out" / "pred.txt").read_text().splitlines()
        assert "\t".join(["a.jpg", *["-2"] * 32]) in rows

    @pytest.mark.parametrize(("value", "text"), [
        (0.744136333466123, "0.744136333466"), (1.0, "1.0"), (-0.0, "-0.0"), (0.99999999999999, "1.0"),
        (1e-5, "1e-05"), (2.5e-7, "2.5e-07"), (1e16, "1e+16"), (1234567890123.0, "1.23456789012e+12"),
        (123456789012.3, "123456789012.0"), (np.nan, "nan"), (-np.nan, "nan"), (-np.inf, "-inf"),
    ])
    def test_numbers_are_printed_as_python_2_does(self, value, text):
        assert _host.format_rows([b"x "], np.array([[value, 0.5]])) == f"x {text}\t0.5\n".encode()

    def test_one_proposal_alone(self, world):
        """Differs: the published script stops at a score.txt of one line."""
        keep_first(world, 1)
        (world / "proposals" / "score.txt").write_text("0.5\n")
        (world / "proposals" / "index.txt").write_text("a.jpg 1 1\n")
        assert run(world).persons == 1
        assert (world / "out" / "scores-proposals.txt").read_text() == "0.5\n"

    def test_pictures_without_any_proposal(self, world):
        keep_first(world, 0)
        (world / "proposals" / "score.txt").write_text("")
        (world / "proposals" / "index.txt").write_text("a.jpg 1 0\nb.jpg 1 0\n")
        assert run(world).persons == 0
        assert (world / "out" / "index.txt").read_text() == "a.jpg 1 0\nb.jpg 1 0\n"
        assert (world / "out" / "pred.txt").read_text() == ""

    def test_columns_as_lua_writes_them_and_names_that_are_no_utf8(self, world):
        run(world)
        want = (world / "out" / "scores.txt").read_bytes()
        for name in ("xmin", "ymin", "xmax", "ymax"):
            rewrite(world / "proposals" / "test-bbox.h5", name, lambda v: v[:, None].astype(np.int32))
        index = world / "proposals" / "index.txt"
        index.write_bytes(index.read_bytes().replace(b"a.jpg", b"\xe4.jpg").replace(b"\n", b"\r\n"))
        run(world)
        assert (world / "out" / "scores.txt").read_bytes() == want.replace(b"a.jpg", b"\xe4.jpg")

    def test_list_of_pictures_in_step_with_the_index(self, world):
        (world / "proposals" / "test-bbox.txt").write_text("a.jpg\n" * 2 + "two words.jpg\n" * 5)
        assert run(world).images == 3


def gone(name: str):
    return lambda world: os.rename(world / name, world / "elsewhere")


def text(name: str, content: str):
    return lambda world: (world / name).write_text(content)


def array(name: str, path: str, change):
    return lambda world: rewrite(world / path, name, change)


def both(*changes):
    return lambda world: [change(world) for change in changes]


BOXES, SCORES, INDEX = (f"proposals/{name}" for name in ("test-bbox.h5", "score.txt", "index.txt"))
MISTAKES = {
    "no proposals folder": (gone("proposals"), "proposals: no such folder"),
    "no index": (gone(INDEX), "index.txt: No such file"),
    "no scores": (gone(SCORES), "score.txt: No such file"),
    "no boxes": (gone(BOXES), "test-bbox.h5: No such file"),
    "no poses": (gone("poses.h5"), "poses.h5: No such file"),
    "poses are a text": (text("poses.h5", "hello"), "poses.h5: not a readable HDF5 file"),
    "poses are cut off": (lambda world: os.truncate(world / "poses.h5", 900), "poses.h5: not a readable HDF5 file"),
    "no preds": (array("preds", "poses.h5", lambda v: None), "has no array 'preds'; it contains scores"),
    "other joints": (array("preds", "poses.h5", lambda v: v[:, :14]),
                     r"preds are \(7, 14, 2\); expected \(proposals, 16, 2\)"),
    "other scores": (array("scores", "poses.h5", lambda v: v[:, :14]), r"scores are \(7, 14, 1\)"),
    "fewer poses": (both(array("preds", "poses.h5", lambda v: v[:6]), array("scores", "poses.h5", lambda v: v[:6])),
                    "has 6 poses, but .*proposals has 7 boxes"),
    "poses of text": (array("preds", "poses.h5", lambda v: "x"), "preds: holds values of any length, not numbers"),
    "NaN in preds": (array("preds", "poses.h5", lambda v: np.where(np.arange(7)[:, None, None] == 3, np.nan, v)),
                     "preds: proposal 4 holds NaN or infinity"),
    "infinite score": (array("scores", "poses.h5", lambda v: v * np.inf), "scores: proposal 1 holds NaN or infinity"),
    "linked preds": (array("preds", "poses.h5", lambda v: h5py.ExternalLink("other.h5", "/x")),
                     "preds is a link to elsewhere"),
    "ragged boxes": (array("ymax", BOXES, lambda v: v[:5]), r"ymax has shape \(5,\), but xmin has 7 values"),
    "boxes backwards": (both(array("xmax", BOXES, lambda v: v * 0 - 9), array("ymax", BOXES, lambda v: v * 0 - 9)),
                        "test-bbox.h5: box 1 ends before it begins"),
    "one score": (text(SCORES, "0.5\n"), "score.txt: has 1 scores, but test-bbox.h5 has 7 boxes"),
    "no score": (text(SCORES, ""), "score.txt: has 0 scores"),
    "a word for a score": (text(SCORES, "0.5\nhigh\n"), "score.txt:2: 'high' is not a finite number"),
    "NaN score": (text(SCORES, "0.5\n" * 6 + "nan"), "score.txt:7: 'nan' is not a finite number"),
    "empty index": (text(INDEX, "\n"), "index.txt: is empty"),
    "index without numbers": (text(INDEX, "a.jpg 1 2\nb.jpg\n"), "index.txt:2: 'b.jpg' is not 'name first last'"),
    "index too far": (text(INDEX, "a.jpg 1 8\n"), "index.txt:1: a.jpg has proposals 1 to 8, but there are only 7"),
    "index from 0": (text(INDEX, "a.jpg 0 3\n"), "a.jpg has proposals 0 to 3"),
    "list of other images": (text("proposals/test-bbox_images.txt", "a.jpg\n" * 7),
                               "test-bbox_images.txt:3: box 3 belongs to a.jpg, but index.txt assigns it to two words"),
    "shorter list": (text("proposals/test-bbox.txt", "a.jpg\n"), "names 1 boxes, but test-bbox.h5 has 7"),
    "output is a file": (text("out", "mine"), "out: is a file; give the name of a folder"),
    "a result is a folder": (lambda world: (world / "out" / "index.txt").mkdir(parents=True), "index.txt: is a folder"),
}


class TestMistakes:
    @pytest.mark.parametrize("case", MISTAKES)
    def test_is_one_sentence_and_nothing_is_written(self, world, case):
        spoil, message = MISTAKES[case]
        spoil(world)
        with pytest.raises(RmpeError, match=message) as caught:
            run(world)
        assert "\n" not in str(caught.value)
        out = world / "out"
        assert not out.exists() or out.is_file() or [path.name for path in out.iterdir()] == ["index.txt"]

    def test_results_never_replace_the_proposals(self, world):
        index = (world / "proposals" / "index.txt").read_text()
        with pytest.raises(RmpeError, match=r"would overwrite the index\.txt of the proposals"):
            run_nms(world / "proposals", world / "poses.h5", world / "proposals" / ".." / "proposals")
        assert (world / "proposals" / "index.txt").read_text() == index

    def test_older_results_stay_where_new_ones_fail(self, world, monkeypatch):
        run(world)
        before = {name: (world / "out" / name).read_bytes() for name in RESULTS}

        def full(folder, content):
            if written:
                raise OSError(28, "No space left on device")
            written.append(write(folder, content))
            return written[0]

        written, write = [], files._hidden_file
        monkeypatch.setattr(files, "_hidden_file", full)
        with pytest.raises(RmpeError, match="cannot be written: No space left on device"):
            run(world, variant="demo")
        assert {path.name: path.read_bytes() for path in (world / "out").iterdir()} == before

    def test_image_sizes_are_for_the_demo(self, world):
        with pytest.raises(RmpeError, match="are for the demo variant, which grows the boxes; 'batch' uses"):
            run(world, image_sizes=world / "sizes.txt")

    def test_image_sizes_name_every_picture(self, world):
        (world / "sizes.txt").write_text("a.jpg 640 480\n")
        with pytest.raises(RmpeError, match=r"sizes.txt: has no size for b.jpg"):
            run(world, variant="demo", image_sizes=world / "sizes.txt")
        (world / "sizes.txt").write_text("a.jpg wide 480\n")
        with pytest.raises(RmpeError, match=r"sizes.txt:1: 'a.jpg wide 480' is not 'name width height'"):
            run(world, variant="demo", image_sizes=world / "sizes.txt")

    def test_a_dataset_that_claims_more_than_the_file_holds(self, world):
        with h5py.File(world / "poses.h5", "a") as file:
            del file["preds"]
            file.create_dataset("preds", (10**9, 16, 2), "f8", chunks=(1024, 16, 2))
        with pytest.raises(RmpeError, match="preds: claims 256000000000 bytes, too much for a file of"):
            run(world)


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg"])
def test_a_name_that_index_txt_cannot_hold(tmp_path, name):
    proposals = Proposals((name,), np.array([[0, 1]]), np.zeros((1, 4), np.int64), np.ones(1))
    with pytest.raises(PoseFileError, match="the image's name contains a line break"):
        write_proposals(tmp_path / "out", proposals)
    assert not (tmp_path / "out").exists()


def test_numbers_may_have_blank_lines_at_the_end(tmp_path):
    (tmp_path / "score.txt").write_text("0.25\n1e-3\n\n")
    assert read_numbers(tmp_path / "score.txt").tolist() == [0.25, 0.001]
