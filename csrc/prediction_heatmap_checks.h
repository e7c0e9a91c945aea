// Checks of PredictionHeatmap's argument, the same for every device.
#pragma once
#include "checks.h"

namespace rmpe {

inline Tensor check_heatmap(const Tensor& heatmap) {
  const char* op = "prediction_heatmap";
  check(heatmap.dim() == 4, op, ": heatmap must be (N, J, H, W), got ", Shape{heatmap});
  check_floating(op, "heatmap", heatmap);
  check(heatmap.size(0) * heatmap.size(1) == 0 || heatmap.numel() > 0, op, ": a map without a cell has no peak, got ",
        Shape{heatmap});
  return as_contiguous(heatmap);
}

}  // namespace rmpe
