"""Predictions and ground truth in every form that is read, the group filter, and files that are wrong."""

import json
import random
import struct

import h5py
import numpy as np
import pytest
from difference import Golden
from evaluation_data import point
from shared import shared

from rmpe_legacy.errors import EvaluationError, FileError, RmpeError
from rmpe_legacy.evaluation import files
from rmpe_legacy.evaluation.groups import Groups, Poses, evaluated, in_group, poses_by_group
from rmpe_legacy.evaluation.joints import MPII

POSE = np.stack([np.arange(16.0), 2 * np.arange(16.0) + 100, np.arange(16) / 16], axis=1)  # x, y, score by joint


def annopoints(joints=range(16), values=POSE, fields=("x", "y", "score"), **more):
    points = structs([point(j, *values[j][: len(fields)], fields=fields) for j in joints])
    return {"annopoints": {"point": points}, **more}


def structs(dicts):
    """A struct array with the fields of the first."""
    out = np.empty((1, len(dicts)), [(key, object) for key in dicts[0]])
    for i, each in enumerate(dicts):
        out[0, i] = tuple(each.values())
    return out


def truth(x1=0, y1=0, x2=30, y2=40, **more):
    """One annotated person; the head rectangle's diagonal is 50, so the head size 30."""
    return annopoints(fields=("x", "y"), x1=x1, y1=y1, x2=x2, y2=y2, scale=1.2, objpos={"x": 50, "y": 60}, **more)


@pytest.fixture
def save(tmp_path):
    """Writes variables with scipy, which judges our reader, not itself."""
    scipy_io = pytest.importorskip("scipy.io")

    def write(name, **variables):
        scipy_io.savemat(tmp_path / name, variables)
        return tmp_path / name

    return write


