"""How far an array of a golden layer may be from what Caffe gave."""

from difference import Difference, beyond
from harness import Case

from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.layers.registry import layer_class

HAS_SUMS = {"SpatialTransformer__chained_localisation"}  # a convolution and an inner product give its theta
# Sums in another order, and another library's exp: the largest difference relative to the array's largest value.
# Measured: 9e-7 at most (Bias); one rounding of single precision is 6e-8 to 1.2e-7.
SUMS = 1.5e-6
# Arrays that may differ by more, in absolute numbers, and why.
MORE = {
    "Net__share_params": dict.fromkeys(
        ("pdiff_c1_1", "pdiff_c2_1"), (6e-8, "equal gradients cancel; one rounding is left, on either side")),
    "SSIMLoss__smaller_than_window": {
        "blob_l": (1e-6, "means of squares less squares of means; in double precision it is 0.2597968")},
    "Lstm__ctpn_one_sample_cpu": {"pdiff_l_2": (6e-7, "sums of gradients of both signs")},
}


def wrong(case: Case, difference: Difference) -> list[str]:
    """A sentence if an array is further from Caffe's than its case allows."""
    allowed = MORE.get(case.name, {}).get(difference.name)
    if allowed is not None:
        return beyond([difference], allowed[0], relative=False)
    return beyond([difference], 0.0 if is_exact(case) else SUMS)


def is_exact(case: Case) -> bool:
    """Whether nothing is rounded; of the further cases, only where no other layer of the network does."""
    if case.name in HAS_SUMS:
        return False
    types = {case.type} if case.folder.parent.name == "layers" else case.types | {case.type}
    return all(name in known_types() and layer_class(name).exact for name in types)
