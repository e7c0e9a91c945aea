"""Caffe's file formats: the schema of three dialects, prototxt, caffemodel, and the upgrades between versions."""
