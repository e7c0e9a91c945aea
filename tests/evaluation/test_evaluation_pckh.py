"""PCKh: what three programs of other people gave, and where their protocols differ."""

import json
import math

import numpy as np
import pytest
from shared import shared

from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.evaluation.files import read_joints, read_people
from rmpe_legacy.evaluation.joints import EVALUATED, MPII
from rmpe_legacy.evaluation.pckh import PROTOCOLS, pckh

N = 7
HEADS = np.full(N, 10.0)


def people(x=50.0, y=50.0):
    """(7, 16, 2): everybody's joints in one place."""
    return np.tile([x, y], (N, 16, 1)).astype(float)


def off_by(distance, joints=16):
    """Predictions whose first joints are so far off."""
    out = people()
    out[:, :joints, 0] += distance
    return out


class TestOtherPeoplesNumbers:
    @pytest.fixture
    def expected(self):
        return json.loads(shared("expected", "pckh.json").read_text())["hgdemo valid-ours"]

    @pytest.fixture
    def hourglass(self):
        return (read_joints(shared("mpii_single", "valid-ours.h5")),
                *read_people(shared("mpii_single", "valid.h5")))

    @pytest.fixture
    def tompson(self):
        """Tompson's ground truth has fractions of pixels, which the hourglass's valid.h5 cuts off."""
        truth = shared("mpii_single", "detections_our_format.mat")
        if not truth.exists():
            pytest.skip(f"{truth.name} of bearpaw/pytorch-pose is not in RMPE_SHARED")
        return read_joints(truth.with_name("valid-ours.h5")), *read_people(truth)

    def test_demo_to_the_last_digit(self, expected, hourglass):
        want, result = expected["hgdemo_protocol"], pckh(*hourglass, "demo")
        assert dict(zip(result.joints, result.per_joint, strict=True)) == pytest.approx(want["per_joint"], abs=1e-12)
        assert dict(zip(result.joints, result.annotated, strict=True)) == want["n"]
        assert {k: result.table[k] for k in want["displayPCK_pairs"]} == pytest.approx(
            want["displayPCK_pairs"], abs=1e-12)
        assert (round(result.table["Mean14"], 3), round(result.table["Mean16"], 3)) == (87.561, 88.493)

    def test_official_to_the_last_digit(self, expected, tompson):
        want, result = expected["official_computePCK_octave"], pckh(*tompson, "official")
        np.testing.assert_allclose(result.per_joint, want["per_joint14"], rtol=0, atol=1e-12)
        assert result.table["UBody"] == pytest.approx(want["UBody"], abs=1e-12)
        assert result.table["Total"] == pytest.approx(want["Total"], abs=1e-12)

    def test_tompson_to_the_last_digit(self, expected, tompson):
        assert pckh(*tompson, "tompson").table == pytest.approx(expected["tompson_bearpaw_protocol"], abs=1e-12)

    def test_official_on_the_cut_truth_counts_three_joints_otherwise(self, expected, hourglass):
        """valid.h5 is Tompson's truth without its fractions: right ankles, necks and head tops at the limit flip."""
        result = pckh(*hourglass, "official")
        hits = result.per_joint / 100 * result.annotated
        want = np.array(expected["official_computePCK_octave"]["per_joint14"]) / 100 * result.annotated
        changed = dict(zip(EVALUATED, (hits - want).round(9).tolist(), strict=True))
        assert {joint: change for joint, change in changed.items() if change} == {"rank": 1, "neck": 1, "head": -2}
        assert result.annotated.sum() == 38430


class TestSlowReference:
    @pytest.fixture
    def case(self):
        rng = np.random.default_rng(11)
        truth = rng.uniform(-5, 40, (23, 16, 2))
        pred = truth + rng.choice([0.0, 3.0, 4.0, 6.0], truth.shape)
        truth[rng.random((23, 16)) < 0.2] = np.nan
        pred[rng.random((23, 16)) < 0.1] = np.nan
        return pred, truth, rng.uniform(6, 14, 23)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_one_person_and_joint_at_a_time(self, protocol, case):
        result = pckh(*case, protocol)
        pred, truth, heads = (part.tolist() for part in case)
        for name, value, count in zip(result.joints, result.per_joint, result.annotated, strict=True):
            j, there, hits = MPII.index(name), 0, 0
            for p, t, head in zip(pred, truth, heads, strict=True):
                if math.isnan(t[j][0]) or (protocol == "demo" and min(t[j]) <= 1):
                    continue
                there += 1
                distance = math.dist(p[j], t[j]) / head
                hits += distance < 0.5 if protocol == "tompson" else distance <= 0.5
            assert count == there
            assert value == pytest.approx(100 * hits / there, abs=1e-12)

    def test_curves_end_at_the_table(self, case):
        for protocol in PROTOCOLS:
            result = pckh(*case, protocol)
            assert (result.thresholds[0], result.thresholds[-1]) == (0, 0.5)
            assert (np.diff(result.curves, axis=0) >= 0).all()
            np.testing.assert_array_equal(result.curves[-1], result.per_joint)
        assert pckh(*case).total_curve[-1] == pckh(*case).table["Total"]

    def test_totals_are_of_all_joints_together(self, case):
        result, tompson = pckh(*case), pckh(*case, "tompson")
        pooled = (result.per_joint * result.annotated).sum() / result.annotated.sum()
        assert result.table["Total"] == pytest.approx(pooled)
        upper = slice(6, 12)
        assert result.table["UBody"] == pytest.approx(
            (result.per_joint * result.annotated)[upper].sum() / result.annotated[upper].sum())
        assert tompson.table["Pooled14"] == pytest.approx(pooled)  # nothing lies on the threshold itself
        assert tompson.table["Mean14"] == pytest.approx(result.per_joint.mean())


