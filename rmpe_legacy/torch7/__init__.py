"""Torch7 files: reads any .t7, rebuilds its networks as PyTorch modules, and converts them to Caffe.

``reader`` needs no torch; ``load.load_torch7`` returns a module; ``to_caffe`` makes a prototxt and weights.
"""
