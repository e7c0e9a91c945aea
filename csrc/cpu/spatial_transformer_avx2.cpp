// The spatial transformer's loops for an x86 with AVX2 and FMA. Nothing but them may be compiled in this file: what
// stands below the pragma does not run on other machines, so system headers come before it.
#include "cpu/capability.h"

#if RMPE_HAVE_AVX2
#include <immintrin.h>

#include <cmath>
#include <cstdint>

#pragma GCC target("avx2,fma")
#define RMPE_AVX2
#include "cpu/spatial_transformer_planes.h"

namespace rmpe {
template <>
WarpKernels<float> avx2_warp() {
  return kernels<Avx2Lanes<float>>();
}
template <>
WarpKernels<double> avx2_warp() {
  return kernels<Avx2Lanes<double>>();
}
}  // namespace rmpe
#endif