class TestToolkitStructs:
    def test_pred(self, save):
        path = save("pred.mat", pred=structs([
            {"annorect": structs([annopoints(), annopoints([9, 3])]), "image": {"name": "a.jpg"}},
            {"annorect": np.zeros((0, 0)), "image": {"name": "b.jpg"}}]))
        poses = files.read_poses(path)
        assert (poses.images, poses.grouped, [len(p) for p in poses.joints]) == (("a.jpg", "b.jpg"), True, [2, 0])
        np.testing.assert_array_equal(poses.joints[0][0], POSE)
        assert np.flatnonzero(~np.isnan(poses.joints[0][1]).any(axis=1)).tolist() == [3, 9]

    def test_annolist(self, save):
        path = save("gt.mat", annolist=structs([{"annorect": structs([truth(), truth(x2=60, y2=80)])}]))
        groups = files.read_groups(path)
        np.testing.assert_array_equal(groups.joints[0][0], POSE[:, :2])
        np.testing.assert_allclose(groups.head_sizes[0], [30, 60])
        np.testing.assert_array_equal(groups.positions[0], [[50, 60]] * 2)
        assert (groups.images, groups.scales[0].tolist(), groups.people) == (("",), [1.2, 1.2], 2)

    def test_the_first_point_of_an_id_holds(self, save):
        scored = ("x", "y", "score")
        points = structs([point(3, 1, 2, 0.5, fields=scored), point(3, 7, 8, 0.9, fields=scored)])
        path = save("p.mat", pred=structs([{"annorect": structs([{"annopoints": {"point": points}}])}]))
        assert files.read_poses(path).joints[0][0, 3].tolist() == [1, 2, 0.5]

    def test_ids_that_no_joint_has_are_not_looked_for(self, save):
        points = structs([point(j, 1, 2, 0.5, fields=("x", "y", "score")) for j in (16, -1, 2.5, 4)])
        path = save("p.mat", pred=structs([{"annorect": structs([{"annopoints": {"point": points}}])}]))
        assert np.isfinite(files.read_poses(path).joints[0][0]).sum() == 3

    def test_a_point_at_nan_is_there_and_matches_nothing(self, save):
        bad = POSE.copy()
        bad[5, 0] = np.nan
        path = save("p.mat", pred=structs([{"annorect": structs([annopoints(values=bad)])}]))
        assert files.read_poses(path).joints[0][0, 5].tolist() == [np.inf, np.inf, 5 / 16]

    def test_a_person_without_points(self, save):
        for nothing in (np.zeros((0, 0)), {"point": np.zeros((0, 0))}):
            path = save("p.mat", pred=structs([{"annorect": structs([annopoints(), {"annopoints": nothing}])}]))
            assert np.isnan(files.read_poses(path).joints[0][1]).all()

    def test_a_head_without_rectangle_by_scale(self, save):
        path = save("gt.mat", annolist=structs([{"annorect": structs([annopoints(fields=("x", "y"), scale=1.2)])}]))
        assert files.read_groups(path).head_sizes[0].tolist() == [30]

    def test_scale_gives_the_head_size_of_everybody_that_has_both(self):
        groups = files.read_groups(shared("mpii_multi", "mpi_val_groundtruth.mat"))
        assert groups.people == 902
        np.testing.assert_allclose(np.concatenate(groups.scales) * 25, np.concatenate(groups.head_sizes), rtol=1e-14)

    def test_ppn_files_hold_what_was_measured(self):
        want = Golden.read(shared("expected", "ppn_val_arrays.npz"), "the Matlab toolkit")
        groups = files.read_groups(shared("mpii_multi", "mpi_val_groundtruth.mat"),
                                   shared("mpii_multi", "MPI_MP_VAL_annotations.json"))
        poses = files.read_poses(shared("mpii_multi", "pred_keypoints_mpii_multi.mat"))
        want.check("pred", np.concatenate(evaluated(poses_by_group(poses, groups))))
        want.check("gt", np.concatenate(evaluated(groups.joints)))
        np.testing.assert_allclose(np.concatenate(groups.head_sizes), want["head"], rtol=1e-14)
        assert groups.images[0] == "015457215.jpg"

    @pytest.mark.parametrize(("variables", "sentence"), [
        ({"other": 1.0}, "no struct pred or annolist with annorect; it holds other"),
        ({"pred": structs([{"annorect": 5.0}])}, "group 1: annorect is not a struct"),
        ({"pred": structs([{"annorect": structs([annopoints(fields=("x", "y"))])}])},
         "group 1, person 1: its points have no score"),
        ({"pred": structs([{"annorect": structs([{"annopoints": {"point": "text"}}])}])}, "point is not a struct"),
        ({"pred": structs([{"annorect": structs([{"annopoints": {"point": structs([
            {"id": 1.0, "x": np.zeros((2, 2)), "y": 1.0, "score": 1.0}])}}])}])}, "not all single numbers"),
    ])
    def test_what_pred_lacks_is_said(self, variables, sentence, save):
        with pytest.raises(FileError, match=sentence):
            files.read_poses(save("p.mat", **variables))

    @pytest.mark.parametrize("odd", [5.0, "text", np.ones((2, 3)), np.array([[1.0, "a"]], object), {"deep": {"er": 1}},
                                     np.zeros((0, 0)), "", 1j], ids=repr)
    def test_fields_of_another_kind_are_a_sentence_or_harmless(self, odd, save):
        for field in ("annorect", "image"):
            entry = {"annorect": structs([truth()]), "image": {"name": "a.jpg"}} | {field: odd}
            self.try_to_read(save("p.mat", pred=structs([entry]), other=1.0))
        for field in ("annopoints", "objpos", "scale", "x1"):
            self.try_to_read(save("p.mat", pred=structs([{"annorect": structs([truth() | {field: odd}])}])))
        for field in ("x", "y", "id", "score"):
            points = structs([{"x": 1.0, "y": 2.0, "id": 3.0, "score": 0.5} | {field: odd}])
            person = truth() | {"annopoints": {"point": points}}
            self.try_to_read(save("p.mat", pred=structs([{"annorect": structs([person])}])))
        person = truth() | {"annopoints": {"point": odd}}
        self.try_to_read(save("p.mat", pred=structs([{"annorect": structs([person])}])))
        for field in ("annolist", "img_train", "single_person"):
            release = {"annolist": structs([{"annorect": structs([truth()])}]), "img_train": np.ones((1, 1)),
                       "single_person": cells([[]])} | {field: odd}
            path = save("r.mat", RELEASE=release)
            self.try_to_read(path, save("g.mat", groups=cells([[[1]]])))
            self.try_to_read(path, save("g.mat", groups=odd))

    def try_to_read(self, path, groups=None):
        for read in (lambda: files.read_poses(path), lambda: files.read_groups(path, groups)):
            try:
                read()
            except RmpeError:
                continue

    def test_no_head_at_all(self, save):
        path = save("gt.mat", annolist=structs([{"annorect": structs([annopoints(fields=("x", "y"))])}]))
        with pytest.raises(FileError, match="group 1, person 1: neither a head rectangle"):
            files.read_groups(path)


