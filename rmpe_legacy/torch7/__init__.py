"""Torch7's files: read any .t7, rebuild its networks as PyTorch modules, and turn them into Caffe's.

``reader`` needs no torch; ``load.load_torch7`` gives a module that runs; ``to_caffe`` writes prototxt and weights.
"""