class TestProtocols:
    def test_a_joint_at_exactly_half_a_head(self):
        hits = {protocol: set(pckh(off_by(5.0), people(), HEADS, protocol).per_joint) for protocol in PROTOCOLS}
        assert hits == {"official": {100}, "tompson": {0}, "demo": {100}}

    def test_head(self):
        """Neck right, head top wrong."""
        pred = people()
        pred[:, MPII.index("head")] += 50
        heads = {protocol: pckh(pred, people(), HEADS, protocol).table["Head"] for protocol in PROTOCOLS}
        assert heads == {"official": 50, "tompson": 0, "demo": 50}

    def test_joints_near_the_border_of_the_picture(self):
        for protocol, counted in (("official", True), ("tompson", True), ("demo", False)):
            result = pckh(people(1.0), people(1.0), HEADS, protocol)
            assert bool(result.annotated.all()) == counted

    def test_what_is_not_predicted_is_a_miss(self):
        pred = people()
        pred[0] = np.nan
        for protocol in PROTOCOLS:
            np.testing.assert_allclose(pckh(pred, people(), HEADS, protocol).per_joint, 100 * 6 / 7)

    def test_what_is_not_annotated_does_not_count(self):
        truth = people()
        truth[:, 3], truth[0, 4] = np.nan, np.nan
        for protocol in PROTOCOLS:
            result = pckh(people(), truth, HEADS, protocol)
            value = dict(zip(result.joints, result.per_joint, strict=True))
            assert math.isnan(value["lhip"])
            assert value["lkne"] == 100
            assert math.isnan(result.table["Hip"])

    def test_a_head_of_no_size(self):
        """0/0: the official toolkit takes a perfect joint for not annotated, the others for a miss."""
        heads = HEADS.copy()
        heads[0] = 0
        for protocol, value, count in (("official", 100, 6), ("tompson", 600 / 7, 7), ("demo", 600 / 7, 7)):
            result = pckh(people(), people(), heads, protocol)
            np.testing.assert_allclose(result.per_joint, value)
            assert set(result.annotated) == {count}


class TestPrinted:
    def test_official(self):
        assert pckh(off_by(5.0, 8), people(), HEADS).printed("me") == (
            "    &Head & Shoulder & Elbow & Wrist & Hip & Knee  & Ankle & UBody & Total \\\\\n"
            "me& 100.0  & 100.0  & 100.0  & 100.0  & 100.0  & 100.0 & 100.0 & 100.0 & 100.0 \\\\\n"
            "me, AUC: 57.6")  # eight joints at once, six only at the last of 50 steps: (8 + 6 / 100) / 14

    def test_tompson(self):
        assert pckh(off_by(9.0, 3), people(), HEADS, "tompson").printed("a.mat").splitlines() == [
            "Prediction file: a.mat", "",
            "Head,   Shoulder, Elbow,  Wrist,   Hip ,     Knee  , Ankle ,  Mean",
            "100.00  100.00     100.00  100.00   50.00   50.00   50.00   78.57"]

    def test_demo(self):
        lines = pckh(off_by(9.0, 3), people(), HEADS, "demo").printed("me").splitlines()
        assert lines[:6] == ["Head\t", "me\t1\t", "Knee\t", "me\t0.5\t", "Ankle\t", "me\t0.5\t"]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "sentence"), [
        ((people(), people(), HEADS, "oficial"), "protocol 'oficial' is not one of official, tompson, demo"),
        ((people()[:3], people(), HEADS), r"3 predictions, 7 persons and head sizes \(7,\)"),
        ((people(), people(), HEADS[:3]), r"7 predictions, 7 persons and head sizes \(3,\)"),
        ((people()[:, :14], people(), HEADS), r"predictions are \(7, 14, 2\); expected \(persons, 16, 2\)"),
        ((people(), [["a"]], HEADS), "ground truth are not an array of numbers"),
    ])
    def test_is_a_sentence(self, arguments, sentence):
        with pytest.raises(EvaluationError, match=sentence):
            pckh(*arguments)

    def test_nobody(self):
        result = pckh(np.zeros((0, 16, 2)), np.zeros((0, 16, 2)), np.zeros(0))
        assert math.isnan(result.table["Total"])
