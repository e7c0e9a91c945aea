// The loops for an x86 with AVX2 and FMA. Nothing else may be compiled in this file: what stands below the pragma does
// not run on other machines, so system headers come before it.
#include "cpu/kernels.h"

#if RMPE_HAVE_AVX
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#pragma GCC target("avx2,fma")
#include "cpu/kernels_avx.h"

namespace rmpe {

template <>
Kernels<float> avx2_kernels() {
  return kernels<float>();
}
template <>
Kernels<double> avx2_kernels() {
  return kernels<double>();
}

}  // namespace rmpe
#endif