class TestRelease:
    """MPII's own file: six images, the last for the test split."""

    @pytest.fixture
    def paths(self, save):
        people = [truth(x2=30 * k, y2=40 * k) for k in range(1, 4)]
        bare = {key: people[0][key] for key in ("scale", "objpos")}
        annolist = structs([{"image": {"name": f"{i}.jpg"}, "annorect": structs(people)} for i in range(5)]
                           + [{"image": {"name": "5.jpg"}, "annorect": structs([bare] * 3)}])
        single = cells([[], [3], [1, 2, 3], [2], [], []])
        groups = cells([[[1, 2], [3]], [[3], [1, 2]], [[1, 2]], [[1, 2], [3, 1]], [], [[2, 3]]])
        release = save("release.mat", RELEASE={"annolist": annolist, "img_train": np.array([[1, 1, 1, 1, 1, 0]]),
                                               "single_person": single})
        return release, save("groups_v12.mat", groups=groups)

    def test_groups_as_getmultipersongroups_picks_them(self, paths):
        groups = files.read_groups(*paths)
        # Of image 3 the group 1, 2 goes, for 2 is a single person: one is enough. The order within 3, 1 stays.
        assert groups.images == ("0.jpg", "0.jpg", "1.jpg", "3.jpg")
        assert [(h / 30).round(9).tolist() for h in groups.head_sizes] == [[1, 2], [3], [1, 2], [3, 1]]

    def test_the_test_split_has_no_joints(self, paths):
        with pytest.raises(EvaluationError, match="MPII withholds those of its test images"):
            files.read_groups(*paths, split="test")

    def test_groups_are_needed(self, paths):
        with pytest.raises(EvaluationError, match=r"groups_v12.mat .--groups"):
            files.read_groups(paths[0])

    def test_groups_of_another_release(self, paths, save):
        with pytest.raises(EvaluationError, match=r"has 6 images, 6 in img_train and 6 in single_person; .* has 2"):
            files.read_groups(paths[0], save("g.mat", groups=cells([[], []])))

    def test_a_person_that_is_not_there(self, paths, save):
        with pytest.raises(FileError, match="image 5 has no person 4; RELEASE has 3"):
            files.read_groups(paths[0], save("g.mat", groups=cells([[], [], [], [], [[1, 4]], []])))


def cells(lists):
    """A column of cells; a list of lists becomes a cell of vectors."""
    out = np.empty((len(lists), 1), object)
    for i, each in enumerate(lists):
        if each and isinstance(each[0], list):
            out[i, 0] = np.empty((1, len(each)), object)
            for k, vector in enumerate(each):
                out[i, 0][0, k] = np.array(vector)
        else:
            out[i, 0] = np.array(each, float)
    return out


def line(name, *columns):
    return "\t".join([name, *(str(c) for c in columns)]) + "\n"


