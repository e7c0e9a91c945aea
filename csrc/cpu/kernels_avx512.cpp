// The loops for an x86 with AVX-512: registers as wide as AVX2's, but twice as many, and masks. Nothing else may be
// compiled in this file: what stands below the pragma does not run on other machines, so system headers come before it.
#include "cpu/kernels.h"

#if RMPE_HAVE_AVX
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=256")
#include "cpu/kernels_avx.h"

namespace rmpe {

template <>
Kernels<float> avx512_kernels() {
  return kernels<float>();
}
template <>
Kernels<double> avx512_kernels() {
  return kernels<double>();
}

}  // namespace rmpe
#endif
