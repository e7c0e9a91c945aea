"""MPII multi-person AP: the official toolkit's numbers, a slow and obvious reference, and each of its quirks."""

import json
import math

import numpy as np
import pytest
from difference import Golden
from evaluation_data import GOLDEN, groups_of, made_up_groups
from shared import shared

from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.evaluation.joints import EVALUATED
from rmpe_legacy.evaluation.mpii import multi_person_ap


def slow_ap(predictions, truth, heads):
    """The protocol in plain loops, a person and a joint at a time."""
    lists = [[] for _ in range(14)]  # per joint: (score, right or wrong), in order of appearance
    annotated = [0] * 14
    for pred, gt, head in zip(predictions, truth, heads, strict=True):
        if not len(pred) or not len(gt):
            continue  # the loops over pairs of people never run
        there = [[not math.isnan(x + y) for x, y in person] for person in gt]
        for person in there:
            annotated = [n + flag for n, flag in zip(annotated, person, strict=True)]
        hits = [[[there[g][j] and math.dist(p[j, :2], gt[g][j]) / head[g] <= 0.5 for j in range(14)]
                 for g in range(len(gt))] for p in pred]
        share = [[sum(hits[p][g]) / sum(there[g]) if any(there[g]) else 0 for g in range(len(gt))]
                 for p in range(len(pred))]
        favourite = [max(range(len(gt)), key=lambda g, row=row: (row[g] if any(there[g]) else -1)) for row in share]
        owner = {}
        for g in range(len(gt)):
            bidders = [p for p in range(len(pred)) if favourite[p] == g and share[p][g] > 0]
            if bidders:
                owner[max(bidders, key=lambda p, g=g: share[p][g])] = g
        for i, p in enumerate(pred):
            for j in range(14):
                if not math.isnan(p[j, 0] + p[j, 1]):
                    lists[j].append((p[j, 2], i in owner and hits[i][owner[i]][j]))
    return [100 * slow_area(entries, n) for entries, n in zip(lists, annotated, strict=True)], annotated


def slow_area(entries, annotated):
    if not annotated:
        return math.nan if entries else 0
    ranked = sorted(entries, key=lambda entry: -entry[0])  # stable
    points, right = [], 0
    for rank, (_, hit) in enumerate(ranked, 1):
        right += hit
        points.append((right / annotated, right / rank))
    area = reached = 0
    for i, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[i:])
        reached = recall
    return area


class TestOfficialNumbers:
    def test_synthetic_groups_as_octave_gave_them(self):
        archive = Golden.read(GOLDEN / "mpii_ap_synthetic.npz", "the Matlab toolkit")
        result = multi_person_ap(*groups_of(archive))
        archive.check("official_ap", [*result.joint_ap, result.mean], 1e-9)

    def test_ppn_validation_predictions(self):
        result = multi_person_ap(*groups_of(np.load(shared("expected", "ppn_val_arrays.npz"))))
        want = json.loads(shared("expected", "ppn_val_ap.json").read_text())
        np.testing.assert_allclose(result.joint_ap, [want["ap14"][j] for j in EVALUATED], rtol=0, atol=1e-9)
        assert result.mean == pytest.approx(want["mean"], abs=1e-9)
        assert result.table == pytest.approx(want["table"], abs=1e-9)
        assert result.annotated.tolist() == [want["nGT"][j] for j in EVALUATED]
        assert result.printed("PPN") == (
            "     &Head & Shoulder & Elbow & Wrist & Hip & Knee  & Ankle & Total\\\\\n"
            "PPN& 93.8  & 90.6  & 81.1  & 73.7  & 76.3  & 72.8 & 66.9 & 79.3 \\\\")


@pytest.mark.parametrize("seed", range(60))
def test_random_groups_as_the_slow_reference(seed):
    groups = made_up_groups(seed)
    want, annotated = slow_ap(*groups)
    result = multi_person_ap(*groups)
    np.testing.assert_allclose(result.joint_ap, want, rtol=0, atol=1e-10)
    assert result.annotated.tolist() == annotated


