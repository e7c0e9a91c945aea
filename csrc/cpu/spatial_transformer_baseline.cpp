// The spatial transformer's loops for any machine: one value at a time.
#include "cpu/spatial_transformer_planes.h"

namespace rmpe {
template <>
WarpKernels<float> baseline_warp() {
  return kernels<ScalarLanes<float>>();
}
template <>
WarpKernels<double> baseline_warp() {
  return kernels<ScalarLanes<double>>();
}
}  // namespace rmpe
