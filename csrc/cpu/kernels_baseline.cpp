// The loops for any machine: one value at a time.
#include "cpu/all_loops.h"

namespace rmpe {
template <>
Kernels<float> baseline_kernels() {
  return kernels_for<ScalarLanes<float>>();
}
template <>
Kernels<double> baseline_kernels() {
  return kernels_for<ScalarLanes<double>>();
}
}  // namespace rmpe