def person(x=0.0, score=0.5):
    """(1, 14, 3): all joints in one place."""
    return np.tile([x, 0.0, score], (1, 14, 1))


def all_joints(result) -> float:
    """The one AP that all joints have."""
    assert len(set(result.joint_ap.tolist())) == 1
    return float(result.joint_ap[0])


HEAD = np.array([10.0])
NOBODY = np.zeros((0, 14, 3))
MISSING = np.full((1, 14, 2), np.nan)


class TestQuirks:
    def test_people_of_a_group_without_predictions_do_not_count_as_missed(self):
        result = multi_person_ap([person(), NOBODY], [person()[..., :2]] * 2, [HEAD, HEAD])
        assert (all_joints(result), result.annotated[0]) == (100, 1)

    def test_predictions_of_a_group_without_people_do_not_count_as_wrong(self):
        result = multi_person_ap([person(score=0.1), person(score=0.9)], [person()[..., :2], NOBODY[..., :2]],
                                 [HEAD, HEAD[:0]])
        assert all_joints(result) == 100

    def test_a_person_without_joints_takes_no_prediction(self):
        truth = np.concatenate([MISSING, person()[..., :2]])
        assert all_joints(multi_person_ap([person()], [truth], [np.repeat(HEAD, 2)])) == 100

    def test_a_joint_that_is_predicted_but_nowhere_annotated_has_no_ap(self):
        truth = person()[..., :2].copy()
        truth[0, 3] = np.nan
        result = multi_person_ap([person()], [truth], [HEAD])
        assert np.flatnonzero(np.isnan(result.joint_ap)).tolist() == [3]
        assert math.isnan(result.mean)
        assert result.printed("x").endswith("& 100.0  & 100.0  & 100.0  & 100.0  & NaN  & 100.0 & 100.0 & NaN \\\\")

    def test_a_joint_that_is_neither_predicted_nor_annotated_has_ap_0(self):
        pred, truth = person(), person()[..., :2].copy()
        pred[0, 3], truth[0, 3] = np.nan, np.nan
        assert multi_person_ap([pred], [truth], [HEAD]).joint_ap[3] == 0

    def test_a_predicted_joint_where_the_person_has_none_is_wrong(self):
        truth = np.concatenate([person()[..., :2], person(100)[..., :2]])
        truth[0, 3] = np.nan
        pred = np.concatenate([person(score=0.9), person(100, score=0.1)])
        result = multi_person_ap([pred], [truth], [np.repeat(HEAD, 2)])
        assert (result.joint_ap[3], result.joint_ap[4]) == (50, 100)

    def test_a_missing_predicted_joint_is_passed_over(self):
        pred = person()
        pred[0, 3] = np.nan
        result = multi_person_ap([pred], [person()[..., :2]], [HEAD])
        assert (result.joint_ap[3], result.joint_ap[4]) == (0, 100)

    def test_scores_play_no_part_in_the_assignment(self):
        close, closer = person(score=0.9), person(score=0.1)
        close[0, 5, 0] = 50
        result = multi_person_ap([np.concatenate([close, closer])], [person()[..., :2]], [HEAD])
        assert result.joint_ap[0] == 50  # the better-scored pose is the false one

    def test_the_first_of_equal_poses_is_taken(self):
        for scores, ap in (((0.9, 0.1), 100), ((0.1, 0.9), 50)):
            pair = np.concatenate([person(score=s) for s in scores])
            assert all_joints(multi_person_ap([pair], [person()[..., :2]], [HEAD])) == ap

    def test_equal_scores_keep_their_order(self):
        right, wrong, truth = person(), person(90), person()[..., :2]
        assert all_joints(multi_person_ap([right, wrong], [truth] * 2, [HEAD] * 2)) == 50
        assert all_joints(multi_person_ap([wrong, right], [truth] * 2, [HEAD] * 2)) == 25

    def test_a_joint_at_exactly_half_a_head_matches(self):
        for x, ap in ((5.0, 100), (np.nextafter(5.0, 6), 0)):
            assert all_joints(multi_person_ap([person(x)], [person()[..., :2]], [HEAD])) == ap

    def test_a_score_that_is_not_a_number_ranks_first(self):
        truth = person()[..., :2]
        for x, ap in ((0, 50), (90, 25)):  # the unscored pose right and the other wrong, and the reverse
            result = multi_person_ap([person(90 - x, 0.9), person(x, np.nan)], [truth] * 2, [HEAD] * 2)
            assert all_joints(result) == ap

    def test_a_head_of_no_size_matches_nothing(self):
        assert all_joints(multi_person_ap([person()], [person()[..., :2]], [np.zeros(1)])) == 0


