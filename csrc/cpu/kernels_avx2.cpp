// The loops for x86 with AVX2 and FMA. Code below the pragma does not run on other processors, so system headers come
// before it, and nothing else may be compiled in this file.
#include "cpu/kernels.h"

#if RMPE_HAVE_AVX2
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#pragma GCC target("avx2,fma")
#include "cpu/spatial_transformer/vector.h"
#include "eltwise_affine.h"
#include "simd.h"

namespace rmpe {
namespace {

template <bool kFused>
void affine(const float* x, float slope, float bias, int64_t count, float* y) {
  const Floats slopes = slope, biases = bias;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    simd::store(y + i, affine_value<kFused>(simd::load(x + i), slopes, biases));
  }
  for (; i < count; ++i) y[i] = affine_value<kFused>(x[i], slope, bias);
}

}  // namespace

Kernels<float> avx2_kernels() {
  return {{vector::sample<false>, vector::sample<true>},
          vector::sample_room,
          {vector::gradient<false>, vector::gradient<true>},
          vector::gradient_room,
          {affine<false>, affine<true>}};
}

}  // namespace rmpe
#endif
