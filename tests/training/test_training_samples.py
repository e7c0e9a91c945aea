"""Heat-map targets and samples, against numbers worked out by hand from pose.lua and img.lua."""

import numpy as np
import pytest

from rmpe_legacy.errors import InputError, RmpeError
from rmpe_legacy.pose.crop import crop_box, read_heatmaps, scale_torch7, uncrop
from rmpe_legacy.pose.joints import COCO17, MPII16
from rmpe_legacy.training.boxes import SampledBox, TrueBoxes
from rmpe_legacy.training.people import Person
from rmpe_legacy.training.samples import Sample, SampleFormat, augmented, make_sample
from rmpe_legacy.training.targets import draw_gaussian, exact_peak, heatmaps, inside

BELL = np.exp(-0.5 * (np.arange(-3, 4) / 1.75) ** 2).astype(np.float32)  # image.gaussian(7): sigma 0.25 * 7


def drawn(x: int, y: int, width: int = 12, height: int = 11) -> np.ndarray:
    target = np.zeros((height, width), np.float32)
    draw_gaussian(target, x, y)
    return target


class TestDrawGaussian:
    def test_a_peak_within_the_map_is_a_window_of_seven_cells(self):
        target = drawn(6, 5)
        np.testing.assert_allclose(target[1:8, 2:9], BELL[:, None] * BELL, rtol=1e-6)
        assert target.max() == target[4, 5] == 1
        assert np.count_nonzero(target) == 49

    @pytest.mark.parametrize(("x", "column"), [(3, 3), (2, 3), (1, 2), (0, 1), (-1, 0)])
    def test_quirk_near_the_left_border_the_peak_is_moved(self, x, column):
        """g_x begins at max(1, -ul), not at max(1, 2 - ul): the peak of x = 3 (from 1) is in column 4."""
        target = drawn(x, 5)
        assert np.unravel_index(target.argmax(), target.shape) == (4, column)
        assert target.max() == 1

    def test_the_window_at_the_left_border(self):
        row = drawn(1, 5)[4]  # ul = -2: image columns 1 to 4 get kernel columns 2 to 5
        np.testing.assert_allclose(row[:4], BELL[1:5], rtol=1e-6)
        assert not row[4:].any()

    def test_at_the_right_border_the_window_is_cut(self):
        row = drawn(12, 5)[4]
        np.testing.assert_allclose(row[8:], BELL[:4], rtol=1e-6)

    @pytest.mark.parametrize(("x", "y"), [(-3, 5), (16, 5), (5, -3), (5, 15)])
    def test_a_window_that_misses_the_map_leaves_it_alone(self, x, y):
        assert not drawn(x, y).any()

    def test_of_two_peaks_the_higher_value_counts(self):
        target = drawn(6, 5)
        draw_gaussian(target, 8, 5)
        np.testing.assert_allclose(target[4], np.maximum(drawn(6, 5)[4], drawn(8, 5)[4]))


