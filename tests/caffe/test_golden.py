"""Every layer and every graph rule against what the real Caffe gave, array by array."""

from pathlib import Path

import pytest
from difference import Difference, beyond
from golden_limits import MORE, wrong
from harness import Case, by_kind, cases

from rmpe_legacy.cli.layer_report import Proof, read_evidence

RECORDED = {proof.case: proof for proof in read_evidence().proofs}
# Another processor sums in another order. An array may be this many times further from Caffe's than rmpe layers says,
# or this far in any case: a few roundings of single precision.
TIMES, AT_LEAST = 4, 5e-7


def further_than_recorded(recorded: Proof, found: list[Difference]) -> list[str]:
    """A sentence about each array that is further from Caffe's than the errors that `rmpe layers` shows allow."""
    gaps = recorded.top, recorded.diff, recorded.param_diff
    return [sentence for group, then in zip(by_kind(found), gaps, strict=True)
            for sentence in beyond(group, max(TIMES * then.relative if then else 0, AT_LEAST))]


@pytest.mark.parametrize("folder", cases("layers", "variants", "detection", "forks"), ids=lambda path: path.name)
def test_gives_what_caffe_gave(folder: Path, tmp_path: Path):
    """In the case's own dialect and phase, and in one of the others in which Caffe gave the same.

    (tools/measure_layers.py runs them all.)
    """
    own = Case(folder)
    others = own.others
    one = [others[len(folder.name) % len(others)]] if others else []
    for case in (own, *one):
        found = case.compare(tmp_path)
        assert found, "the case compares nothing"
        sentences = [sentence for difference in found for sentence in wrong(case, difference)]
        assert not sentences, f"not what Caffe gave ({case.run}):\n" + "\n".join(sentences)
        assert not case.broken_promises
        sentences = [] if case.name in MORE else further_than_recorded(RECORDED[case.id], found)
        assert not sentences, "further than recorded (tools/measure_layers.py):\n" + "\n".join(sentences)


def test_no_case_got_lost():
    assert len(cases("layers")) == 394
    assert len(cases("variants")) == 362
    assert len(cases("detection")) == 75
