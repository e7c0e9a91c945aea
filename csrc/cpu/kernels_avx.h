// The loops for a machine with AVX2 and FMA at least. Included below a #pragma GCC target, and nowhere else.
#pragma once
#include "cpu/lanes.h"
#include "cpu/spatial_transformer_avx.h"
#include "eltwise_affine.h"

namespace rmpe {
namespace {

template <bool kFused, typename T>
void affine(const T* x, T slope, T bias, int64_t count, T* y) {
  using L = Lanes<T>;
  using V = typename L::V;
  const V slopes = splat<V>(slope), biases = splat<V>(bias);
  int64_t i = 0;
  for (; i + L::kCount <= count; i += L::kCount) {
    L::store(y + i, affine_value<kFused>(L::load(x + i), slopes, biases));
  }
  for (; i < count; ++i) y[i] = affine_value<kFused>(x[i], slope, bias);
}

template <typename T>
constexpr Kernels<T> kernels() {
  return {{sample<false, T>, sample<true, T>},
          sample_room<T>,
          {gradient<false, T>, gradient<true, T>},
          gradient_room<T>,
          {affine<false, T>, affine<true, T>}};
}

}  // namespace
}  // namespace rmpe