class TestHeatmaps:
    box = np.array([20, 10, 60, 90])  # 40 x 80: 20 pixels of margin at the left of the square

    def test_torch7_puts_the_peak_on_a_whole_cell(self):
        joints = np.array([[29.0, 49.0], [np.nan, np.nan], [30, 50]])
        maps = heatmaps(joints, np.array([True, False, False]), self.box, 64)
        # (29 + 1 - 20 + 20) * 64 / 80 = 24, (50 - 10) * .8 = 32: column 24 and row 32 from 1
        assert np.unravel_index(maps[0].argmax(), (64, 64)) == (31, 23)
        assert not maps[1:].any()

    def test_demo_finds_the_joint_where_it_is(self):
        rng = np.random.default_rng(0)
        joints = rng.uniform((25, 15), (55, 85), (200, 2))
        maps = heatmaps(joints, np.ones(200, bool), self.box, 64, "demo")
        points, scores = read_heatmaps(maps)
        found = uncrop(points, np.broadcast_to(self.box, (200, 4)), 64)
        assert np.abs(found + 0.5 - joints).max() <= 0.5 + 80 / 64 / 2, "half a cell, and half a pixel of rounding"
        assert (scores > 0.9).all()
        bias = 0.5 - 0.375  # cells begin at multiples of 1.25 pixels, whose fractions are cut: 0, 1/4, 1/2, 3/4
        assert abs((found + 0.5 - joints).mean() - bias) < 0.05, "no further bias to one side"

    def test_exact_peak_lies_between_cells(self):
        peak = exact_peak(np.array([3.5, 2.0]), 8)
        np.testing.assert_allclose(peak[2, 3], peak[2, 4])
        np.testing.assert_allclose(peak[2, 3], np.exp(-0.5 * (0.5 / 1.75) ** 2), rtol=1e-6)

    def test_joints_on_the_edge_are_outside(self):
        joints = np.array([[20.0, 50], [20.5, 50], [60, 50], [30, 90], [np.nan, np.nan]])
        assert inside(joints, self.box).tolist() == [False, True, False, False, False]


class Fixed:
    """A sampler of boxes that were written down before."""

    def __init__(self, *boxes, centered=(0, 0, 1, 1), within=(0, 0, 1, 1)):
        self.boxes, self.rest = list(boxes), (np.array(centered, np.float64), np.array(within, np.float64))

    def sample(self, rng, person, wh):
        return SampledBox(np.array(self.boxes.pop(0), np.float64), *self.rest)


def picture(width: int = 90, height: int = 70) -> np.ndarray:
    return np.random.default_rng(3).random((height, width, 3), np.float32)


def someone(joint=(40.0, 30.0)) -> Person:
    joints = np.full((16, 2), np.nan)
    joints[9] = joint
    return Person("a.jpg", np.array([20.0, 10, 60, 50]), joints)


class TestSample:
    rng = np.random.default_rng(0)

    def test_torch7_crops_whole_pixels_and_draws_in_their_square(self):
        form = SampleFormat(32, 16, None, "torch7", augment=False)
        sample = make_sample(self.rng, picture(), someone(), Fixed((20.9, 10.2, 60.7, 50.9)), form)
        want = scale_torch7(crop_box(picture(), (20, 10, 60, 50), "torch7"), 32, 32)
        np.testing.assert_array_equal(sample.data, want.transpose(2, 0, 1))
        # (41 - 20) * 16 / 40 = 8.4, (31 - 10) * .4 = 8.4: cell 8 from 1
        assert np.unravel_index(sample.label[9].argmax(), (16, 16)) == (7, 7)
        assert not np.delete(sample.label, 9, axis=0).any()
        assert sample.label_center is None

    def test_a_joint_beyond_the_crop_has_no_peak_but_may_have_one_in_the_centred_frame(self):
        form = SampleFormat(32, 16, 24, "torch7", augment=False)
        sampler = Fixed((45, 10, 85, 50), centered=(20, 10, 60, 50), within=(20, 10, 60, 50))
        sample = make_sample(self.rng, picture(), someone(), sampler, form)
        assert not sample.label.any()
        # (41 - 20) * 24 / 40 = 12.6: cell 12 from 1
        assert np.unravel_index(sample.label_center[9].argmax(), (24, 24)) == (11, 11)

    def test_centred_peaks_need_the_joint_within_the_box_that_the_sampler_says(self):
        form = SampleFormat(32, 16, 24, "torch7", augment=False)
        sampler = Fixed((20, 10, 60, 50), centered=(20, 10, 60, 50), within=(50, 10, 60, 50))
        assert not make_sample(self.rng, picture(), someone(), sampler, form).label_center.any()

    def test_torch7_widens_a_crop_to_five_pixels(self):
        form = SampleFormat(8, 8, None, "torch7", augment=False)
        sample = make_sample(self.rng, picture(), someone(), Fixed((20, 10, 21, 12)), form)
        want = scale_torch7(crop_box(picture(), (20, 10, 25, 15), "torch7"), 8, 8)
        np.testing.assert_array_equal(sample.data, want.transpose(2, 0, 1))

    @pytest.mark.parametrize("published", ["torch7", "demo"])
    def test_a_box_beyond_the_picture_is_drawn_again(self, published):
        form = SampleFormat(8, 8, None, published, augment=False)
        one = make_sample(self.rng, picture(), someone(), Fixed((20, 10, 60, 50)), form)
        again = make_sample(self.rng, picture(), someone(), Fixed((200, 10, 260, 50), (20, 10, 60, 50)), form)
        np.testing.assert_array_equal(one.data, again.data)

    def test_a_person_beyond_the_picture_is_an_error(self):
        wrong = Person("b.jpg", np.array([500.0, 10, 560, 50]), np.full((16, 2), np.nan))
        with pytest.raises(InputError, match=r"b\.jpg: the box .* contains no pixel of the image, which is 90x70"):
            make_sample(self.rng, picture(), wrong, Fixed(*[(500, 10, 560, 50)] * 99), SampleFormat(8, 8))

    def test_demo_makes_what_the_pipeline_would_crop(self):
        form = SampleFormat(32, 16, 16, "demo", augment=False)
        sample = make_sample(self.rng, picture(), someone(), TrueBoxes("demo"), form)
        from rmpe_legacy.caffe.data.image import pose_input

        np.testing.assert_array_equal(sample.data, pose_input(crop_box(picture(), (14, 6, 66, 54)), 32, 32))
        np.testing.assert_array_equal(sample.label, sample.label_center)

    def test_published_is_one_of_two(self):
        with pytest.raises(RmpeError, match="published 'testres' is not one of 'torch7', 'demo'"):
            SampleFormat(8, 8, None, "testres")


