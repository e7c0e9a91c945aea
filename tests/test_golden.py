"""Every layer and every graph rule against what the real Caffe gave, array by array."""

from pathlib import Path

import pytest
from harness import Case, cases

# Layers that only move, choose or compare values: nothing to round, so nothing may differ.
EXACT = {
    "AbsVal", "Accuracy", "ArgMax", "BatchReindex", "Concat", "Crop", "DummyData", "Filter", "Flatten", "HDF5Data",
    "Input", "Parameter", "Permute", "PredictionHeatmap", "Reshape", "Silence", "Slice", "Threshold", "Tile",
}
# Sums in another order, and another library's exp: the largest difference relative to the array's largest value.
# Measured: 9e-7 at most (Bias); one rounding of single precision is 6e-8 to 1.2e-7.
SUMS = 1.5e-6
# Cases that need more, and why.
MORE = {
    "Net__share_params": (2.0, "pdiff_c1_1, pdiff_c2_1: two layers' equal gradients cancel to 6e-8; 0 is right too"),
}


def limit(case: Case) -> float:
    if case.name in MORE:
        return MORE[case.name][0]
    return 0.0 if case.type in EXACT else SUMS


@pytest.mark.parametrize("folder", cases(), ids=lambda path: path.name)
def test_gives_what_caffe_gave(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)  # some layers name files beside their prototxt
    case = Case(folder)
    found = list(case.differences())
    assert found, "the case compares nothing"
    wrong = [str(d) for d in found if not d.error <= limit(case)]
    assert not wrong, "not what Caffe gave:\n" + "\n".join(wrong)


def test_no_case_got_lost():
    assert len(cases()) == 395
