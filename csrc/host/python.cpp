// What is no tensor operator and must not wait for torch: pose NMS.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_host, m) { m.doc() = "Loops that need no torch."; }