class TestAuthorsText:
    @pytest.fixture
    def folder(self, tmp_path):
        """Three images: two poses, none, one."""
        poses = [("a.jpg", 0), ("a.jpg", 10), ("c d.jpg", 20)]
        (tmp_path / "pred.txt").write_text("".join(line(name, *range(k, k + 32)) for name, k in poses))
        (tmp_path / "scores.txt").write_text("".join(line(name, *(k + np.arange(16) / 16)) for name, k in poses))
        (tmp_path / "index.txt").write_text("a.jpg 1 2\nb.jpg 3 2\nc d.jpg 3 3\n")
        return tmp_path

    def test_poses_from_the_folder_or_the_file(self, folder):
        for path in (folder, folder / "pred.txt"):
            poses = files.read_poses(path)
            assert (poses.images, poses.grouped) == (("a.jpg", "b.jpg", "c d.jpg"), False)
            assert [len(p) for p in poses.joints] == [2, 0, 1]
            assert poses.joints[2][0, 1].tolist() == [22, 23, 20 + 1 / 16]

    def test_the_authors_own_results(self):
        poses = files.read_poses(shared("expected", "batch_full"))
        assert (len(poses), sum(map(len, poses.joints))) == (1491, 8523)

    @pytest.mark.parametrize(("file", "old", "new", "sentence"), [
        ("pred.txt", "\t31\n", "\n", r"pred.txt:1: expected a name and 32 numbers"),
        ("pred.txt", "\t31\n", "\tx\n", r"pred.txt:1: expected a name and 32 numbers"),
        ("pred.txt", "\t31\n", "\tinf\n", r"pred.txt:1: a number that is not finite"),
        ("scores.txt", "c d.jpg", "e.jpg", "scores.txt has 3 poses and .*pred.txt 3, or they belong to other images"),
        ("index.txt", "c d.jpg 3 3", "c d.jpg 3 4", r"index.txt:3: c d.jpg has the poses 3 to 4, but there are 3"),
        ("index.txt", "a.jpg 1 2", "a.jpg 1.5 2", r"index.txt:1: a.jpg has the poses 1.5 to 2"),
        ("index.txt", "a.jpg 1 2", "b.jpg 1 2", "but one of them belongs to a.jpg in pred.txt"),
        ("index.txt", "c d.jpg 3 3\n", "", r"pred.txt:3: a pose that index.txt does not list"),
        ("index.txt", "a.jpg 1 2", "a.jpg", "index.txt:1: expected a name and 2 numbers"),
    ])
    def test_what_does_not_fit_is_said(self, file, old, new, sentence, folder):
        path = folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(RmpeError, match=sentence):
            files.read_poses(folder)

    def test_a_file_is_missing(self, folder):
        (folder / "scores.txt").unlink()
        with pytest.raises(FileError, match=r"scores.txt: No such file"):
            files.read_poses(folder)

    def test_annotation_lists(self, tmp_path):
        xs, ys = " ".join(map(str, range(16))) + " ", " ".join(map(str, range(0, 32, 2))) + " "
        plain, placed = tmp_path / "train.txt", tmp_path / "val.txt"
        plain.write_text(line("a.jpg", "1 2 3 4", xs, ys) * 2 + line("b.jpg", "1 2 3 4", xs, "0 " * 16))
        placed.write_text(line("a.jpg", "1 2 3 4", "50 60 1.5", xs, ys))
        groups = files.read_groups(plain)
        assert (groups.images, groups.people) == (("a.jpg", "b.jpg"), 3)
        assert np.isnan(groups.joints[0][0, 0]).all()  # 0, 0
        assert groups.joints[1][0, 3].tolist() == [3, 0]  # at the border, but there
        np.testing.assert_allclose(groups.head_sizes[0], 0.75 * np.hypot(1, 2))
        assert groups.notes[1].startswith("the heads of 3 people are measured from neck to head top")
        groups = files.read_groups(placed)
        assert (groups.head_sizes[0].tolist(), groups.positions[0].tolist()) == ([37.5], [[50, 60]])

    def test_annotated_people_without_a_head_are_left_out_aloud(self, tmp_path):
        path = tmp_path / "t.txt"
        path.write_text(line("a.jpg", "1 2 3 4", "5 " * 9 + "0 " + "5 " * 6, "5 " * 9 + "0 " + "5 " * 6))
        groups = files.read_groups(path)
        assert (groups.people, groups.joints[0].shape) == (0, (0, 16, 2))
        assert groups.notes[-1].startswith("1 people without neck or head top are left out")

    @pytest.mark.parametrize(("content", "sentence"), [
        ("a.jpg\t1 2 3 4\n", r"t.txt:1: expected an image, a box"),
        ("a.jpg\t1 2 3\t1 2\t1 2\n", r"'1 2 3' is not 4 numbers"),
        ("a.jpg\t1 2 3 4\t" + "nan " * 16 + "\t" + "1 " * 16, "is not 16 numbers"),
        ("", "is empty"),
    ])
    def test_annotations_that_are_not(self, content, sentence, tmp_path):
        (tmp_path / "t.txt").write_text(content)
        with pytest.raises(FileError, match=sentence):
            files.read_groups(tmp_path / "t.txt")

    def test_the_authors_lists(self):
        groups = files.read_groups(shared("authors", "rmpe_val.txt"))
        assert (len(groups), groups.people) == (500, 1454)
        groups = files.read_groups(shared("authors", "train.txt"))
        assert (len(groups), groups.people) == (16118, 24797 - 188)


