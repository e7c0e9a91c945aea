// Every operator's schema, on one page. The kernels are registered where they are written: cpu/<op>.cpp, cuda/<op>.cu.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rmpe, m) {
  // image (N, C, H, W), theta (N, 6) -> (N, C, out_h, out_w). A gradient that is not needed comes back with shape (0,).
  m.def("spatial_transformer(Tensor image, Tensor theta, SymInt out_h, SymInt out_w, bool fused=True) -> Tensor");
  m.def(
      "spatial_transformer_backward(Tensor grad, Tensor image, Tensor theta, bool fused=True, "
      "bool deterministic=True, bool need_image=True, bool need_theta=True) -> (Tensor, Tensor)");
  // theta (N, 6) -> gamma (N, 6)
  m.def("invert_theta(Tensor theta) -> Tensor");
  m.def("invert_theta_backward(Tensor grad, Tensor theta) -> Tensor");
  // x (N, C, ...), slope and bias (C,) or () -> x's shape
  m.def("eltwise_affine(Tensor x, Tensor slope, Tensor bias, bool fused=False) -> Tensor");
  m.def(
      "eltwise_affine_backward(Tensor grad, Tensor x, Tensor slope, Tensor bias, bool deterministic=True) "
      "-> (Tensor, Tensor, Tensor)");
  // heatmap (N, J, H, W) -> (N, J, 3): x, y, score
  m.def("prediction_heatmap(Tensor heatmap) -> Tensor");
}

// Importing the module loads the library, which runs the registrations; the module itself is empty.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
