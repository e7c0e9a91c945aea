// The loops for an x86 with AVX2 and FMA. Nothing else may be compiled in this file: what stands below the pragma does
// not run on other machines, so system headers come before it.
#include "cpu/kernels.h"

#if RMPE_HAVE_AVX2
#include <immintrin.h>

#include <cmath>

#pragma GCC target("avx2,fma")
#define RMPE_AVX2
#include "cpu/all_loops.h"

namespace rmpe {
template <>
Kernels<float> avx2_kernels() {
  return kernels_for<Avx2Lanes<float>>();
}
template <>
Kernels<double> avx2_kernels() {
  return kernels_for<Avx2Lanes<double>>();
}
}  // namespace rmpe
#endif
