// All loops on vectors, for one instruction set. Include this only below a #pragma GCC target.
#pragma once
#include "cpu/kernels.h"
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

constexpr Kernels<float> vector_kernels() {
  return {{vector::sample<false>, vector::sample<true>},
          vector::sample_room,
          {vector::gradient<false>, vector::gradient<true>},
          vector::gradient_room,
          {affine<false>, affine<true>}};
}

}  // namespace
}  // namespace rmpe
