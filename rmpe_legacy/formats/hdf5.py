"""Caffe's weights as HDF5, .caffemodel.h5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmpe_legacy.caffe.proto.hdf5_writer import write_hdf5_weights

from .base import Format, Network, Writer


def _prepare(network: Network, files: Sequence[Path]) -> Writer:
    weights = network.owned
    return Writer(lambda paths: write_hdf5_weights(paths[0], weights))


HDF5 = Format("Caffe's weights as HDF5", (".h5",), prepare=_prepare, write_weights=write_hdf5_weights)
