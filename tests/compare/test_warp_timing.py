"""The timing of the spatial transformer against grid_sample: both do the same work, and a row holds the medians."""

from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close

from rmpe_legacy.compare import warp_timing
from rmpe_legacy.compare.warp_timing import contenders, measure, ours, seconds, theirs
from rmpe_legacy.errors import RmpeError

SIZE = (2, 3, 8, 6)


def test_both_compute_the_same_warp_and_gradients():
    work = contenders(SIZE, "cpu")
    assert list(work) == ["forward", "forward + backward"]
    assert_close(work["forward"][0](), work["forward"][1](), atol=1e-5, rtol=0)
    theirs, ours = (both() for both in work["forward + backward"])
    assert_close(theirs[0], ours[0], atol=1e-4, rtol=0)  # of the image; theta's differ, because x comes first in theirs
    assert theirs[1].shape == (2, 2, 3)
    assert ours[1].shape == (2, 6)


def test_theta_for_grid_sample_by_hand():
    theta = torch.tensor([[1.0, 0, 0, 0, 1, 0]])  # the identity; grid_sample's cells lie half a cell further
    assert warp_timing.grid_theta(theta, 4, 8).tolist() == [[[1, 0, 0], [0, 1, 0]]]
    moved = torch.tensor([[1.0, 0, 0.5, 0, 1, -0.25]])  # rows first
    assert warp_timing.grid_theta(moved, 4, 8).tolist() == [[[1, 0, -0.25], [0, 1, 0.5]]]


def test_a_row_holds_medians_and_the_median_ratio(monkeypatch: pytest.MonkeyPatch):
    taken: Iterator[tuple[float, float]] = iter(
        [(9.0, 9.0)] * 2 * warp_timing.WARM_UP + [(0.004, 0.002), (0.002, 0.001), (0.008, 0.001), (0.001, 0.001),
                                                  (0.006, 0.009), (0.003, 0.003)])
    monkeypatch.setattr(warp_timing, "seconds", lambda work, device: next(taken))
    row = warp_timing.compare(SIZE, "forward", list, list, "cpu", 3)
    assert (row.size, row.work) == (SIZE, "forward")
    assert (row.theirs_ms, row.theirs_best_ms, row.ours_ms, row.ours_best_ms) == pytest.approx((6, 4, 2, 1))
    assert (row.times_as_fast, row.times_as_fast_cpu) == pytest.approx((2, 2))


def test_rows_are_measured_for_each_kind_of_work():
    rows = measure(SIZE, "cpu", 1)
    assert [row.work for row in rows] == ["forward", "forward + backward"]
    assert all(row.theirs_ms >= row.theirs_best_ms > 0 and row.times_as_fast > 0 for row in rows)


def test_time_is_that_of_the_work():
    wall, cpu = seconds(lambda: sum(range(300_000)), "cpu")
    assert wall > 0
    assert cpu > 0


def test_warps_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warp_timing, "ours", lambda image, theta: ours(image, theta) + 1)
    with pytest.raises(RmpeError, match=r"the two warps differ by 1 at \(2, 3, 8, 6\), so there is nothing to compare"):
        contenders(SIZE, "cpu")
    assert theirs(torch.ones(1, 1, 4, 4), torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])).shape == (1, 1, 4, 4)