def coco_style(**more):
    return {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
            "categories": [{"id": 1, "keypoints": list(MPII)}],
            "annotations": [{"image_id": 7, "category_id": 1, "keypoints": POSE.reshape(-1).tolist(), **more}]}


class TestJson:
    def write(self, path, content):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def test_results_with_their_images(self, tmp_path):
        poses = files.read_poses(self.write(tmp_path / "p.json", coco_style(score=0.5)))
        assert (poses.images, [len(p) for p in poses.joints], poses.grouped) == (("a.jpg", "b.jpg"), [1, 0], False)
        np.testing.assert_array_equal(poses.joints[0][0], POSE)

    def test_a_list_of_results_by_the_truths_images(self, tmp_path):
        truth = files.read_groups(self.write(tmp_path / "t.json", coco_style(head_box=[0, 0, 30, 40])))
        path = self.write(tmp_path / "p.json", coco_style(score=0.5)["annotations"])
        taken = poses_by_group(files.read_poses(path, truth.image_ids), truth)
        assert [len(p) for p in taken] == [1, 0]
        assert files.read_poses(path).images == ("7",)

    def test_truth(self, tmp_path):
        for head in ({"head_box": [0, 0, 30, 40]}, {"head_size": 30}):
            groups = files.read_groups(self.write(tmp_path / "t.json", coco_style(**head)))
            assert (groups.images, groups.people) == (("a.jpg", "b.jpg"), 1)
            assert np.isnan(groups.joints[0][0, 0]).all()  # its third value is 0: not annotated
            assert groups.joints[0][0, 3].tolist() == [3, 106]
            np.testing.assert_allclose(groups.head_sizes[0], [30])

    def test_a_joint_of_zeros_is_missing(self, tmp_path):
        content = coco_style()
        content["annotations"][0]["keypoints"][9:12] = [0, 0, 0]
        poses = files.read_poses(self.write(tmp_path / "p.json", content))
        assert np.isnan(poses.joints[0][0]).any(axis=1).nonzero()[0].tolist() == [3]

    def test_names_of_groups(self, tmp_path, save):
        gt = save("gt.mat", annolist=structs([{"annorect": structs([truth()] * n)} for n in (2, 1)]))
        root = [{"im_name": "a.jpg", "numPeople": 2.0}, {"im_name": "b.jpg", "numPeople": 1.0}]
        assert files.read_groups(gt, self.write(tmp_path / "n.json", {"root": root})).images == ("a.jpg", "b.jpg")
        with pytest.raises(EvaluationError, match=r"group 1 has 1.0 people, but 2 in"):
            files.read_groups(gt, self.write(tmp_path / "n.json", {"root": root[::-1]}))
        with pytest.raises(EvaluationError, match=r"has 1 groups, .* 2; they must be the same"):
            files.read_groups(gt, self.write(tmp_path / "n.json", {"root": root[:1]}))

    @pytest.mark.parametrize(("content", "sentence"), [
        ({"root": []}, "lists groups of people, but not their joints"),
        ([], "has no images and annotations"),
        ("[" * 100000, "nested too deep"),
        ("[1, ", "not a readable JSON file"),
        ("{\"a\": 1}", "has no images and annotations"),
        (coco_style(), "annotation 1: neither head_box"),
        (coco_style(head_box=[1, 2]), "head_box is not a list of 4 numbers"),
        (coco_style(head_size="x"), "head_size is not a list of 1 numbers"),
        (coco_style(head_size=1, keypoints=[1] * 51), "annotation 1 has 51 keypoint values; expected 48"),
        (coco_style(head_size=1, keypoints=[[1]] * 48), "keypoints is not a list of 48 numbers"),
        (coco_style(head_size=1, image_id=9), "image_id 9 is not among the images"),
        (coco_style(head_size=1, image_id=[]), r"image_id \[\] is not among the images"),
        (coco_style() | {"images": [{"id": 1}, {"id": 1}]}, "image 2: an id that another one has"),
        (coco_style() | {"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]},
         "two images have the same"),
        (coco_style() | {"images": {}}, "expected a list of images"),
        (coco_style() | {"annotations": [5]}, "annotation 1 is not an object"),
        (coco_style() | {"categories": [{"keypoints": ["nose"] * 17}]}, "category 1 has 17 joints"),
    ])
    def test_truth_that_is_not(self, content, sentence, tmp_path):
        with pytest.raises(RmpeError, match=sentence):
            files.read_groups(self.write(tmp_path / "t.json", content))

    def test_results_that_are_not(self, tmp_path):
        for content, sentence in (([{"keypoints": [1] * 48}], "neither a file_name nor an image_id"),
                                  ([{"image_id": 1}], "keypoints is not a list of 48 numbers"),
                                  ({"a": 1}, "expected a list of results")):
            with pytest.raises(RmpeError, match=sentence):
                files.read_poses(self.write(tmp_path / "p.json", content))


def pose_at(x, y, thorax=None):
    """(1, 16, 3) with pelvis and thorax there."""
    out = np.tile([x, y, 0.5], (1, 16, 1)).astype(float)
    if thorax is not None:
        out[0, 7, :2] = thorax
    return out


class TestGroupFilter:
    """setpred.m: a person at (100, 100) of scale 1 reaches from 60 to 140."""

    HERE, SCALE = np.array([[100.0, 100.0]]), np.array([1.0])

    @pytest.mark.parametrize(("x", "y", "kept"), [
        (100, 100, True), (60, 140, True), (59, 100, False), (100, 141, False), (140, 60, True)])
    def test_edges_belong_to_the_group(self, x, y, kept):
        assert in_group(pose_at(x, y), self.HERE, self.SCALE).tolist() == [kept]

    def test_whole_pixels_are_halved_as_int32(self):
        pose = pose_at(140, 100, thorax=(141, 100))  # the middle, 140.5, becomes 141
        assert not in_group(pose, self.HERE, self.SCALE).any()
        assert not in_group(pose, self.HERE, self.SCALE, whole_pixels=False).any()
        pose = pose_at(60, 100, thorax=(59, 100))  # 59.5 becomes 60
        assert in_group(pose, self.HERE, self.SCALE).all()
        assert not in_group(pose, self.HERE, self.SCALE, whole_pixels=False).any()

    def test_halves_below_zero_are_rounded_away_from_zero(self):
        pose = pose_at(-1, 0, thorax=(0, 0))  # -0.5 becomes -1
        assert not in_group(pose, np.array([[40.0, 0.0]]), self.SCALE).any()
        assert in_group(pose, np.array([[39.0, 0.0]]), self.SCALE).all()

    def test_the_box_is_around_all_people(self):
        both = np.array([[100.0, 100.0], [300.0, 100.0]])
        assert in_group(pose_at(200, 100), both, np.ones(2)).all()

    def test_a_group_far_away_reaches_back(self):
        """The box begins at 8000: a group beyond it takes in all that lies between."""
        assert in_group(pose_at(8000, 8000), np.array([[9000.0, 9000.0]]), self.SCALE).all()

    def groups(self, images=("a.jpg", "a.jpg", "b.jpg"), known=True):
        places = [[[100, 100]], [[300, 100]], [[100, 100]]]
        return Groups(tuple(images), (np.zeros((1, 16, 2)),) * 3, (np.ones(1),) * 3,
                      tuple(np.array(p, float) if known else np.full((1, 2), np.nan) for p in places),
                      (np.ones(1) if known else np.full(1, np.nan),) * 3)

    def test_pictures_are_divided_among_their_groups(self):
        both = np.concatenate([pose_at(300, 100), pose_at(100, 100)])
        poses = Poses(("b.jpg", "a.jpg"), (pose_at(9, 9), both), False)
        taken = poses_by_group(poses, self.groups())
        assert [p[:, 0, 0].tolist() for p in taken] == [[100], [300], []]

    def test_an_index_with_a_line_per_group_is_taken_line_by_line(self):
        per_line = (pose_at(100, 100), pose_at(300, 100), pose_at(9, 9))
        poses = Poses(("a.jpg", "a.jpg", "b.jpg"), per_line, False)
        assert [len(p) for p in poses_by_group(poses, self.groups())] == [1, 1, 0]
        assert [len(p) for p in poses_by_group(poses, self.groups(["", "", ""]))] == [1, 1, 0]

    def test_what_is_by_group_is_not_filtered(self):
        poses = Poses(("", "", ""), (pose_at(900, 900),) * 3, True)
        assert [len(p) for p in poses_by_group(poses, self.groups())] == [1, 1, 1]

    @pytest.mark.parametrize(("images", "grouped", "known", "sentence"), [
        (("a.jpg", "b.jpg"), True, True, "predictions have 2 groups, the ground truth 3"),
        (("a.jpg", "b.jpg", "b.jpg"), True, True, "group 2 belongs to a.jpg in the ground truth, but to b.jpg"),
        (("a.jpg", "c.jpg"), False, True, r"predictions are missing for 1 of 3 groups, the first in b.jpg"),
        (("a.jpg", "b.jpg", "b.jpg"), False, True, r"list b.jpg more than once"),
        (("a.jpg", "b.jpg"), False, False, "a.jpg has more than one group, and the ground truth lacks objpos"),
    ])
    def test_what_does_not_belong_together_is_said(self, images, grouped, known, sentence):
        with pytest.raises(EvaluationError, match=sentence):
            poses_by_group(Poses(images, (pose_at(1, 1),) * len(images), grouped), self.groups(known=known))

    def test_groups_without_names(self):
        with pytest.raises(EvaluationError, match=r"without image names; give the list of groups"):
            poses_by_group(Poses(("a.jpg",), (pose_at(1, 1),), False), self.groups(["", "", ""]))


class TestSinglePersons:
    PREDS = np.arange(5 * 32.0).reshape(5, 16, 2)

    def h5(self, path, **arrays):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
        return path

    def test_predictions_in_every_form(self, tmp_path, save):
        np.save(tmp_path / "p.npy", self.PREDS.astype(np.float32))
        paths = [self.h5(tmp_path / "p.h5", preds=self.PREDS), self.h5(tmp_path / "t.h5", preds=self.PREDS.T),
                 save("p.mat", preds=self.PREDS), save("t.mat", preds=self.PREDS.T), tmp_path / "p.npy"]
        for path in paths:
            np.testing.assert_array_equal(files.read_joints(path), self.PREDS)

    def test_people_in_both_forms(self, tmp_path, save):
        part = self.PREDS.copy()
        part[2, 3] = 0
        found, heads = files.read_people(self.h5(tmp_path / "v.h5", part=part, normalize=np.arange(5.0)))
        assert np.argwhere(np.isnan(found).all(axis=2)).tolist() == [[2, 3]]
        assert heads.tolist() == [0, 1, 2, 3, 4]
        missing = np.zeros((16, 5), np.uint8)
        missing[3, 2] = 1
        boxes = np.stack([np.zeros((2, 5)), np.tile([[30], [40]], 5)])
        found, heads = files.read_people(save("d.mat", pos_gt_src=self.PREDS.transpose(1, 2, 0), jnt_missing=missing,
                                              headboxes_src=boxes))
        assert np.argwhere(np.isnan(found).all(axis=2)).tolist() == [[2, 3]]
        np.testing.assert_array_equal(found[4], self.PREDS[4])
        np.testing.assert_allclose(heads, 30)

    def test_files_that_are_not(self, tmp_path, save):
        (tmp_path / "a.txt").write_text("hello")
        (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 16, 2), }"
        (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n")
        np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
        with h5py.File(tmp_path / "link.h5", "w") as file:
            file["preds"] = h5py.ExternalLink("other.h5", "preds")
        with h5py.File(tmp_path / "claims.h5", "w") as file:
            file.create_dataset("preds", (1 << 20, 16, 2), "f8", chunks=(1 << 10, 16, 2))
        for path, sentence in (("a.txt", "neither .h5 nor .mat"), ("damaged.h5", "not a readable HDF5 file"),
                               ("huge.npy", "not an array that can be read"), ("objects.npy", "holds values other"),
                               ("link.h5", "is a link to elsewhere"), ("claims.h5", "claims 268435456 bytes, too much"),
                               ("none.h5", "No such file"), (save("p.mat", x=1), "has no array of numbers named"),
                               (save("q.mat", preds=np.zeros((5, 14, 2))), r"preds are \(5, 14, 2\)"),
                               (self.h5(tmp_path / "s.h5", preds=np.array([b"a"])), r"holds text, not numbers")):
            with pytest.raises(FileError, match=sentence):
                files.read_joints(tmp_path / path)
        fewer = self.h5(tmp_path / "n.h5", part=self.PREDS, normalize=np.zeros(4))
        for path, sentence in (("a.txt", "neither an .h5 with part"), (fewer, r"head sizes \(4,\)"),
                               (save("r.mat", x=1), "has no array pos_gt_src"),
                               (self.h5(tmp_path / "m.h5", part=self.PREDS), "has no array normalize")):
            with pytest.raises(FileError, match=sentence):
                files.read_people(tmp_path / path)


def test_a_file_of_another_kind_is_a_sentence(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "a.txt").write_bytes(b"\xff\xd8\xff\xe0")
    for read in (files.read_poses, files.read_groups):
        with pytest.raises(FileError, match=r"neither a \.mat with"):
            read(tmp_path / "a.jpg")
        with pytest.raises(FileError, match="not a text file"):
            read(tmp_path / "a.txt")
        with pytest.raises(FileError, match="No such file"):
            read(tmp_path / "none.mat")
    with pytest.raises(FileError, match="Is a directory"):
        files.read_groups(tmp_path)


def test_damaged_text_and_json_is_a_sentence_or_harmless(tmp_path):
    rng = random.Random(3)
    pred, scores = line("a.jpg", *range(32)), line("a.jpg", *np.arange(16) / 16)
    results = json.dumps(coco_style(head_size=30))
    for case in range(300):
        (tmp_path / "pred.txt").write_text(damaged(rng, pred) if case % 3 == 0 else pred)
        (tmp_path / "scores.txt").write_text(damaged(rng, scores) if case % 3 == 1 else scores)
        (tmp_path / "index.txt").write_text(damaged(rng, "a.jpg 1 1\n") if case % 3 == 2 else "a.jpg 1 1\n")
        (tmp_path / "t.json").write_text(damaged(rng, results))
        for read, path in ((files.read_poses, tmp_path), (files.read_poses, tmp_path / "t.json"),
                           (files.read_groups, tmp_path / "t.json")):
            try:
                read(path)
            except RmpeError:
                continue


def damaged(rng, text):
    at = rng.randrange(len(text))
    junk = rng.choice(["", "-", "\t", "\n", "9" * 400, "null", "[", "nan", "x"])
    return text[:at] + junk + text[at + rng.randint(0, 3) :]
