// The schemas of all operators. Kernels are registered in their own files: cpu/<op>.cpp, cuda/<op>.cu.
#include <Python.h>
#include <torch/csrc/stable/library.h>
#include <torch/headeronly/version.h>

#include "cpu/kernels.h"

STABLE_TORCH_LIBRARY(rmpe, m) {
  // image (N, C, H, W), theta (N, 6) -> (N, C, out_h, out_w). Gradients not needed have shape (0,).
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

  // Convolutions 3 x 3 of stride 1 by Winograd's algorithm: weight (K, C, 3, 3) -> its transform; x (N, C, H, W), bias
  // (K,), term (N, K, h, w) -> (N, K, h, w) in channels-last format.
  m.def("winograd_weight(Tensor weight) -> Tensor");
  m.def("winograd(Tensor x, Tensor weight, Tensor? bias, Tensor? term, int outputs, int pad_h, int pad_w, "
        "int dilation_h, int dilation_w, bool relu) -> Tensor");

  // A whole small network, x (N, ...) -> its outputs; code and parameters are those of rmpe_legacy/ops/small_net.py.
  m.def("small_net(Tensor x, Tensor code, Tensor parameters) -> Tensor[]");

  // Detection. N images, P priors with L places each (1, or one per class), C classes, all of single precision.
  m.def("decode_boxes(Tensor offset, Tensor prior, int code, bool in_target) -> Tensor");
  m.def("encode_boxes(Tensor box, Tensor prior, int code, bool in_target) -> Tensor");
  m.def("detection_output(Tensor offset, Tensor score, Tensor prior, int background, int code, bool in_target, "
        "float nms_threshold, float eta, int top_k, int keep_top_k, float confidence_threshold, bool clip) -> Tensor");
  m.def("detection_evaluate(Tensor detection, Tensor truth, float threshold, bool difficult_counts, bool pixels) "
        "-> Tensor");
  m.def("match_boxes(Tensor box, Tensor truth, Tensor first, float threshold, bool per_prediction, bool inside_only) "
        "-> (Tensor, Tensor)");
  m.def("confidence_scores(Tensor conf, int background, bool softmax) -> Tensor");
  m.def("confidence_losses(Tensor conf, Tensor label, bool softmax) -> Tensor");
  m.def("pick_hardest(Tensor score, Tensor eligible, Tensor count, Tensor? box, float nms_threshold, int top_k) "
        "-> (Tensor, Tensor)");
}

// Importing the module loads the library, which runs the registrations. The module itself only holds the torch release
// it was built with (`rmpe --version --verbose` prints it), though it works with later ones too, and whether this
// processor runs the vector loops.
extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr,
                                   nullptr};
  PyObject* module = PyModule_Create(&definition);
  if (module != nullptr && (PyModule_AddStringConstant(module, "BUILT_WITH_TORCH", TORCH_VERSION) < 0 ||
                            PyModule_AddObjectRef(module, "HAS_VECTORS", rmpe::has_avx2() ? Py_True : Py_False) < 0)) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