class TestProperties:
    """With scores that are all different, so that order decides nothing."""

    @pytest.fixture(params=range(8))
    def groups(self, request):
        predictions, truth, heads = made_up_groups(request.param, 20)
        rng = np.random.default_rng(request.param)
        for p in predictions:
            p[..., 2] = np.where(np.isnan(p[..., 2]), np.nan, rng.random(p.shape[:2]))
        return predictions, truth, heads

    def same(self, one, other):
        np.testing.assert_allclose(multi_person_ap(*one).joint_ap, multi_person_ap(*other).joint_ap, atol=1e-10)

    def test_the_order_of_groups_does_not_matter(self, groups):
        order = np.random.default_rng(5).permutation(20)
        self.same(groups, [[part[i] for i in order] for part in groups])

    def test_the_unit_of_length_does_not_matter(self, groups):
        predictions, truth, heads = groups
        self.same(groups, ([p * [4, 4, 1] for p in predictions], [g * 4 for g in truth], [h * 4 for h in heads]))

    def test_only_the_order_of_scores_matters(self, groups):
        predictions, truth, heads = groups
        self.same(groups, ([np.concatenate([p[..., :2], np.exp(3 * p[..., 2:])], axis=2) for p in predictions],
                           truth, heads))

    def test_the_truth_itself_reaches_100(self, groups):
        truth = [np.unique(g[~np.isnan(g).all(axis=(1, 2))], axis=0) * 10 for g in groups[1]]
        perfect = [np.concatenate([g, np.ones((*g.shape[:2], 1))], axis=2) for g in truth]
        result = multi_person_ap(perfect, truth, [np.ones(len(g)) for g in truth])
        np.testing.assert_allclose(result.joint_ap, 100)


class TestMistakes:
    def test_another_number_of_groups(self):
        with pytest.raises(EvaluationError, match="predictions have 2 groups, ground truth 1 and head sizes 1"):
            multi_person_ap([person()] * 2, [person()[..., :2]], [HEAD])

    def test_another_shape(self):
        with pytest.raises(EvaluationError, match=r"predictions of group 1 are \(1, 14, 2\); expected \(people, 14, "
                                                  r"3\)"):
            multi_person_ap([person()[..., :2]], [person()[..., :2]], [HEAD])
        with pytest.raises(EvaluationError, match=r"head sizes of group 1 are \(1, 1\); expected \(people,\)"):
            multi_person_ap([person()], [person()[..., :2]], [HEAD[None]])

    def test_no_head_size(self):
        with pytest.raises(EvaluationError, match="group 1 has 1 persons but 0 head sizes"):
            multi_person_ap([person()], [person()[..., :2]], [HEAD[:0]])

    def test_no_numbers(self):
        with pytest.raises(EvaluationError, match="ground truth of group 1 are not an array of numbers"):
            multi_person_ap([person()], [[["a"]]], [HEAD])

    def test_no_groups_at_all(self):
        result = multi_person_ap([], [], [])
        assert (result.mean, result.annotated.sum()) == (0, 0)

    def test_lists_serve_as_well(self):
        result = multi_person_ap([person().tolist(), []], [person()[..., :2].tolist(), []], [[10.0], []])
        assert all_joints(result) == 100
