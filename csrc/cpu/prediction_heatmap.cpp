#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>

namespace {
using torch::stable::Tensor;

Tensor prediction_heatmap(const Tensor& heatmap) { return heatmap; }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CPU, m) { m.impl("prediction_heatmap", TORCH_BOX(&prediction_heatmap)); }
