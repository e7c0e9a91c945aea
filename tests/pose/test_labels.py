"""Where labels go: they keep their place if it is free, and else move to the nearest that is."""

from itertools import combinations

import numpy as np
import pytest

from rmpe_legacy.pose.labels import place_labels


def _covered(corners: np.ndarray, sizes: np.ndarray) -> float:
    """The area that labels share, counted pair by pair."""
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    return sum(max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
               for a, b in combinations(boxes, 2))


def test_labels_that_are_apart_stay():
    corners = np.array([[0.0, 0.0], [50.0, 3.5], [0.0, 30.25]])
    np.testing.assert_array_equal(place_labels(corners, [(40, 10)] * 3, (200, 100)), corners)


def test_the_second_of_two_moves_to_the_nearest_free_place():
    placed = place_labels([(20, 30), (20, 30)], [(40, 10)] * 2, (200, 100))
    np.testing.assert_array_equal(placed, [(20, 30), (20, 20)])
    placed = place_labels([(20, 0), (20, 0)], [(40, 10)] * 2, (200, 100))  # no room above
    np.testing.assert_array_equal(placed, [(20, 0), (20, 10)])


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_has_labels_of_its_own(seed):
    rng = np.random.default_rng(seed)
    corners, sizes = rng.uniform(-20, 420, (40, 2)) * (1.5, 1), rng.uniform((15, 12), (60, 14), (40, 2))
    placed = place_labels(corners, sizes, (600, 400))
    assert _covered(placed, sizes) == 0 < _covered(corners, sizes)
    assert (placed >= 0).all()
    assert (placed + sizes <= (600, 400)).all()


def test_without_room_they_cover_least():
    corners, sizes = np.zeros((4, 2)), np.array([(40.0, 10.0)] * 4)
    placed = place_labels(corners, sizes, (40, 20))  # two fit
    assert _covered(placed, sizes) == 2 * 400
    assert (placed + sizes <= (40, 20)).all()


def test_a_label_larger_than_the_image_starts_at_its_edge():
    np.testing.assert_array_equal(place_labels([(5, 5)], [(40, 10)], (20, 8)), [(0, 0)])


def test_no_labels():
    assert place_labels([], [], (20, 8)).shape == (0, 2)
