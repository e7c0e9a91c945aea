"""Compare a network with blobs that were stored when the network was known to be correct. Run with pytest.

Store the blobs once:

    rmpe forward deploy.prototxt net.caffemodel --input data=photo.jpg --blobs all --output reference.npz

The environment variables PROTOTXT, WEIGHTS and REFERENCE name the files, so the same test works for several networks.
"""

import os

from rmpe_legacy.compare.convert import CompareOptions, run_verify
from rmpe_legacy.formats.base import Setting


def test_network_still_computes_the_same():
    network = f"{os.environ['PROTOTXT']},{os.environ['WEIGHTS']}"
    verdict = run_verify(os.environ["REFERENCE"], network, Setting(), CompareOptions(tolerance=1e-5))
    assert verdict.same, str(verdict)
