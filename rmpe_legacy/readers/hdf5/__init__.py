"""HDF5 files read without HDF5's library, which trusts the sizes that a file claims. Writing is h5py's.

What Caffe, Torch, Matlab and h5py write is read: groups in either form, arrays of numbers, contiguous, compact or in
chunks, plain or compressed with gzip. Differs: layouts of HDF5 1.10 and later, and other compression, are refused.
Source: HDF5 File Format Specification, version 3.0.
"""

from .file import Dataset, Group, open_hdf5

__all__ = ["Dataset", "Group", "open_hdf5"]
