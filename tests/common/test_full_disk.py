"""Weights on a disk that is full: a sentence, and nothing left behind."""

import resource
from collections.abc import Iterator

import numpy as np
import pytest

from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.hdf5_writer import write_hdf5_weights
from rmpe_legacy.caffe.weights import NamedLayer, write_safetensors, write_state_dict
from rmpe_legacy.errors import FileError
from rmpe_legacy.files import all_or_none

LAYERS = [NamedLayer("a", "InnerProduct", ("a.weight",))]
TRAINED = [TrainedLayer("a", "InnerProduct", (StoredBlob((500, 600), np.ones(300_000, np.float32)),))]
WRITERS = {"a.safetensors": lambda path: write_safetensors(path, LAYERS, TRAINED),
           "a.pt": lambda path: write_state_dict(path, LAYERS, TRAINED),
           "a.caffemodel.h5": lambda path: write_hdf5_weights(path, TRAINED)}


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process grows beyond half a megabyte: the system's own error, if not the one of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_is_a_sentence(tmp_path, small_files, name):
    (tmp_path / name).write_text("what was there before")
    with pytest.raises(FileError, match=rf"{name}: cannot be written: File too large"), \
            all_or_none(tmp_path / name) as [place]:
        WRITERS[name](place)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "what was there before")]
