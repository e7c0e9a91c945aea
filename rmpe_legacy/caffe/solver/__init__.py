"""Caffe's solvers: solver.prototxt, the six update rules, learning rates, snapshots, and tests during training."""
