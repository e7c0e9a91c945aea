// Every operator's schema, on one page. The kernels are registered where they are written: cpu/<op>.cpp, cuda/<op>.cu.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rmpe, m) {
  m.def("prediction_heatmap(Tensor heatmap) -> Tensor");
}

// Importing the module loads the library, which runs the registrations; the module itself is empty.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
