"""Compare a network with blobs that were stored when it was known to be right. Run with pytest.

Store them once:

    rmpe forward deploy.prototxt net.caffemodel --input data=photo.jpg --blobs all --output reference.npz

PROTOTXT, WEIGHTS and REFERENCE name the files (environment variables, so that the same test serves several networks).
"""

import os

from rmpe_legacy.compare.convert import CompareOptions, run_verify
from rmpe_legacy.formats.base import Setting


def test_network_still_computes_the_same():
    network = f"{os.environ['PROTOTXT']},{os.environ['WEIGHTS']}"
    verdict = run_verify(os.environ["REFERENCE"], network, Setting(), CompareOptions(tolerance=1e-5))
    assert verdict.same, str(verdict)
