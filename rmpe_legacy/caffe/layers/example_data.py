"""The sizes of the data that Caffe's own examples make, for networks whose data is not there.

Sources: examples/mnist/convert_mnist_data.cpp, examples/siamese/convert_mnist_siamese_data.cpp,
examples/cifar10/convert_cifar_data.cpp and examples/brewing-logreg.ipynb of BVLC/caffe@9b89154; C3D v1.0 names its
stores with hyphens.
"""

from __future__ import annotations

import re

from .base import Shape

_EXAMPLES: tuple[tuple[str, str, Shape], ...] = (
    ("MNIST", r"mnist[_-](train|test)[_-](lmdb|leveldb)", (1, 28, 28)),
    ("pairs from MNIST", r"mnist_siamese_(train|test)_(lmdb|leveldb)", (2, 28, 28)),
    ("CIFAR-10", r"cifar(10)?[_-](train|test)[_-](lmdb|leveldb)", (3, 32, 32)),
    ("the hdf5_classification example", r"hdf5_classification/data/(train|test)\.txt", (4,)),
)


def example_shape(source: str) -> tuple[str, Shape]:
    """Return the name of the example whose data has this path, and the shape of one of its samples; "" and () if none.

    The path's end decides, since everyone keeps these files elsewhere.
    """
    path = source.replace("\\", "/").rstrip("/")
    for name, ending, shape in _EXAMPLES:
        if re.search(rf"(^|/){ending}$", path):
            return name, shape
    return "", ()
