"""The port of Caffe itself: files, layers, networks, data and solvers."""
