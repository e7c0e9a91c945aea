"""Networks written out to run without Caffe: the graph, ONNX, and PyTorch source."""
