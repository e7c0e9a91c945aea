"""Every layer and every graph rule against what the real Caffe gave, array by array."""

from pathlib import Path

import pytest
from harness import Case, Difference, cases

# Layers that only move, choose or compare values: nothing to round, so nothing may differ.
EXACT = {
    "AbsVal", "Accuracy", "ArgMax", "BatchReindex", "Concat", "Crop", "Data", "DummyData", "Filter", "Flatten",
    "HDF5Data", "ImageData", "Input", "Parameter", "Permute", "PredictionHeatmap", "Reshape", "Silence", "Slice",
    "Threshold", "Tile",
} | {"SpatialTransformer"}  # sums, but in an order that is known
HAS_SUMS = {"SpatialTransformer__chained_localisation"}  # a convolution and an inner product give its theta
# Sums in another order, and another library's exp: the largest difference relative to the array's largest value.
# Measured: 9e-7 at most (Bias); one rounding of single precision is 6e-8 to 1.2e-7.
SUMS = 1.5e-6
# Arrays that may differ by more, in absolute numbers, and why.
MORE = {
    "Net__share_params": dict.fromkeys(
        ("pdiff_c1_1", "pdiff_c2_1"), (6e-8, "equal gradients cancel; one rounding is left, on either side")),
}


def is_right(case: Case, difference: Difference) -> bool:
    """Whether one array is within what its case allows."""
    allowed = MORE.get(case.name, {}).get(difference.name)
    if allowed is not None:
        return difference.absolute <= allowed[0]
    return difference.error <= (0.0 if is_exact(case) else SUMS)


def is_exact(case: Case) -> bool:
    """Whether nothing is rounded; of the further cases, only where no other layer of the network does."""
    if case.name in HAS_SUMS:
        return False
    return case.type in EXACT and (case.folder.parent.name == "layers" or case.types <= EXACT)


@pytest.mark.parametrize("folder", [*cases(), *cases("more"), *cases("detection")], ids=lambda path: path.name)
def test_gives_what_caffe_gave(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    case = Case(folder)
    monkeypatch.chdir(folder if case.type != "HDF5Output" else tmp_path)  # some layers name files beside their prototxt
    found = list(case.differences())
    assert found, "the case compares nothing"
    wrong = [str(d) for d in found if not is_right(case, d)]
    assert not wrong, "not what Caffe gave:\n" + "\n".join(wrong)
    assert not case.broken_promises


def test_no_case_got_lost():
    assert len(cases()) == 394
    assert len(cases("more")) == 360
    assert len(cases("detection")) == 75
