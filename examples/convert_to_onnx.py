"""Convert a Caffe network to ONNX, compare the two, and run the result in onnxruntime.

python convert_to_onnx.py deploy.prototxt net.caffemodel net.onnx
"""

import sys

import numpy as np
import onnxruntime

from rmpe_legacy.compare.convert import CompareOptions, run_convert
from rmpe_legacy.formats.base import Setting


def main(prototxt: str, caffemodel: str, destination: str) -> None:
    result = run_convert([prototxt, caffemodel], destination, Setting(), compare=CompareOptions(tolerance=1e-4))
    print(result.verdict)
    if not result.same:
        sys.exit(1)

    session = onnxruntime.InferenceSession(destination)
    inputs = {}
    for each in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in each.shape]  # a free batch axis has a name
        inputs[each.name] = np.zeros(shape, np.float32)
    for output, value in zip(session.get_outputs(), session.run(None, inputs), strict=True):
        print(output.name, value.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
