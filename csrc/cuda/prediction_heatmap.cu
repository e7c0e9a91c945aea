// PredictionHeatmap on CUDA: check, allocate, launch.
#include <torch/csrc/stable/library.h>

#include "cuda/launch.h"
#include "cuda/prediction_heatmap_kernels.h"
#include "prediction_heatmap_checks.h"
#include "uninitialized.h"

namespace rmpe {
namespace {

Tensor prediction_heatmap(const Tensor& heatmap) {
  const Tensor from = check_heatmap(heatmap);
  const OnDeviceOf device(heatmap);
  const int64_t n = heatmap.size(0), joints = heatmap.size(1);
  Tensor peaks = uninitialized(heatmap, {n, joints, 3});
  if (peaks.numel() == 0) return peaks;
  const HeatmapPlaces places(heatmap.size(2), heatmap.size(3));
  with_type(heatmap, [&](auto type) {
    using T = decltype(type);
    prediction_heatmap_kernel<T><<<grid_for(n * joints), kThreads, 0, device.stream()>>>(
        places, n * joints, from.const_data_ptr<T>(), peaks.mutable_data_ptr<T>());
    check_launch();
  });
  return peaks;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rmpe, CUDA, m) { m.impl("prediction_heatmap", TORCH_BOX(&prediction_heatmap)); }

}  // namespace rmpe
