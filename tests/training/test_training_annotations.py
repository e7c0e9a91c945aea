"""People read from annotation files of each form, and batches made of them."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from shared import shared

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.training.annotations import read_annotations
from rmpe_legacy.training.boxes import TrueBoxes
from rmpe_legacy.training.people import Person
from rmpe_legacy.training.proposals import pairs_of
from rmpe_legacy.training.samples import SampleFormat, make_sample
from rmpe_legacy.training.sources import AnnotatedPictures, DrawnPeople

XY = np.arange(1, 33, dtype=np.float64).reshape(16, 2) * 3


def text_line(name="a.jpg", xy=XY, place=None) -> str:
    numbers = [" ".join(map(str, column.astype(int))) for column in xy.T]
    return "\t".join([name, "10 20 110 220", *([place] if place else []), *numbers])


class TestText:
    def test_with_and_without_position(self, tmp_path: Path):
        missing = XY.copy()
        missing[3] = 0
        path = tmp_path / "list.txt"
        path.write_text(f"{text_line()}\n{text_line('b.jpg', missing, '5 6 1.5')}\n")
        one, two = read_annotations(path)
        assert (one.image, two.image) == ("a.jpg", "b.jpg")
        np.testing.assert_array_equal(one.box_xyxy, [10, 20, 110, 220])
        np.testing.assert_array_equal(one.joints_xy, XY)
        assert np.isnan(two.joints_xy[3]).all()
        assert one.offset_mean is None

    def test_people_without_a_joint_or_a_box_are_left_out(self, tmp_path: Path):
        path = tmp_path / "list.txt"
        path.write_text("\n".join([text_line("a.jpg", XY * 0), text_line().replace("110 220", "10 220"), text_line()]))
        assert len(read_annotations(path)) == 1
        path.write_text(text_line("a.jpg", XY * 0))
        with pytest.raises(FileError, match="no annotated person has both a joint and a box"):
            read_annotations(path)

    @pytest.mark.parametrize("line", ["a.jpg\t1 2 3\t1\t2", "a.jpg", text_line() + " 7", text_line().replace("3", "x")])
    def test_says_which_line_is_wrong(self, tmp_path: Path, line):
        path = tmp_path / "list.txt"
        path.write_text(f"{text_line()}\n{line}\n")
        with pytest.raises(FileError, match=r"list\.txt:2: expected an image, a box"):
            read_annotations(path)

    def test_the_authors_own_lists(self):
        people = read_annotations(shared("authors", "rmpe_val.txt"))
        assert len(people) == 1454
        np.testing.assert_array_equal(people[0].box_xyxy, [371, 41, 607, 463])
        assert people[0].joints_xy[2].tolist() == [480, 357]


class TestAnnotH5:
    def write(self, path: Path, **change) -> Path:
        names = np.zeros((2, 9))
        for row, name in zip(names, (b"a.jpg", b"folder/b"), strict=True):
            row[: len(name)] = list(name)
        arrays = {"imgname": names, "part": np.stack([XY, XY + 1]), "bndbox": np.array([[[1, 2, 30, 40]]] * 2),
                  "mu": np.full((2, 4), 0.1), "std": np.array([[1.0, 2, 3, 4]] * 2)} | change
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                if value is not None:
                    file[name] = value
        return path

    def test_has_what_mpii_box_lua_reads(self, tmp_path: Path):
        one, two = read_annotations(self.write(tmp_path / "annot.h5"))
        assert (one.image, two.image) == ("a.jpg", "folder/b")
        np.testing.assert_array_equal(two.joints_xy, XY + 1)
        np.testing.assert_array_equal(one.box_xyxy, [1, 2, 30, 40])
        np.testing.assert_array_equal(one.offset_mean, np.full(4, 0.1))
        np.testing.assert_array_equal(one.offset_std, [1, 2, 3, 4])

    def test_mu_and_std_may_be_missing(self, tmp_path: Path):
        one, _ = read_annotations(self.write(tmp_path / "annot.h5", mu=None, std=None))
        assert one.offset_mean is None

    @pytest.mark.parametrize(("change", "says"), [
        ({"bndbox": None}, "has no array bndbox"),
        ({"mu": np.zeros((3, 4))}, r"mu is \(3, 4\); expected 2 x 4 numbers"),
        ({"part": np.full((2, 16, 2), np.nan)}, "part has a number that is not finite"),
        ({"imgname": np.zeros(2)}, "imgname is"),
        ({"imgname": np.full((2, 5), 999.0)}, "imgname has a number that is not a character code"),
    ])
    def test_says_what_is_wrong(self, tmp_path: Path, change, says):
        with pytest.raises(FileError, match=says):
            read_annotations(self.write(tmp_path / "annot.h5", **change))


    def test_a_joint_at_zero_is_not_annotated(self, tmp_path: Path):
        """Published, it becomes 1, 1 and has a peak in a box that begins at 0."""
        part = np.stack([XY, XY + 1])
        part[0, 4] = 0
        one, _ = read_annotations(self.write(tmp_path / "annot.h5", part=part, bndbox=np.full((2, 4), [0, 0, 90, 90])))
        form = SampleFormat(32, 16, None, "torch7", augment=False)
        image = np.zeros((100, 100, 3), np.float32)
        label = make_sample(np.random.default_rng(0), image, one, TrueBoxes("torch7"), form).label
        assert not label[4].any()
        assert label[3].any()


class TestJson:
    def content(self, joints: int = 17, **change) -> dict:
        keypoints = np.column_stack([np.arange(2 * joints).reshape(joints, 2) + 5, np.full(joints, 2)])
        keypoints[1, 2] = 0
        entry = {"id": 1, "image_id": 7, "bbox": [10, 20, 30, 40], "keypoints": keypoints.ravel().tolist(),
                 "num_keypoints": joints - 1, "iscrowd": 0}
        return {"images": [{"id": 7, "file_name": "c.jpg"}], "annotations": [entry | change, entry | {"iscrowd": 1}]}

    @pytest.mark.parametrize("joints", [16, 17])
    def test_cocos_style_with_either_joint_set(self, tmp_path: Path, joints):
        path = tmp_path / "p.json"
        path.write_text(json.dumps(self.content(joints)))
        (one,) = read_annotations(path)
        assert one.image == "c.jpg"
        np.testing.assert_array_equal(one.box_xyxy, [10, 20, 40, 60])
        assert one.joints_xy.shape == (joints, 2)
        assert np.isnan(one.joints_xy[1]).all()
        assert one.joints_xy[2].tolist() == [9, 10]

    @pytest.mark.parametrize(("change", "says"), [
        ({"image_id": 8}, "annotation 1: image_id 8 is not among the images"),
        ({"bbox": [1, 2, 3]}, "annotation 1: bbox has 3 numbers"),
        ({"keypoints": [1, 2, 2]}, "annotation 1: keypoints has 3 numbers"),
        ({"keypoints": None}, "annotation 1: keypoints is not a list"),
    ])
    def test_says_what_is_wrong(self, tmp_path: Path, change, says):
        path = tmp_path / "p.json"
        path.write_text(json.dumps(self.content(**change)))
        with pytest.raises(FileError, match=says):
            read_annotations(path)

    def test_a_mixture_of_joint_sets(self, tmp_path: Path):
        both, other = self.content(), self.content(16)
        both["annotations"].append(other["annotations"][0])
        path = tmp_path / "p.json"
        path.write_text(json.dumps(both))
        with pytest.raises(FileError, match="people with MPII's joints and others with COCO's"):
            read_annotations(path)

    def test_cocos_own_file(self):
        people = read_annotations(shared("coco_kpt", "example_coco_val.json"))
        assert len(people) == 12
        assert people[0].joints_xy.shape == (17, 2)


def test_mpiis_groups_have_the_extent_of_their_joints_for_a_box():
    folder = shared("mpii_multi")
    people = read_annotations(folder / "mpi_val_groundtruth.mat", folder / "MPI_MP_VAL_annotations.json")
    assert len(people) == 902
    one = people[0]
    np.testing.assert_array_equal(one.box_xyxy[:2], np.nanmin(one.joints_xy, axis=0))
    np.testing.assert_array_equal(one.box_xyxy[2:], np.nanmax(one.joints_xy, axis=0))


class TestPicturesOfAFolder:
    @pytest.fixture
    def source(self, tmp_path: Path) -> AnnotatedPictures:
        people = []
        for i in range(5):
            cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20 + i, 30, 3), 10 * i, np.uint8))
            people.append(Person(f"{i}.png", np.array([1.0, 2, 20, 18]), XY / 9))
        return AnnotatedPictures(tuple(people), tmp_path, seed=4)

    def names(self, source, index: int, count: int) -> list[str]:
        return [person.image for _, person in source.shots(index, count)]

    def test_an_epoch_has_each_person_once(self, source):
        epochs = [self.names(source, epoch, 5) for epoch in range(3)]
        assert all(sorted(names) == [f"{i}.png" for i in range(5)] for names in epochs)
        assert len({tuple(names) for names in epochs}) > 1

    def test_batches_go_on_over_the_end_of_an_epoch(self, source):
        whole = self.names(source, 0, 5) + self.names(source, 1, 5)
        assert [name for k in range(5) for name in self.names(source, k, 2)] == whole

    def test_the_picture_comes_with_the_person(self, source):
        for image, person in source.shots(0, 5):
            assert image.shape[0] == 20 + int(person.image[0])

    def test_a_folder_without_the_pictures(self, source, tmp_path: Path):
        with pytest.raises(FileError, match="no such folder of images"):
            AnnotatedPictures(source.people, tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileError, match=r"0\.png"):
            AnnotatedPictures(source.people, tmp_path / "empty")


class TestDrawnPeople:
    def test_a_batch_is_the_same_whatever_was_asked_before(self):
        one, other = DrawnPeople(3), DrawnPeople(3)
        list(one.shots(0, 6))
        for (a, p), (b, q) in zip(one.shots(2, 6), other.shots(2, 6), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(p.joints_xy, q.joints_xy)

    def test_batches_share_no_picture(self):
        names = [{person.image for _, person in DrawnPeople(3).shots(k, 6)} for k in range(3)]
        assert not names[0] & names[1]
        assert not names[1] & names[2]

    @pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1, "views": 0}])
    def test_refuses_what_cannot_be(self, wrong):
        with pytest.raises(RmpeError, match="at least 0 and 1"):
            DrawnPeople(**wrong)


class TestProposals:
    def write(self, folder: Path, boxes, name: str = "b/a.jpg") -> Path:
        folder.mkdir()
        (folder / "index.txt").write_text(f"{name} 1 {len(boxes)}\n")
        (folder / "score.txt").write_text("0.5\n" * len(boxes))
        with h5py.File(folder / "test-bbox.h5", "w") as file:
            for key, values in zip(("xmin", "ymin", "xmax", "ymax"), np.array(boxes).T, strict=True):
                file[key] = values
        return folder

    def test_belong_to_people_by_the_names_of_pictures_and_their_place(self, tmp_path: Path):
        people = [Person("x/a.jpg", np.array([0.0, 0, 100, 100]), XY), Person("x/a.jpg", np.array([0.0, 0, 9, 9]), XY)]
        pairs = pairs_of(self.write(tmp_path / "p", [(500, 0, 600, 90), (10, 0, 100, 100)]), people)
        np.testing.assert_array_equal(pairs.offsets, [[0.1, 0, 0, 0]])

    def test_none_belongs_to_anybody(self, tmp_path: Path):
        people = [Person("c.jpg", np.array([0.0, 0, 100, 100]), XY)]
        with pytest.raises(RmpeError, match="no detection belongs to an annotated person; 0 of the 1 annotated"):
            pairs_of(self.write(tmp_path / "p", [(0, 0, 100, 100)]), people)