class TestAugmentation:
    def test_half_are_mirrored_with_left_and_right_swapped(self):
        rng, mirrored = np.random.default_rng(0), 0
        label = np.zeros((16, 5, 6), np.float32)
        label[0, 1, 2] = 1  # the right ankle
        sample = Sample(np.full((3, 10, 12), 0.5, np.float32), label, label * 0.5)
        for _ in range(200):
            new = augmented(rng, sample)
            if new.label[5, 1, 3]:  # the left ankle, in the mirrored column
                mirrored += 1
                assert new.label_center[5, 1, 3] == 0.5
                assert new.label.sum() == 1
            else:
                np.testing.assert_array_equal(new.label, label)
        assert 70 < mirrored < 130

    def test_the_picture_is_mirrored_with_the_label(self):
        data = np.zeros((3, 4, 4), np.float32)
        data[:, :, 0] = 0.5
        for seed in range(20):
            new = augmented(np.random.default_rng(seed), Sample(data, np.eye(16, 4)[:, None].astype(np.float32), None))
            left = new.label[0, 0, 0] == 1
            assert (new.data[:, 0, 0] > 0).all() == left
            assert (new.data[:, 0, 3] > 0).all() != left

    def test_each_channel_has_a_factor_of_its_own_between_06_and_14_and_is_cut_at_one(self):
        rng = np.random.default_rng(1)
        label = np.zeros((17, 2, 2), np.float32)
        factors = np.array([augmented(rng, Sample(np.full((3, 2, 2), 0.5, np.float32), label, None)).data[:, 0, 0] / 0.5
                            for _ in range(400)])
        assert 0.6 <= factors.min() < 0.62
        assert 1.38 < factors.max() <= 1.4
        assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.15
        assert augmented(rng, Sample(np.full((3, 2, 2), 0.99, np.float32), label, None)).data.max() <= 1

    @pytest.mark.parametrize("joints", [MPII16, COCO17])
    def test_mirroring_twice_gives_the_joints_back(self, joints):
        order = np.array(joints.mirrored)
        assert (order[order] == np.arange(len(joints))).all()
